"""The source of a list's filter: which one is chosen, and the choices of its form."""

from collections.abc import Sequence

from flask import request

from receiver.errors import SourceUnknownError
from receiver.models import Source


def source_id(sources: Sequence[Source]) -> int | None:
    """Return the id of the source that the query string names, or None if it names none.

    Raises SourceUnknownError.
    """
    name = request.args.get("source", "").strip()
    ids = {source.name: source.id for source in sources}
    if name and name not in ids:
        raise SourceUnknownError(f"there is no source {name!r}")
    return ids.get(name)


def choices(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Return the names of sources as the options of a form."""
    return [(source.name, source.name) for source in sources]

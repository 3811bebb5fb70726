"""What lists are asked for that more than one page knows."""

from collections.abc import Sequence

from flask import request

from receiver.errors import SourceUnknownError
from receiver.models import Source


def source_id(every: Sequence[Source]) -> int | None:
    """Return the number of the source that the address names, None for none.

    Raises SourceUnknownError for one that is not there.
    """
    name = request.args.get("source", "").strip()
    known = {source.name: source.id for source in every}
    if name and name not in known:
        raise SourceUnknownError(f"there is no source {name!r}")
    return known.get(name)

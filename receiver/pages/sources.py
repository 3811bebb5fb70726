"""The sources: the eAssessment sites, their last webhook and last request."""

from collections.abc import Sequence

from flask import Blueprint, render_template, request

from foundation.pages.guards import signed_in
from receiver import services
from receiver.errors import SourceUnknownError
from receiver.models import Source
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.sources import store as sources

source_pages = Blueprint("sources", __name__, template_folder="templates")


@source_pages.get("/sources")
@signed_in
def show() -> str:
    """Show each source with the ids of its secrets; adding and rotating are commands."""
    with services.current().database.reading() as session:
        all_sources = sources.list_all(session)
        last_webhooks = sources.last_received(session)
        last_runs = queries.last_fetches(session)
    return render_template(
        "receiver/sources.html",
        sources=all_sources,
        last_webhooks=last_webhooks,
        last_runs=last_runs,
        runs_searched=runs.RUNS_SEARCHED,
    )


def chosen_source_id(all_sources: Sequence[Source]) -> int | None:
    """Return the id of the source that the query string names, or None if it names none.

    Raises SourceUnknownError.
    """
    name = request.args.get("source", "").strip()
    ids = {source.name: source.id for source in all_sources}
    if name and name not in ids:
        raise SourceUnknownError(f"there is no source {name!r}")
    return ids.get(name)


def source_choices(all_sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Return the names of sources as the options of a form."""
    return [(source.name, source.name) for source in all_sources]

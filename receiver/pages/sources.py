"""The sources: the eAssessment sites, their last webhook and last request."""

from flask import Blueprint, render_template

from foundation.pages.guards import signed_in
from receiver import services
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

"""The overview: how deliveries stand, and how each endpoint is."""

from flask import Blueprint, render_template

from foundation import database as db
from foundation.pages.guards import signed_in
from notifier import endpoints, health, replays, services
from notifier.models import DeliveryStatus
from notifier.web.pages.tones import TONES

overview = Blueprint("overview", __name__, template_folder="templates")


@overview.get("/")
@signed_in
def show() -> str:
    """Show the backlog and the endpoints."""
    with services.current().database.reading() as session:
        now = db.now(session)
        backlog = replays.backlog(session)
        rows = endpoints.list_all(session)
    return render_template(
        "notifier/overview.html",
        backlog=backlog,
        waiting=None if backlog.oldest_due_at is None else now - backlog.oldest_due_at,
        statuses=DeliveryStatus,
        endpoints=[(row, health.standing_of(row)) for row in rows],
        tones=TONES,
    )

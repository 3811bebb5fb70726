"""The overview: how deliveries stand, and how each endpoint is."""

from flask import Blueprint, render_template

from foundation import database as db
from foundation.pages.guards import signed_in
from notifier import endpoints, health, replays, services
from notifier.health import State
from notifier.models import DeliveryStatus

overview = Blueprint("overview", __name__, template_folder="templates")

TONES = {
    DeliveryStatus.PENDING: "wait",
    DeliveryStatus.DELIVERED: "good",
    DeliveryStatus.DEAD: "bad",
    DeliveryStatus.HELD: "warn",
    State.ENABLED: "good",
    State.FAILING: "warn",
    State.PAUSED: "warn",
    State.DISABLED: "bad",
}
"""How each status looks, beside its word."""


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

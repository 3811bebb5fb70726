"""The registry: which courses are in grade sync, and which are skipped and why."""

from flask import Blueprint, render_template, request

from foundation.pages.guards import signed_in
from receiver import listings, registry, services
from receiver.listings import Position
from receiver.memory import Status

registry_pages = Blueprint("registry", __name__, template_folder="templates")

TONES = {Status.ACTIVE: "good", Status.TOKEN_INVALID: "warn", Status.COURSE_DELETED: "calm"}
"""How each status looks, beside its words."""
WORDS = {
    Status.ACTIVE: "active",
    Status.TOKEN_INVALID: "token invalid",
    Status.COURSE_DELETED: "course deleted",
}


@registry_pages.get("/")
@signed_in
def show() -> str:
    """Show the courses in grade sync, a page at a time."""
    after, before = _position("after"), _position("before")
    with services.current().database.reading() as session:
        page = listings.list_entries(session, after=after, before=before)
    return render_template(
        "receiver/registry.html",
        rows=[(entry, registry.standing(entry)) for entry in page.entries],
        before=_spelled(page.before),
        after=_spelled(page.after),
        tones=TONES,
        words=WORDS,
    )


def _position(name: str) -> Position | None:
    source_id, colon, course_id = request.args.get(name, "").partition(":")
    known = colon and source_id.isascii() and source_id.isdecimal() and len(source_id) < 10
    return Position(int(source_id), course_id) if known else None


def _spelled(position: Position | None) -> str | None:
    return None if position is None else f"{position.source_id}:{position.course_id}"

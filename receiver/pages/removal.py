"""Removal of many courses from the grade sync: a confirmation page, then batches."""

from typing import Annotated

from flask import Blueprint, flash, redirect, render_template, request, url_for
from pydantic import BeforeValidator, ConfigDict
from werkzeug.wrappers import Response

from foundation.db import session as db
from foundation.errors import Advice
from foundation.pages import forms, redirects
from foundation.pages.guards import signed_in
from foundation.text import count
from foundation.web.errors import RequestInvalidError
from receiver import services
from receiver.course_state import CourseStatus
from receiver.pages.registry import FILTERS, actor
from receiver.registry import bulk, listing
from receiver.registry.listing import EntryFilter, SelectedCourse
from receiver.sources import store as sources

removal_pages = Blueprint("removal", __name__, template_folder="templates")

# The number of courses that the confirmation names.
_NAMED = 10


class Selection(forms.Form):
    """The courses that are ticked, or `everything` that a search found.

    `expected`: how many the confirmation named.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    entry_id: tuple[int, ...] = ()
    everything: bool = False
    status: CourseStatus | None = None
    source: str = ""
    q: forms.Search = ""
    since: Annotated[forms.Time | None, BeforeValidator(lambda text: text or None)] = None
    expected: int = 0


@removal_pages.post("/entries/remove")
@signed_in
def preview() -> str:
    """Show what removing the courses does, without changing anything."""
    selection = _read()
    return _preview(selection, _find(selection))


@removal_pages.post("/entries/remove/confirmed")
@signed_in
def remove() -> Response | tuple[str, int]:
    """Remove the courses in batches, each in one transaction."""
    selection = _read()
    selected = _find(selection)
    if selection.everything and len(selected) != selection.expected:
        flash("Other courses match the search by now. Check the number again.", "error")
        return _preview(selection, selected), 409
    status = selection.status if selection.everything else None
    ids = [course.entry_id for course in selected]
    removed = 0
    for start in range(0, len(ids), bulk.REMOVED_AT_ONCE):
        batch = ids[start : start + bulk.REMOVED_AT_ONCE]
        with services.current().writing() as (session, now):
            removed += bulk.remove(session, batch, status=status, actor=actor(), now=now)
    courses = count(removed, "course was", "courses were")
    flash(f"{courses} removed from the grade sync. Their grades in ELMS are kept.")
    return redirect(url_for("registry.show"), 303)


def _read() -> Selection:
    selection = forms.parse_form(Selection, lists={"entry_id"})
    if isinstance(selection, Selection) and (selection.everything or selection.entry_id):
        return selection
    raise RequestInvalidError(
        "no course is selected",
        advice=Advice("Go back to the registry and select the courses to remove."),
    )


def _find(selection: Selection) -> list[SelectedCourse]:
    with services.current().database.reading() as session:
        now = db.now(session)
        if not selection.everything:
            return listing.find_selected(session, EntryFilter(), selection.entry_id, now=now)
        source_id = sources.get(session, selection.source).id if selection.source else None
        found = EntryFilter(selection.status, source_id, selection.q, selection.since)
        return listing.find_selected(session, found, now=now)


def _preview(selection: Selection, selected: list[SelectedCourse]) -> str:
    return render_template(
        "receiver/remove.html",
        selection=selection,
        filters={name: request.form[name] for name in FILTERS if request.form.get(name)},
        selected=selected,
        named=selected[:_NAMED],
        active=sum(course.is_active for course in selected),
        cancel_url=redirects.referring_page() or url_for("registry.show"),
    )

"""Deletion of courses: a confirmation page, then batches of one transaction each."""

from collections.abc import Sequence
from datetime import timedelta

from flask import Blueprint, flash, g, redirect, render_template, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response

from foundation import logging
from foundation.csv_reader import CsvError
from foundation.db import audit
from foundation.errors import Advice
from foundation.pages import forms, redirects
from foundation.pages.error_pages import render_refusal
from foundation.pages.guards import signed_in, signed_in_file
from foundation.pages.sessions import actor
from foundation.text import count
from foundation.web.errors import RequestInvalidError
from notifier import services
from notifier.courses import listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.errors import NotifierError
from notifier.models import Course
from notifier.pages.params import query_of
from notifier.webhooks import endpoints
from notifier.webhooks.delivery_filter import DeliveryFilter

course_deletion = Blueprint("course_deletion", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

EVENT = "course.deleted"
MAX_DELETED = 10_000
"""The limit of courses that are deleted after one confirmation."""
_MAX_NAMED = 3
# The number of courses that the confirmation names.
_SHOWN = 20
_INSTANT = timedelta(microseconds=1)
_SELECT_COURSES = Advice("Go back to the courses and select the ones to delete.")


class Selection(forms.Form):
    """The courses that are ticked, entered as `text`, or `everything` that a search found.

    `expected`: how many the confirmation named.
    """

    course_id: tuple[str, ...] = ()
    text: str = ""
    everything: bool = False
    q: str = ""
    expected: int = 0

    @property
    def criteria(self) -> CourseFilter:
        """The active courses that the search finds."""
        return CourseFilter(self.q, deleted=False)


@course_deletion.get("/courses/delete")
@signed_in
def enter() -> str:
    """Show the form for a list of courses."""
    return _entry_form(None)


@course_deletion.post("/courses/delete")
@signed_in_file
def preview() -> str | tuple[str, int]:
    """Show what deleting the courses does, without changing anything."""
    selection = _selection()
    try:
        ids = _ids(selection, forms.pasted_or_uploaded())
    except CsvError as refusal:
        return _entry_form(render_refusal(refusal)), 422
    return _preview(selection, ids)


@course_deletion.post("/courses/delete/confirmed")
@signed_in_file
def delete() -> Response | tuple[str, int]:
    """Delete the courses in batches, and redirect to the resulting deliveries."""
    selection = _selection()
    ids = _ids(selection, selection.text)
    if selection.everything and len(ids) != selection.expected:
        flash("Other courses match the search by now. Check the number again.", "error")
        return _preview(selection, ids), 409
    results: dict[str, Course | NotifierError] = {}
    times = []
    for start in range(0, len(ids), courses.CHANGED_AT_ONCE):
        with services.current().writing() as (session, now):
            batch = ids[start : start + courses.CHANGED_AT_ONCE]
            done = courses.delete_courses(session, batch, now=now)
            deleted_ids = [one for one in batch if isinstance(done[one], Course)]
            audit.record_all(session, actor(), "course.delete", deleted_ids, now=now)
        results |= done
        times.append(now)
    deleted = [result for result in results.values() if isinstance(result, Course)]
    refused = [result for result in results.values() if isinstance(result, NotifierError)]
    for course in deleted:
        _log.info("course deleted", course_id=course.course_id, user=g.current_user.name)
    if deleted:
        which = deleted[0].course_id[:80] if len(deleted) == 1 else count(len(deleted), "course")
        whose = "Its" if len(deleted) == 1 else "Their"
        flash(Markup("Deleted: {}. {} notifications are listed below.").format(which, whose))
    if refused:
        reasons = "; ".join(str(refusal)[:160] for refusal in refused[:_MAX_NAMED])
        more = f"; and {len(refused) - _MAX_NAMED} more" if len(refused) > _MAX_NAMED else ""
        flash(escape(f"{count(len(refused), 'course')} not deleted: {reasons}{more}."), "error")
    if not deleted:
        return redirect(url_for("courses.listed"), 303)
    if len(deleted) == 1:
        return redirect(url_for("courses.show", course_id=deleted[0].course_id), 303)
    caused = DeliveryFilter(event_type=EVENT, since=times[0], until=times[-1] + _INSTANT)
    return redirect(url_for("deliveries.listed", **query_of(caused)), 303)


def _selection() -> Selection:
    return forms.require_valid(
        forms.parse_form(Selection, lists={"course_id"}), advice=_SELECT_COURSES
    )


def _ids(selection: Selection, text: str) -> list[str]:
    if selection.everything and selection.criteria.is_search:
        with services.current().database.reading() as session:
            ids = listing.ids(session, selection.criteria, limit=MAX_DELETED + 1)
    else:
        lines = (line.strip() for line in text.splitlines())
        ids = list(dict.fromkeys([*selection.course_id, *filter(None, lines)]))
    if not ids:
        raise RequestInvalidError("no course is selected", advice=_SELECT_COURSES)
    if len(ids) > MAX_DELETED:
        raise RequestInvalidError(
            f"more than {MAX_DELETED:,} courses are selected, which is too many at once",
            advice=Advice("Select fewer, or use the command.", "courses delete"),
        )
    return ids


def _preview(selection: Selection, ids: Sequence[str]) -> str:
    with services.current().database.reading() as session:
        rows = courses.find_courses(session, ids)
        subscribers = endpoints.subscribed_to(session, EVENT, lock=False)
    known = {row.course_id for row in rows}
    return render_template(
        "notifier/courses_delete.html",
        selection=selection,
        found=[row for row in rows if row.deleted_at is None],
        already_deleted=[row for row in rows if row.deleted_at is not None],
        unknown=[course_id for course_id in ids if course_id not in known],
        shown=_SHOWN,
        subscribers=subscribers,
        cancel_url=redirects.referring_page() or url_for("courses.listed"),
    )


def _entry_form(fault: str | None) -> str:
    return render_template("notifier/courses_delete_list.html", fault=fault)

"""Deletion of courses: a confirmation page, then batches of one transaction each; its undoing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from flask import Blueprint, flash, g, get_template_attribute, redirect, render_template, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response

from contract.events import WireTime, wire_time
from foundation import logging
from foundation.csv_reader import CsvError
from foundation.db import audit
from foundation.db import session as db
from foundation.pages import forms, redirects
from foundation.pages.guards import signed_in_file
from foundation.pages.sessions import actor
from foundation.text import count
from notifier import services
from notifier.courses import grades, listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.errors import NotifierError
from notifier.models import Course
from notifier.pages import course_selection
from notifier.pages.course_selection import SELECT_COURSES, SHOWN, SelectedCourses, Selection
from notifier.pages.params import query_of
from notifier.webhooks import endpoints
from notifier.webhooks.delivery_filter import DeliveryFilter

course_deletion = Blueprint("course_deletion", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

EVENT = "course.deleted"
MAX_DELETED = 10_000
"""The limit of courses that are deleted, or restored, together."""
_MAX_NAMED = 3
_INSTANT = timedelta(microseconds=1)


class Deletion(Selection):
    """The courses to delete; `expected`: how many the confirmation named."""

    expected: int = 0


class Restoration(Selection):
    """The courses to restore: those that are selected, or that were deleted at these times."""

    deleted_at: tuple[WireTime, ...] = ()


@course_deletion.post("/courses/delete")
@signed_in_file
def preview() -> str | tuple[str, int]:
    """Show what deleting the courses does, without changing anything."""
    selection = Deletion.of_form()
    try:
        ids = _ids(selection, forms.pasted_or_uploaded())
    except CsvError as refusal:
        return course_selection.refused(refusal)
    return _preview(selection, ids)


@course_deletion.post("/courses/delete/confirmed")
@signed_in_file
def delete() -> Response | tuple[str, int]:
    """Delete the courses in batches, and redirect to the resulting deliveries."""
    selection = Deletion.of_form()
    ids = _ids(selection, selection.text)
    if selection.everything and len(ids) != selection.expected:
        flash("Other courses match the search by now. Check the number again.", "error")
        return _preview(selection, ids), 409
    changes = _change_all(ids, "course.delete", courses.delete_courses)
    if changes.done:
        can_undo = bool(services.current().settings.grace_period)
        times = [wire_time(at) for at in changes.times] if can_undo else []
        flash(get_template_attribute("notifier/courses_deleted.html", "message")(changes, times))
    return _show(changes, "deleted", EVENT)


@course_deletion.post("/courses/restore")
@signed_in_file
def restore() -> Response | tuple[str, int]:
    """Undo the deletion of courses in batches, and redirect to the resulting deliveries."""
    restoration = forms.require_valid(
        forms.parse_form(Restoration, lists={"course_id", "deleted_at"}), advice=SELECT_COURSES
    )
    if restoration.deleted_at:
        with services.current().database.reading() as session:
            ids = listing.ids(session, CourseFilter(deleted_at=restoration.deleted_at))
    else:
        try:
            ids = restoration.ids(
                forms.pasted_or_uploaded(), limit=MAX_DELETED, command="courses restore"
            )
        except CsvError as refusal:
            return course_selection.refused(refusal)
    if not ids:
        flash("These courses were restored already.", "error")
        return redirect(url_for("courses.listed"), 303)
    grace = services.current().settings.grace_period
    changes = _change_all(ids, "course.restore", partial(courses.restore_courses, grace=grace))
    if changes.done:
        tokens = "token is" if len(changes.done) == 1 else "tokens are"
        message = Markup("Restored: {}. {} {} valid again, and all endpoints are notified.")
        flash(message.format(changes.what, changes.whose, tokens))
        with services.current().database.reading() as session:
            forgotten = grades.find_forgotten(session, [one.course_id for one in changes.done])
        if forgotten:
            flash(
                f"The grades of {count(len(forgotten), 'course')} were deleted meanwhile. "
                "Import them again.",
                "error",
            )
    return _show(changes, "restored", "course.restored")


@dataclass
class _Changes:
    """What became of courses that were to be deleted or restored, and the times of the batches."""

    done: list[Course] = field(default_factory=list)
    refused: list[NotifierError] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)

    @property
    def what(self) -> str:
        """The course that was changed, or how many were."""
        only = len(self.done) == 1
        return self.done[0].course_id[:80] if only else count(len(self.done), "course")

    @property
    def whose(self) -> str:
        """The pronoun for `what` at the beginning of a sentence."""
        return "Its" if len(self.done) == 1 else "Their"


def _change_all(
    ids: Sequence[str],
    action: str,
    change: Callable[..., dict[str, Course | NotifierError]],
) -> _Changes:
    """Delete or restore courses in batches of one transaction each."""
    changes = _Changes()
    for start in range(0, len(ids), courses.CHANGED_AT_ONCE):
        with services.current().writing() as (session, now):
            batch = ids[start : start + courses.CHANGED_AT_ONCE]
            results = change(session, batch, now=now).values()
            done = [result for result in results if isinstance(result, Course)]
            audit.record_all(session, actor(), action, [one.course_id for one in done], now=now)
        changes.done += done
        changes.refused += [result for result in results if isinstance(result, NotifierError)]
        changes.times += [now] if done else []
    for course in changes.done:
        user = g.current_user.name
        _log.info("course changed", action=action, course_id=course.course_id, user=user)
    return changes


def _show(changes: _Changes, participle: str, event_type: str) -> Response:
    """Say what was refused, and redirect to the deliveries of what was done."""
    done, refused = changes.done, changes.refused
    if refused:
        reasons = "; ".join(str(refusal)[:160] for refusal in refused[:_MAX_NAMED])
        more = f"; and {len(refused) - _MAX_NAMED} more" if len(refused) > _MAX_NAMED else ""
        what = f"{count(len(refused), 'course')} not {participle}"
        flash(escape(f"{what}: {reasons}{more}."), "error")
    if not done:
        return redirect(url_for("courses.listed"), 303)
    if len(done) == 1:
        return redirect(url_for("courses.show", course_id=done[0].course_id), 303)
    times = changes.times
    caused = DeliveryFilter(event_type=event_type, since=times[0], until=times[-1] + _INSTANT)
    return redirect(url_for("deliveries.listed", **query_of(caused)), 303)


def _ids(selection: Selection, text: str) -> list[str]:
    return selection.ids(text, limit=MAX_DELETED, command="courses delete")


def _preview(selection: Selection, ids: Sequence[str]) -> str:
    with services.current().database.reading() as session:
        found = SelectedCourses.of(session, ids)
        subscribers = endpoints.subscribed_to(session, EVENT)
        now = db.now(session)
    grace = services.current().settings.grace_period
    return render_template(
        "notifier/courses_delete.html",
        selection=selection,
        found=found,
        shown=SHOWN,
        subscribers=subscribers,
        restorable_until=now + grace if grace else None,
        cancel_url=redirects.referring_page() or url_for("courses.listed"),
    )

"""Deletion of courses: a confirmation page, then all of them in one transaction."""

from datetime import timedelta
from typing import Annotated

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from markupsafe import Markup, escape
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.wrappers import Response

from foundation import logging
from foundation.db import audit
from foundation.errors import Advice
from foundation.pages import forms, redirects
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from foundation.text import count
from foundation.web.errors import RequestInvalidError
from notifier import services
from notifier.courses import service as courses
from notifier.errors import NotifierError
from notifier.models import Course
from notifier.pages.params import query_of
from notifier.webhooks import endpoints
from notifier.webhooks.delivery_filter import DeliveryFilter

course_deletion = Blueprint("course_deletion", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

EVENT = "course.deleted"
MAX_DELETED = 500
"""The limit of courses that are deleted at once."""
_MAX_NAMED = 3
_INSTANT = timedelta(microseconds=1)


class Chosen(BaseModel):
    """The selected courses."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    course_id: Annotated[list[str], Field(min_length=1, max_length=MAX_DELETED)]


@course_deletion.post("/courses/delete")
@signed_in
def preview() -> str:
    """Show what deleting the courses does, without changing anything."""
    chosen = _chosen()
    with services.current().database.reading() as session:
        rows = courses.find_courses(session, chosen.course_id)
        subscribers = endpoints.subscribed_to(session, EVENT, lock=False)
    return render_template(
        "notifier/courses_delete.html",
        found=[row for row in rows if row.deleted_at is None],
        already_deleted=[row for row in rows if row.deleted_at is not None],
        subscribers=subscribers,
        cancel_url=redirects.referring_page() or url_for("courses.listed"),
    )


@course_deletion.post("/courses/delete/confirmed")
@signed_in
def delete() -> Response:
    """Delete the courses in one transaction, and redirect to the resulting deliveries."""
    chosen = _chosen()
    with services.current().writing() as (session, now):
        results = courses.delete_courses(session, chosen.course_id, now=now)
        deleted = [result for result in results.values() if isinstance(result, Course)]
        ids = [course.course_id for course in deleted]
        audit.record_all(session, actor(), "course.delete", ids, now=now)
    refused = [result for result in results.values() if isinstance(result, NotifierError)]
    for course in deleted:
        _log.info("course deleted", course_id=course.course_id, user=g.current_user.name)
    if deleted:
        which = deleted[0].course_id[:80] if len(deleted) == 1 else count(len(deleted), "course")
        flash(Markup("Deleted: {}. Its notifications are listed below.").format(which))
    if refused:
        reasons = "; ".join(str(refusal)[:160] for refusal in refused[:_MAX_NAMED])
        more = f"; and {len(refused) - _MAX_NAMED} more" if len(refused) > _MAX_NAMED else ""
        flash(escape(f"{count(len(refused), 'course')} not deleted: {reasons}{more}."), "error")
    if not deleted:
        return redirect(url_for("courses.listed"), 303)
    if len(deleted) == 1:
        return redirect(url_for("courses.show", course_id=deleted[0].course_id), 303)
    caused = DeliveryFilter(event_type=EVENT, since=now, until=now + _INSTANT)
    return redirect(url_for("deliveries.listed", **query_of(caused)), 303)


def _chosen() -> Chosen:
    chosen = forms.parse_form(Chosen, lists={"course_id"})
    if isinstance(chosen, Chosen):
        return chosen
    many = len(request.form.getlist("course_id"))
    raise RequestInvalidError(
        f"{many:,} courses are selected; at most {MAX_DELETED} can be deleted at once"
        if many
        else "no course is selected",
        advice=Advice("Go back to the courses and select the ones to delete."),
    )

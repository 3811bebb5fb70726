"""The page of one course of the registry: its status, its history and what can be changed."""

from typing import Annotated

from flask import Blueprint, flash, redirect, render_template, request, url_for
from markupsafe import Markup
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from werkzeug.wrappers import Response

from foundation.db import audit
from foundation.db import session as db
from foundation.pages import forms, pagination, sessions
from foundation.pages.error_pages import render_refusal
from foundation.pages.forms import Faults
from foundation.pages.guards import signed_in
from foundation.pages.site import current_site
from foundation.web.app import takes
from receiver import services
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus
from receiver.errors import TokenMalformedError, TokenNotEnteredError
from receiver.pages.registry import actor
from receiver.registry import bulk, csv_files, history, listing
from receiver.registry import entries as registry
from receiver.runs import queries
from receiver.sources.factory import ClientFactory
from receiver.sync.token_check import EnteredToken, TokenCheck

course_pages = Blueprint("course", __name__, template_folder="templates")

_ENTRY = "/entries/<int(max=2147483647):entry_id>"
_CURSOR_TYPES = (int,)
# Seconds that a person waits for eAssessment to verify a token.
_MAX_WAIT_SECONDS = 20.0


def _number(text: str | None) -> str | None:
    return csv_files.check_number(text) if text else None


class TokenForm(BaseModel):
    """A token to save."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    token: str


class ActivityForm(BaseModel):
    """The course and activity of ELMS's Moodle that grades go to, or neither."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    gradebook_course: Annotated[str | None, AfterValidator(_number)]
    gradebook_activity: Annotated[str | None, AfterValidator(_number)]

    @model_validator(mode="after")
    def _both_or_neither(self) -> "ActivityForm":
        if bool(self.gradebook_course) is not bool(self.gradebook_activity):
            raise ValueError("enter both numbers, or neither")
        return self


@course_pages.get(_ENTRY)
@signed_in
@takes(*forms.CURSORS)
def show_entry(entry_id: int) -> str:
    """Show one course: its status, what to do, its recent runs and its history."""
    return _page(entry_id, {})


@course_pages.post(f"{_ENTRY}/token")
@signed_in
def enter_token(entry_id: int) -> Response | tuple[str, int]:
    """Save another token; verify one that eAssessment did not announce last."""
    current = services.current()
    form = forms.parse_form(TokenForm)
    if not isinstance(form, TokenForm):
        return _page(entry_id, form), 422
    try:
        with current.database.reading() as session:
            kind = registry.get_any_by_id(session, entry_id).source.kind
        token = registry.parse_token(form.token, kind)
        with ClientFactory(
            current.settings, current.vault, max_seconds=_MAX_WAIT_SECONDS
        ) as clients:
            entered = TokenCheck(current, clients, actor()).enter(entry_id, token)
    except (TokenMalformedError, TokenNotEnteredError) as refusal:
        return _page(entry_id, {"token": render_refusal(refusal)}), 422
    _flash_result(entered)
    return _back(entry_id)


@course_pages.post(f"{_ENTRY}/activity")
@signed_in
def set_activity(entry_id: int) -> Response | tuple[str, int]:
    """Set the course and activity of ELMS's Moodle that the grades go to."""
    form = forms.parse_form(ActivityForm)
    if not isinstance(form, ActivityForm):
        return _page(entry_id, form), 422
    course, activity = form.gradebook_course, form.gradebook_activity
    with services.current().writing() as (session, now):
        entry = registry.get_added_locked(session, entry_id)
        bulk.set_gradebook_target(entry, course, activity)
        audit.record(
            session,
            sessions.actor(),
            "entry.set-activity",
            entry.course_id,
            f"{entry.source.name}: {course}/{activity}" if course else entry.source.name,
            now=now,
        )
    flash(
        f"Grades are written to activity {activity} of course {course}."
        if course
        else "Grades are not written to a Moodle."
    )
    return _back(entry_id)


@course_pages.post(f"{_ENTRY}/remove")
@signed_in
def remove(entry_id: int) -> Response:
    """Remove the course from the grade sync; its grades are kept."""
    with services.current().database.writing() as session:
        entry = registry.get_any_by_id(session, entry_id)
        registry.remove(session, entry.source, entry.course_id, actor=actor(), now=db.now(session))
    message = Markup("{} was removed from the grade sync. Its grades in ELMS are kept.")
    flash(message.format(entry.course_id))
    return _back(entry_id)


def _page(entry_id: int, faults: Faults) -> str:
    page_request = pagination.read(request.args, _CURSOR_TYPES)
    current = services.current()
    with current.database.reading() as session:
        entry = registry.get_any_by_id(session, entry_id)
        [listed] = listing.with_causes(
            session, [entry], needs_activity=current.settings.elms_is_moodle, now=db.now(session)
        )
        history_page = history.page(session, entry.id, page_request)
        last = queries.of_course(session, entry.source.name, entry.course_id)
        changes = audit.about(session, "entry", entry.course_id)
    # The activity as it is, or as it was sent and refused.
    fields = tuple(ActivityForm.model_fields)
    sent = request.form if faults and fields[0] in request.form else {}
    return render_template(
        "receiver/entry.html",
        entry=entry,
        listed=listed,
        state=registry.state_of(entry),
        history=history_page,
        changes=changes,
        runs=last,
        activity={name: sent.get(name, getattr(entry, name) or "") for name in fields},
        faults=faults,
    )


def _flash_result(entered: EnteredToken) -> None:
    entry, checked = entered.entry, entered.checked
    match checked:
        case CourseStatusDetails(status=CourseStatus.ACTIVE):
            flash(
                f"Token {entry.stored_token_id} saved. The course is active; "
                "the next grade sync fetches its grades."
            )
            return
        case CourseStatusDetails(reason=reason):
            problem = f"the course still cannot be synced: {reason}"
        case _:
            problem = f"it could not be verified: {checked.detail}"
    message = Markup("Token {} saved, but {}. {}")
    # The forms are on this page.
    next_step = current_site().render_advice(checked.advice, "")
    flash(message.format(entry.stored_token_id, problem, next_step), "error")


def _back(entry_id: int) -> Response:
    return redirect(url_for("course.show_entry", entry_id=entry_id), 303)

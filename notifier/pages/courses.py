"""Courses: search, show, add, regenerate a token, announce a new Moodle token."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from markupsafe import escape
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from contract.events import CourseId
from contract.tokens import CourseToken, MalformedTokenError, MoodleToken
from foundation import logging
from foundation.db import audit
from foundation.db import session as db
from foundation.db.pagination import PageRequest, Sort
from foundation.errors import Advice
from foundation.pages import downloads, forms
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from foundation.web.app import takes
from notifier import services
from notifier.courses import grades, listing, token_claims
from notifier.courses import service as core
from notifier.courses.listing import CourseFilter
from notifier.errors import CourseExistsError
from notifier.models import Course
from notifier.pages.token_regeneration import OVERLAPS, OverlapName
from notifier.webhooks import delivery_queries, endpoints
from notifier.webhooks.delivery_filter import DeliveryFilter

courses = Blueprint("courses", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

_ROWS = 50
_STATES = (("", "Any"), ("active", "active"), ("deleted", "deleted"))
_IS_DELETED = {"active": False, "deleted": True}
_GO_BACK = Advice("Go back to the page of the course and try again.")
_GO_BACK_TO_LIST = Advice("Go back and correct the search.")
_ViewResponse = Response | str | tuple[str, int]


def _moodle_token(text: str) -> str:
    """Return the public id of a token, or "" for none; the token itself is not stored."""
    if not text.strip():
        return ""
    try:
        return MoodleToken.parse(text.strip()).token_id
    except MalformedTokenError as error:
        raise ValueError(
            f"{error}; copy the whole token again, or leave this field empty"
        ) from None


def _parse_sort(text: object) -> Sort:
    return Sort.parse(str(text), listing.SORTS)


class CourseParams(BaseModel):
    """The filter, the order and the page of the list; a cursor is the id of a course."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    q: forms.Search = ""
    state: Annotated[str, forms.one_of(_IS_DELETED, "a state")] = ""
    deleted_since: forms.Time | None = None
    sort: Annotated[Sort, BeforeValidator(_parse_sort)] | None = None
    after: str = ""
    before: str = ""

    @property
    def criteria(self) -> CourseFilter:
        """Which courses are listed."""
        return CourseFilter(self.q, _IS_DELETED.get(self.state), self.deleted_since)

    @property
    def page_request(self) -> PageRequest:
        """The requested page."""
        return PageRequest(
            after=(self.after,) if self.after else None,
            before=(self.before,) if self.before else None,
        )


class NewCourseForm(forms.Form):
    """A course to add."""

    course_id: CourseId
    title: Annotated[str, Field(min_length=1, max_length=10_000)]


class CourseVersion(forms.Form):
    """A course and the version that the form was made for."""

    course_id: str
    version: Annotated[int, Field(ge=0)]


class Regeneration(CourseVersion):
    """How long the old token stays good."""

    overlap: OverlapName = "none"


class Announcement(CourseVersion):
    """A new Moodle token; only its id is kept."""

    token: Annotated[str, AfterValidator(_moodle_token)] = ""


@courses.get("/courses")
@signed_in
@takes(CourseParams)
def listed() -> str:
    """Show the courses that match the search."""
    params = forms.from_query(CourseParams)
    found = _find(params) if isinstance(params, CourseParams) else {"faults": params, "found": 0}
    return render_template(
        "notifier/courses.html",
        states=_STATES,
        query=forms.entered(CourseParams.model_fields),
        **found,
    )


def _find(params: CourseParams) -> dict[str, Any]:
    criteria = params.criteria
    active = replace(criteria, deleted=False)
    is_offered = active.is_search and criteria.deleted is not True and not criteria.deleted_since
    with services.current().database.reading() as session:
        page = listing.page(session, criteria, params.page_request, sort=params.sort, limit=_ROWS)
        return {
            "faults": {},
            "params": params,
            "page": page,
            "tokens": core.current_tokens(session, [row.id for row in page.rows]),
            "total": listing.count(session, criteria),
            "found": listing.count(session, active) if is_offered else 0,
        }


@courses.get("/courses.csv")
@signed_in
@takes(CourseParams)
def export() -> Response:
    """Return all courses that match the search as a CSV file."""
    params = forms.require_valid(forms.from_query(CourseParams), advice=_GO_BACK_TO_LIST)
    rows = listing.export(services.current().database, params.criteria, params.sort)
    return downloads.csv_file("courses", listing.COLUMNS, rows)


@courses.get("/courses/one")
@signed_in
@takes("course_id")
def show() -> str:
    """Show a course: its state, tokens, grades and notifications."""
    with services.current().database.reading() as session:
        course = core.get_course(session, request.args.get("course_id", ""))
        tokens = list(reversed(course.tokens))
        scores = grades.count(session, course.id)
        facts = _about(session, course)
        changes = audit.about(session, "course", course.course_id)
        restoration = _restoration(session, course, now=facts["now"])
    current_token = next((token for token in tokens if token.superseded_at is None), None)
    ends = [one.valid_until for one in tokens if one.valid_until and one.valid_until > facts["now"]]
    return render_template(
        "notifier/course.html",
        current_token=current_token,
        valid_until=max(ends, default=None),
        overlaps=[(value, word) for value, (word, _) in OVERLAPS.items()],
        tokens=tokens,
        scores=scores,
        changes=changes,
        **restoration,
        **facts,
    )


def _restoration(session: Session, course: Course, *, now: datetime) -> dict[str, Any]:
    """Return until when the deletion of a course can be undone, or why it is final."""
    if course.deleted_at is None:
        return {"restorable_until": None, "final": None}
    grace, rows = services.current().settings.grace_period, {course.course_id: course}
    [final] = core.find_restore_refusals(session, rows, rows, grace=grace, now=now).values()
    return {"restorable_until": None if final else course.deleted_at + grace, "final": final}


@courses.get("/courses/one/live")
@signed_in
@takes("course_id")
def live() -> str:
    """Show the current notifications of a course."""
    with services.current().database.reading() as session:
        facts = _about(session, core.get_course(session, request.args.get("course_id", "")))
    return render_template("notifier/course_notifications.html", **facts)


@courses.get("/courses/new")
@signed_in
def new() -> str:
    """Show the form that adds a course."""
    return render_template("notifier/course_new.html", given={}, faults={}, existing_course_id=None)


@courses.post("/courses/new")
@signed_in
def add() -> _ViewResponse:
    """Add a course and show its token, once."""
    form = forms.parse_form(NewCourseForm)
    if not isinstance(form, NewCourseForm):
        return _refused_new(form)
    try:
        with services.current().writing() as (session, now):
            token = core.add_course(session, form.course_id, form.title, now=now)
            audit.record(session, actor(), "course.add", form.course_id, form.title, now=now)
    except CourseExistsError as refusal:
        return _refused_new({"course_id": escape(refusal)}, existing_course_id=form.course_id)
    _log.info("course added", course_id=form.course_id, user=g.current_user.name)
    return _token_page(form.course_id, token, is_new=True)


@courses.post("/courses/token")
@signed_in
def regenerate() -> str:
    """Regenerate a course's token and show the new one, once.

    A form that is sent twice is refused, because the course has another version by then.
    """
    form = forms.require_valid(forms.parse_form(Regeneration), advice=_GO_BACK)
    _, overlap = OVERLAPS[form.overlap]
    with services.current().writing() as (session, now):
        token = core.regenerate_token(
            session,
            form.course_id,
            overlap=overlap,
            vault=services.current().vault,
            version=form.version,
            now=now,
        )
        valid_until = core.end_of(overlap, now=now)
        detail = core.describe_regeneration(token, valid_until)
        audit.record(session, actor(), "course.regenerate-token", form.course_id, detail, now=now)
    _log.info("token regenerated", course_id=form.course_id, user=g.current_user.name)
    return _token_page(form.course_id, token, is_new=False, valid_until=valid_until)


@courses.post("/courses/announce")
@signed_in
def announce() -> _ViewResponse:
    """Announce that a Moodle regenerated a course's token."""
    form = forms.require_valid(forms.parse_form(Announcement), advice=_GO_BACK)
    with services.current().writing() as (session, now):
        core.get_course(session, form.course_id)  # announcing would add an unknown course
        core.announce_token(
            session, form.course_id, form.token or None, version=form.version, now=now
        )
        audit.record(session, actor(), "course.announce-token", form.course_id, form.token, now=now)
    _log.info("token announced", course_id=form.course_id, user=g.current_user.name)
    flash("All endpoints are notified that the course has a new token.")
    return redirect(url_for("courses.show", course_id=form.course_id), 303)


def _about(session: Session, course: Course) -> dict[str, Any]:
    page = delivery_queries.page(
        session, DeliveryFilter(course_id=course.course_id), PageRequest(), limit=20
    )
    return {
        "course": course,
        "page": page,
        "last": delivery_queries.last_attempts(session, [row.id for row in page.rows]),
        "subscribers": endpoints.subscribed_to(session, "token.regenerated"),
        "now": db.now(session),
    }


def _token_page(
    course_id: str, token: CourseToken, *, is_new: bool, valid_until: datetime | None = None
) -> str:
    with services.current().database.reading() as session:
        facts = _about(session, core.get_course(session, course_id))
        claimable = token_claims.is_kept(session, token)
    return render_template(
        "notifier/course_token.html",
        token=token,
        is_new=is_new,
        valid_until=valid_until,
        claimable=claimable,
        **facts,
    )


def _refused_new(faults: forms.Faults, existing_course_id: str | None = None) -> tuple[str, int]:
    return render_template(
        "notifier/course_new.html",
        given=request.form,
        faults=faults,
        existing_course_id=existing_course_id,
    ), 422

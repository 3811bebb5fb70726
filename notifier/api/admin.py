"""The admin API: courses, grades, endpoints and deliveries, for the bearer of the admin key."""

from datetime import datetime
from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES, CourseId, WireTime
from contract.grades import Score
from foundation.db import session as db
from foundation.web.app import check_admin_key, guarded, parse_body, parse_query
from foundation.web.errors import RequestInvalidError
from notifier import services
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import MAX_ID, Course, Delivery, DeliveryStatus, Endpoint
from notifier.webhooks import delivery_queries, endpoints, replay
from notifier.webhooks.delivery_filter import DeliveryFilter

admin_api = Blueprint("admin_api", __name__, url_prefix="/api/v1/admin")

_SMALL_BODY = 64 * 1024
_GRADES_BODY = 16 * 1024 * 1024
_TYPES = "|".join([*EVENT_TYPES, *OPERATIONAL_TYPES]).replace(".", r"\.")
_EventType = Annotated[str, Field(pattern=f"^({_TYPES})$")]
_Id = Annotated[int, Field(ge=1, le=MAX_ID)]


def _check_key() -> None:
    check_admin_key(services.current().settings.admin_key.get_secret_value())


admin_only = guarded("admin key", _check_key)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewCourse(_Asked):
    """A course to add."""

    course_id: CourseId
    title: Annotated[str, Field(min_length=1, max_length=10_000)]


class NewEndpoint(_Asked):
    """A URL to register; without event types it gets all those of courses."""

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    event_types: Annotated[list[_EventType], Field(min_length=1)] | None = None


class GradesToLoad(_Asked):
    """Scores of one course."""

    scores: Annotated[list[Score], Field(max_length=50_000)]


class CoursePage(_Asked):
    """Which courses to list."""

    after: str = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class DeliveryFilterParams(_Asked):
    """Which deliveries are meant; what is left out is no condition."""

    status: DeliveryStatus | None = None
    event_type: _EventType | None = None
    endpoint_id: _Id | None = None
    course_id: str | None = None
    since: WireTime | None = None
    until: WireTime | None = None

    def filter(self) -> DeliveryFilter:
        """Return the filter of the core."""
        return DeliveryFilter(
            **{name: getattr(self, name) for name in DeliveryFilter.__dataclass_fields__}
        )


class DeliveryListParams(DeliveryFilterParams):
    """Which deliveries to list."""

    before: _Id | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ReplayOrder(_Asked):
    """What to replay: ids, or all that a filter finds, up to a limit."""

    ids: Annotated[list[_Id], Field(min_length=1, max_length=1000)] | None = None
    filter: DeliveryFilterParams | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = delivery_queries.DEFAULT_LIMIT
    dry_run: bool = False


@admin_api.post("/courses")
@admin_only
def add_course() -> tuple[dict[str, Any], int]:
    """Add a course; the answer holds its token, this once."""
    asked = parse_body(NewCourse, _SMALL_BODY)
    with services.current().database.writing() as session:
        token = courses.add_course(session, asked.course_id, asked.title, now=db.now(session))
        answer = _course(courses.get_course(session, asked.course_id))
    return {**answer, "token": token.reveal(), "token_id": token.token_id}, 201


@admin_api.get("/courses")
@admin_only
def list_courses() -> dict[str, Any]:
    """List courses by id; go on with `after` the last one."""
    page = parse_query(CoursePage)
    with services.current().database.reading() as session:
        rows = courses.list_courses(session, after=page.after, limit=page.limit)
        return {"courses": [_course(row) for row in rows]}


@admin_api.get("/courses/<path:course_id>")
@admin_only
def show_course(course_id: str) -> dict[str, Any]:
    """Show a course, deleted or not."""
    with services.current().database.reading() as session:
        course = courses.get_course(session, course_id)
        return {**_course(course), "token_id": courses.current_token(session, course)}


@admin_api.delete("/courses/<path:course_id>")
@admin_only
def delete_course(course_id: str) -> dict[str, Any]:
    """Delete a course for good and tell every endpoint that wants to know."""
    with services.current().database.writing() as session:
        return _course(courses.delete_course(session, course_id, now=db.now(session)))


@admin_api.post("/courses/<path:course_id>/token")
@admin_only
def regenerate_token(course_id: str) -> tuple[dict[str, Any], int]:
    """Replace a course's token; the answer holds the new one, this once."""
    with services.current().database.writing() as session:
        token = courses.regenerate_token(session, course_id, now=db.now(session))
        answer = _course(courses.get_course(session, course_id))
    return {**answer, "token": token.reveal(), "token_id": token.token_id}, 201


@admin_api.put("/courses/<path:course_id>/grades")
@admin_only
def load_grades(course_id: str) -> dict[str, Any]:
    """Store scores of a course; users that are not named keep theirs."""
    asked = parse_body(GradesToLoad, _GRADES_BODY)
    with services.current().database.writing() as session:
        return vars(grades.load(session, {course_id: asked.scores}, now=db.now(session)))


@admin_api.post("/endpoints")
@admin_only
def add_endpoint() -> tuple[dict[str, Any], int]:
    """Register a URL; the answer holds its secret, this once."""
    asked = parse_body(NewEndpoint, _SMALL_BODY)
    here = services.current()
    with here.database.writing() as session:
        endpoint, secret = endpoints.register(
            session,
            asked.url,
            asked.event_types,
            vault=here.vault,
            guard=here.settings.guard,
            now=db.now(session),
        )
        return {**_endpoint(endpoint), "secret": secret.reveal()}, 201


@admin_api.get("/endpoints")
@admin_only
def list_endpoints() -> dict[str, Any]:
    """List the endpoints and their state."""
    with services.current().database.reading() as session:
        return {"endpoints": [_endpoint(row) for row in endpoints.list_all(session)]}


@admin_api.get("/deliveries")
@admin_only
def list_deliveries() -> dict[str, Any]:
    """List deliveries, the newest first; go on with `before` the last one."""
    page = parse_query(DeliveryListParams)
    with services.current().database.reading() as session:
        rows = delivery_queries.find(session, page.filter(), before=page.before, limit=page.limit)
        return {"deliveries": [_delivery(row) for row in rows]}


@admin_api.post("/deliveries/replay")
@admin_only
def replay_deliveries() -> dict[str, Any]:
    """Make deliveries due again under their own webhook-ids; `dry_run` only says which."""
    asked = parse_body(ReplayOrder, _SMALL_BODY)
    if (asked.ids is None) == (asked.filter is None):
        raise RequestInvalidError("name either `ids` or a `filter`", errors=[])
    with services.current().database.writing() as session:
        found = _found(session, asked) if asked.dry_run else _replayed(session, asked)
    replayed = [] if asked.dry_run else found
    return {"replayed": replayed, "found": found, "dry_run": asked.dry_run}


def _found(session: Session, asked: ReplayOrder) -> list[int]:
    if asked.filter is None:
        return replay.check(session, asked.ids or [])
    return replay.replayable(session, asked.filter.filter(), asked.limit)


def _replayed(session: Session, asked: ReplayOrder) -> list[int]:
    by, now = f"admin API from {request.remote_addr}", db.now(session)
    if asked.filter is None:
        return replay.replay(session, asked.ids or [], by=by, now=now)
    return replay.replay_found(session, asked.filter.filter(), asked.limit, by=by, now=now)


def _course(course: Course) -> dict[str, Any]:
    return {
        "course_id": course.course_id,
        "title": course.title,
        "course_version": course.version,
        "created_at": course.created_at.isoformat(),
        "deleted_at": _moment(course.deleted_at),
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint.id,
        "url": endpoint.url,
        "event_types": endpoint.event_types or list(EVENT_TYPES),
        "created_at": endpoint.created_at.isoformat(),
        "disabled_at": _moment(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "failures": endpoint.failures,
        "failing_since": _moment(endpoint.failing_since),
        "paused_until": _moment(endpoint.paused_until),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "webhook_id": delivery.event_id,
        "event_type": delivery.event.type,
        "course_id": delivery.event.course_id or None,
        "course_version": delivery.event.course_version,
        "endpoint_id": delivery.endpoint_id,
        "url": delivery.endpoint.url,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "occurred_at": delivery.event.occurred_at.isoformat(),
        "due_at": delivery.due_at.isoformat() if delivery.settled_at is None else None,
        "settled_at": _moment(delivery.settled_at),
        "reason": delivery.reason,
    }


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None

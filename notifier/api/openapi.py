"""What eAssessment's routes take and answer, and what it sends, for its OpenAPI document."""

from datetime import datetime

from pydantic import BaseModel

from contract import events
from contract.events import Version
from contract.grades import BatchRequest, BatchResponse, GradesResponse
from contract.problems import ProblemType as P
from foundation.web import health
from foundation.web.openapi import ApiDescription, ApiResponse, Operation
from notifier.api import admin
from notifier.api.moodle import NewToken
from notifier.models import DeliveryStatus


class Course(BaseModel):
    """A course, deleted or not."""

    course_id: str
    title: str
    course_version: int
    created_at: datetime
    deleted_at: datetime | None


class CourseShown(Course):
    """A course with the public id of its present token, if it has one."""

    token_id: str | None


class CourseWithToken(Course):
    """A course with its new token, shown this once."""

    token: str
    token_id: str


class Courses(BaseModel):
    """A page of courses."""

    courses: list[Course]


class Loaded(BaseModel):
    """How many scores were new, changed, or as before."""

    added: int
    changed: int
    unchanged: int


class TokenTold(BaseModel):
    """What was told of a regenerated token."""

    course_id: str
    course_version: Version
    token_id: str | None


class Endpoint(BaseModel):
    """An endpoint and how it has been answering."""

    endpoint_id: int
    url: str
    event_types: list[str]
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failures: int
    failing_since: datetime | None
    paused_until: datetime | None


class EndpointWithSecret(Endpoint):
    """An endpoint with its secret, shown this once."""

    secret: str


class Endpoints(BaseModel):
    """Every endpoint."""

    endpoints: list[Endpoint]


class Delivery(BaseModel):
    """One event for one endpoint, and where it stands."""

    delivery_id: int
    webhook_id: str
    event_type: str
    course_id: str | None
    course_version: int
    endpoint_id: int
    url: str
    status: DeliveryStatus
    attempts: int
    occurred_at: datetime
    due_at: datetime | None
    settled_at: datetime | None
    reason: str | None


class Deliveries(BaseModel):
    """A page of deliveries."""

    deliveries: list[Delivery]


class Replayed(BaseModel):
    """Which deliveries were found, and which of them are due again."""

    replayed: list[int]
    found: list[int]
    dry_run: bool


class Taken(BaseModel):
    """What came of something that was told."""

    outcome: str


_BODY = (P.REQUEST_MALFORMED, P.BODY_TOO_LARGE, P.MEDIA_TYPE_UNSUPPORTED, P.REQUEST_INVALID)
_ADMIN = (P.ADMIN_KEY_REFUSED, P.DATABASE_UNAVAILABLE)
_TOKEN = (P.TOKEN_MISSING, P.TOKEN_MALFORMED, P.TOKEN_UNKNOWN, P.TOKEN_REGENERATED)

_OPERATIONS = {
    **health.OPERATIONS,
    "admin_api.add_course": Operation(
        {201: ApiResponse("Added; the token is shown this once.", CourseWithToken)},
        bodies=[admin.NewCourse],
        problems=(*_ADMIN, *_BODY, P.COURSE_EXISTS, P.COURSE_DELETED),
        example={"course_id": "CS101-2026", "title": "Programming"},
    ),
    "admin_api.list_courses": Operation(
        {200: ApiResponse("A page of courses.", Courses)},
        query=admin.CoursePage,
        problems=(*_ADMIN, P.REQUEST_INVALID),
    ),
    "admin_api.show_course": Operation(
        {200: ApiResponse("The course.", CourseShown)}, problems=(*_ADMIN, P.COURSE_UNKNOWN)
    ),
    "admin_api.delete_course": Operation(
        {200: ApiResponse("Deleted, and told.", Course)},
        problems=(*_ADMIN, P.COURSE_UNKNOWN, P.COURSE_DELETED, P.EVENT_NOT_WRITTEN),
    ),
    "admin_api.regenerate_token": Operation(
        {201: ApiResponse("Regenerated, and told; the token is shown this once.", CourseWithToken)},
        problems=(
            *_ADMIN,
            P.COURSE_UNKNOWN,
            P.COURSE_DELETED,
            P.TOKEN_NOT_OURS,
            P.EVENT_NOT_WRITTEN,
        ),
    ),
    "admin_api.load_grades": Operation(
        {200: ApiResponse("Loaded.", Loaded)},
        bodies=[admin.GradesToLoad],
        problems=(*_ADMIN, *_BODY, P.COURSE_UNKNOWN, P.COURSE_DELETED),
        example={
            "scores": [
                {
                    "userId": "s1001",
                    "scoreGiven": "7.5",
                    "scoreMaximum": "10",
                    "timestamp": "2026-11-22T09:00:00Z",
                }
            ]
        },
    ),
    "admin_api.add_endpoint": Operation(
        {201: ApiResponse("Registered; the secret is shown this once.", EndpointWithSecret)},
        bodies=[admin.NewEndpoint],
        problems=(*_ADMIN, *_BODY, P.ENDPOINT_EXISTS, P.ENDPOINT_URL_REFUSED),
        example={"url": "https://elms.example.ac.uk/webhooks/eassessment"},
    ),
    "admin_api.list_endpoints": Operation(
        {200: ApiResponse("Every endpoint.", Endpoints)}, problems=_ADMIN
    ),
    "admin_api.list_deliveries": Operation(
        {200: ApiResponse("A page of deliveries.", Deliveries)},
        query=admin.DeliveryListParams,
        problems=(*_ADMIN, P.REQUEST_INVALID),
    ),
    "admin_api.replay_deliveries": Operation(
        {200: ApiResponse("Due again, or only found.", Replayed)},
        bodies=[admin.ReplayOrder],
        problems=(*_ADMIN, *_BODY, P.DELIVERY_UNKNOWN, P.REPLAY_REFUSED),
        example={"ids": [1, 2], "dry_run": True},
    ),
    "ingest_api.tell_token": Operation(
        {200: ApiResponse("Told.", TokenTold)},
        bodies=[NewToken],
        problems=(*_ADMIN, *_BODY, P.COURSE_DELETED, P.TOKEN_NOT_OURS, P.EVENT_NOT_WRITTEN),
        example={},
    ),
    "ingest_api.hear_moodle": Operation(
        {200: ApiResponse("Taken in, whatever came of it.", Taken)},
        bodies=[],
        problems=(*_BODY, P.INGEST_REFUSED, P.NOT_FOUND, P.DATABASE_UNAVAILABLE),
    ),
    "api.read_grades": Operation(
        {
            200: ApiResponse(
                "The course's grades.",
                GradesResponse,
                {"ETag": "Names these grades.", "Last-Modified": "When they changed last."},
            ),
            304: ApiResponse("The caller has them."),
        },
        headers={
            "If-None-Match": "The ETag of what the caller has.",
            "If-Modified-Since": "Its Last-Modified; counts only without the other.",
        },
        problems=(
            *_TOKEN,
            P.TOKEN_WRONG_COURSE,
            P.COURSE_UNKNOWN,
            P.COURSE_DELETED,
            P.DATABASE_UNAVAILABLE,
        ),
    ),
    "api.read_batch": Operation(
        {
            200: ApiResponse(
                "Each course, with the status that it would have had alone.", BatchResponse
            )
        },
        bodies=[BatchRequest],
        problems=(*_BODY, P.DATABASE_UNAVAILABLE),
        example={"courses": [{"course_id": "CS101-2026", "token": "eas_…"}]},
        has_security=False,
    ),
}

_SIGNED = {
    "webhook-id": "Names the event; the same over attempts and replays.",
    "webhook-timestamp": "When the attempt was made, in whole seconds.",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; several.",
    "traceparent": "The attempt's span (W3C Trace Context).",
}


def _sent(model: type[BaseModel]) -> tuple[type[BaseModel], Operation]:
    return model, Operation(
        {200: ApiResponse("Understood; any other 2xx does as well.", Taken)},
        bodies=[model],
        headers=_SIGNED,
    )


DESCRIPTION = ApiDescription(
    title="eAssessment",
    description="Courses, grades, and webhooks about deleted courses and regenerated tokens.",
    operations=_OPERATIONS,
    security={
        "admin key": {"adminKey": {"type": "http", "scheme": "bearer"}},
        "course token": {"courseToken": {"type": "http", "scheme": "bearer"}},
        "ingest secret": {"ingestSecret": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
    },
    path_parameters={"course_id": {"type": "string", "minLength": 1, "maxLength": 255}},
    webhooks={
        "course.deleted": _sent(events.CourseDeleted),
        "token.regenerated": _sent(events.TokenRegenerated),
        "endpoint.disabled": _sent(events.EndpointDisabled),
        "delivery.dead": _sent(events.DeliveryDead),
    },
)
"""eAssessment as it describes itself."""

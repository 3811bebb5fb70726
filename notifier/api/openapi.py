"""The OpenAPI description of eAssessment: its routes and the webhooks that it sends."""

from pydantic import BaseModel

from contract import events
from contract.claims import ClaimRequest, ClaimResponse
from contract.grades import BatchRequest, BatchResponse, GradesResponse
from contract.problems import ProblemType as P
from foundation.web import health
from foundation.web.openapi import ApiDescription, ApiResponse, Operation
from notifier.api import schemas
from notifier.models import MAX_ID

_BODY = (P.REQUEST_MALFORMED, P.BODY_TOO_LARGE, P.MEDIA_TYPE_UNSUPPORTED, P.REQUEST_INVALID)
_ADMIN = (P.ADMIN_KEY_REFUSED, P.DATABASE_UNAVAILABLE)
_TOKEN = (P.TOKEN_MISSING, P.TOKEN_MALFORMED, P.TOKEN_UNKNOWN, P.TOKEN_REGENERATED)

_CLAIMED = {
    "webhook-id": "An id of the request, new for each one.",
    "webhook-timestamp": "The time, in seconds since 1970.",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, with the "
    "newest secret of an endpoint that may claim tokens.",
}
_OPERATIONS = {
    **health.OPERATIONS,
    "admin_api.add_course": Operation(
        {201: ApiResponse("Added; the token is shown only once.", schemas.CourseWithToken)},
        bodies=[schemas.NewCourse],
        problems=(*_ADMIN, *_BODY, P.COURSE_EXISTS, P.COURSE_DELETED),
        example={"course_id": "CS101-2026", "title": "Programming"},
    ),
    "admin_api.list_courses": Operation(
        {200: ApiResponse("A page of courses.", schemas.Courses)},
        query=schemas.CourseListParams,
        problems=(*_ADMIN, P.REQUEST_INVALID),
    ),
    "admin_api.show_course": Operation(
        {200: ApiResponse("The course.", schemas.CourseDetails)},
        problems=(*_ADMIN, P.COURSE_UNKNOWN),
    ),
    "admin_api.delete_course": Operation(
        {200: ApiResponse("Deleted; all endpoints are notified.", schemas.CourseResponse)},
        problems=(*_ADMIN, P.COURSE_UNKNOWN, P.COURSE_DELETED, P.EVENT_NOT_WRITTEN),
    ),
    "admin_api.restore_course": Operation(
        {200: ApiResponse("Restored; all endpoints are notified.", schemas.CourseRestored)},
        problems=(
            *_ADMIN,
            P.COURSE_UNKNOWN,
            P.COURSE_NOT_DELETED,
            P.DELETION_FINAL,
            P.EVENT_NOT_WRITTEN,
        ),
    ),
    "admin_api.regenerate_token": Operation(
        {
            201: ApiResponse(
                "Regenerated; the token is shown only once.",
                schemas.RegeneratedToken,
            )
        },
        query=schemas.TokenRegeneration,
        problems=(
            *_ADMIN,
            P.REQUEST_INVALID,
            P.COURSE_UNKNOWN,
            P.COURSE_DELETED,
            P.TOKEN_NOT_OURS,
            P.EVENT_NOT_WRITTEN,
        ),
    ),
    "admin_api.load_grades": Operation(
        {200: ApiResponse("Loaded.", schemas.GradesLoaded)},
        bodies=[schemas.GradesToLoad],
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
        {201: ApiResponse("Registered; the secret is shown once.", schemas.EndpointWithSecret)},
        bodies=[schemas.NewEndpoint],
        problems=(*_ADMIN, *_BODY, P.ENDPOINT_EXISTS, P.ENDPOINT_URL_REFUSED),
        example={"url": "https://elms.example.ac.uk/webhooks/eassessment"},
    ),
    "admin_api.list_endpoints": Operation(
        {200: ApiResponse("All endpoints.", schemas.Endpoints)},
        query=schemas.EndpointListParams,
        problems=(*_ADMIN, P.REQUEST_INVALID),
    ),
    "admin_api.remove_endpoint": Operation(
        {200: ApiResponse("Removed, now or earlier.", schemas.EndpointRemoved)},
        problems=(*_ADMIN, P.ENDPOINT_UNKNOWN),
    ),
    "admin_api.list_deliveries": Operation(
        {200: ApiResponse("A page of deliveries.", schemas.Deliveries)},
        query=schemas.DeliveryListParams,
        problems=(*_ADMIN, P.REQUEST_INVALID),
    ),
    "admin_api.replay_deliveries": Operation(
        {200: ApiResponse("Due again, or only found if `dry_run`.", schemas.Replayed)},
        bodies=[schemas.ReplayRequest],
        problems=(*_ADMIN, *_BODY, P.DELIVERY_UNKNOWN, P.REPLAY_REFUSED),
        example={"ids": [1, 2], "dry_run": True},
    ),
    "ingest_api.announce_token": Operation(
        {200: ApiResponse("All endpoints are notified.", schemas.TokenAnnouncement)},
        bodies=[schemas.NewToken],
        problems=(*_ADMIN, *_BODY, P.COURSE_DELETED, P.TOKEN_NOT_OURS, P.EVENT_NOT_WRITTEN),
        example={},
    ),
    "ingest_api.receive_moodle_event": Operation(
        {200: ApiResponse("Accepted; `outcome` says what it did.", schemas.Outcome)},
        bodies=[],
        problems=(*_BODY, P.INGEST_REFUSED, P.NOT_FOUND, P.DATABASE_UNAVAILABLE),
    ),
    "api.read_grades": Operation(
        {
            200: ApiResponse(
                "The course's grades.",
                GradesResponse,
                {"ETag": "Identifies these grades.", "Last-Modified": "When they last changed."},
            ),
            304: ApiResponse("Not modified."),
        },
        headers={
            "If-None-Match": "The ETag of the last response.",
            "If-Modified-Since": "The Last-Modified of the last response, without If-None-Match.",
        },
        problems=(
            *_TOKEN,
            P.TOKEN_WRONG_COURSE,
            P.COURSE_UNKNOWN,
            P.COURSE_DELETED,
            P.DATABASE_UNAVAILABLE,
        ),
    ),
    "claims_api.claim_tokens": Operation(
        {200: ApiResponse("Each course, with its token or why it has none.", ClaimResponse)},
        bodies=[ClaimRequest],
        headers=_CLAIMED,
        problems=(
            *_BODY,
            P.SIGNATURE_REFUSED,
            P.CLAIMS_NOT_ALLOWED,
            P.WEBHOOK_ID_REUSED,
            P.DATABASE_UNAVAILABLE,
        ),
        example={"type": "tokens.claim", "course_ids": ["CS101-2026"]},
    ),
    "api.read_batch": Operation(
        {200: ApiResponse("Each course, with the status of its own request.", BatchResponse)},
        bodies=[BatchRequest],
        problems=(*_BODY, P.DATABASE_UNAVAILABLE),
        example={"courses": [{"course_id": "CS101-2026", "token": "eas_…"}]},
        has_security=False,
    ),
}

_SIGNED = {
    "webhook-id": "The event's id; the same for every attempt and replay.",
    "webhook-timestamp": "When the attempt was made, in seconds since 1970.",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; several.",
    "traceparent": "The attempt's span (W3C Trace Context).",
}


def _sent(model: type[BaseModel]) -> tuple[type[BaseModel], Operation]:
    return model, Operation(
        {200: ApiResponse("Understood; any other 2xx is accepted too.", schemas.Outcome)},
        bodies=[model],
        headers=_SIGNED,
    )


DESCRIPTION = ApiDescription(
    title="eAssessment",
    description="Courses, grades, and webhooks about deleted and restored courses and new tokens.",
    operations=_OPERATIONS,
    security={
        "admin key": {"adminKey": {"type": "http", "scheme": "bearer"}},
        "course token": {"courseToken": {"type": "http", "scheme": "bearer"}},
        "webhook signature": {
            "signature": {"type": "apiKey", "in": "header", "name": "webhook-signature"}
        },
        "ingest secret": {"ingestSecret": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
    },
    path_parameters={
        "course_id": {"type": "string", "minLength": 1, "maxLength": 255},
        "endpoint_id": {"type": "integer", "minimum": 0, "maximum": MAX_ID},
    },
    webhooks={
        "course.deleted": _sent(events.CourseDeleted),
        "course.restored": _sent(events.CourseRestored),
        "token.regenerated": _sent(events.TokenRegenerated),
        "endpoint.disabled": _sent(events.EndpointDisabled),
        "delivery.dead": _sent(events.DeliveryDead),
        "endpoint.ping": _sent(events.PingEvent),
    },
)
"""The description of eAssessment."""

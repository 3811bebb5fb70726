"""What ELMS's routes take and answer, for its OpenAPI document."""

from pydantic import BaseModel

from contract.events import CourseDeleted, TokenRegenerated, UnknownEvent
from contract.problems import ProblemType as P
from foundation.web import health
from foundation.web.openapi import ApiDescription, ApiResponse, Operation
from receiver.webhooks.inbox import WebhookOutcome


class Taken(BaseModel):
    """What an event that was understood did."""

    outcome: WebhookOutcome


DESCRIPTION = ApiDescription(
    title="ELMS",
    description="The door for webhooks of eAssessment, by Standard Webhooks 1.0.",
    operations={
        **health.OPERATIONS,
        "webhooks.receive": Operation(
            {200: ApiResponse("Understood, and taken in once.", Taken)},
            bodies=[CourseDeleted, TokenRegenerated, UnknownEvent],
            headers={
                "webhook-id": "Names the event; the same over attempts and replays.",
                "webhook-timestamp": "When the attempt was made, in whole seconds.",
                "traceparent": "The attempt's span (W3C Trace Context), for the log.",
            },
            problems=(
                P.SIGNATURE_REFUSED,
                P.SOURCE_MISMATCH,
                P.WEBHOOK_ID_REUSED,
                P.REQUEST_MALFORMED,
                P.BODY_TOO_LARGE,
                P.MEDIA_TYPE_UNSUPPORTED,
                P.REQUEST_INVALID,
                P.DATABASE_UNAVAILABLE,
            ),
            example={
                "type": "course.deleted",
                "timestamp": "2026-11-22T09:00:00.123456Z",
                "data": {
                    "source": "eassessment",
                    "course_id": "CS101-2026",
                    "course_version": 4,
                },
            },
        ),
    },
    security={
        "webhook signature": {
            "signature": {
                "type": "apiKey",
                "in": "header",
                "name": "webhook-signature",
                "description": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.",
            }
        }
    },
    path_parameters={"source": {"type": "string", "minLength": 1, "maxLength": 100}},
)
"""ELMS as it describes itself."""

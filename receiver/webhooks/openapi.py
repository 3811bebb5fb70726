"""The OpenAPI description of ELMS's routes."""

from pydantic import BaseModel

from contract.events import CourseDeleted, CourseRestored, TokenRegenerated, UnknownEvent
from contract.problems import ProblemType as P
from foundation.web import health
from foundation.web.openapi import ApiDescription, ApiResponse, Operation
from receiver.webhooks.inbox import WebhookOutcome


class AcceptedWebhook(BaseModel):
    """What an accepted webhook did."""

    outcome: WebhookOutcome


DESCRIPTION = ApiDescription(
    title="ELMS",
    description="The webhook route for eAssessment (Standard Webhooks 1.0).",
    operations={
        **health.OPERATIONS,
        "webhooks.receive": Operation(
            {200: ApiResponse("The webhook was accepted.", AcceptedWebhook)},
            bodies=[CourseDeleted, CourseRestored, TokenRegenerated, UnknownEvent],
            headers={
                "webhook-id": "The id of the event; the same for all attempts and replays.",
                "webhook-timestamp": "The time of the attempt, in whole seconds since 1970.",
                "traceparent": "The span of the attempt (W3C Trace Context), for the log.",
            },
            problems=(
                P.SIGNATURE_REFUSED,
                P.SOURCE_UNKNOWN,
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

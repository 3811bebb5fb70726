"""What ELMS's routes take and answer, for its OpenAPI document."""

from pydantic import BaseModel

from contract.events import CourseDeleted, TokenRegenerated, UnknownEvent
from contract.problems import ProblemType as P
from foundation.web.answered import WATCHED
from foundation.web.openapi import Answer, Description, Operation
from receiver.webhooks.inbox import WebhookOutcome


class Taken(BaseModel):
    """What an event that was understood did."""

    outcome: WebhookOutcome


DESCRIPTION = Description(
    title="ELMS",
    about="The door for webhooks of eAssessment, by Standard Webhooks 1.0.",
    operations={
        **WATCHED,
        "webhooks.receive": Operation(
            {200: Answer("Understood, and taken in once.", Taken)},
            takes=[CourseDeleted, TokenRegenerated, UnknownEvent],
            hears={
                "webhook-id": "Names the event; the same over attempts and replays.",
                "webhook-timestamp": "When the attempt was made, in whole seconds.",
                "traceparent": "The attempt's span (W3C Trace Context), for the log.",
            },
            refuses=(
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
    proofs={
        "webhook signature": {
            "signature": {
                "type": "apiKey",
                "in": "header",
                "name": "webhook-signature",
                "description": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.",
            }
        }
    },
    paths={"source": {"type": "string", "minLength": 1, "maxLength": 100}},
)
"""ELMS as it describes itself."""

"""Problem documents (RFC 9457), their stable types and their HTTP statuses."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MEDIA_TYPE = "application/problem+json"
_PREFIX = "urn:problem-type:"


class ProblemType(StrEnum):
    """Why a request was refused; the values are stable, because programs depend on them."""

    TOKEN_MISSING = "token-missing"  # noqa: S105 - a problem's name, no secret
    TOKEN_MALFORMED = "token-malformed"  # noqa: S105 - a problem's name, no secret
    TOKEN_UNKNOWN = "token-unknown"  # noqa: S105 - a problem's name, no secret
    TOKEN_REGENERATED = "token-regenerated"  # noqa: S105 - a problem's name, no secret
    TOKEN_WRONG_COURSE = "token-wrong-course"  # noqa: S105 - a problem's name, no secret
    COURSE_DELETED = "course-deleted"
    COURSE_UNKNOWN = "course-unknown"
    COURSE_EXISTS = "course-exists"
    COURSE_CHANGED = "course-changed"
    ENDPOINT_CHANGED = "endpoint-changed"
    EVENT_NOT_WRITTEN = "event-not-written"
    BATCH_FULL = "batch-full"
    TOKEN_NOT_OURS = "token-not-ours"  # noqa: S105 - a problem's name, no secret
    INGEST_REFUSED = "ingest-refused"
    ADMIN_KEY_REFUSED = "admin-key-refused"
    METRICS_TOKEN_REFUSED = "metrics-token-refused"  # noqa: S105 - a problem's name, no secret
    ENDPOINT_UNKNOWN = "endpoint-unknown"
    ENDPOINT_EXISTS = "endpoint-exists"
    ENDPOINT_URL_REFUSED = "endpoint-url-refused"
    DELIVERY_UNKNOWN = "delivery-unknown"
    REPLAY_REFUSED = "replay-refused"
    SIGNATURE_REFUSED = "signature-refused"
    SOURCE_UNKNOWN = "source-unknown"
    SOURCE_MISMATCH = "source-mismatch"
    WEBHOOK_ID_REUSED = "webhook-id-reused"
    ENTRY_UNKNOWN = "entry-unknown"
    RUN_UNKNOWN = "run-unknown"
    REQUEST_MALFORMED = "request-malformed"
    REQUEST_INVALID = "request-invalid"
    BODY_TOO_LARGE = "body-too-large"
    MEDIA_TYPE_UNSUPPORTED = "media-type-unsupported"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    DATABASE_UNAVAILABLE = "database-unavailable"
    NOT_READY = "not-ready"
    INTERNAL_ERROR = "internal-error"


# The HTTP status of each type.
STATUS: dict[ProblemType, int] = {
    ProblemType.TOKEN_MISSING: 401,
    ProblemType.TOKEN_MALFORMED: 401,
    ProblemType.TOKEN_UNKNOWN: 401,
    ProblemType.TOKEN_REGENERATED: 401,
    ProblemType.TOKEN_WRONG_COURSE: 403,
    ProblemType.COURSE_DELETED: 410,
    ProblemType.COURSE_UNKNOWN: 404,
    ProblemType.COURSE_EXISTS: 409,
    ProblemType.COURSE_CHANGED: 409,
    ProblemType.ENDPOINT_CHANGED: 409,
    ProblemType.EVENT_NOT_WRITTEN: 500,
    ProblemType.BATCH_FULL: 413,
    ProblemType.TOKEN_NOT_OURS: 409,
    ProblemType.INGEST_REFUSED: 401,
    ProblemType.ADMIN_KEY_REFUSED: 401,
    ProblemType.METRICS_TOKEN_REFUSED: 401,
    ProblemType.ENDPOINT_UNKNOWN: 404,
    ProblemType.ENDPOINT_EXISTS: 409,
    ProblemType.ENDPOINT_URL_REFUSED: 422,
    ProblemType.DELIVERY_UNKNOWN: 404,
    ProblemType.REPLAY_REFUSED: 409,
    ProblemType.SIGNATURE_REFUSED: 401,
    ProblemType.SOURCE_UNKNOWN: 404,
    ProblemType.SOURCE_MISMATCH: 403,
    ProblemType.WEBHOOK_ID_REUSED: 409,
    ProblemType.ENTRY_UNKNOWN: 404,
    ProblemType.RUN_UNKNOWN: 404,
    ProblemType.REQUEST_MALFORMED: 400,
    ProblemType.REQUEST_INVALID: 422,
    ProblemType.BODY_TOO_LARGE: 413,
    ProblemType.MEDIA_TYPE_UNSUPPORTED: 415,
    ProblemType.NOT_FOUND: 404,
    ProblemType.METHOD_NOT_ALLOWED: 405,
    ProblemType.DATABASE_UNAVAILABLE: 503,
    ProblemType.NOT_READY: 503,
    ProblemType.INTERNAL_ERROR: 500,
}


@dataclass(frozen=True)
class Problem:
    """One refusal: what and why (`detail`), what to do (`next_step`), and further members."""

    type: ProblemType
    detail: str
    next_step: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status that goes with the type."""
        return STATUS[self.type]

    def document(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        return {
            "type": _PREFIX + self.type,
            "title": self.type.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "next_step": self.next_step,
            **self.facts,
        }


def type_of(document: object) -> ProblemType | None:
    """Return the type of a received document, or None if it is not one of ours."""
    named = document.get("type") if isinstance(document, dict) else None
    if not isinstance(named, str) or not named.startswith(_PREFIX):
        return None
    try:
        return ProblemType(named.removeprefix(_PREFIX))
    except ValueError:
        return None

"""Problem documents (RFC 9457), their stable types and their HTTP statuses."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

MEDIA_TYPE = "application/problem+json"
_PREFIX = "urn:problem-type:"


class ProblemType(StrEnum):
    """Why a request was refused, with its HTTP status.

    The values are stable, because programs depend on them.
    """

    status: int

    def __new__(cls, value: str, status: int) -> Self:
        """Return the member of a name, with its status."""
        member = str.__new__(cls, value)
        member._value_, member.status = value, status
        return member

    @property
    def uri(self) -> str:
        """The `type` of a document."""
        return _PREFIX + self

    TOKEN_MISSING = "token-missing", 401
    TOKEN_MALFORMED = "token-malformed", 401
    TOKEN_UNKNOWN = "token-unknown", 401
    TOKEN_REGENERATED = "token-regenerated", 401
    TOKEN_WRONG_COURSE = "token-wrong-course", 403
    COURSE_DELETED = "course-deleted", 410
    COURSE_NOT_DELETED = "course-not-deleted", 409
    DELETION_FINAL = "deletion-final", 409
    COURSE_UNKNOWN = "course-unknown", 404
    COURSE_EXISTS = "course-exists", 409
    COURSE_CHANGED = "course-changed", 409
    ENDPOINT_CHANGED = "endpoint-changed", 409
    EVENT_NOT_WRITTEN = "event-not-written", 500
    BATCH_FULL = "batch-full", 413
    TOKEN_NOT_OURS = "token-not-ours", 409
    TOKEN_NOT_CLAIMABLE = "token-not-claimable", 409
    CLAIMS_NOT_ALLOWED = "claims-not-allowed", 403
    INGEST_REFUSED = "ingest-refused", 401
    ADMIN_KEY_REFUSED = "admin-key-refused", 401
    METRICS_TOKEN_REFUSED = "metrics-token-refused", 401
    ENDPOINT_UNKNOWN = "endpoint-unknown", 404
    ENDPOINT_EXISTS = "endpoint-exists", 409
    ENDPOINT_REMOVED = "endpoint-removed", 409
    ENDPOINT_URL_REFUSED = "endpoint-url-refused", 422
    DELIVERY_UNKNOWN = "delivery-unknown", 404
    REPLAY_REFUSED = "replay-refused", 409
    SIGNATURE_REFUSED = "signature-refused", 401
    SOURCE_UNKNOWN = "source-unknown", 404
    SOURCE_MISMATCH = "source-mismatch", 403
    WEBHOOK_ID_REUSED = "webhook-id-reused", 409
    ENTRY_UNKNOWN = "entry-unknown", 404
    RUN_UNKNOWN = "run-unknown", 404
    REQUEST_MALFORMED = "request-malformed", 400
    REQUEST_INVALID = "request-invalid", 422
    BODY_TOO_LARGE = "body-too-large", 413
    MEDIA_TYPE_UNSUPPORTED = "media-type-unsupported", 415
    NOT_FOUND = "not-found", 404
    METHOD_NOT_ALLOWED = "method-not-allowed", 405
    DATABASE_UNAVAILABLE = "database-unavailable", 503
    NOT_READY = "not-ready", 503
    INTERNAL_ERROR = "internal-error", 500


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
        return self.type.status

    def document(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        return {
            "type": self.type.uri,
            "title": self.type.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "next_step": self.next_step,
            **self.facts,
        }


def type_of(document: object) -> ProblemType | None:
    """Return the type of a received document, or None if it is not one of ours."""
    named = document.get("type") if isinstance(document, dict) else None
    return next((kind for kind in ProblemType if named == kind.uri), None)

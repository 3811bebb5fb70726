"""What every door refuses, whichever service stands behind it, and the problems that say so."""

from contract.problems import ProblemType
from foundation.errors import Advice, Refusal

RETRY_AFTER_SECONDS = 5
"""What a door asks of those who met a database that is busy or away."""


class RequestMalformedError(Refusal):
    """The request cannot be read."""

    advice = Advice("Send one JSON object in UTF-8.")


class RequestInvalidError(Refusal):
    """The request can be read, but a field of it is missing or wrong."""

    advice = Advice("Mend the fields that `errors` points to and send the request again.")


class MediaTypeError(Refusal):
    """The body is said to be something other than JSON."""

    advice = Advice("Send Content-Type: application/json.")


class BodyTooLargeError(Refusal):
    """The body is larger than this door takes."""

    advice = Advice("Send a smaller body, or several requests.")


class AdminKeyError(Refusal):
    """The request bears no admin key, or a wrong one."""

    advice = Advice(
        "Send `Authorization: Bearer <admin key>`; the key stands in the service's settings."
    )


class MetricsTokenError(Refusal):
    """The request for the numbers bears no metrics token, or a wrong one."""

    advice = Advice(
        "Send `Authorization: Bearer <metrics token>`; the token stands in the service's settings."
    )


class NotReadyError(Refusal):
    """The service runs, but cannot do its work yet, or not at present."""


class UnavailableError(Refusal):
    """The database cannot be used; what was asked for is done as a whole or not at all."""

    advice = Advice(f"Try again after {RETRY_AFTER_SECONDS} seconds.")


class InternalError(Refusal):
    """Something failed that nobody foresaw; the log has it under the request's id."""

    advice = Advice(
        "Tell the operators of this service the request id; the log says what happened."
    )


PROBLEMS: dict[type[Refusal], ProblemType] = {
    RequestMalformedError: ProblemType.REQUEST_MALFORMED,
    RequestInvalidError: ProblemType.REQUEST_INVALID,
    MediaTypeError: ProblemType.MEDIA_TYPE_UNSUPPORTED,
    BodyTooLargeError: ProblemType.BODY_TOO_LARGE,
    AdminKeyError: ProblemType.ADMIN_KEY_REFUSED,
    MetricsTokenError: ProblemType.METRICS_TOKEN_REFUSED,
    NotReadyError: ProblemType.NOT_READY,
    UnavailableError: ProblemType.DATABASE_UNAVAILABLE,
    InternalError: ProblemType.INTERNAL_ERROR,
}
"""The problem of each of these refusals; a service adds its own."""

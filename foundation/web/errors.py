"""The refusals of the web layer, with their problem types."""

from contract.problems import ProblemType
from foundation.errors import Advice, Refusal

# How long clients should wait for a database that is busy or unavailable.
RETRY_AFTER_SECONDS = 5


class RequestMalformedError(Refusal):
    """The request cannot be read."""

    advice = Advice("Send one JSON object in UTF-8.")


class RequestInvalidError(Refusal):
    """A field of the request is missing or invalid."""

    advice = Advice("Correct the fields that `errors` names and send the request again.")


class MediaTypeError(Refusal):
    """The content type of the body is not JSON."""

    advice = Advice("Send Content-Type: application/json.")


class BodyTooLargeError(Refusal):
    """The body is larger than the route accepts."""

    advice = Advice("Send a smaller body, or several requests.")


class AdminKeyError(Refusal):
    """The request has no admin key, or a wrong one."""

    advice = Advice(
        "Send `Authorization: Bearer <admin key>`; the key is in the service's settings."
    )


class MetricsTokenError(Refusal):
    """The request for metrics has no metrics token, or a wrong one."""

    advice = Advice(
        "Send `Authorization: Bearer <metrics token>`; the token is in the service's settings."
    )


class NotReadyError(Refusal):
    """The service is running but cannot use its database."""


class UnavailableError(Refusal):
    """The database cannot be used; the request had no effect, or its full effect."""

    advice = Advice(f"Try again after {RETRY_AFTER_SECONDS} seconds.")


class InternalError(Refusal):
    """An unexpected error, which is in the log under the id of the request."""

    advice = Advice(
        "Give the request id to the operators of this service; the log has the details."
    )


# The problem types of these refusals; a service adds its own.
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

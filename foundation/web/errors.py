"""The refusals of the web layer, with their problem types."""

from contract.problems import ProblemType
from foundation.errors import Advice, Refusal

# How long clients should wait for a database that is busy or unavailable.
RETRY_AFTER_SECONDS = 5


class RequestMalformedError(Refusal):
    """The request cannot be read."""

    problem = ProblemType.REQUEST_MALFORMED
    advice = Advice("Send one JSON object in UTF-8.")


class RequestInvalidError(Refusal):
    """A field of the request is missing or invalid."""

    problem = ProblemType.REQUEST_INVALID
    advice = Advice("Correct the fields that `errors` names and send the request again.")


class MediaTypeError(Refusal):
    """The body is not JSON, or is encoded."""

    problem = ProblemType.MEDIA_TYPE_UNSUPPORTED
    advice = Advice("Send Content-Type: application/json.")


class BodyTooLargeError(Refusal):
    """The body is larger than the route accepts."""

    problem = ProblemType.BODY_TOO_LARGE
    advice = Advice("Send a smaller body, or several requests.")


class AdminKeyError(Refusal):
    """The request has no admin key, or a wrong one."""

    problem = ProblemType.ADMIN_KEY_REFUSED
    advice = Advice(
        "Send `Authorization: Bearer <admin key>`; the key is in the service's settings."
    )


class MetricsTokenError(Refusal):
    """The request for metrics has no metrics token, or a wrong one."""

    problem = ProblemType.METRICS_TOKEN_REFUSED
    advice = Advice(
        "Send `Authorization: Bearer <metrics token>`; the token is in the service's settings."
    )


class NotReadyError(Refusal):
    """The service is running but cannot use its database."""

    problem = ProblemType.NOT_READY


class UnavailableError(Refusal):
    """The database cannot be used; the request had no effect, or its full effect."""

    problem = ProblemType.DATABASE_UNAVAILABLE
    advice = Advice(f"Try again after {RETRY_AFTER_SECONDS} seconds.")


class InternalError(Refusal):
    """An unexpected error, which is in the log under the id of the request."""

    problem = ProblemType.INTERNAL_ERROR
    advice = Advice(
        "Give the request id to the operators of this service; the log has the details."
    )

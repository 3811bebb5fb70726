"""The refusals of eAssessment, each with advice."""

from datetime import datetime, timedelta

from contract.problems import ProblemType
from foundation.errors import Advice, Refusal
from foundation.text import format_timestamp


class NotifierError(Refusal):
    """The base class of the refusals of eAssessment."""


class CourseUnknownError(NotifierError):
    """A course does not exist and never did."""

    problem = ProblemType.COURSE_UNKNOWN
    advice = Advice("Check the course id.", "courses list")


class CourseExistsError(NotifierError):
    """A course id is or was in use: ids are not used twice."""

    problem = ProblemType.COURSE_EXISTS
    advice = Advice(
        "Choose another course id; the id of a deleted course cannot be used again. If you have "
        "just added this course and did not see its token, regenerate the token.",
        "courses regenerate-token",
        ("COURSE_ID",),
    )


class CourseDeletedError(NotifierError):
    """A course is deleted."""

    problem = ProblemType.COURSE_DELETED
    advice = Advice("No action needed. A deletion by mistake can be undone until it is final.")
    for_bearer = Advice(
        "Skip the course in the grade sync. If it is restored, its token is valid again."
    )

    @classmethod
    def of(
        cls, course_id: str, *, version: int, deleted_at: datetime, advice: Advice | None = None
    ) -> "CourseDeletedError":
        """Return the refusal with the time and the version of the deletion."""
        return cls(
            f"the course {course_id!r} was deleted at {format_timestamp(deleted_at)}",
            advice=advice,
            course_id=course_id,
            course_version=version,
            deleted_at=deleted_at,
        )


class CourseNotDeletedError(NotifierError):
    """A course that is to be restored is not deleted."""

    problem = ProblemType.COURSE_NOT_DELETED
    advice = Advice("No action needed.")


class DeletionFinalError(NotifierError):
    """A deleted course cannot be restored any more, or only in its Moodle."""

    problem = ProblemType.DELETION_FINAL
    advice = Advice("If the course is held again, add it under a new id.")
    in_moodle = Advice("If the course is restored in its Moodle, it has a new number there.")

    @classmethod
    def of(cls, course_id: str, *, deleted_at: datetime, grace: timedelta) -> "DeletionFinalError":
        """Return the refusal of a course whose grace period is over."""
        until = f": it could be restored until {format_timestamp(deleted_at + grace)}"
        return cls(
            f"the deletion of the course {course_id!r} at {format_timestamp(deleted_at)} is final"
            + (until if grace else ""),
            course_id=course_id,
            deleted_at=deleted_at,
        )


class CourseChangedError(NotifierError):
    """A course has changed since it was read, so the same change may have been made already."""

    problem = ProblemType.COURSE_CHANGED
    advice = Advice(
        "Open the course again to see what was done. A token is shown only once: if no one saved "
        "the new one, regenerate it again."
    )


class EventNotWrittenError(NotifierError):
    """The event of a change could not be written, so the change was not made."""

    problem = ProblemType.EVENT_NOT_WRITTEN
    advice = Advice(
        "Nothing was changed. Tell the operators of eAssessment; "
        "NOTIFIER_LOG_LEVEL=DEBUG shows where it failed."
    )


class TokenMissingError(NotifierError):
    """A request has no course token."""

    problem = ProblemType.TOKEN_MISSING
    advice = Advice("Send `Authorization: Bearer <course token>`; a token never goes into the URL.")


class TokenMalformedError(NotifierError):
    """The token of a request does not have the form of a course token."""

    problem = ProblemType.TOKEN_MALFORMED
    advice = Advice("Copy the whole token again, from eas_ to its last character.")


class TokenUnknownError(NotifierError):
    """No course has this token."""

    problem = ProblemType.TOKEN_UNKNOWN
    advice = Advice("Ask the eAssessment administrator for this course's token.")


class TokenRegeneratedError(NotifierError):
    """The token was valid and has been replaced."""

    problem = ProblemType.TOKEN_REGENERATED
    advice = Advice("Ask the eAssessment administrator for the new token and enter it in ELMS.")


class TokenWrongCourseError(NotifierError):
    """The token belongs to another course."""

    problem = ProblemType.TOKEN_WRONG_COURSE
    advice = Advice("Use the token of the requested course; each course has its own.")


class BatchFullError(NotifierError):
    """A course does not fit into a batch together with the others."""

    problem = ProblemType.BATCH_FULL
    advice = Advice("Request this course in another batch, or alone.")


class TokenIssuerError(NotifierError):
    """The tokens of a course are issued by a Moodle, or here, contrary to what was requested."""

    problem = ProblemType.TOKEN_NOT_OURS
    advice = Advice(
        "Reset the token in the Moodle that issues it, then announce the new one.",
        "courses announce-token",
        ("COURSE_ID",),
    )


class TokenNotClaimableError(NotifierError):
    """The token of a course cannot be claimed, or not any more."""

    problem = ProblemType.TOKEN_NOT_CLAIMABLE
    advice = Advice("Get the current token from the eAssessment administrator and enter it.")


class ClaimsNotAllowedError(NotifierError):
    """An endpoint may not claim tokens, or is disabled."""

    problem = ProblemType.CLAIMS_NOT_ALLOWED
    advice = Advice(
        "Enter new tokens by hand, or ask the eAssessment administrator to allow it.",
        "endpoints set-token-claims",
        ("ENDPOINT_ID", "on"),
    )
    disabled = Advice(
        "Ask the eAssessment administrator to enable the endpoint; until then enter new tokens by "
        "hand.",
        "endpoints enable",
        ("ENDPOINT_ID",),
    )


class ClaimRepeatedError(NotifierError):
    """A claim has the `webhook-id` of one that was received before."""

    problem = ProblemType.WEBHOOK_ID_REUSED
    advice = Advice(
        "Claim again with a new webhook-id; the tokens are the same until they are used."
    )


class SignatureRefusedError(NotifierError):
    """A request is not signed as Standard Webhooks requires, or not with an endpoint's secret."""

    problem = ProblemType.SIGNATURE_REFUSED
    advice = Advice(
        "Sign the exact bytes of the body with the current secret of the endpoint and the current "
        "time (Standard Webhooks 1.0). A course token is not enough."
    )
    replaced = Advice(
        "Enter the newest secret of the endpoint in ELMS, with `receiver sources add-secret`. If "
        "no one saved it, rotate it again."
    )


class IngestOffError(NotifierError):
    """No events of a Moodle are accepted, because no ingest secret is set."""

    problem = ProblemType.NOT_FOUND
    advice = Advice("Set NOTIFIER_INGEST_SECRET, then restart the server.", "serve")


class IngestRefusedError(NotifierError):
    """An event of a Moodle has no ingest secret, or a wrong one."""

    problem = ProblemType.INGEST_REFUSED
    advice = Advice(
        "Send NOTIFIER_INGEST_SECRET as X-Api-Key, as `Authorization: Bearer`, "
        "or as the body's `token`."
    )


class EndpointUnknownError(NotifierError):
    """An endpoint does not exist."""

    problem = ProblemType.ENDPOINT_UNKNOWN
    advice = Advice("Check the number of the endpoint.", "endpoints list")


class EndpointRemovedError(NotifierError):
    """An endpoint was removed, so that it cannot be used or changed any more."""

    problem = ProblemType.ENDPOINT_REMOVED
    advice = Advice(
        "Add its URL again if it is needed; it gets a new secret.", "endpoints add", ("URL",)
    )


class EndpointExistsError(NotifierError):
    """A URL is already registered."""

    problem = ProblemType.ENDPOINT_EXISTS
    advice = Advice("Use the endpoint that exists; if it is disabled, enable it.", "endpoints list")


class EndpointChangedError(NotifierError):
    """An endpoint has changed since it was read, so the same change may have been made already."""

    problem = ProblemType.ENDPOINT_CHANGED
    advice = Advice(
        "Open the endpoint again to see what was done. A secret is shown only once: if no one "
        "saved the new one, rotate it again."
    )


class EndpointUrlError(NotifierError):
    """A URL cannot be an endpoint."""

    problem = ProblemType.ENDPOINT_URL_REFUSED
    advice = Advice("Give an https URL with a host, without user info and fragment.")


class EndpointDisabledError(NotifierError):
    """An endpoint is disabled, so nothing is sent to it."""

    advice = Advice(
        "Fix the receiver, then enable the endpoint; its held deliveries are sent then.",
        "endpoints enable",
        ("ENDPOINT_ID",),
    )


class SampleRefusedError(NotifierError):
    """A sample would be about a course that exists."""

    advice = Advice(
        "Leave the course out, or give an id that no course has: a receiver that does not know the "
        "mark of a test might act on the sample."
    )


class DeliveryUnknownError(NotifierError):
    """A delivery does not exist."""

    problem = ProblemType.DELIVERY_UNKNOWN
    advice = Advice("Check the number of the delivery.", "deliveries list")


class ReplayRefusedError(NotifierError):
    """A delivery cannot be replayed now."""

    problem = ProblemType.REPLAY_REFUSED
    advice = Advice(
        "Enable the endpoint; its held deliveries are sent then.",
        "endpoints enable",
        ("ENDPOINT_ID",),
    )

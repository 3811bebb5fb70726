"""What eAssessment refuses, each with what to do next."""

from datetime import datetime

from foundation.errors import Advice, Refusal


class NotifierError(Refusal):
    """The root of what eAssessment refuses."""


class CourseUnknownError(NotifierError):
    """There is no such course, and there never was."""

    advice = Advice("Check the course id.", "courses list")


class CourseExistsError(NotifierError):
    """A course of this id exists, or existed: ids are not used twice."""

    advice = Advice(
        "Choose another course id; the id of a deleted course cannot be used again. If you have "
        "just added this course and did not see its token, regenerate the token.",
        "courses regenerate-token",
        ("COURSE_ID",),
    )


class CourseDeletedError(NotifierError):
    """The course was deleted; deletion is final."""

    advice = Advice(
        "Nothing is left to do with it; if the course is held again, add it under a new id."
    )
    for_bearer = Advice(
        "Remove the course from the grade sync; a restored course gets a new id and a new token."
    )

    @classmethod
    def of(
        cls, course_id: str, *, version: int, deleted_at: datetime, advice: Advice | None = None
    ) -> "CourseDeletedError":
        """Return the refusal that tells when a course was deleted, and which version that made."""
        return cls(
            f"the course {course_id!r} was deleted at {deleted_at:%Y-%m-%d %H:%M:%S} UTC",
            advice=advice,
            course_id=course_id,
            course_version=version,
            deleted_at=deleted_at,
        )


class CourseChangedError(NotifierError):
    """The course has changed since whoever asks looked at it, so that this may be done already."""

    advice = Advice(
        "Open the course again and see what was done. A token is shown once: if nobody kept the "
        "one that was made, regenerate it again from there."
    )


class EventNotWrittenError(NotifierError):
    """The event of a change could not be written, so the change was not made either."""

    advice = Advice(
        "Nothing was changed. Tell the operators of eAssessment; "
        "NOTIFIER_LOG_LEVEL=DEBUG shows where it failed."
    )


class TokenMissingError(NotifierError):
    """The request bears no course token."""

    advice = Advice("Send `Authorization: Bearer <course token>`; a token never goes into the URL.")


class TokenMalformedError(NotifierError):
    """What the request bears is no course token."""

    advice = Advice("Copy the whole token again, from eas_ to its last character.")


class TokenUnknownError(NotifierError):
    """The token has the right form, but no course has it."""

    advice = Advice("Ask the eAssessment administrator for this course's token.")


class TokenRegeneratedError(NotifierError):
    """The token was good once and has been replaced."""

    advice = Advice("Ask the eAssessment administrator for the new token and enter it in ELMS.")


class TokenWrongCourseError(NotifierError):
    """The token belongs to another course."""

    advice = Advice("Use the token of the course that is asked for; each course has its own.")


class BatchFullError(NotifierError):
    """The grades that a batch may be answered with are used up by other courses of it."""

    advice = Advice("Ask for this course in another batch, or by itself.")


class TokenNotOursError(NotifierError):
    """The course's tokens are issued elsewhere than this would have them from."""

    advice = Advice(
        "Reset the token in the Moodle that issues it, then announce the new one.",
        "courses announce-token",
        ("COURSE_ID",),
    )


class IngestOffError(NotifierError):
    """This eAssessment hears from no Moodle."""

    advice = Advice("Set NOTIFIER_INGEST_SECRET, then restart the server.", "serve")


class IngestRefusedError(NotifierError):
    """What a Moodle sends bears no ingest secret, or a wrong one."""

    advice = Advice(
        "Send NOTIFIER_INGEST_SECRET as X-Api-Key, as `Authorization: Bearer`, "
        "or as the body's `token`."
    )


class EndpointUnknownError(NotifierError):
    """There is no endpoint with this number."""

    advice = Advice("Check the number of the endpoint.", "endpoints list")


class EndpointExistsError(NotifierError):
    """The URL is registered already."""

    advice = Advice("Use the endpoint that exists; if it is disabled, enable it.", "endpoints list")


class EndpointChangedError(NotifierError):
    """The endpoint is not as whoever asks saw it, so that this may be done already."""

    advice = Advice(
        "Open the endpoint again and see what was done. A secret is shown once: if nobody kept the "
        "one that was made, rotate it again from there."
    )


class EndpointUrlError(NotifierError):
    """The URL cannot be an endpoint."""

    advice = Advice("Give an https URL with a host, without user info and fragment.")


class EndpointDisabledError(NotifierError):
    """The endpoint is disabled, so nothing is sent to it."""

    advice = Advice(
        "Fix the receiver, then enable the endpoint; its held deliveries are sent then.",
        "endpoints enable",
        ("ENDPOINT_ID",),
    )


class DeliveryUnknownError(NotifierError):
    """There is no delivery with this number."""

    advice = Advice("Check the number of the delivery.", "deliveries list")


class ReplayRefusedError(NotifierError):
    """A delivery cannot be replayed as things stand."""

    advice = Advice(
        "Enable the endpoint; its held deliveries are sent then.",
        "endpoints enable",
        ("ENDPOINT_ID",),
    )

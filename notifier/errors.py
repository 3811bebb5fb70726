"""What eAssessment refuses, each with what to do next."""

from datetime import datetime

from foundation.errors import Refusal


class NotifierError(Refusal):
    """The root of what eAssessment refuses."""


class CourseUnknownError(NotifierError):
    """There is no such course, and there never was."""

    next_step = "Check the course id; `notifier courses list` names those that exist."


class CourseExistsError(NotifierError):
    """A course of this id exists, or existed: ids are not used twice."""

    next_step = (
        "Choose another course id; a deleted course's id stays taken, "
        "so that nobody mistakes one for the other. If you added it just now and did not hear its "
        "token, make a new one with `notifier courses regenerate-token`."
    )


class CourseDeletedError(NotifierError):
    """The course was deleted; deletion is final."""

    next_step = "Nothing is left to do with it; if the course is held again, add it under a new id."
    for_bearer = (
        "Remove the course from the grade sync; a restored course gets a new id and a new token."
    )

    @classmethod
    def of(
        cls, course_id: str, *, version: int, deleted_at: datetime, next_step: str | None = None
    ) -> "CourseDeletedError":
        """Return the refusal that tells when a course was deleted, and which version that made."""
        return cls(
            f"the course {course_id!r} was deleted at {deleted_at:%Y-%m-%d %H:%M:%S} UTC",
            next_step=next_step,
            course_id=course_id,
            course_version=version,
            deleted_at=deleted_at,
        )


class CourseChangedError(NotifierError):
    """The course has changed since whoever asks looked at it, so that this may be done already."""

    next_step = (
        "Open the course again and see what was done. A token is shown once: if nobody kept the "
        "one that was made, regenerate it again from there."
    )


class EventNotWrittenError(NotifierError):
    """The event of a change could not be written, so the change was not made either."""

    next_step = (
        "Nothing was changed. Tell the operators of eAssessment; "
        "NOTIFIER_LOG_LEVEL=DEBUG shows where it failed."
    )


class TokenMissingError(NotifierError):
    """The request bears no course token."""

    next_step = "Send `Authorization: Bearer <course token>`; a token never goes into the URL."


class TokenMalformedError(NotifierError):
    """What the request bears is no course token."""

    next_step = "Copy the whole token again, from eas_ to its last character."


class TokenUnknownError(NotifierError):
    """The token has the right form, but no course has it."""

    next_step = "Ask the eAssessment administrator for this course's token."


class TokenRegeneratedError(NotifierError):
    """The token was good once and has been replaced."""

    next_step = "Ask the eAssessment administrator for the new token and enter it in ELMS."


class TokenWrongCourseError(NotifierError):
    """The token belongs to another course."""

    next_step = "Use the token of the course that is asked for; each course has its own."


class BatchFullError(NotifierError):
    """The grades that a batch may be answered with are used up by other courses of it."""

    next_step = "Ask for this course in another batch, or by itself."


class TokenNotOursError(NotifierError):
    """The course's tokens are issued elsewhere than this would have them from."""

    next_step = (
        "Reset the token in the Moodle where the course lives, then tell it with "
        "`notifier courses announce-token`."
    )


class IngestOffError(NotifierError):
    """This eAssessment hears from no Moodle."""

    next_step = "Set NOTIFIER_INGEST_SECRET and restart `notifier serve`."


class IngestRefusedError(NotifierError):
    """What a Moodle sends bears no ingest secret, or a wrong one."""

    next_step = (
        "Send NOTIFIER_INGEST_SECRET as X-Api-Key, as `Authorization: Bearer`, "
        "or as the body's `token`."
    )


class EndpointUnknownError(NotifierError):
    """There is no endpoint with this number."""

    next_step = "`notifier endpoints list` names the endpoints that exist."


class EndpointExistsError(NotifierError):
    """The URL is registered already."""

    next_step = "Use the endpoint that is there, or `notifier endpoints enable` if it is disabled."


class EndpointChangedError(NotifierError):
    """The endpoint is not as whoever asks saw it, so that this may be done already."""

    next_step = (
        "Open the endpoint again and see what was done. A secret is shown once: if nobody kept the "
        "one that was made, rotate it again from there."
    )


class EndpointUrlError(NotifierError):
    """The URL cannot be an endpoint."""

    next_step = "Give an https URL with a host, without user info and fragment."


class EndpointDisabledError(NotifierError):
    """The endpoint is disabled, so nothing is sent to it."""

    next_step = (
        "Mend the receiver, then enable it with `notifier endpoints enable`: that sends what waits."
    )


class DeliveryUnknownError(NotifierError):
    """There is no delivery with this number."""

    next_step = "`notifier deliveries list` names the deliveries that exist."


class ReplayRefusedError(NotifierError):
    """A delivery cannot be replayed as things stand."""

    next_step = "Enable the endpoint with `notifier endpoints enable`; that sends what it holds."

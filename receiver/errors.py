"""The refusals of ELMS, each with its next step."""

from contract.problems import ProblemType
from foundation.errors import Advice, Refusal


class ReceiverError(Refusal):
    """A refusal of ELMS; the root of all of them."""


class SourceUnknownError(ReceiverError):
    """No source has this name."""

    problem = ProblemType.SOURCE_UNKNOWN
    advice = Advice("Check the name of the source.", "sources list")


class SourceExistsError(ReceiverError):
    """A source with this name already exists."""

    advice = Advice("Choose another name, or use the existing source.")


class SourceInvalidError(ReceiverError):
    """The name or URL of a source is not valid."""

    advice = Advice(
        "Use letters, digits, '.', '_' and '-' for the name, and the http or https URL of the site "
        "without user name, query or fragment."
    )


class SourceKindError(ReceiverError):
    """The source is of a kind that does not have this."""

    advice = Advice("Only a source of the kind Moodle has a site token.", "sources list")


class SiteTokenInvalidError(ReceiverError):
    """The text is not a token of Moodle's web services."""

    advice = Advice(
        "Copy the whole token again, from Site administration > Server > Web services > "
        "Manage tokens in that Moodle."
    )


class SourceUnclearError(ReceiverError):
    """No source was given, and there is more than one, or none."""

    advice = Advice("Name the source with --source.", "sources list")


class SourceMismatchError(ReceiverError):
    """An event is from another source than the one of the webhook route."""

    problem = ProblemType.SOURCE_MISMATCH
    advice = Advice(
        "Send the events of each source to its own webhook route, signed with its own secret: "
        "NOTIFIER_SOURCE in eAssessment and the name of the source in ELMS must be the same."
    )


class SecretInvalidError(ReceiverError):
    """The text is not a webhook secret."""

    advice = Advice("Enter the whole secret, including whsec_, as eAssessment showed it.")


class AddressInUseError(ReceiverError):
    """The throw-away receiver cannot listen on its port."""

    advice = Advice("Choose another port with --port, or 0 for a free one.")


class SecretExistsError(ReceiverError):
    """The source already has this secret."""

    advice = Advice("No action needed: the secret is already stored.", "sources list")


class LastSecretError(ReceiverError):
    """The secret is the last one of its source, and its removal was not confirmed."""

    advice = Advice("Add the new secret first. To remove the last one all the same, try again.")


class SourceInUseError(ReceiverError):
    """The source has courses in the grade sync, or stored grades."""


class SecretUnknownError(ReceiverError):
    """The source has no secret with this id."""

    advice = Advice("Check the id of the secret.", "sources list")


class SignatureRefusedError(ReceiverError):
    """The request is not signed as Standard Webhooks requires, or not with this source's secret."""

    problem = ProblemType.SIGNATURE_REFUSED
    advice = Advice(
        "Check the URL, and sign the exact bytes of the body with the current secret of this "
        "source and the current time (Standard Webhooks 1.0). Then send the request again."
    )


class WebhookIdReusedError(ReceiverError):
    """The webhook id was accepted with another body before; that one is kept."""

    problem = ProblemType.WEBHOOK_ID_REUSED
    advice = Advice("Use a new id for a new event; an id belongs to one body.")


class EntryUnknownError(ReceiverError):
    """The course is not in the registry."""

    problem = ProblemType.ENTRY_UNKNOWN
    advice = Advice("Check the course id and the source.", "registry list")


class EntryExistsError(ReceiverError):
    """The course is already in the registry."""

    advice = Advice("To change its token, enter the new one.", "registry set-token", ("COURSE_ID",))


class CourseIdError(ReceiverError):
    """The source cannot have a course with this id."""

    advice = Advice(
        "Use the id of the course in that Moodle: the number in its URL, course/view.php?id=…."
    )


class CourseLookupError(ReceiverError):
    """A Moodle did not say which course has an ID number."""


class TokenMalformedError(ReceiverError):
    """The text is not a course token."""

    advice = Advice("Copy the whole token again, from its first to its last character.")


class TokenNotEnteredError(ReceiverError):
    """A token that its site does not confirm would replace a confirmed one."""

    advice = Advice(
        "No action needed if the course is synced. If a newer token was generated, copy it from "
        "the site of the course and enter it while that site responds."
    )


class TokenOfAnotherCourseError(TokenNotEnteredError):
    """The token belongs to another course."""

    advice = Advice("Copy the token of this course from its site, and enter that one.")


class SyncPausedError(ReceiverError):
    """Someone paused the grade sync."""

    advice = Advice(
        "Resume it when its reason is gone; --even-if-paused runs it once.", "runs resume"
    )


class RunInProgressError(ReceiverError):
    """Another grade sync is running."""

    advice = Advice(
        "Wait until it ends. If it was killed, its lease expires at the time given above."
    )


class RunUnknownError(ReceiverError):
    """No run has this id."""

    problem = ProblemType.RUN_UNKNOWN
    advice = Advice("Check the id of the run.", "runs list")


class LeaseLostError(ReceiverError):
    """The lease of this grade sync expired, and another one took over."""

    advice = Advice(
        "Wait until the other one ends. Set RECEIVER_SYNC_LEASE higher if this happens again."
    )

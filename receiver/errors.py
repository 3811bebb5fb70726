"""What ELMS refuses, each with what to do next."""

from foundation.errors import Advice, Refusal


class ReceiverError(Refusal):
    """The root of what ELMS refuses."""


class SourceUnknownError(ReceiverError):
    """There is no source of this name."""

    advice = Advice("Check the name of the source.", "sources list")


class SourceExistsError(ReceiverError):
    """A source of this name exists."""

    advice = Advice("Choose another name, or use the source that is there.")


class SourceInvalidError(ReceiverError):
    """The name or URL cannot be a source's."""

    advice = Advice(
        "Give a name of letters, digits, '.', '_' and '-', and the http or https URL of the site, "
        "without user info, query and fragment."
    )


class SourceKindError(ReceiverError):
    """The source is not of the kind that has this."""

    advice = Advice("Only a source of the kind Moodle has a site token.", "sources list")


class SiteTokenInvalidError(ReceiverError):
    """The text is no token of a Moodle's web services."""

    advice = Advice(
        "Copy the whole token again, from that Moodle's Site administration > Server > "
        "Web services > Manage tokens."
    )


class SourceUnclearError(ReceiverError):
    """No source was named, and there is not exactly one to choose from."""

    advice = Advice("Name the source with --source.", "sources list")


class SourceMismatchError(ReceiverError):
    """An event names another source than the one whose door it came to."""

    advice = Advice(
        "Send each source's events to its own door, signed with its own secret: NOTIFIER_SOURCE "
        "at eAssessment and the name of the source at ELMS must be the same."
    )


class SecretInvalidError(ReceiverError):
    """The text is no webhook secret."""

    advice = Advice("Enter the whole secret, including whsec_, as eAssessment showed it.")


class SecretExistsError(ReceiverError):
    """The source has this secret already."""

    advice = Advice("No action needed: the secret is already stored.", "sources list")


class SecretUnknownError(ReceiverError):
    """The source has no secret of this number."""

    advice = Advice("Check the number of the secret.", "sources list")


class SignatureRefusedError(ReceiverError):
    """The request is not signed as Standard Webhooks says, or not by a secret of this source."""

    advice = Advice(
        "Check that the URL is the one you were given, and sign the exact bytes of the body with "
        "its present secret and the time of sending (Standard Webhooks 1.0), then send it again."
    )


class WebhookIdReusedError(ReceiverError):
    """The webhook id was taken with another body; the first one is kept."""

    advice = Advice("Send the new event under an id of its own; an id names one body for good.")


class EntryUnknownError(ReceiverError):
    """The course is not in the registry."""

    advice = Advice("Check the course id and the source.", "registry list")


class EntryExistsError(ReceiverError):
    """The course is in the registry already."""

    advice = Advice("To change its token, enter the new one.", "registry set-token", ("COURSE_ID",))


class CourseIdError(ReceiverError):
    """The source can have no course of this id."""

    advice = Advice(
        "Link the course by its number in that Moodle: the id in its address, course/view.php?id=…."
    )


class TokenMalformedError(ReceiverError):
    """What was entered is no course token."""

    advice = Advice("Copy the whole token again, from its first character to its last.")


class TokenNotEnteredError(ReceiverError):
    """A token that is not known to be valid would replace one that is."""

    advice = Advice(
        "No action needed if the course is synced. If a newer token was generated, copy it from "
        "eAssessment and enter it while eAssessment responds."
    )


class RunInProgressError(ReceiverError):
    """Another grade sync is at work."""

    advice = Advice(
        "Let it end; if it was killed, its lease ends by itself at the time that is named."
    )


class RunUnknownError(ReceiverError):
    """There is no run of this number."""

    advice = Advice("Check the number of the run.", "runs list")


class LeaseLostError(ReceiverError):
    """This grade sync was slower than its lease, and another one has taken over."""

    advice = Advice("Let the other one end; set RECEIVER_SYNC_LEASE higher if this happens again.")

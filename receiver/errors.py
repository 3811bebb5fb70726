"""What ELMS refuses, each with what to do next."""

from foundation.errors import Refusal


class ReceiverError(Refusal):
    """The root of what ELMS refuses."""


class SourceUnknownError(ReceiverError):
    """There is no source of this name."""

    next_step = "`receiver sources list` names the sources that exist."


class SourceExistsError(ReceiverError):
    """A source of this name exists."""

    next_step = "Choose another name, or use the source that is there."


class SourceInvalidError(ReceiverError):
    """The name or URL cannot be a source's."""

    next_step = (
        "Give a name of letters, digits, '.', '_' and '-', and the http or https URL of the site, "
        "without user info, query and fragment."
    )


class SourceKindError(ReceiverError):
    """The source is not of the kind that has this."""

    next_step = "`receiver sources list` shows the kinds; only a Moodle has a site-wide token."


class SiteTokenInvalidError(ReceiverError):
    """The text is no token of a Moodle's web services."""

    next_step = (
        "Copy the whole token again, from that Moodle's Site administration > Server > "
        "Web services > Manage tokens."
    )


class SourceUnclearError(ReceiverError):
    """No source was named, and there is not exactly one to choose from."""

    next_step = "Say which one with `--source NAME`; `receiver sources list` names them."


class SourceMismatchError(ReceiverError):
    """An event names another source than the one whose door it came to."""

    next_step = (
        "Send each source's events to its own door, signed with its own secret: NOTIFIER_SOURCE "
        "at eAssessment and the name of the source at ELMS must be the same."
    )


class SecretInvalidError(ReceiverError):
    """The text is no webhook secret."""

    next_step = "Enter the whole secret, from whsec_ on, as `notifier endpoints add` printed it."


class SecretExistsError(ReceiverError):
    """The source has this secret already."""

    next_step = "Nothing is left to do; `receiver sources list` shows which secrets there are."


class SecretUnknownError(ReceiverError):
    """The source has no secret of this number."""

    next_step = "`receiver sources list` shows the numbers of each source's secrets."


class SignatureRefusedError(ReceiverError):
    """The request is not signed as Standard Webhooks says, or not by a secret of this source."""

    next_step = (
        "Check that the URL is the one you were given, and sign the exact bytes of the body with "
        "its present secret and the time of sending (Standard Webhooks 1.0), then send it again."
    )


class WebhookIdReusedError(ReceiverError):
    """The webhook id was taken with another body; the first one is kept."""

    next_step = "Send the new event under an id of its own; an id names one body for good."


class EntryUnknownError(ReceiverError):
    """The course is not in the registry."""

    next_step = "`receiver registry list` names the courses; `receiver registry add` links one."


class EntryExistsError(ReceiverError):
    """The course is in the registry already."""

    next_step = "To enter another token, use `receiver registry set-token`."


class CourseIdError(ReceiverError):
    """The source can have no course of this id."""

    next_step = (
        "Link the course by its number in that Moodle: the id in its address, course/view.php?id=…."
    )


class TokenMalformedError(ReceiverError):
    """What was entered is no course token."""

    next_step = "Copy the whole token again, from its first character to its last."


class TokenNotTakenError(ReceiverError):
    """A token would replace one that is known to be good, and is not known to be."""

    next_step = (
        "Nothing to mend if the course is synced. If a newer token was made, copy that one from "
        "eAssessment and enter it while eAssessment answers."
    )


class RunInProgressError(ReceiverError):
    """Another grade sync is at work."""

    next_step = "Let it end; if it was killed, its lease ends by itself at the time that is named."


class RunUnknownError(ReceiverError):
    """There is no run of this number."""

    next_step = "`receiver runs list` has the numbers; `receiver sync-grades` makes the first one."


class LeaseLostError(ReceiverError):
    """This grade sync was slower than its lease, and another one has taken over."""

    next_step = "Let the other one end; set RECEIVER_SYNC_LEASE higher if this happens again."

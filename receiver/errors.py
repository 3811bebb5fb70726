"""The refusals of ELMS, each with its next step."""

from foundation.errors import Refusal


class ReceiverError(Refusal):
    """A refusal of ELMS; the root of all of them."""


class SourceUnknownError(ReceiverError):
    """No source has this name."""

    next_step = "`receiver sources list` shows the sources."


class SourceExistsError(ReceiverError):
    """A source with this name already exists."""

    next_step = "Choose another name, or use the existing source."


class SourceInvalidError(ReceiverError):
    """The name or URL of a source is not valid."""

    next_step = (
        "Use letters, digits, '.', '_' and '-' for the name, and the http or https URL of the site "
        "without user name, query or fragment."
    )


class SourceKindError(ReceiverError):
    """The source is of a kind that does not have this."""

    next_step = "`receiver sources list` shows the kinds; only a Moodle has a site token."


class SiteTokenInvalidError(ReceiverError):
    """The text is not a token of Moodle's web services."""

    next_step = (
        "Copy the whole token again, from Site administration > Server > Web services > "
        "Manage tokens in that Moodle."
    )


class SourceUnclearError(ReceiverError):
    """No source was given, and there is more than one, or none."""

    next_step = "Choose one with `--source NAME`; `receiver sources list` shows them."


class SourceMismatchError(ReceiverError):
    """An event is from another source than the one of the webhook route."""

    next_step = (
        "Send the events of each source to its own webhook route, signed with its own secret: "
        "NOTIFIER_SOURCE in eAssessment and the name of the source in ELMS must be the same."
    )


class SecretInvalidError(ReceiverError):
    """The text is not a webhook secret."""

    next_step = (
        "Enter the whole secret, starting with whsec_, as `notifier endpoints add` printed it."
    )


class SecretExistsError(ReceiverError):
    """The source already has this secret."""

    next_step = "Nothing to do; `receiver sources list` shows the secrets."


class SecretUnknownError(ReceiverError):
    """The source has no secret with this id."""

    next_step = "`receiver sources list` shows the ids of the secrets."


class SignatureRefusedError(ReceiverError):
    """The request is not signed as Standard Webhooks requires, or not with this source's secret."""

    next_step = (
        "Check the URL, and sign the exact bytes of the body with the current secret of this "
        "source and the current time (Standard Webhooks 1.0). Then send the request again."
    )


class WebhookIdReusedError(ReceiverError):
    """The webhook id was accepted with another body before; that one is kept."""

    next_step = "Use a new id for a new event; an id belongs to one body."


class EntryUnknownError(ReceiverError):
    """The course is not in the registry."""

    next_step = "`receiver registry list` shows the courses; `receiver registry add` adds one."


class EntryExistsError(ReceiverError):
    """The course is already in the registry."""

    next_step = "To enter another token, use `receiver registry set-token`."


class CourseIdError(ReceiverError):
    """The source cannot have a course with this id."""

    next_step = (
        "Use the id of the course in that Moodle: the number in its URL, course/view.php?id=…."
    )


class TokenMalformedError(ReceiverError):
    """The text is not a course token."""

    next_step = "Copy the whole token again, from its first to its last character."


class TokenNotTakenError(ReceiverError):
    """A token that is not known to be valid would replace one that is."""

    next_step = (
        "Nothing to do if the course is synced. If there is a newer token, copy it from "
        "eAssessment and enter it when eAssessment is available."
    )


class RunInProgressError(ReceiverError):
    """Another grade sync is running."""

    next_step = "Wait until it ends. If it was killed, its lease expires at the time given above."


class RunUnknownError(ReceiverError):
    """No run has this id."""

    next_step = "`receiver runs list` shows the ids; `receiver sync-grades` starts a run."


class LeaseLostError(ReceiverError):
    """The lease of this grade sync expired, and another one took over."""

    next_step = (
        "Wait until the other one ends. Set RECEIVER_SYNC_LEASE higher if this happens again."
    )

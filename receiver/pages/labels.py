"""The labels and colours of statuses, outcomes and results on the pages of ELMS."""

from foundation.pages.pagination import to_query
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus
from receiver.models import Entry, HistoryEntry
from receiver.registry.entries import status_of
from receiver.registry.history import ActorKind
from receiver.runs import groups
from receiver.runs.store import CourseOutcome, RunStatus
from receiver.webhooks.inbox import WebhookOutcome

# The colour of each value.
TONES = {
    CourseStatus.ACTIVE: "good",
    CourseStatus.TOKEN_INVALID: "warn",
    CourseStatus.COURSE_DELETED: "calm",
    CourseOutcome.SYNCED: "good",
    CourseOutcome.UNCHANGED: "calm",
    CourseOutcome.SKIPPED: "warn",
    CourseOutcome.FAILED: "bad",
    RunStatus.COMPLETED: "good",
    RunStatus.NEEDS_ACTION: "warn",
    RunStatus.WITH_ERRORS: "bad",
    RunStatus.STOPPED: "warn",
    RunStatus.KILLED: "bad",
    RunStatus.RUNNING: "wait",
    WebhookOutcome.APPLIED: "good",
    WebhookOutcome.STALE: "calm",
    WebhookOutcome.IGNORED: "calm",
}

STATUSES = {
    CourseStatus.ACTIVE: "active",
    CourseStatus.TOKEN_INVALID: "token invalid",
    CourseStatus.COURSE_DELETED: "course deleted",
}

# The result of a webhook, by its outcome.
MEANINGS = {
    WebhookOutcome.APPLIED: "Applied to the registry.",
    WebhookOutcome.STALE: "Already known, or older than what is known: nothing changed.",
    WebhookOutcome.IGNORED: "ELMS ignores this event type.",
}


def label_of(status: str) -> str:
    """Return the label of a status, current or recorded."""
    return STATUSES[CourseStatus(status)]


def chart_tone(outcome: CourseOutcome | CourseStatus) -> str:
    """Return the colour of an outcome in a bar, where deleted and unchanged courses differ."""
    return "gone" if outcome is CourseStatus.COURSE_DELETED else TONES[outcome]


def run_of(line: HistoryEntry) -> int | None:
    """Return the id of the run that wrote an entry, or None if no run did."""
    number = line.actor_name.removeprefix("run ")
    is_run = line.actor == ActorKind.SYNC and number.isascii() and number.isdecimal()
    return int(number) if is_run else None


def needs_token(entry: Entry, status_details: CourseStatusDetails) -> bool:
    """Return True if the course needs a new token."""
    return entry.is_added and status_details.status is CourseStatus.TOKEN_INVALID


# The globals of the templates.
GLOBALS = {
    "tones": TONES,
    "statuses": STATUSES,
    "meanings": MEANINGS,
    "chart_tone": chart_tone,
    "label_of": label_of,
    "reasons": groups.LABELS,
    "run_of": run_of,
    "needs_token": needs_token,
    "status_of": status_of,
    "to_query": to_query,
}

"""How pages of ELMS name and colour what the core has words for."""

from collections.abc import Sequence

from foundation.pages.pagination import spelled
from receiver.course_state import CourseStatus, Status, status_of
from receiver.models import Entry, HistoryEntry, Source
from receiver.registry.entries import state_of
from receiver.registry.history import ActorKind
from receiver.runs.store import CourseOutcome, RunStatus
from receiver.webhooks.inbox import WebhookOutcome

TONES = {
    Status.ACTIVE: "good",
    Status.TOKEN_INVALID: "warn",
    Status.COURSE_DELETED: "calm",
    CourseOutcome.SYNCED: "good",
    CourseOutcome.UNCHANGED: "calm",
    CourseOutcome.SKIPPED: "warn",
    CourseOutcome.FAILED: "bad",
    RunStatus.COMPLETED: "good",
    RunStatus.WITH_ERRORS: "bad",
    RunStatus.STOPPED: "warn",
    RunStatus.KILLED: "bad",
    RunStatus.RUNNING: "wait",
    WebhookOutcome.APPLIED: "good",
    WebhookOutcome.STALE: "calm",
    WebhookOutcome.IGNORED: "calm",
}
"""How each status, outcome and ending looks, beside its word."""

STATUSES = {
    Status.ACTIVE: "active",
    Status.TOKEN_INVALID: "token invalid",
    Status.COURSE_DELETED: "course deleted",
}

MEANINGS = {
    WebhookOutcome.APPLIED: "It told something new, and the registry took it in.",
    WebhookOutcome.STALE: "The registry knew this, or something newer: nothing changed.",
    WebhookOutcome.IGNORED: "It is of a type that ELMS does not act on.",
}
"""What came of a message, by its outcome."""


def in_words(status: str) -> str:
    """Return a status as people read it, be it the present one or one on record."""
    return STATUSES[Status(status)]


def choices(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Return the names of sources, as a form gives them to choose from."""
    return [(source.name, source.name) for source in sources]


def run_of(line: HistoryEntry) -> int | None:
    """Return the number of the run that told a line, or None if no run did."""
    number = line.actor_name.removeprefix("run ")
    is_run = line.actor == ActorKind.SYNC and number.isascii() and number.isdecimal()
    return int(number) if is_run else None


def needs_token(entry: Entry, course_status: CourseStatus) -> bool:
    """Tell whether entering a token would help."""
    return entry.added_at is not None and course_status.status is Status.TOKEN_INVALID


GLOBALS = {
    "tones": TONES,
    "statuses": STATUSES,
    "meanings": MEANINGS,
    "in_words": in_words,
    "run_of": run_of,
    "needs_token": needs_token,
    "status_of": lambda entry: status_of(state_of(entry)),
    "spelled": spelled,
}
"""What every template of ELMS knows beside what it is given."""

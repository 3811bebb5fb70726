"""The retry policy: from the result of an attempt to the decision what to do next.

`decide` says what each status and each failure leads to; the advice for people is in
`failure_advice`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from notifier.webhooks.failure_advice import FailureKind

# The wait after each failed attempt but the last (Standard Webhooks 1.0: 75 h 35 min 5 s).
SCHEDULE = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
)
MAX_ATTEMPTS = len(SCHEDULE) + 1
# Attempts in a row that may lose their worker before a delivery is dead.
MAX_LOST_CLAIMS = 3
# The fraction of a wait that may be added to it, so that deliveries that failed together are not
# retried together.
JITTER = 0.1

MAX_RETRY_AFTER = timedelta(hours=24)
# Statuses that a retry cannot change.
_FINAL = frozenset({400, 409, 413, 415, 422})
_GONE = 410
# Failures that say nothing about the receiver.
_INTERNAL = frozenset({FailureKind.INTERNAL, FailureKind.SECRET_UNREADABLE})


@dataclass(frozen=True)
class WebhookResponse:
    """A receiver's response: status, headers as received, the beginning of the body."""

    status: int
    retry_after: str | None = None
    excerpt: str = ""
    date: str = field(default="", compare=False)


@dataclass(frozen=True)
class Failure:
    """The reason why there was no response: a stable word, and the details."""

    kind: str
    detail: str


AttemptResult = WebhookResponse | Failure


@dataclass(frozen=True)
class Delivered:
    """The receiver has accepted the event."""


@dataclass(frozen=True)
class RetryAt:
    """Retry at a time; the last `lost_claims` attempts lost their worker."""

    due_at: datetime
    lost_claims: int = 0


@dataclass(frozen=True)
class Dead:
    """Give up, for a reason; a replay is still possible."""

    reason: str


@dataclass(frozen=True)
class Disable:
    """Disable the endpoint and hold its open deliveries: the receiver no longer accepts events."""

    reason: str


Decision = Delivered | RetryAt | Dead | Disable


def decide(result: AttemptResult, attempts: int, *, now: datetime, jitter: float = 0.0) -> Decision:
    """Return the decision after attempt number `attempts` (1, 2, …) had a result.

    `jitter`, from 0 to 1, is the part of `JITTER` that is added to the wait. `Retry-After` can
    delay the next attempt, never advance it, and is capped at `MAX_RETRY_AFTER`.

    `deliveries.settle` applies the decision to the delivery; for `Disable`, the 410, it is held,
    and `worker/batch` disables the endpoint (`endpoints.disable`).
    """
    if isinstance(result, WebhookResponse):
        if 200 <= result.status < 300:
            return Delivered()
        if result.status == _GONE:
            return Disable("the receiver no longer accepts events (410 Gone)")
        if result.status in _FINAL:
            return Dead(f"the receiver responded with {result.status}: a retry would not help")
    if attempts >= MAX_ATTEMPTS:
        last = f"status {result.status}" if isinstance(result, WebhookResponse) else result.kind
        return Dead(f"{attempts} attempts failed, the last with {last}")
    wait = SCHEDULE[attempts - 1] * (1 + JITTER * jitter)
    return RetryAt(now + max(wait, requested_wait(result, now)))


def decide_after_loss(attempts: int, lost_claims: int, *, now: datetime) -> RetryAt | Dead:
    """Return the decision after an attempt whose worker was lost: retry it at once.

    It may be what ends the workers: after `MAX_LOST_CLAIMS` such attempts in a row it is dead.
    """
    if lost_claims >= MAX_LOST_CLAIMS:
        return Dead(f"{lost_claims} attempts in a row lost their worker")
    if attempts >= MAX_ATTEMPTS:
        return Dead(f"{attempts} attempts failed, the last because its worker was lost")
    return RetryAt(now, lost_claims)


def is_healthy(result: AttemptResult) -> bool | None:
    """Return whether the endpoint works, by a result; None if it does not tell.

    An endpoint that refuses an event works.
    """
    if isinstance(result, Failure):
        return None if result.kind in _INTERNAL else False
    return 200 <= result.status < 300 or result.status in _FINAL | {_GONE}


def is_gone(result: AttemptResult) -> bool:
    """Return True if the receiver said that it no longer accepts events."""
    return isinstance(result, WebhookResponse) and result.status == _GONE


def requested_wait(result: AttemptResult, now: datetime) -> timedelta:
    """Return the wait that `Retry-After` asks for (RFC 9110, 10.2.3), zero if it is invalid."""
    header = ((result.retry_after if isinstance(result, WebhookResponse) else None) or "").strip()
    if header.isascii() and header.isdigit():
        return min(timedelta(seconds=int(header[:9])), MAX_RETRY_AFTER)  # more exceed it
    try:
        date = parsedate_to_datetime(header)
        retry_at = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(timedelta(0), min(retry_at - now, MAX_RETRY_AFTER))
    except (TypeError, ValueError, IndexError, OverflowError):
        return timedelta(0)

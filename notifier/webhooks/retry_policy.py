"""What an answer means: pure, from answer, attempts and now to what is done next."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

from notifier.webhooks.failures import FailureKind

SCHEDULE = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
)
"""The waits after each failed attempt but the last (Standard Webhooks 1.0: 75 h 35 min 5 s)."""

MAX_ATTEMPTS = len(SCHEDULE) + 1
JITTER = 0.1
"""How much of a wait may be added to it, so that what failed together does not return together."""

MAX_RETRY_AFTER = timedelta(hours=24)
_HOPELESS = frozenset({400, 409, 413, 415, 422})
_GONE = 410
_OURS = frozenset({FailureKind.INTERNAL, FailureKind.SECRET_UNREADABLE})
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class WebhookResponse:
    """What came back: a status, `Retry-After` as it came, and the body's beginning."""

    status: int
    retry_after: str | None = None
    said: str = ""


@dataclass(frozen=True)
class Failure:
    """No answer came: the kind of failure, a stable word, and what is known of it."""

    kind: str
    detail: str


@dataclass(frozen=True)
class Delivered:
    """The receiver has taken the event."""


@dataclass(frozen=True)
class RetryAt:
    """Try again then."""

    due_at: datetime


@dataclass(frozen=True)
class Dead:
    """Give up, and say why; a replay can still be asked for."""

    reason: str


@dataclass(frozen=True)
class Disable:
    """The receiver wants no more events: disable the endpoint and hold what is open."""

    reason: str


Decision = Delivered | RetryAt | Dead | Disable


class EndpointSignal(Enum):
    """What an answer says of the endpoint, whatever it says of the event."""

    HEALTHY = "it answered about the event"
    FAILING = "it did not, or said that it cannot now"
    NONE = "the fault was ours"


def decide(
    answer: WebhookResponse | Failure, attempts: int, *, now: datetime, jitter: float = 0.0
) -> Decision:
    """Return what follows from an answer to the attempt that was number `attempts` (1, 2, …).

    `jitter`, from 0 to 1, picks how much of `JITTER` is added to the wait.
    `Retry-After` can push the next attempt out, never pull it in, and is capped.
    """
    if isinstance(answer, WebhookResponse):
        if 200 <= answer.status < 300:
            return Delivered()
        if answer.status == _GONE:
            return Disable("the receiver answered 410: it wants no more events")
        if answer.status in _HOPELESS:
            return Dead(f"the receiver answered {answer.status}, and a retry cannot change that")
    if attempts >= MAX_ATTEMPTS:
        return Dead(f"{attempts} attempts failed, the last with {describe(answer)}")
    wait = SCHEDULE[attempts - 1] * (1 + JITTER * jitter)
    return RetryAt(now + max(wait, requested_wait(answer, now)))


def signal_of(answer: WebhookResponse | Failure) -> EndpointSignal:
    """Return what an answer says of the endpoint: a refused event comes from one that is well."""
    if isinstance(answer, Failure):
        return EndpointSignal.NONE if answer.kind in _OURS else EndpointSignal.FAILING
    well = 200 <= answer.status < 300 or answer.status in _HOPELESS | {_GONE}
    return EndpointSignal.HEALTHY if well else EndpointSignal.FAILING


def describe(answer: WebhookResponse | Failure) -> str:
    """Return an answer in a few words."""
    return f"status {answer.status}" if isinstance(answer, WebhookResponse) else answer.kind


def requested_wait(answer: WebhookResponse | Failure, now: datetime) -> timedelta:
    """Return the wait that `Retry-After` asks for (RFC 9110, 10.2.3); nothing for nonsense."""
    given = ((answer.retry_after if isinstance(answer, WebhookResponse) else None) or "").strip()
    if _SECONDS.fullmatch(given):
        return min(timedelta(seconds=int(given)), MAX_RETRY_AFTER)
    if given.isdecimal():
        return MAX_RETRY_AFTER
    try:
        moment = parsedate_to_datetime(given)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(timedelta(0), min(aware - now, MAX_RETRY_AFTER))
    except (TypeError, ValueError, IndexError, OverflowError):
        return timedelta(0)

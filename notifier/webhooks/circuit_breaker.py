"""The circuit breaker of endpoints: pause one that keeps failing, and try it again later.

These are the rules; `breaker_store` reads and writes the states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from notifier.webhooks.retry_policy import (
    SCHEDULE,
    AttemptResult,
    EndpointHealth,
    health_of,
    is_gone,
    requested_wait,
)

# Failures in a row after which an endpoint is paused.
PAUSED_AFTER = 5

# A pause lasts half as long as the endpoint has been failing, within these bounds.
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)

# Failures further apart than this do not belong together: clearly more than the longest wait of
# the schedule, to which jitter and the time until a worker is free are added.
RESET_AFTER = 1.5 * max(SCHEDULE)


@dataclass(frozen=True)
class BreakerState:
    """Failures in a row, when the first and the last of them happened, and the end of the pause."""

    failures: int = 0
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    paused_until: datetime | None = None

    def is_paused(self, now: datetime) -> bool:
        """Return True if nothing is sent now."""
        return self.paused_until is not None and now < self.paused_until

    def end_pause(self, now: datetime) -> "BreakerState":
        """Return the state with its pause over, so that a single attempt tries the endpoint."""
        return replace(self, paused_until=now) if self.is_paused(now) else self


def record_results(
    state: BreakerState, results: Sequence[AttemptResult], *, now: datetime
) -> BreakerState:
    """Return the state after the results of attempts; one healthy result resets it."""
    for result in results:
        match health_of(result):
            case EndpointHealth.HEALTHY:
                state = BreakerState()
            case EndpointHealth.FAILING:
                state = record_failure(state, result, now=now)
    return state


def record_failure(state: BreakerState, result: AttemptResult, *, now: datetime) -> BreakerState:
    """Return the state after a failure."""
    if state.failed_at is None or now - state.failed_at > RESET_AFTER:
        state = BreakerState(failing_since=now)
    failures = state.failures + 1
    pause = min(requested_wait(result, now), LONGEST_PAUSE)
    if failures >= PAUSED_AFTER or state.paused_until is not None:
        failing_for = now - (state.failing_since or now)
        pause = max(pause, min(max(failing_for / 2, SHORTEST_PAUSE), LONGEST_PAUSE))
    until = max(state.paused_until or now, now + pause) if pause else state.paused_until
    return BreakerState(failures, state.failing_since, now, until)


def pauses_at_once(result: AttemptResult, *, now: datetime) -> bool:
    """Return True if a single result pauses or disables its endpoint."""
    if health_of(result) is EndpointHealth.FAILING:
        return requested_wait(result, now) > timedelta(0)
    return is_gone(result)


def is_failing_for(state: BreakerState, duration: timedelta, *, now: datetime) -> bool:
    """Return True if an endpoint has kept failing for at least a duration."""
    since = state.failing_since
    return since is not None and state.failures >= PAUSED_AFTER and now - since >= duration

"""The circuit breaker of endpoints: pause one that keeps failing, and try it again later.

First the rules, then how the states are read and written.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.bulk import RowsStatement
from notifier.models import Endpoint
from notifier.webhooks.retry_policy import (
    SCHEDULE,
    AttemptResult,
    is_gone,
    is_healthy,
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
        if (healthy := is_healthy(result)) is not None:
            state = BreakerState() if healthy else record_failure(state, result, now=now)
    return state


def record_failure(state: BreakerState, result: AttemptResult, *, now: datetime) -> BreakerState:
    """Return the state after a failure."""
    if state.failed_at is None or now - state.failed_at > RESET_AFTER:
        state = BreakerState(failing_since=now)
    failures = state.failures + 1
    pause = min(requested_wait(result, now), LONGEST_PAUSE)
    # The first failure after a pause renews it.
    if failures >= PAUSED_AFTER or state.paused_until is not None:
        failing_for = now - (state.failing_since or now)
        pause = max(pause, min(max(failing_for / 2, SHORTEST_PAUSE), LONGEST_PAUSE))
    until = max(state.paused_until or now, now + pause) if pause else state.paused_until
    return BreakerState(failures, state.failing_since, now, until)


def pauses_at_once(result: AttemptResult, *, now: datetime) -> bool:
    """Return True if a single result pauses or disables its endpoint."""
    is_pause = is_healthy(result) is False and requested_wait(result, now) > timedelta(0)
    return is_pause or is_gone(result)


def is_failing_for(state: BreakerState, duration: timedelta, *, now: datetime) -> bool:
    """Return True if an endpoint has kept failing for at least a duration."""
    since = state.failing_since
    return since is not None and state.failures >= PAUSED_AFTER and now - since >= duration


def state_of(endpoint: Endpoint) -> BreakerState:
    """Return the breaker state of an endpoint that is loaded."""
    return BreakerState(
        endpoint.failures, endpoint.failing_since, endpoint.failed_at, endpoint.paused_until
    )


def set_state(endpoint: Endpoint, state: BreakerState) -> None:
    """Give a breaker state to an endpoint that is loaded and locked."""
    for column, value in vars(state).items():
        setattr(endpoint, column, value)


_ENDPOINT: Any = Endpoint.__table__
_COLUMNS = ("id", "failures", "failing_since", "failed_at", "paused_until")
_LOCKED_STATES = (
    select(_ENDPOINT.c.disabled_at.is_(None), *(_ENDPOINT.c[name] for name in _COLUMNS))
    .where(
        db.among_given(_ENDPOINT.c.id, "ids")
        | db.among_given(_ENDPOINT.c.id, "if_failing") & (_ENDPOINT.c.failures > 0)
    )
    .order_by(_ENDPOINT.c.id)
    # KEY SHARE: a transaction that writes a delivery for the endpoint need not wait for this one.
    .with_for_update(key_share=True)
)


def lock_states(
    session: Session, ids: Collection[int], *, if_failing: Collection[int] = ()
) -> dict[int, BreakerState]:
    """Lock endpoints in the order of their ids, some only if they have failed since a success.

    Returns the states of those that are enabled, by id.
    """
    rows = session.execute(_LOCKED_STATES, {"ids": [*ids], "if_failing": [*if_failing]})
    return {one: BreakerState(*columns) for is_enabled, one, *columns in rows if is_enabled}


_WRITE_STATES = RowsStatement(
    {name: _ENDPOINT.c[name].type for name in _COLUMNS},
    "UPDATE endpoints SET failures = given.failures, failing_since = given.failing_since, "
    "failed_at = given.failed_at, paused_until = given.paused_until "
    "FROM {given} WHERE endpoints.id = given.id",
)


def write_states(session: Session, changed: Mapping[int, BreakerState]) -> None:
    """Store the states of endpoints."""
    if changed:
        rows = [{"id": endpoint_id, **vars(state)} for endpoint_id, state in changed.items()]
        _WRITE_STATES.execute(session, rows)


def end_pauses(session: Session, *, now: datetime) -> None:
    """End every pause, so that each paused endpoint is tried at once."""
    is_paused = _ENDPOINT.c.paused_until > now
    if session.scalar(select(exists().where(is_paused))):
        # All are locked, although only some change: locking some now and others later can deadlock.
        session.execute(
            select(_ENDPOINT.c.id).order_by(_ENDPOINT.c.id).with_for_update(key_share=True)
        )
        session.execute(update(_ENDPOINT).where(is_paused).values(paused_until=now))

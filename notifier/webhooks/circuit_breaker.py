"""The circuit breaker of endpoints: pause one that keeps failing, and try it again later."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from notifier.models import Endpoint
from notifier.webhooks.retry_policy import (
    AttemptResult,
    EndpointSignal,
    requested_wait,
    signal_of,
)

# Failures in a row after which an endpoint is paused.
PAUSED_AFTER = 5

# A pause lasts half as long as the endpoint has been failing, within these bounds.
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)

# Failures further apart than the longest wait of the schedule do not belong together.
RESET_AFTER = timedelta(hours=36)


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

    def is_half_open(self, now: datetime) -> bool:
        """Return True if the pause is over and a single attempt may try the endpoint."""
        return self.paused_until is not None and now >= self.paused_until


class EndpointState(StrEnum):
    """The state of an endpoint in one word."""

    ENABLED = "enabled"
    FAILING = "failing"
    PAUSED = "paused"
    DISABLED = "disabled"


@dataclass(frozen=True)
class EndpointStatus:
    """An endpoint's state: since when, why, and when it is tried again if it is paused."""

    state: EndpointState
    since: datetime | None
    reason: str | None = None
    tried_at: datetime | None = None


def status_of(endpoint: Endpoint) -> EndpointStatus:
    """Return the status of an endpoint."""
    if endpoint.disabled_at:
        return EndpointStatus(
            EndpointState.DISABLED, endpoint.disabled_at, endpoint.disabled_reason
        )
    since, failures = endpoint.failing_since, f"failures in a row: {endpoint.failures}"
    if endpoint.paused_until:
        return EndpointStatus(EndpointState.PAUSED, since, failures, endpoint.paused_until)
    if since:
        return EndpointStatus(EndpointState.FAILING, since, failures)
    return EndpointStatus(EndpointState.ENABLED, endpoint.created_at)


def record_results(
    state: BreakerState, results: Sequence[AttemptResult], *, now: datetime
) -> BreakerState:
    """Return the state after the results of attempts; one healthy signal resets it."""
    for result in results:
        match signal_of(result):
            case EndpointSignal.HEALTHY:
                state = BreakerState()
            case EndpointSignal.FAILING:
                state = _record_failure(state, requested_wait(result, now), now)
    return state


def _record_failure(state: BreakerState, wait: timedelta, now: datetime) -> BreakerState:
    if state.failed_at is None or now - state.failed_at > RESET_AFTER:
        state = BreakerState(failing_since=now)
    failures = state.failures + 1
    pause = min(wait, LONGEST_PAUSE)
    if failures >= PAUSED_AFTER or state.paused_until is not None:
        failing_for = now - (state.failing_since or now)
        pause = max(pause, min(max(failing_for / 2, SHORTEST_PAUSE), LONGEST_PAUSE))
    until = max(state.paused_until or now, now + pause) if pause else state.paused_until
    return BreakerState(failures, state.failing_since, now, until)


def is_failing_for(state: BreakerState, duration: timedelta, *, now: datetime) -> bool:
    """Return True if an endpoint has kept failing for at least a duration."""
    since = state.failing_since
    return since is not None and state.failures >= PAUSED_AFTER and now - since >= duration


def read_states(
    session: Session, *, only: Collection[int] | None = None, lock: bool = False
) -> dict[int, BreakerState]:
    """Return the state of each enabled endpoint by id; `lock` locks the rows, in this order."""
    query = (
        select(
            Endpoint.id,
            Endpoint.failures,
            Endpoint.failing_since,
            Endpoint.failed_at,
            Endpoint.paused_until,
        )
        .where(Endpoint.disabled_at.is_(None))
        .order_by(Endpoint.id)
    )
    if only is not None:
        query = query.where(Endpoint.id.in_(only))
    # KEY SHARE: a transaction that writes a delivery for the endpoint need not wait for this one.
    rows = session.execute(query.with_for_update(key_share=True) if lock else query)
    return {endpoint_id: BreakerState(*columns) for endpoint_id, *columns in rows}


def read_and_lock(
    session: Session,
    results: Mapping[int, Sequence[AttemptResult]],
    *,
    also: Collection[int],
    now: datetime,
) -> dict[int, BreakerState]:
    """Return the state of each enabled endpoint, and lock those that are about to change.

    That is those whose state the results change, those that are half-open, and `also`.
    """
    every = read_states(session)
    changing = {
        endpoint_id
        for endpoint_id, state in every.items()
        if endpoint_id in also
        or state.is_half_open(now)
        or record_results(state, results.get(endpoint_id, ()), now=now) != state
    }
    if not changing:
        return every
    unchanged = {one: state for one, state in every.items() if one not in changing}
    return unchanged | read_states(session, only=changing, lock=True)


def write_states(session: Session, changed: Mapping[int, BreakerState]) -> None:
    """Store the states of endpoints."""
    if changed:
        rows = [{"id": endpoint_id, **vars(state)} for endpoint_id, state in changed.items()]
        session.execute(update(Endpoint), rows)


def end_pauses(session: Session, *, now: datetime) -> None:
    """End every pause, so that each paused endpoint is tried at once."""
    if not any(state.is_paused(now) for state in read_states(session).values()):
        return
    # All are locked, although only some change: locking some now and others later can deadlock.
    locked = read_states(session, lock=True)
    paused = {one: state for one, state in locked.items() if state.is_paused(now)}
    write_states(session, {one: replace(state, paused_until=now) for one, state in paused.items()})

"""The breaker states of endpoints in the database: read, lock, write."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from foundation.db import session as db
from notifier.models import Endpoint
from notifier.webhooks.circuit_breaker import BreakerState


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
_STATES = (
    select(
        _ENDPOINT.c.id,
        _ENDPOINT.c.failures,
        _ENDPOINT.c.failing_since,
        _ENDPOINT.c.failed_at,
        _ENDPOINT.c.paused_until,
    )
    .where(_ENDPOINT.c.disabled_at.is_(None))
    .order_by(_ENDPOINT.c.id)
)
_STATES_OF = _STATES.where(db.among_given(_ENDPOINT.c.id, "ids"))


def read_states(
    session: Session, *, only: Collection[int] | None = None, lock: bool = False
) -> dict[int, BreakerState]:
    """Return the state of each enabled endpoint by id; `lock` locks the rows, in this order."""
    query, values = (_STATES, {}) if only is None else (_STATES_OF, {"ids": [*only]})
    # KEY SHARE: a transaction that writes a delivery for the endpoint need not wait for this one.
    rows = session.execute(query.with_for_update(key_share=True) if lock else query, values)
    return {endpoint_id: BreakerState(*columns) for endpoint_id, *columns in rows}


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
    write_states(session, {one: state.end_pause(now) for one, state in paused.items()})

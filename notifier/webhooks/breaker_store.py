"""The breaker states of endpoints in the database: read, lock, write."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.bulk import RowsStatement
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
_COLUMNS = ("id", "failures", "failing_since", "failed_at", "paused_until")
_STATES = select(
    _ENDPOINT.c.disabled_at.is_(None), *(_ENDPOINT.c[name] for name in _COLUMNS)
).order_by(_ENDPOINT.c.id)
_STATES_OF = _STATES.where(db.among_given(_ENDPOINT.c.id, "ids"))


def read_states(
    session: Session, *, only: Collection[int] | None = None, lock: bool = False
) -> dict[int, BreakerState]:
    """Return the state of each enabled endpoint by id.

    `lock` locks the rows, in this order, and those of disabled endpoints with them.
    """
    if only is not None and not only:
        return {}
    query, values = (_STATES, {}) if only is None else (_STATES_OF, {"ids": [*only]})
    # KEY SHARE: a transaction that writes a delivery for the endpoint need not wait for this one.
    rows = session.execute(query.with_for_update(key_share=True) if lock else query, values)
    return {
        endpoint_id: BreakerState(*columns)
        for is_enabled, endpoint_id, *columns in rows
        if is_enabled
    }


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
    if not any(state.is_paused(now) for state in read_states(session).values()):
        return
    # All are locked, although only some change: locking some now and others later can deadlock.
    states = read_states(session, lock=True)
    write_states(session, {one: state.end_pause(now) for one, state in states.items()})

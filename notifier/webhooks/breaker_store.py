"""The breaker states of endpoints in the database: lock, write."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import exists, select, update
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
    is_paused = _ENDPOINT.c.paused_until > now
    if session.scalar(select(exists().where(is_paused))):
        # All are locked, although only some change: locking some now and others later can deadlock.
        session.execute(
            select(_ENDPOINT.c.id).order_by(_ENDPOINT.c.id).with_for_update(key_share=True)
        )
        session.execute(update(_ENDPOINT).where(is_paused).values(paused_until=now))

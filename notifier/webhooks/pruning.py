"""Pruning: deletes what was settled long ago, then the events of which no delivery is left.

Pending and held deliveries are kept, however old, and dead ones, because they can be replayed,
unless their endpoint was removed. A replay makes a delivery pending, and its age begins again when
it is delivered.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, select, tuple_
from sqlalchemy.orm import Session

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from foundation.db import session as db
from foundation.db.pagination import Cursor
from notifier.models import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Endpoint,
    EndpointSecret,
    Event,
    Replay,
)

STATUSES = (DeliveryStatus.DELIVERED, DeliveryStatus.CANCELLED, DeliveryStatus.DEAD)
"""The statuses of the deliveries that are deleted, of dead ones only those of removed endpoints."""
TYPES = (*EVENT_TYPES, *OPERATIONAL_TYPES)
"""The types of the events that are deleted."""


@dataclass(frozen=True)
class Pruned:
    """How much one call deleted; `until` is how far it came, for the next call."""

    until: Cursor
    deliveries: int = 0
    attempts: int = 0
    events: int = 0


def count(session: Session, before: datetime) -> int:
    """Return how many deliveries and events are deleted, and the old events that are kept."""
    conditions = [_is_old(status, before) for status in STATUSES]
    conditions += [_is_old_event(event_type, before) for event_type in TYPES]
    return sum(session.scalar(select(func.count()).where(one)) or 0 for one in conditions)


def prune_deliveries(
    session: Session,
    status: DeliveryStatus,
    before: datetime,
    *,
    after: Cursor | None,
    limit: int,
) -> Pruned | None:
    """Delete the oldest up to `limit` deliveries of a status that were settled before a time.

    Their attempts and replays are deleted, too. `after` is `until` of the previous call: index
    entries of deleted rows, which PostgreSQL keeps for a while, are then not read again. Deliveries
    that another transaction locks, such as a replay, are skipped.

    Returns None if there are none left.
    """
    rows = session.execute(prunable(status, before, after=after, limit=limit)).all()
    if not rows:
        return None
    ids = [row.id for row in rows]
    attempts = _delete(session, Attempt, db.among(Attempt.delivery_id, ids))
    _delete(session, Replay, db.among(Replay.delivery_id, ids))
    _delete(session, Delivery, db.among(Delivery.id, ids))
    return Pruned((rows[-1].settled_at,), deliveries=len(ids), attempts=attempts)


def prunable(
    status: DeliveryStatus, before: datetime, *, after: Cursor | None, limit: int
) -> Select[Any]:
    """Return the query that locks the deliveries of one call."""
    query = select(Delivery.id, Delivery.settled_at).where(_is_old(status, before))
    if after is not None:
        query = query.where(Delivery.settled_at >= after[0])
    return query.order_by(Delivery.settled_at).limit(limit).with_for_update(skip_locked=True)


def prune_events(
    session: Session,
    event_type: str,
    before: datetime,
    *,
    after: Cursor | None,
    limit: int,
) -> Pruned | None:
    """Read the oldest up to `limit` events of a type before a time; delete those without delivery.

    Their deliveries were deleted, or no endpoint was subscribed. Returns None if there are none
    left after `after`, which is `until` of the previous call.
    """
    # In two statements: PostgreSQL would join all events with all deliveries each time.
    query = select(Event.id, Event.occurred_at).where(_is_old_event(event_type, before))
    if after is not None:
        query = query.where(Event.occurred_at >= after[0])
        query = query.where(tuple_(Event.occurred_at, Event.id) > after)
    rows = session.execute(query.order_by(Event.occurred_at, Event.id).limit(limit)).all()
    if not rows:
        return None
    ids = [row.id for row in rows]
    kept = set(session.scalars(select(Delivery.event_id).where(db.among(Delivery.event_id, ids))))
    events = _delete(session, Event, db.among(Event.id, [one for one in ids if one not in kept]))
    return Pruned((rows[-1].occurred_at, rows[-1].id), events=events)


def prune_secrets(session: Session, before: datetime) -> int:
    """Delete the secrets that have signed nothing since a time; return how many there were."""
    return _delete(session, EndpointSecret, EndpointSecret.expires_at < before)


def _is_old(status: DeliveryStatus, before: datetime) -> ColumnElement[bool]:
    is_old = and_(Delivery.stored_status == status, Delivery.settled_at < before)
    if status is not DeliveryStatus.DEAD:
        return is_old
    removed = select(Endpoint.id).where(Endpoint.removed_at.is_not(None))
    return and_(is_old, Delivery.endpoint_id.in_(removed))


def _is_old_event(event_type: str, before: datetime) -> ColumnElement[bool]:
    return and_(Event.type == event_type, Event.occurred_at < before)


def _delete(session: Session, model: type[Any], condition: ColumnElement[bool]) -> int:
    statement = delete(model).where(condition).execution_options(synchronize_session=False)
    result: Any = session.execute(statement)
    return int(result.rowcount)

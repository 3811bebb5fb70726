"""Pruning: deletes what was delivered long ago, with its attempts, replays and events.

Pending, held and dead deliveries are kept, however old. A replay makes a delivery pending, and its
age begins again when it is delivered.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, select
from sqlalchemy.orm import Session

from foundation.db import session as db
from notifier.models import Attempt, Delivery, DeliveryStatus, Event, Replay


@dataclass(frozen=True)
class Pruned:
    """How much was deleted; `until` is when the last of the deliveries was settled."""

    deliveries: int
    attempts: int
    events: int
    until: datetime


def count(session: Session, before: datetime) -> int:
    """Return the number of deliveries that were delivered before a time."""
    query = select(func.count()).select_from(Delivery).where(_delivered(before))
    return session.scalar(query) or 0


def prune(
    session: Session, before: datetime, *, after: datetime | None, limit: int
) -> Pruned | None:
    """Delete the oldest up to `limit` deliveries that were delivered before a time.

    An event is deleted with its last delivery. `after` is `until` of the previous call: index
    entries of deleted rows, which PostgreSQL keeps for a while, are then not read again. Deliveries
    that another transaction locks, such as a replay, are skipped.

    Returns None if there are none left.
    """
    rows = session.execute(prunable(before, after=after, limit=limit)).all()
    if not rows:
        return None
    ids = [row.id for row in rows]
    attempts = _delete(session, Attempt, db.among(Attempt.delivery_id, ids))
    _delete(session, Replay, db.among(Replay.delivery_id, ids))
    _delete(session, Delivery, db.among(Delivery.id, ids))
    event_ids = sorted({row.event_id for row in rows})
    # Locked, so that of two that prune the last deliveries of an event, the second deletes it.
    locked = select(Event.id).where(db.among(Event.id, event_ids)).order_by(Event.id)
    session.execute(locked.with_for_update())
    is_unused = ~exists().where(Delivery.event_id == Event.id)
    events = _delete(session, Event, and_(db.among(Event.id, event_ids), is_unused))
    return Pruned(len(ids), attempts, events, rows[-1].settled_at)


def prunable(before: datetime, *, after: datetime | None, limit: int) -> Select[Any]:
    """Return the query that locks the deliveries of one call."""
    query = select(Delivery.id, Delivery.event_id, Delivery.settled_at).where(_delivered(before))
    if after is not None:
        query = query.where(Delivery.settled_at >= after)
    return query.order_by(Delivery.settled_at).limit(limit).with_for_update(skip_locked=True)


def _delivered(before: datetime) -> ColumnElement[bool]:
    return and_(Delivery.status == DeliveryStatus.DELIVERED, Delivery.settled_at < before)


def _delete(session: Session, model: type[Any], condition: ColumnElement[bool]) -> int:
    statement = delete(model).where(condition).execution_options(synchronize_session=False)
    result: Any = session.execute(statement)
    return int(result.rowcount)

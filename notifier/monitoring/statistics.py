"""The statistics on the overview: deliveries by hour, their delays, dead deliveries by reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, ScalarSelect, func, literal, select
from sqlalchemy.orm import Session

from foundation.db import session as db
from notifier.models import Delivery, DeliveryStatus, Endpoint
from notifier.monitoring.doctor import RECENT

# Hours that are shown, including the current one.
HOURS = 24
# Deliveries of each hour whose delays are read, the latest first.
SAMPLE = 200
# Dead deliveries that are grouped, the latest first.
_MAX_DEAD = 2000
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Hour:
    """What was settled in an hour, and the delays from event to delivery of a sample."""

    begins_at: datetime
    delivered: int
    dead: int
    delays: Sequence[timedelta]


@dataclass(frozen=True)
class DeadLetterGroup:
    """The deliveries of one endpoint that are dead for the same reason."""

    endpoint: Endpoint
    reason: str
    count: int
    newest_at: datetime


def day(session: Session, *, now: datetime) -> list[Hour]:
    """Return the last hours, oldest first, in two statements."""
    first = now.replace(minute=0, second=0, microsecond=0) - (HOURS - 1) * _HOUR
    begins = [first + number * _HOUR for number in range(HOURS)]
    counts = session.execute(
        select(
            *(_count(DeliveryStatus.DELIVERED, at) for at in begins),
            *(_count(DeliveryStatus.DEAD, at) for at in begins),
        )
    ).one()
    delivered, dead = counts[:HOURS], counts[HOURS:]
    delays = _delays(session, [at for at, number in zip(begins, delivered, strict=True) if number])
    hours = zip(begins, delivered, dead, strict=True)
    return [Hour(at, sent, lost, delays.get(at, [])) for at, sent, lost in hours]


def dead_letters(session: Session, *, now: datetime) -> list[DeadLetterGroup]:
    """Return the recent dead deliveries by endpoint and reason, latest first.

    Those of removed endpoints are left out: they cannot be replayed.
    """
    latest = (
        select(Delivery.endpoint_id, Delivery.reason, Delivery.settled_at)
        .where(Delivery.status == DeliveryStatus.DEAD, Delivery.settled_at > now - RECENT)
        .order_by(Delivery.settled_at.desc())
        .limit(_MAX_DEAD)
        .subquery()
    )
    newest = func.max(latest.c.settled_at)
    grouped = (
        select(latest.c.endpoint_id, latest.c.reason, func.count().label("count"), newest)
        .group_by(latest.c.endpoint_id, latest.c.reason)
        .subquery()
    )
    rows = session.execute(
        select(Endpoint, *list(grouped.c)[1:])
        .join(grouped, grouped.c.endpoint_id == Endpoint.id)
        .where(Endpoint.removed_at.is_(None))
        .order_by(list(grouped.c)[3].desc())
    )
    return [DeadLetterGroup(row[0], row[1] or "", row[2], row[3]) for row in rows]


def dead_ids(
    session: Session, endpoint_id: int, reason: str, *, limit: int, now: datetime
) -> list[int]:
    """Return the ids of the recent dead deliveries of an endpoint and a reason, latest first."""
    query = (
        select(Delivery.id)
        .where(
            Delivery.status == DeliveryStatus.DEAD,
            Delivery.settled_at > now - RECENT,
            Delivery.endpoint_id == endpoint_id,
            func.coalesce(Delivery.reason, "") == reason,
        )
        .order_by(Delivery.settled_at.desc())
        .limit(limit)
    )
    return list(session.scalars(query))


def _count(status: DeliveryStatus, at: datetime) -> ScalarSelect[int]:
    query = select(func.count()).select_from(Delivery)
    return query.where(*_settled(status, at)).scalar_subquery()


def _delays(session: Session, begins: Sequence[datetime]) -> dict[datetime, list[timedelta]]:
    samples = [
        select(
            select(literal(number).label("hour"), Delivery.created_at, Delivery.settled_at)
            .where(*_settled(DeliveryStatus.DELIVERED, at))
            .order_by(Delivery.settled_at.desc())
            .limit(SAMPLE)
            .subquery()
        )
        for number, at in enumerate(begins)
    ]
    delays: dict[datetime, list[timedelta]] = {at: [] for at in begins}
    for number, created_at, settled_at in db.union_rows(session, samples):
        delays[begins[number]].append(settled_at - created_at)
    return delays


def _settled(status: DeliveryStatus, at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for deliveries settled in the hour that begins at a time."""
    return Delivery.status == status, Delivery.settled_at >= at, Delivery.settled_at < at + _HOUR

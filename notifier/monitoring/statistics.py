"""Statistics: deliveries by hour, their delays, response times, dead deliveries by reason."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, ScalarSelect, func, literal, select, text
from sqlalchemy.orm import Session, aliased

from foundation.db import session as db
from foundation.db.session import UtcDateTime
from notifier.models import FAILED_ATTEMPT, Attempt, Delivery, DeliveryStatus, Endpoint, Replay
from notifier.monitoring.doctor import RECENT

# Hours that are shown, including the current one.
HOURS = 24
# Deliveries of each hour whose delays are read, the latest first.
SAMPLE = 200
# Attempts of each endpoint whose response times are read, the latest.
RESPONSES = 30
# The latest attempts of all endpoints in which those of an endpoint are searched first.
_LATEST = 1000
# Dead deliveries that are grouped, the latest first.
_MAX_DEAD = 2000
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Hour:
    """What was settled in an hour, the attempts that failed, and the delays of a sample.

    `failed` are the attempts that are followed by others. A delay is from the event to its
    delivery, or from the last replay.
    """

    begins_at: datetime
    delivered: int
    failed: int
    dead: int
    delays: Sequence[timedelta]


@dataclass(frozen=True)
class DeadDeliveryGroup:
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
            *(_count_failed(at) for at in begins),
            *(_count(DeliveryStatus.DEAD, at) for at in begins),
        )
    ).one()
    delivered, failed, dead = counts[:HOURS], counts[HOURS : 2 * HOURS], counts[2 * HOURS :]
    delays = _delays(session, [at for at, number in zip(begins, delivered, strict=True) if number])
    hours = zip(begins, delivered, failed, dead, strict=True)
    return [Hour(at, sent, tried, lost, delays.get(at, [])) for at, sent, tried, lost in hours]


@dataclass(frozen=True)
class ResponseTime:
    """How long an attempt took, and whether the delivery was accepted."""

    started_at: datetime
    milliseconds: int
    accepted: bool


def response_times(
    session: Session, endpoint_ids: Collection[int]
) -> dict[int, list[ResponseTime]]:
    """Return the last attempts of each endpoint that has any, oldest first.

    They are those that an index finds: among the latest of all endpoints, or else those of its
    newest delivered deliveries.
    """
    columns = Attempt.id, Attempt.started_at, Attempt.milliseconds, Attempt.decided
    latest = select(Attempt).order_by(Attempt.id.desc()).limit(_LATEST).subquery()
    attempt = aliased(Attempt, latest)
    queries = [
        select(Delivery.endpoint_id, *(getattr(attempt, one.key) for one in columns)).join(
            attempt, attempt.delivery_id == Delivery.id
        )
    ]
    for endpoint_id in endpoint_ids:
        newest = (
            select(Delivery.id, Delivery.endpoint_id)
            .where(
                Delivery.endpoint_id == endpoint_id,
                Delivery.stored_status == DeliveryStatus.DELIVERED,
            )
            .order_by(Delivery.created_at.desc(), Delivery.id.desc())
            .limit(RESPONSES)
            .subquery()
        )
        queries.append(
            select(newest.c.endpoint_id, *columns).join(newest, newest.c.id == Attempt.delivery_id)
        )
    found: defaultdict[int, dict[int, ResponseTime]] = defaultdict(dict)
    for endpoint_id, attempt_id, started_at, milliseconds, decided in db.union_rows(
        session, queries
    ):
        one = ResponseTime(started_at, milliseconds, decided == DeliveryStatus.DELIVERED)
        found[endpoint_id][attempt_id] = one
    return {
        endpoint_id: [of_endpoint[one] for one in sorted(of_endpoint)[-RESPONSES:]]
        for endpoint_id, of_endpoint in found.items()
    }


def dead_deliveries(session: Session, *, now: datetime) -> list[DeadDeliveryGroup]:
    """Return the recent dead deliveries by endpoint and reason, latest first.

    Those of removed endpoints are left out: they cannot be replayed.
    """
    latest = (
        select(Delivery.endpoint_id, Delivery.reason, Delivery.settled_at)
        .where(Delivery.stored_status == DeliveryStatus.DEAD, Delivery.settled_at > now - RECENT)
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
    return [DeadDeliveryGroup(row[0], row[1] or "", row[2], row[3]) for row in rows]


def dead_ids(
    session: Session, endpoint_id: int, reason: str, *, limit: int, now: datetime
) -> list[int]:
    """Return the ids of the recent dead deliveries of an endpoint and a reason, latest first."""
    query = (
        select(Delivery.id)
        .where(
            Delivery.stored_status == DeliveryStatus.DEAD,
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


def _count_failed(at: datetime) -> ScalarSelect[int]:
    # The condition as text, which is that of the index.
    query = select(func.count()).select_from(Attempt).where(text(FAILED_ATTEMPT))
    in_hour = Attempt.started_at >= at, Attempt.started_at < at + _HOUR
    return query.where(*in_hour).scalar_subquery()


def _delays(session: Session, begins: Sequence[datetime]) -> dict[datetime, list[timedelta]]:
    replayed_at = (
        select(func.max(Replay.replayed_at))
        .where(Replay.delivery_id == Delivery.id)
        .scalar_subquery()
    )
    begins_at = func.coalesce(replayed_at, Delivery.created_at, type_=UtcDateTime)
    samples = [
        select(
            select(literal(number).label("hour"), begins_at.label("begins_at"), Delivery.settled_at)
            .where(*_settled(DeliveryStatus.DELIVERED, at))
            .order_by(Delivery.settled_at.desc())
            .limit(SAMPLE)
            .subquery()
        )
        for number, at in enumerate(begins)
    ]
    delays: dict[datetime, list[timedelta]] = {at: [] for at in begins}
    for number, begins_at, settled_at in db.union_rows(session, samples):
        delays[begins[number]].append(settled_at - begins_at)
    return delays


def _settled(status: DeliveryStatus, at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for deliveries settled in the hour that begins at a time."""
    return (
        Delivery.stored_status == status,
        Delivery.settled_at >= at,
        Delivery.settled_at < at + _HOUR,
    )

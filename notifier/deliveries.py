"""Deliveries: create, claim, settle, hold, release; every statement that moves one stands here."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, or_, select, union_all, update
from sqlalchemy.orm import Session

from foundation import database as db
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event
from notifier.retry import MAX_ATTEMPTS, Dead, Delivered, Disable, Outcome, RetryAt

WORKER_LOST = "worker-lost"
"""The failure of an attempt whose worker never came back to settle it."""


@dataclass(frozen=True)
class Claimed:
    """A delivery under a lease: what to send where, and which attempt this is."""

    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: str
    url: str
    body: str
    attempts: int
    lease_token: str


@dataclass(frozen=True)
class Settlement:
    """What came of an attempt: its record, and what is done next."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    outcome: Outcome
    status: int | None = None
    failure: str | None = None
    detail: str | None = None


def create(
    session: Session, event_id: str, endpoints: Iterable[Endpoint], *, now: datetime
) -> None:
    """Write one delivery of an event for each endpoint, held where the endpoint is disabled."""
    rows = [
        {
            "event_id": event_id,
            "endpoint_id": endpoint.id,
            "status": DeliveryStatus.HELD if endpoint.disabled_at else DeliveryStatus.PENDING,
            "attempts": 0,
            "due_at": now,
            "created_at": now,
        }
        for endpoint in endpoints
    ]
    db.insert_all(session, Delivery, rows)


def any_due(session: Session, *, now: datetime) -> bool:
    """Tell whether anything can be claimed; only reads, so an idle worker locks nobody out."""
    return session.scalar(_claimable(select(Delivery.id), now).limit(1)) is not None


def claim(
    session: Session,
    *,
    limit: int,
    per_endpoint: int,
    busy: Mapping[int, int],
    lease: timedelta,
    now: datetime,
) -> list[Claimed]:
    """Take due deliveries under a lease, the longest due first, and count the attempt.

    At most `limit`, and for each endpoint at most `per_endpoint` less those that are `busy`.
    A lease that ran out is an attempt whose worker was lost: it is recorded, and where it was the
    schedule's last, the delivery is dead. `now` is the database's clock.
    """
    ids = _due_ids(session, limit=limit, per_endpoint=per_endpoint, busy=busy, now=now)
    if not ids:
        return []
    rows = _lock_with_event(session, ids, now)
    _record_lost(session, [row for row, _, _ in rows if row.lease_token])
    _bury(session, [row.id for row, _, _ in rows if row.attempts >= MAX_ATTEMPTS], now)
    token = secrets.token_hex(16)
    claimed = [
        _claimed(row, event, url, token) for row, event, url in rows if row.attempts < MAX_ATTEMPTS
    ]
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_([one.delivery_id for one in claimed]))
        .values(lease_token=token, leased_until=now + lease, attempts=Delivery.attempts + 1)
    )
    return claimed


def settle(
    session: Session, settlements: Sequence[Settlement], *, now: datetime
) -> list[Settlement]:
    """Write down attempts and what follows from them, each by the holder of its lease only.

    One whose lease went to another is fenced: its success still counts, its failure does not.
    Returns the fenced ones.
    """
    standing = _standing(session, [one.claimed.delivery_id for one in settlements])
    delivered = {one.id for one in standing.values() if one.status == DeliveryStatus.DELIVERED}
    changes: dict[int, dict[str, Any]] = {}
    fenced = [
        one
        for one in settlements
        if standing[one.claimed.delivery_id].lease_token != one.claimed.lease_token
    ]
    for one in settlements:
        row = standing[one.claimed.delivery_id]
        success = isinstance(one.outcome, Delivered)
        if row.id not in delivered and (success or one not in fenced):
            changes[row.id] = {"id": row.id, **_next_step(one.outcome, row.status, now)}
        if success:
            delivered.add(row.id)
    db.insert_all(session, Attempt, [_attempt(one, fenced=one in fenced) for one in settlements])
    if changes:
        # In this order those that set the same columns stand together and go as one statement.
        session.execute(update(Delivery), sorted(changes.values(), key=sorted))
    return fenced


def hold(session: Session, endpoint_id: int) -> None:
    """Hold what is open for an endpoint; an attempt under way may still settle its own."""
    session.execute(
        update(Delivery)
        .where(Delivery.endpoint_id == endpoint_id, Delivery.status == DeliveryStatus.PENDING)
        .values(status=DeliveryStatus.HELD)
    )


def release(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make due what was held for an endpoint, each on a fresh schedule; return how many."""
    released = session.execute(
        update(Delivery)
        .where(Delivery.endpoint_id == endpoint_id, Delivery.status == DeliveryStatus.HELD)
        .values(status=DeliveryStatus.PENDING, due_at=now, attempts=0)
        .returning(Delivery.id)
    )
    return len(released.all())


def make_due(session: Session, ids: Sequence[int], *, now: datetime) -> None:
    """Put deliveries at the beginning of the schedule, due now; an attempt under way is fenced."""
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(ids))
        .values(
            status=DeliveryStatus.PENDING,
            due_at=now,
            attempts=0,
            settled_at=None,
            reason=None,
            lease_token=None,
            leased_until=None,
        )
    )


def _claimable(query: Select[Any], now: datetime) -> Select[Any]:
    return query.where(
        Delivery.status == DeliveryStatus.PENDING,
        Delivery.due_at <= now,
        or_(Delivery.leased_until.is_(None), Delivery.leased_until <= now),
    )


def _due_ids(
    session: Session, *, limit: int, per_endpoint: int, busy: Mapping[int, int], now: datetime
) -> list[int]:
    enabled = session.scalars(select(Endpoint.id).where(Endpoint.disabled_at.is_(None)))
    room = {one: min(limit, per_endpoint - busy.get(one, 0)) for one in enabled}
    parts = [
        _claimable(select(Delivery.id, Delivery.due_at), now)
        .where(Delivery.endpoint_id == endpoint_id)
        .order_by(Delivery.due_at, Delivery.id)
        .limit(places)
        .subquery()
        for endpoint_id, places in room.items()
        if places > 0
    ]
    if not parts:
        return []
    due = union_all(*(select(part.c.id, part.c.due_at) for part in parts)).subquery()
    return list(session.scalars(select(due.c.id).order_by(due.c.due_at, due.c.id).limit(limit)))


def _lock_with_event(
    session: Session, ids: Sequence[int], now: datetime
) -> Sequence[tuple[Any, Any, str]]:
    """Return the rows that nobody else has locked or claimed since they were found."""
    query = (
        select(Delivery, Event, Endpoint.url)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.due_at, Delivery.id)
        .with_for_update(skip_locked=True, of=Delivery)
    )
    return session.execute(_claimable(query, now)).tuples().all()


def _claimed(row: Delivery, event: Event, url: str, token: str) -> Claimed:
    return Claimed(
        delivery_id=row.id,
        endpoint_id=row.endpoint_id,
        webhook_id=event.id,
        event_type=event.type,
        course_id=event.course_id,
        url=url,
        body=event.body,
        attempts=row.attempts + 1,
        lease_token=token,
    )


def _record_lost(session: Session, rows: Sequence[Delivery]) -> None:
    records = [
        {
            "delivery_id": row.id,
            "started_at": row.leased_until,
            "milliseconds": 0,
            "failure": WORKER_LOST,
            "detail": "the lease ran out before the attempt was settled",
            "decided": "retry" if row.attempts < MAX_ATTEMPTS else "dead",
        }
        for row in rows
    ]
    db.insert_all(session, Attempt, records)


def _bury(session: Session, ids: Sequence[int], now: datetime) -> None:
    if ids:
        reason = f"{MAX_ATTEMPTS} attempts failed, the last because its worker was lost"
        step = _next_step(Dead(reason), DeliveryStatus.PENDING, now)
        session.execute(update(Delivery).where(Delivery.id.in_(ids)).values(**step))


def _standing(session: Session, ids: Sequence[int]) -> dict[int, Any]:
    rows = session.execute(
        select(Delivery.id, Delivery.status, Delivery.lease_token)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.id)
        .with_for_update()
    )
    return {row.id: row for row in rows}


def _next_step(outcome: Outcome, status: str, now: datetime) -> dict[str, Any]:
    step: dict[str, Any] = {"lease_token": None, "leased_until": None}
    match outcome:
        case Delivered():
            return step | {"status": DeliveryStatus.DELIVERED, "settled_at": now, "reason": None}
        case RetryAt(due_at):
            return step | {"status": status, "due_at": due_at}
        case Dead(reason):
            return step | {"status": DeliveryStatus.DEAD, "settled_at": now, "reason": reason}
        case Disable():
            return step | {"status": DeliveryStatus.HELD}


def _attempt(one: Settlement, *, fenced: bool) -> dict[str, Any]:
    return {
        "delivery_id": one.claimed.delivery_id,
        "started_at": one.started_at,
        "milliseconds": one.milliseconds,
        "status": one.status,
        "failure": one.failure,
        "detail": one.detail,
        "decided": _decided(one.outcome, fenced=fenced),
    }


def _decided(outcome: Outcome, *, fenced: bool) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case _ if fenced:
            return "too late"
        case RetryAt():
            return "retry"
        case Dead():
            return "dead"
        case Disable():
            return "disable"

"""Leases: claim what is due for a while, and take back what a lost worker never settled."""

import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, select, union_all, update
from sqlalchemy.orm import Session

from foundation import tracing
from foundation.db import session as db
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event, Lane
from notifier.signals import DeadDelivery
from notifier.webhooks import deliveries
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.failures import FailureKind
from notifier.webhooks.retry_policy import MAX_ATTEMPTS

_TAKEN_BACK_AT_ONCE = 500
_PARTS_AT_ONCE = 150  # SQLite joins 500 SELECTs at the most


@dataclass(frozen=True)
class EndpointLimit:
    """How many deliveries may be claimed for an endpoint: in all, and of the lane `retry`."""

    total: int
    retry: int


@dataclass(frozen=True)
class ClaimLimits:
    """How many deliveries may be claimed: in all, of the lanes `retry` and `isolated`, by endpoint.

    Those of the lane `isolated` count among those of `retry` too: neither takes a place that is
    kept for first attempts. Nothing is claimed for an endpoint without a share.
    """

    total: int
    retry: int
    isolated: int
    by_endpoint: Mapping[int, EndpointLimit]


@dataclass(frozen=True)
class ExpiredClaim:
    """A delivery whose worker was lost; `dead` is the reason if that was its last attempt."""

    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: str
    attempts: int
    dead: str | None


def any_due(session: Session, endpoint_ids: Collection[int], *, now: datetime) -> bool:
    """Tell whether there is anything to claim for endpoints, or to take back.

    Only reads, so that an idle worker locks nobody out.
    """
    due = select(Delivery.id).where(
        _is_claimable(now), Delivery.endpoint_id.in_(endpoint_ids), Delivery.lane.in_(list(Lane))
    )
    lost = select(Delivery.id).where(_is_lost(now))
    return any(session.scalar(query.limit(1)) is not None for query in (due, lost))


def claim(
    session: Session, limits: ClaimLimits, *, lease: timedelta, now: datetime
) -> list[Claimed]:
    """Take due deliveries under a lease, the longest due first, and count the attempt.

    `now` is the database's clock. One under a lease that ran out has to be taken back first.
    """
    ids = _due_ids(session, limits, now)
    if not ids:
        return []
    token = secrets.token_hex(16)
    claimed = [_claimed(row, token, now) for row in _lock_with_event(session, ids, now)]
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_([one.delivery_id for one in claimed]))
        .values(lease_token=token, leased_until=now + lease, attempts=Delivery.attempts + 1)
    )
    return claimed


def reclaim_expired(session: Session, *, now: datetime) -> list[ExpiredClaim]:
    """End the leases that ran out, and return whose they were: the worker of each was lost.

    That was an attempt (a crash counts), and where it was the schedule's last, the delivery is
    dead. The others go on in the lane `isolated`.
    """
    rows = _lock_lost(session, now)
    if not rows:
        return []
    db.insert_all(session, Attempt, [_lost_attempt(row) for row in rows])
    lost = [_lost(row) for row in rows]
    deliveries.mark_dead(session, [_buried(one, now) for one in lost if one.dead], now=now)
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_([one.delivery_id for one in lost if not one.dead]))
        .values(lane=Lane.ISOLATED, lease_token=None, leased_until=None)
    )
    return lost


def _is_claimable(now: datetime) -> Any:
    return and_(
        Delivery.status == DeliveryStatus.PENDING,
        Delivery.due_at <= now,
        Delivery.lease_token.is_(None),
    )


def _is_lost(now: datetime) -> Any:
    return and_(Delivery.leased_until <= now, Delivery.status == DeliveryStatus.PENDING)


def _due_ids(session: Session, limits: ClaimLimits, now: datetime) -> list[int]:
    parts = [
        _part(endpoint_id, lane, most, now)
        for endpoint_id, share in limits.by_endpoint.items()
        for lane, most in _most(limits, share).items()
        if most > 0
    ]
    rows = [
        row
        for start in range(0, len(parts), _PARTS_AT_ONCE)
        for row in session.execute(union_all(*parts[start : start + _PARTS_AT_ONCE]))
    ]
    return _chosen(sorted(rows, key=lambda row: (row.due_at, row.id)), limits)


def _most(limits: ClaimLimits, share: EndpointLimit) -> dict[Lane, int]:
    total = min(limits.total, share.total)
    retry = min(limits.retry, share.retry, total)
    return {Lane.FIRST: total, Lane.RETRY: retry, Lane.ISOLATED: min(limits.isolated, retry)}


def _part(endpoint_id: int, lane: Lane, most: int, now: datetime) -> Select[Any]:
    found = (
        select(Delivery.id, Delivery.endpoint_id, Delivery.lane, Delivery.due_at)
        .where(_is_claimable(now), Delivery.endpoint_id == endpoint_id, Delivery.lane == lane)
        .order_by(Delivery.due_at, Delivery.id)
        .limit(most)
        .subquery()
    )
    return select(found)


def _chosen(rows: Sequence[Any], limits: ClaimLimits) -> list[int]:
    chosen: list[int] = []
    taken: Counter[object] = Counter()
    for row in rows:
        share = limits.by_endpoint[row.endpoint_id]
        most = {"total": limits.total, row.endpoint_id: share.total}
        if row.lane != Lane.FIRST:
            most |= {Lane.RETRY: limits.retry, (row.endpoint_id, Lane.RETRY): share.retry}
        if row.lane == Lane.ISOLATED:
            most[Lane.ISOLATED] = limits.isolated
        if all(taken[bound] < number for bound, number in most.items()):
            chosen.append(row.id)
            taken.update(most.keys())
    return chosen


_COLUMNS = (
    Delivery.id,
    Delivery.endpoint_id,
    Delivery.lane,
    Delivery.attempts,
    Delivery.leased_until,
    Event.id.label("webhook_id"),
    Event.type,
    Event.course_id,
    Event.body,
    Event.occurred_at,
    Event.traceparent,
    Endpoint.url,
)


def _with_event() -> Select[Any]:
    return (
        select(*_COLUMNS)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .with_for_update(skip_locked=True, of=Delivery)
    )


def _lock_with_event(session: Session, ids: Sequence[int], now: datetime) -> Sequence[Any]:
    """Return the rows that nobody else has locked or claimed since they were found."""
    query = _with_event().where(Delivery.id.in_(ids), _is_claimable(now))
    return session.execute(query.order_by(Delivery.due_at, Delivery.id)).all()


def _lock_lost(session: Session, now: datetime) -> Sequence[Any]:
    query = _with_event().where(_is_lost(now)).order_by(Delivery.id).limit(_TAKEN_BACK_AT_ONCE)
    return session.execute(query).all()


def _claimed(row: Any, token: str, now: datetime) -> Claimed:
    return Claimed(
        delivery_id=row.id,
        endpoint_id=row.endpoint_id,
        webhook_id=row.webhook_id,
        event_type=row.type,
        course_id=row.course_id,
        url=row.url,
        body=row.body,
        lane=Lane(row.lane),
        attempts=row.attempts + 1,
        lease_token=token,
        occurred_at=row.occurred_at,
        claimed_at=now,
        span=tracing.after(row.traceparent),
    )


def _lost(row: Any) -> ExpiredClaim:
    last = row.attempts >= MAX_ATTEMPTS
    return ExpiredClaim(
        row.id,
        row.endpoint_id,
        row.webhook_id,
        row.type,
        row.course_id,
        row.attempts,
        f"{row.attempts} attempts failed, the last because its worker was lost" if last else None,
    )


def _lost_attempt(row: Any) -> dict[str, Any]:
    return {
        "delivery_id": row.id,
        "started_at": row.leased_until,
        "milliseconds": 0,
        "failure": FailureKind.WORKER_LOST,
        "detail": "the lease ran out before the attempt was settled",
        "decided": "retry" if row.attempts < MAX_ATTEMPTS else "dead",
    }


def _buried(one: ExpiredClaim, now: datetime) -> DeadDelivery:
    return DeadDelivery(
        one.delivery_id,
        one.endpoint_id,
        one.webhook_id,
        one.event_type,
        one.course_id,
        str(one.dead),
        now,
    )

"""Claims: take due deliveries under a lease, and reclaim those whose lease expired.

New deliveries, retries, and those whose worker was lost are in three lanes (`models.Lane`), each
with limits of its own.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from sqlalchemy import Select, and_, select, update
from sqlalchemy.orm import Session

from foundation import tracing
from foundation.db import session as db
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event, Lane
from notifier.signals import DeadDelivery, DeliveryIdentity
from notifier.webhooks import deliveries
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import MAX_ATTEMPTS

# Expired claims that one transaction reclaims.
_MAX_RECLAIMED = 500


@dataclass(frozen=True)
class EndpointLimit:
    """How many deliveries of an endpoint may be claimed: in total, and outside the first lane."""

    total: int
    retry: int


@dataclass(frozen=True)
class ClaimLimits:
    """How many deliveries may be claimed: in total, by lane, and by endpoint.

    `retry` limits the lanes `retry` and `isolated` together, `isolated` the latter alone. Nothing
    is claimed for an endpoint without a limit.
    """

    total: int
    retry: int
    isolated: int
    by_endpoint: Mapping[int, EndpointLimit]

    def bounds(self, endpoint_id: int, lane: str) -> Mapping[Hashable, int]:
        """Return the limits that apply to a delivery, each under what it counts."""
        endpoint = self.by_endpoint[endpoint_id]
        bounds: dict[Hashable, int] = {"total": self.total, endpoint_id: endpoint.total}
        if lane != Lane.FIRST:
            bounds |= {Lane.RETRY: self.retry, (endpoint_id, Lane.RETRY): endpoint.retry}
        if lane == Lane.ISOLATED:
            bounds[Lane.ISOLATED] = self.isolated
        return bounds


@dataclass(frozen=True)
class ExpiredClaim(DeliveryIdentity):
    """A delivery whose lease expired; `dead_reason` is set if that was its last attempt."""

    attempts: int
    dead_reason: str | None


def any_due(session: Session, endpoint_ids: Collection[int], *, now: datetime) -> bool:
    """Return True if there is something to claim for the endpoints, or to reclaim.

    Only reads, so that an idle worker takes no locks.
    """
    due = select(Delivery.id).where(
        _is_claimable(now), Delivery.endpoint_id.in_(endpoint_ids), Delivery.lane.in_(list(Lane))
    )
    expired = select(Delivery.id).where(_is_expired(now))
    return any(session.scalar(query.limit(1)) is not None for query in (due, expired))


def claim(
    session: Session, limits: ClaimLimits, *, lease: timedelta, now: datetime
) -> list[Claimed]:
    """Claim due deliveries under a lease, the longest due first, and count the attempt.

    `now` is the database's clock. A delivery whose lease expired must be reclaimed first.
    """
    ids = _due_ids(session, limits, now)
    if not ids:
        return []
    # Checked again: another worker may have claimed some of them since they were found.
    query = _lock_query().where(Delivery.id.in_(ids), _is_claimable(now))
    rows = session.execute(query.order_by(Delivery.due_at, Delivery.id)).all()
    token = secrets.token_hex(16)
    claimed = [_claimed(row, token, now) for row in rows]
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_([one.delivery_id for one in claimed]))
        .values(lease_token=token, leased_until=now + lease, attempts=Delivery.attempts + 1)
    )
    return claimed


def reclaim_expired(session: Session, *, now: datetime) -> list[ExpiredClaim]:
    """End the leases that expired, and return them.

    The worker of each crashed or hung: that counts as an attempt. After the last attempt the
    delivery is dead; otherwise it continues in the lane `isolated`.
    """
    query = _lock_query().where(_is_expired(now)).order_by(Delivery.id).limit(_MAX_RECLAIMED)
    rows = session.execute(query).all()
    if not rows:
        return []
    db.insert_all(session, Attempt, [_attempt(row) for row in rows])
    expired = [_expired(row) for row in rows]
    dead = [DeadDelivery.of(one, one.dead_reason, now) for one in expired if one.dead_reason]
    deliveries.mark_dead(session, dead, now=now)
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_([one.delivery_id for one in expired if not one.dead_reason]))
        .values(lane=Lane.ISOLATED, lease_token=None, leased_until=None)
    )
    return expired


def _is_claimable(now: datetime) -> Any:
    return and_(
        Delivery.status == DeliveryStatus.PENDING,
        Delivery.due_at <= now,
        Delivery.lease_token.is_(None),
    )


def _is_expired(now: datetime) -> Any:
    return and_(Delivery.leased_until <= now, Delivery.status == DeliveryStatus.PENDING)


def _due_ids(session: Session, limits: ClaimLimits, now: datetime) -> list[int]:
    queries = [
        _due_query(endpoint_id, lane, limit, now)
        for endpoint_id, lane in product(limits.by_endpoint, Lane)
        if (limit := min(limits.bounds(endpoint_id, lane).values())) > 0
    ]
    rows = db.union_rows(session, queries)
    return _within_limits(sorted(rows, key=lambda row: (row.due_at, row.id)), limits)


def _due_query(endpoint_id: int, lane: Lane, limit: int, now: datetime) -> Select[Any]:
    found = (
        select(Delivery.id, Delivery.endpoint_id, Delivery.lane, Delivery.due_at)
        .where(_is_claimable(now), Delivery.endpoint_id == endpoint_id, Delivery.lane == lane)
        .order_by(Delivery.due_at, Delivery.id)
        .limit(limit)
        .subquery()
    )
    return select(found)


def _within_limits(rows: Sequence[Any], limits: ClaimLimits) -> list[int]:
    chosen: list[int] = []
    used: Counter[Hashable] = Counter()
    for row in rows:
        bounds = limits.bounds(row.endpoint_id, row.lane)
        if all(used[bound] < limit for bound, limit in bounds.items()):
            chosen.append(row.id)
            used.update(bounds.keys())
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


def _lock_query() -> Select[Any]:
    return (
        select(*_COLUMNS)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .with_for_update(skip_locked=True, of=Delivery)
    )


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
        span=tracing.span_from(row.traceparent),
    )


def _expired(row: Any) -> ExpiredClaim:
    reason = f"{row.attempts} attempts failed, the last because its worker was lost"
    return ExpiredClaim(
        row.id,
        row.endpoint_id,
        row.webhook_id,
        row.type,
        row.course_id,
        row.attempts,
        reason if row.attempts >= MAX_ATTEMPTS else None,
    )


def _attempt(row: Any) -> dict[str, Any]:
    return {
        "delivery_id": row.id,
        "started_at": row.leased_until,
        "milliseconds": 0,
        "failure": FailureKind.WORKER_LOST,
        "detail": "the lease expired before the attempt was settled",
        "decided": "retry" if row.attempts < MAX_ATTEMPTS else "dead",
    }

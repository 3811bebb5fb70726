"""Claims: find endpoints with due deliveries, claim those under a lease, reclaim expired leases."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Integer,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from foundation import tracing
from foundation.db import bulk
from foundation.db import session as db
from foundation.db.bulk import RowsQuery, RowsStatement
from foundation.db.session import UtcDateTime
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event
from notifier.signals import DeadDelivery, DeliveryIdentity
from notifier.webhooks import deliveries, endpoints
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import MAX_ATTEMPTS

# Claims in a row that may lose their worker before a delivery is dead, and before it is a suspect,
# which may itself crash the worker: a worker sends one suspect at a time.
MAX_LOST_CLAIMS = 3
SUSPECT_AFTER = 2
# Endpoints that one statement looks at, and expired leases that one transaction reclaims.
_MAX_ENDPOINTS = 64
_MAX_RECLAIMED = 500


@dataclass(frozen=True)
class ExpiredClaim(DeliveryIdentity):
    """A delivery whose lease expired; `dead_reason` is set if that was its last attempt."""

    attempts: int
    dead_reason: str | None
    expired_at: datetime


def find_due(session: Session, after: int, *, now: datetime) -> tuple[dict[int, bool], int | None]:
    """Return some endpoints with an id above `after` that have something due and may be sent to.

    The values are True for those that are half-open. Also returns the id after which to go on, None
    after the last endpoint. The cost grows with the endpoints that have pending deliveries, not
    with all endpoints or deliveries: the query jumps in an index from one such endpoint to the
    next.
    """
    rows = session.execute(_FIND_DUE, {"after": after, "now": now}).all()
    found = {row.endpoint_id: row.is_half_open for row in rows if row.is_due}
    return found, rows[-1].endpoint_id if len(rows) == _MAX_ENDPOINTS else None


def any_lost(session: Session, *, now: datetime) -> bool:
    """Return True if there is a lease to reclaim, or a suspect to claim."""
    return bool(session.scalar(_ANY_LOST, {"now": now}))


def claim(
    session: Session,
    numbers: Mapping[int, int],
    *,
    newest_first: Collection[int] = (),
    on_trial: Collection[int] = (),
    lease: timedelta,
    now: datetime,
) -> list[Claimed]:
    """Claim due deliveries under a lease, and count the attempts.

    `numbers` has how many are claimed for each endpoint. Half of them are those that have been
    due for longest, half those that became due last, so that neither a backlog of retries delays
    new events nor new events the backlog. An odd one is the oldest, or for the endpoints in
    `newest_first` the newest. Claims for the endpoints in `on_trial` are trials. `now` is the
    database's clock. A delivery whose lease expired must be reclaimed first.
    """
    given = [
        {"endpoint_id": endpoint_id, "oldest": number - newest, "newest": newest}
        for endpoint_id, number in numbers.items()
        for newest in [(number + (endpoint_id in newest_first)) // 2]
    ]
    if not given:
        return []
    token, until = secrets.token_hex(16), now + lease
    _CLAIM.execute(session, given, most=max(numbers.values()), token=token, now=now, until=until)
    return _claimed(session, token, until, on_trial=on_trial, now=now)


def claim_suspect(session: Session, *, lease: timedelta, now: datetime) -> list[Claimed]:
    """Claim one of the suspects, the one that has been due for longest."""
    suspect = _SUSPECTS.limit(1).with_for_update(**_SKIP_LOCKED)
    delivery_id = session.scalar(suspect, {"now": now})
    if delivery_id is None:
        return []
    token, until = secrets.token_hex(16), now + lease
    session.execute(
        update(_DELIVERY)
        .where(_DELIVERY.c.id == delivery_id)
        .values(lease_token=token, leased_until=until, attempts=_DELIVERY.c.attempts + 1)
    )
    return _claimed(session, token, until, now=now)


def give_back(session: Session, claimed: Sequence[Claimed]) -> None:
    """End the leases of deliveries that were not sent, and are locked; no attempt counts."""
    # A restart meanwhile has set the number to 0.
    attempts = case((Delivery.attempts > 0, Delivery.attempts - 1), else_=0)
    session.execute(
        update(Delivery)
        .where(
            db.among(Delivery.id, [claim.delivery_id for claim in claimed]),
            db.among(Delivery.lease_token, {claim.lease_token for claim in claimed}),
        )
        .values(lease_token=None, leased_until=None, attempts=attempts)
        .execution_options(synchronize_session=False)
    )


def reclaim_expired(session: Session, *, now: datetime) -> list[ExpiredClaim]:
    """End the leases that expired, and return them.

    The worker of each crashed or hung: that counts as an attempt. After the last attempt, or the
    last of `MAX_LOST_CLAIMS`, the delivery is dead.
    """
    rows = session.execute(
        select(
            Delivery.id,
            Delivery.endpoint_id,
            Event.id,
            Event.type,
            Event.course_id,
            Delivery.attempts,
            Delivery.lost_claims + 1,
            Delivery.leased_until,
        )
        .join(Event, Event.id == Delivery.event_id)
        .where(_IS_EXPIRED)
        .order_by(Delivery.id)
        .limit(_MAX_RECLAIMED)
        .with_for_update(**_SKIP_LOCKED),
        {"now": now},
    ).all()
    if not rows:
        return []
    expired = [_expired(row) for row in rows]
    bulk.insert(session, Attempt, [_attempt(claim) for claim in expired])
    dead = [
        DeadDelivery.of(claim, claim.dead_reason, now) for claim in expired if claim.dead_reason
    ]
    deliveries.mark_dead(session, dead, now=now)
    retried = [claim.delivery_id for claim in expired if not claim.dead_reason]
    session.execute(
        update(Delivery)
        .where(db.among(Delivery.id, retried))
        .values(lost_claims=Delivery.lost_claims + 1, lease_token=None, leased_until=None)
        .execution_options(synchronize_session=False)
    )
    return expired


# Tables, because the ORM takes twice as long for the same statement.
_DELIVERY: Any = Delivery.__table__
_ENDPOINT: Any = Endpoint.__table__
_EVENT: Any = Event.__table__
_SKIP_LOCKED: Any = {"skip_locked": True, "of": _DELIVERY}
_IS_FREE = and_(_DELIVERY.c.status == DeliveryStatus.PENDING, _DELIVERY.c.lease_token.is_(None))


_NOW = bindparam("now", type_=UtcDateTime())
_IS_EXPIRED = and_(_DELIVERY.c.leased_until <= _NOW, _DELIVERY.c.status == DeliveryStatus.PENDING)
_IS_SENT_TO = and_(
    _ENDPOINT.c.disabled_at.is_(None),
    or_(_ENDPOINT.c.paused_until.is_(None), _ENDPOINT.c.paused_until <= _NOW),
)
_SUSPECTS = (
    select(_DELIVERY.c.id)
    .join(_ENDPOINT, _ENDPOINT.c.id == _DELIVERY.c.endpoint_id)
    .where(
        _IS_FREE, _DELIVERY.c.lost_claims >= SUSPECT_AFTER, _DELIVERY.c.due_at <= _NOW, _IS_SENT_TO
    )
    .order_by(_DELIVERY.c.due_at, _DELIVERY.c.id)
)
_ANY_LOST = select(or_(select(_DELIVERY.c.id).where(_IS_EXPIRED).exists(), _SUSPECTS.exists()))


def _find_due_query() -> Select[Any]:
    first = select(
        func.min(_DELIVERY.c.endpoint_id).label("endpoint_id"), literal(1).label("number")
    )
    hops = first.where(_IS_FREE, _DELIVERY.c.endpoint_id > bindparam("after")).cte(recursive=True)
    following = (
        select(func.min(_DELIVERY.c.endpoint_id))
        .where(_IS_FREE, _DELIVERY.c.endpoint_id > hops.c.endpoint_id)
        .correlate(hops)
        .scalar_subquery()
    )
    hops = hops.union_all(
        select(following, hops.c.number + 1).where(
            hops.c.endpoint_id.is_not(None), hops.c.number < _MAX_ENDPOINTS
        )
    )
    is_due = (
        select(_DELIVERY.c.id)
        .where(
            _IS_FREE,
            _DELIVERY.c.endpoint_id == hops.c.endpoint_id,
            _DELIVERY.c.lost_claims < SUSPECT_AFTER,
            _DELIVERY.c.due_at <= _NOW,
        )
        .correlate(hops)
        .exists()
    )
    return (
        select(
            hops.c.endpoint_id,
            _ENDPOINT.c.paused_until.is_not(None).label("is_half_open"),
            and_(_IS_SENT_TO, is_due).label("is_due"),
        )
        .join(_ENDPOINT, _ENDPOINT.c.id == hops.c.endpoint_id)
        .order_by(hops.c.endpoint_id)
    )


_FIND_DUE = _find_due_query()

_FREE_SQL = (
    "SELECT id FROM deliveries WHERE endpoint_id = given.endpoint_id AND status = 'pending' "  # noqa: S608 - constants
    f"AND lease_token IS NULL AND lost_claims < {SUSPECT_AFTER} AND due_at <= :now "
    "ORDER BY due_at {order}, id {order} LIMIT {limit}"
)
# It may have been disabled or paused since it was found.
_IF_SENT_TO = (
    "JOIN endpoints ON endpoints.id = given.endpoint_id AND endpoints.disabled_at IS NULL "
    "AND (endpoints.paused_until IS NULL OR endpoints.paused_until <= :now)"
)


def _pick_on_postgresql(order: str, number: str) -> str:
    # With the outer LIMIT PostgreSQL expects few rows; it takes a limit from a column for a tenth
    # of the table.
    free = _FREE_SQL.format(order=order, limit=f"given.{number}")
    return f"(SELECT id FROM ({free} FOR UPDATE SKIP LOCKED) AS {number} LIMIT 256)"  # noqa: S608 - constants


def _pick_on_sqlite(order: str, number: str) -> str:
    # SQLite allows no column in a LIMIT: the position in an array stands for it.
    free = _FREE_SQL.format(order=order, limit=":most")
    return (
        "SELECT picked.value AS id FROM {given} "  # noqa: S608 - constants
        f"{_IF_SENT_TO}, "
        f"json_each((SELECT json_group_array(id) FROM ({free}))) AS picked "
        f"WHERE picked.key < given.{number}"
    )


_LEASE_SQL = (
    "UPDATE deliveries SET lease_token = :token, leased_until = :until, attempts = attempts + 1"
)
_CLAIM = RowsStatement(
    {"endpoint_id": Integer(), "oldest": Integer(), "newest": Integer()},
    {
        "sqlite": f"{_LEASE_SQL} WHERE id IN ({_pick_on_sqlite('ASC', 'oldest')} "
        f"UNION {_pick_on_sqlite('DESC', 'newest')})",
        # Materialized, because PostgreSQL could pick again for each row. The rows are locked where
        # they are found; one may be found twice.
        "postgresql": "WITH picked AS MATERIALIZED (SELECT DISTINCT found.id "  # noqa: S608 - constants
        f"FROM {{given}} {_IF_SENT_TO} "
        f"CROSS JOIN LATERAL ({_pick_on_postgresql('ASC', 'oldest')} "
        f"UNION ALL {_pick_on_postgresql('DESC', 'newest')}) AS found) "
        f"{_LEASE_SQL} FROM picked WHERE deliveries.id = picked.id",
    },
    now=UtcDateTime(),
    until=UtcDateTime(),
)

_SENT = {
    "delivery_id": _DELIVERY.c.id,
    "endpoint_id": _DELIVERY.c.endpoint_id,
    "webhook_id": _EVENT.c.id,
    "event_type": _EVENT.c.type,
    "course_id": _EVENT.c.course_id,
    "url": _ENDPOINT.c.url,
    "body": _EVENT.c.body,
    "attempts": _DELIVERY.c.attempts,
}
_CLAIMED = RowsQuery(
    select(
        *(column.label(name) for name, column in _SENT.items()),
        _EVENT.c.occurred_at,
        _EVENT.c.traceparent,
    )
    .join(_EVENT, _EVENT.c.id == _DELIVERY.c.event_id)
    .join(_ENDPOINT, _ENDPOINT.c.id == _DELIVERY.c.endpoint_id)
    .where(
        _DELIVERY.c.status == DeliveryStatus.PENDING,
        _DELIVERY.c.leased_until == bindparam("until", type_=UtcDateTime()),
        _DELIVERY.c.lease_token == bindparam("token"),
    )
    .order_by(_DELIVERY.c.due_at, _DELIVERY.c.id)
)


def _claimed(
    session: Session,
    token: str,
    until: datetime,
    *,
    on_trial: Collection[int] = (),
    now: datetime,
) -> list[Claimed]:
    rows = _CLAIMED.fetch(session, token=token, until=until)
    endpoint_ids = {endpoint_id for _, endpoint_id, *_ in rows}
    encrypted = endpoints.encrypted_secrets(session, endpoint_ids, now=now) if rows else {}
    return [
        Claimed(
            **dict(zip(_SENT, sent, strict=True)),
            encrypted_secrets=encrypted.get(sent[1], ()),
            lease_token=token,
            occurred_at=datetime.fromisoformat(occurred_at).replace(tzinfo=UTC),
            claimed_at=now,
            span=tracing.span_from(traceparent),
            is_trial=sent[1] in on_trial,
        )
        for *sent, occurred_at, traceparent in rows
    ]


def _expired(row: Any) -> ExpiredClaim:
    identity: tuple[int, int, str, str, str] = row[:5]
    attempts, lost_claims, expired_at = row[5:]
    reason = None
    if lost_claims >= MAX_LOST_CLAIMS:
        reason = f"{lost_claims} attempts in a row lost their worker"
    elif attempts >= MAX_ATTEMPTS:
        reason = f"{attempts} attempts failed, the last because its worker was lost"
    return ExpiredClaim(*identity, attempts, reason, expired_at)


def _attempt(claim: ExpiredClaim) -> dict[str, Any]:
    return {
        "delivery_id": claim.delivery_id,
        "started_at": claim.expired_at,
        "milliseconds": 0,
        "status": None,
        "failure": FailureKind.WORKER_LOST,
        "detail": "the lease expired before the attempt was settled",
        "decided": "dead" if claim.dead_reason else "retry",
    }

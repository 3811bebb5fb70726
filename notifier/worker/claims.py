"""Claims: find endpoints with due deliveries, claim those under a lease, reclaim expired leases."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Integer, bindparam, case, select, text, update
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
    """A delivery whose lease expired, and how many claims in a row lost their worker with it."""

    attempts: int
    lost_claims: int
    expired_at: datetime

    @property
    def dead_reason(self) -> str | None:
        """The reason why the delivery is dead, or None if it will be retried."""
        if self.lost_claims >= MAX_LOST_CLAIMS:
            return f"{self.lost_claims} attempts in a row lost their worker"
        if self.attempts >= MAX_ATTEMPTS:
            return f"{self.attempts} attempts failed, the last because its worker was lost"
        return None


def find_due(session: Session, after: int, *, now: datetime) -> tuple[list[int], int | None]:
    """Return some endpoints with an id above `after` that have something due and may be sent to.

    Also returns the id after which to go on, None after the last endpoint. The cost grows with the
    endpoints that have pending deliveries, not with all endpoints or deliveries: the query jumps in
    an index from one such endpoint to the next.
    """
    rows = session.execute(_FIND_DUE, {"after": after, "now": now}).all()
    found = [row.id for row in rows if row.is_due]
    return found, rows[-1].id if len(rows) == _MAX_ENDPOINTS else None


def any_lost(session: Session, *, now: datetime) -> bool:
    """Return True if there is a lease to reclaim, or a suspect to claim."""
    return bool(session.scalar(_ANY_LOST, {"now": now}))


def claim(
    session: Session,
    numbers: Mapping[int, int],
    *,
    newest: bool = False,
    lease: timedelta,
    now: datetime,
) -> list[Claimed]:
    """Claim due deliveries under a lease, and count the attempts.

    `numbers` has how many are claimed for each endpoint: those that have been due for longest, or
    with `newest` those that became due last. `now` is the database's clock. A delivery whose lease
    expired must be reclaimed first.
    """
    most = max(numbers.values(), default=0)
    if not most:
        return []
    rows = [{"endpoint_id": one, "number": number} for one, number in numbers.items()]
    token, until = secrets.token_hex(16), now + lease
    _CLAIM[newest].execute(session, rows, most=most, token=token, now=now, until=until)
    return _claimed(session, token, until, now=now)


def claim_suspect(session: Session, *, lease: timedelta, now: datetime) -> list[Claimed]:
    """Claim one of the suspects, the one that has been due for longest."""
    token, until = secrets.token_hex(16), now + lease
    _CLAIM_SUSPECT.execute(session, [], token=token, now=now, until=until)
    return _claimed(session, token, until, now=now)


def give_back(session: Session, claimed: Sequence[Claimed]) -> None:
    """End the leases of deliveries that were not sent, and are locked; no attempt counts."""
    # A restart meanwhile has set the number to 0.
    attempts = case((_DELIVERY.c.attempts > 0, _DELIVERY.c.attempts - 1), else_=0)
    session.execute(
        update(_DELIVERY)
        .where(
            db.among(_DELIVERY.c.id, [claim.delivery_id for claim in claimed]),
            db.among(_DELIVERY.c.lease_token, {claim.lease_token for claim in claimed}),
        )
        .values(lease_token=None, leased_until=None, attempts=attempts)
    )


def reclaim_expired(session: Session, *, now: datetime) -> list[ExpiredClaim]:
    """End the leases that expired, and return them.

    The worker of each crashed or hung: that counts as an attempt. After the last attempt, or the
    last of `MAX_LOST_CLAIMS`, the delivery is dead.
    """
    query = (
        select(
            *_IDENTITY,
            (_DELIVERY.c.lost_claims + 1).label("lost_claims"),
            _DELIVERY.c.leased_until.label("expired_at"),
        )
        .join(_EVENT, _EVENT.c.id == _DELIVERY.c.event_id)
        .where(_DELIVERY.c.status == DeliveryStatus.PENDING, _DELIVERY.c.leased_until <= now)
        .order_by(_DELIVERY.c.id)
        .limit(_MAX_RECLAIMED)
        .with_for_update(skip_locked=True, of=_DELIVERY)
    )
    expired = [ExpiredClaim(**row) for row in db.dicts(session, query)]
    if not expired:
        return []
    attempts = [
        {
            "delivery_id": claim.delivery_id,
            "started_at": claim.expired_at,
            "milliseconds": 0,
            "status": None,
            "failure": FailureKind.WORKER_LOST,
            "detail": "the lease expired before the attempt was settled",
            "decided": "dead" if claim.dead_reason else "retry",
        }
        for claim in expired
    ]
    bulk.insert(session, Attempt, attempts)
    session.execute(
        update(_DELIVERY)
        .where(db.among(_DELIVERY.c.id, [claim.delivery_id for claim in expired]))
        .values(lost_claims=_DELIVERY.c.lost_claims + 1, lease_token=None, leased_until=None)
    )
    dead = [
        DeadDelivery.of(claim, claim.dead_reason, now) for claim in expired if claim.dead_reason
    ]
    deliveries.mark_dead(session, dead, now=now)
    return expired


# SQL as text, with the literals that the conditions of the partial indexes have.
_FREE = "status = 'pending' AND lease_token IS NULL"
# It may have been disabled or paused since it was found.
_SENT_TO = "disabled_at IS NULL AND (paused_until IS NULL OR paused_until <= :now)"
_DUE = f"{_FREE} AND lost_claims < {SUSPECT_AFTER} AND due_at <= :now"
_SUSPECTS = (
    "SELECT deliveries.id FROM deliveries JOIN endpoints ON endpoints.id = endpoint_id "  # noqa: S608 - constants
    f"WHERE {_FREE} AND lost_claims >= {SUSPECT_AFTER} AND due_at <= :now AND {_SENT_TO}"
)
_NOW = bindparam("now", type_=UtcDateTime())
_ANY_LOST = text(
    "SELECT EXISTS (SELECT * FROM deliveries WHERE status = 'pending' AND leased_until <= :now) "  # noqa: S608 - constants
    f"OR EXISTS ({_SUSPECTS})"
).bindparams(_NOW)
_FIND_DUE = text(
    f"""
    WITH RECURSIVE hops(endpoint_id, number) AS (
        SELECT min(endpoint_id), 1 FROM deliveries WHERE {_FREE} AND endpoint_id > :after
        UNION ALL
        SELECT (SELECT min(endpoint_id) FROM deliveries
                WHERE {_FREE} AND endpoint_id > hops.endpoint_id), number + 1
        FROM hops WHERE endpoint_id IS NOT NULL AND number < {_MAX_ENDPOINTS}
    )
    SELECT endpoints.id, {_SENT_TO} AND EXISTS (
        SELECT * FROM deliveries WHERE endpoint_id = endpoints.id AND {_DUE}
    ) AS is_due
    FROM hops JOIN endpoints ON endpoints.id = hops.endpoint_id ORDER BY endpoints.id
    """  # noqa: S608 - constants
).bindparams(_NOW)


def _claim_statement(*, postgresql: str, sqlite: str) -> RowsStatement:
    """Return the statement that claims what a query picks."""
    # Materialized, because PostgreSQL could pick again for each row.
    sql = (
        "WITH picked AS MATERIALIZED ({pick}) UPDATE deliveries "
        "SET lease_token = :token, leased_until = :until, attempts = attempts + 1 "
        "WHERE id IN (SELECT id FROM picked)"
    )
    return RowsStatement(
        {"endpoint_id": Integer(), "number": Integer()},
        {"postgresql": sql.replace("{pick}", postgresql), "sqlite": sql.replace("{pick}", sqlite)},
        now=UtcDateTime(),
        until=UtcDateTime(),
    )


def _claim_due(order: str) -> RowsStatement:
    picked = (
        "SELECT picked.value AS id FROM {given} "  # noqa: S608 - constants
        f"JOIN endpoints ON endpoints.id = given.endpoint_id AND {_SENT_TO} CROSS JOIN "
    )
    due = (
        f"SELECT id FROM deliveries WHERE endpoint_id = given.endpoint_id AND {_DUE} "  # noqa: S608 - constants
        f"ORDER BY due_at {order}, id {order} LIMIT"
    )
    # With the outer LIMIT PostgreSQL expects few rows; it takes a limit from a column for a tenth
    # of the table. The rows are locked where they are found.
    rows = f"(SELECT id FROM ({due} given.number FOR UPDATE SKIP LOCKED) AS due LIMIT 256)"  # noqa: S608 - constants
    # SQLite allows no column in a LIMIT: the position in an array stands for it.
    array = f"json_each((SELECT json_group_array(id) FROM ({due} :most)))"  # noqa: S608 - constants
    return _claim_statement(
        postgresql=f"{picked} LATERAL {rows} AS picked(value)",
        sqlite=f"{picked} {array} AS picked WHERE picked.key < given.number",
    )


_CLAIM = {False: _claim_due("ASC"), True: _claim_due("DESC")}
_OLDEST_SUSPECT = f"{_SUSPECTS} ORDER BY due_at, deliveries.id LIMIT 1"
_CLAIM_SUSPECT = _claim_statement(
    postgresql=f"{_OLDEST_SUSPECT} FOR UPDATE OF deliveries SKIP LOCKED", sqlite=_OLDEST_SUSPECT
)
# Tables, because the ORM takes twice as long for the same statement.
_DELIVERY: Any = Delivery.__table__
_ENDPOINT: Any = Endpoint.__table__
_EVENT: Any = Event.__table__
_IDENTITY = (
    _DELIVERY.c.id.label("delivery_id"),
    _DELIVERY.c.endpoint_id,
    _EVENT.c.id.label("webhook_id"),
    _EVENT.c.type.label("event_type"),
    _EVENT.c.course_id,
    _DELIVERY.c.attempts,
)
_SENT = (*_IDENTITY, _ENDPOINT.c.url, _EVENT.c.body)
_NAMES = [column.name for column in _SENT]
_CLAIMED = RowsQuery(
    select(*_SENT, _EVENT.c.occurred_at, _EVENT.c.traceparent)
    .join(_EVENT, _EVENT.c.id == _DELIVERY.c.event_id)
    .join(_ENDPOINT, _ENDPOINT.c.id == _DELIVERY.c.endpoint_id)
    .where(
        _DELIVERY.c.status == DeliveryStatus.PENDING,
        _DELIVERY.c.leased_until == bindparam("until", type_=UtcDateTime()),
        _DELIVERY.c.lease_token == bindparam("token"),
    )
    .order_by(_DELIVERY.c.due_at, _DELIVERY.c.id)
)


def _claimed(session: Session, token: str, until: datetime, *, now: datetime) -> list[Claimed]:
    rows = _CLAIMED.fetch(session, token=token, until=until)
    endpoint_ids = {endpoint_id for _, endpoint_id, *_ in rows}
    encrypted = endpoints.encrypted_secrets(session, endpoint_ids, now=now) if rows else {}
    return [
        Claimed(
            **dict(zip(_NAMES, sent, strict=True)),
            encrypted_secrets=encrypted.get(sent[1], ()),
            lease_token=token,
            occurred_at=datetime.fromisoformat(occurred_at).replace(tzinfo=UTC),
            claimed_at=now,
            span=tracing.span_from(traceparent),
        )
        for *sent, occurred_at, traceparent in rows
    ]

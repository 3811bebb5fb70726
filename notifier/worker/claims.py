"""Claims: find endpoints with due deliveries, claim those under a lease, end those that expired."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Integer, bindparam, case, select, text, update
from sqlalchemy.orm import Session

from foundation import tracing
from foundation.db import session as db
from foundation.db.bulk import RowsQuery, RowsStatement
from foundation.db.session import UtcDateTime
from notifier.models import Delivery, DeliveryStatus, Endpoint, Event
from notifier.webhooks import endpoints
from notifier.webhooks.deliveries import Claimed, Finished, Settlement
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import Failure, decide_after_loss

# Attempts in a row that lose their worker before a delivery is a suspect, which may itself crash
# the worker: a worker sends one suspect at a time.
SUSPECT_AFTER = 2
# Endpoints that one statement looks at, and expired leases that one transaction ends.
_MAX_ENDPOINTS = 64
_MAX_EXPIRED = 500


def find_due(session: Session, after: int, *, now: datetime) -> tuple[dict[int, bool], int]:
    """Return some endpoints with an id above `after` that have something due and may be sent to.

    The values are True for those that have been paused since their last success. Also returns the
    id after which to go on, 0 after the last endpoint. The cost grows with the endpoints that have
    pending deliveries, not with all endpoints or deliveries: the query jumps in an index from one
    such endpoint to the next.
    """
    rows = session.execute(_FIND_DUE, {"after": after, "now": now}).all()
    found = {row.id: bool(row.was_paused) for row in rows if row.is_due}
    return found, rows[-1].id if len(rows) == _MAX_ENDPOINTS else 0


def any_lost(session: Session, *, now: datetime) -> bool:
    """Return True if there is a lease that expired, or a suspect to claim."""
    return bool(session.scalar(_ANY_LOST, {"now": now}))


def claim(
    session: Session, numbers: Mapping[int, int], *, newest: bool, lease: timedelta, now: datetime
) -> list[Claimed]:
    """Claim due deliveries under a lease, and count the attempts.

    `numbers` has how many are claimed for each endpoint: those that have been due for longest, or
    with `newest` those that became due last. `now` is the database's clock. A delivery whose lease
    expired must be settled first.
    """
    most = max(numbers.values(), default=0)
    if not most:
        return []
    rows = [{"endpoint_id": one, "number": number} for one, number in numbers.items()]
    return _claim_by(session, _CLAIM[newest], rows, lease, now, most=most)


def claim_suspect(session: Session, *, lease: timedelta, now: datetime) -> list[Claimed]:
    """Claim one of the suspects, the one that has been due for longest."""
    return _claim_by(session, _CLAIM_SUSPECT, [], lease, now)


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


def expired(session: Session, *, now: datetime) -> list[Settlement]:
    """Lock deliveries whose leases expired, and decide about the attempts, to be settled.

    The worker of each crashed or hung.
    """
    lost = Failure(FailureKind.WORKER_LOST, "the lease expired before the attempt was settled")
    settlements = []
    for *row, leased_until in _EXPIRED.fetch(session, now=now):
        claim = _claimed(row, {}, now)
        decision = decide_after_loss(claim.attempts, claim.lost_claims + 1, now=now)
        attempt = Finished(claim, _parse_timestamp(leased_until), milliseconds=0, result=lost)
        settlements.append(Settlement(attempt, decision))
    return settlements


# SQL as text, with the literals that the conditions of the partial indexes have.
_FREE = "status = 'pending' AND lease_token IS NULL"
# It may have been disabled or paused since it was found.
_IS_SENT_TO = "disabled_at IS NULL AND (paused_until IS NULL OR paused_until <= :now)"
_DUE = f"{_FREE} AND lost_claims < {SUSPECT_AFTER} AND due_at <= :now"
_SUSPECTS = (
    "SELECT deliveries.id FROM deliveries JOIN endpoints ON endpoints.id = endpoint_id "  # noqa: S608 - constants
    f"WHERE {_FREE} AND lost_claims >= {SUSPECT_AFTER} AND due_at <= :now AND {_IS_SENT_TO}"
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
    SELECT endpoints.id, paused_until IS NOT NULL AS was_paused, {_IS_SENT_TO} AND EXISTS (
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
        f"JOIN endpoints ON endpoints.id = given.endpoint_id AND {_IS_SENT_TO} CROSS JOIN "
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
_COLUMNS = (
    _DELIVERY.c.id.label("delivery_id"),
    _DELIVERY.c.endpoint_id,
    _EVENT.c.id.label("webhook_id"),
    _EVENT.c.type.label("event_type"),
    _EVENT.c.course_id,
    _ENDPOINT.c.url,
    _EVENT.c.body,
    _DELIVERY.c.attempts,
    _DELIVERY.c.lost_claims,
    _DELIVERY.c.lease_token,
)
_NAMES = [column.name for column in _COLUMNS]
_LEASED = (
    select(*_COLUMNS, _EVENT.c.occurred_at, _EVENT.c.traceparent)
    .join(_EVENT, _EVENT.c.id == _DELIVERY.c.event_id)
    .join(_ENDPOINT, _ENDPOINT.c.id == _DELIVERY.c.endpoint_id)
    .where(_DELIVERY.c.status == DeliveryStatus.PENDING)
)
_CLAIMED = RowsQuery(
    _LEASED.where(
        _DELIVERY.c.leased_until == bindparam("until", type_=UtcDateTime()),
        _DELIVERY.c.lease_token == bindparam("token"),
    ).order_by(_DELIVERY.c.due_at, _DELIVERY.c.id)
)
_EXPIRED = RowsQuery(
    _LEASED.add_columns(_DELIVERY.c.leased_until)
    .where(_DELIVERY.c.leased_until <= _NOW)
    .order_by(_DELIVERY.c.id)
    .limit(_MAX_EXPIRED)
    .with_for_update(skip_locked=True, of=_DELIVERY)
)


def _claim_by(
    session: Session,
    statement: RowsStatement,
    rows: Sequence[Mapping[str, int]],
    lease: timedelta,
    now: datetime,
    **values: int,
) -> list[Claimed]:
    """Claim by a statement, and read what a post needs."""
    token, until = secrets.token_hex(16), now + lease
    result = statement.execute(session, rows, token=token, now=now, until=until, **values)
    claimed = _CLAIMED.fetch(session, token=token, until=until) if result.rowcount else []
    endpoint_ids = {endpoint_id for _, endpoint_id, *_ in claimed}
    encrypted = endpoints.encrypted_secrets(session, endpoint_ids, now=now) if claimed else {}
    return [_claimed(row, encrypted, now) for row in claimed]


def _claimed(
    row: Sequence[Any], encrypted: Mapping[int, tuple[str, ...]], now: datetime
) -> Claimed:
    *sent, occurred_at, traceparent = row
    return Claimed(
        **dict(zip(_NAMES, sent, strict=True)),
        encrypted_secrets=encrypted.get(sent[1], ()),
        occurred_at=_parse_timestamp(occurred_at),
        claimed_at=now,
        span=tracing.span_from(traceparent),
    )


def _parse_timestamp(value: str) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=UTC)

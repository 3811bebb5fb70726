"""The state of deliveries: create, settle, release, cancel, restart.

A transaction locks endpoints before deliveries, both in the order of their ids. Deliveries of which
it changes some after others are locked together before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from contract.events import OPERATIONAL_TYPES
from foundation.db import bulk, wakeup
from foundation.db import session as db
from foundation.db.bulk import RowsQuery, RowsStatement
from foundation.db.session import UtcDateTime
from foundation.tracing import Span
from notifier import signals
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint
from notifier.webhooks.retry_policy import (
    AttemptResult,
    Dead,
    Decision,
    Delivered,
    Disable,
    Failure,
    RetryAt,
    WebhookResponse,
)

# The wake-ups of workers: something became due.
CHANNEL = "deliveries"


@dataclass(frozen=True)
class Claimed(signals.DeliveryIdentity):
    """A delivery under a lease: what to send where, and the number of this attempt.

    The `lost_claims` attempts before it lost their worker. `encrypted_secrets` sign it. `span` is
    the trace span of the attempt.
    """

    url: str
    body: str
    encrypted_secrets: tuple[str, ...]
    attempts: int
    lease_token: str
    occurred_at: datetime
    claimed_at: datetime
    span: Span
    lost_claims: int = 0


@dataclass(frozen=True)
class Finished:
    """An attempt that was made, and its result; `jitter`, from 0 to 1, delays a retry."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    result: AttemptResult
    jitter: float = 0.0


@dataclass(frozen=True)
class Settlement:
    """An attempt and what follows from it; `is_late` if it came too late to change its delivery."""

    attempt: Finished
    decision: Decision
    is_late: bool = False

    @property
    def claimed(self) -> Claimed:
        """The delivery."""
        return self.attempt.claimed


def result_columns(result: AttemptResult) -> dict[str, Any]:
    """Return the columns that store a result, of an attempt or of a ping."""
    match result:
        case WebhookResponse(status, _, excerpt):
            return {"status": status, "failure": None, "detail": excerpt or None}
        case Failure(kind, detail):
            return {"status": None, "failure": kind, "detail": detail}


def create(
    session: Session, event_ids: Sequence[str], endpoints: Iterable[Endpoint], *, now: datetime
) -> None:
    """Create a delivery of each event for each endpoint."""
    rows = [
        {
            "event_id": event_id,
            "endpoint_id": endpoint.id,
            "status": DeliveryStatus.PENDING,
            "attempts": 0,
            "due_at": now,
            "created_at": now,
        }
        for endpoint in endpoints
        for event_id in event_ids
    ]
    bulk.insert(session, Delivery, rows)
    wakeup.notify(session, CHANNEL)


def settle(
    session: Session, settlements: Sequence[Settlement], *, now: datetime
) -> list[Settlement]:
    """Record attempts, and apply each decision if its worker still holds the lease.

    Returns the settlements with `is_late` set for those that changed nothing. A settlement is
    fenced if its lease went to another worker, or if the schedule was restarted: its success still
    counts, its failure does not.
    """
    if not settlements:
        return []
    rows = lock(session, [one.claimed for one in settlements])
    latest = {one.claimed.delivery_id: one for one in settlements}
    if len(latest) < len(settlements):
        # A claim expired, and this worker has claimed its delivery again: one after the other.
        earlier = [one for one in settlements if latest[one.claimed.delivery_id] is not one]
        return [*settle(session, earlier, now=now), *settle(session, [*latest.values()], now=now)]
    settled = [
        replace(one, is_late=True) if _is_late(one, rows.get(delivery_id)) else one
        for delivery_id, one in latest.items()
    ]
    known = [one for one in settled if one.claimed.delivery_id in rows]
    # One that is late may still hold its lease.
    ended = {
        one.claimed.delivery_id: None if one.is_late else one.decision
        for one in known
        if not one.is_late or rows[one.claimed.delivery_id].lease_token == one.claimed.lease_token
    }
    _end_leases(session, ended, now)
    bulk.insert(session, Attempt, [_attempt(one) for one in known])
    # A dead delivery of an event about a dead delivery causes no further event, or there would be
    # no end.
    dead = [
        signals.DeadDelivery.of(one.claimed, one.decision.reason, now)
        for one in known
        if isinstance(one.decision, Dead) and not one.is_late
        if one.claimed.event_type not in OPERATIONAL_TYPES
    ]
    if dead:
        signals.send(signals.deliveries_dead, session, dead)
    return settled


def not_recorded(session: Session, finished: Sequence[Finished]) -> list[Finished]:
    """Return the attempts that are not recorded: a commit whose response was lost has happened."""
    are_finished = db.among(Attempt.delivery_id, {one.claimed.delivery_id for one in finished})
    query = select(Attempt.delivery_id, Attempt.started_at).where(are_finished)
    recorded = {(row.delivery_id, row.started_at) for row in session.execute(query)}
    return [one for one in finished if (one.claimed.delivery_id, one.started_at) not in recorded]


def release(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make an endpoint's open deliveries due on a new schedule; return how many there were.

    An attempt in progress keeps its lease, so that no second one starts, but it counts for the
    old schedule. What is due and was never attempted needs no change.
    """
    is_used = (Delivery.attempts > 0) | (Delivery.lost_claims > 0) | (Delivery.due_at > now)
    _start_schedule(session, _open(endpoint_id).where(is_used), now)
    pending = _with_status(endpoint_id, DeliveryStatus.PENDING)
    return session.scalar(select(func.count()).select_from(pending.subquery())) or 0


def cancel(session: Session, endpoint_id: int, reason: str, *, now: datetime) -> int:
    """Cancel an endpoint's open deliveries; return how many there were.

    An attempt in progress is fenced: only its success still counts.
    """
    state = {"status": DeliveryStatus.CANCELLED, "settled_at": now, "reason": reason}
    return _update(session, _open(endpoint_id), **state, **_NO_LEASE)


def make_due_now(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make an endpoint's waiting deliveries due on a new schedule; return how many there were.

    The new schedule means that repeated use does not consume attempts. Deliveries under a lease
    are not changed.
    """
    waiting = _open(endpoint_id).where(Delivery.due_at > now, Delivery.lease_token.is_(None))
    return _start_schedule(session, waiting, now)


def restart(session: Session, ids: Sequence[int], *, now: datetime) -> None:
    """Restart the schedule of deliveries, due now; an attempt in progress is fenced."""
    state = {"status": DeliveryStatus.PENDING, "settled_at": None, "reason": None}
    _start_schedule(session, ids, now, **state, **_NO_LEASE)


def any_with(session: Session, endpoint_id: int, status: DeliveryStatus) -> bool:
    """Return True if an endpoint has a delivery with a status, of those that are stored."""
    return session.scalar(_with_status(endpoint_id, status).limit(1)) is not None


def _start_schedule(
    session: Session, ids: Sequence[int] | Select[tuple[int]], now: datetime, **columns: Any
) -> int:
    """Make deliveries due now, with no attempts counted; return how many there were."""
    wakeup.notify(session, CHANNEL)
    return _update(session, ids, due_at=now, attempts=0, lost_claims=0, **columns)


def _update(session: Session, ids: Sequence[int] | Select[tuple[int]], **columns: Any) -> int:
    """Change deliveries, and return how many there were; objects in the session are not changed."""
    result: Any = session.execute(update(_TABLE).where(_TABLE.c.id.in_(ids)).values(columns))
    return int(result.rowcount)


def _open(endpoint_id: int) -> Select[tuple[int]]:
    """Return a query of an endpoint's open deliveries that locks them in the order of their ids."""
    query = _with_status(endpoint_id, DeliveryStatus.PENDING)
    return query.order_by(Delivery.id).with_for_update()


def _with_status(endpoint_id: int, status: DeliveryStatus) -> Select[tuple[int]]:
    query = select(Delivery.id)
    return query.where(Delivery.endpoint_id == endpoint_id, Delivery.stored_status == status)


_TABLE: Any = Delivery.__table__
_LOCKED = RowsQuery(
    select(_TABLE.c.id, _TABLE.c.status, _TABLE.c.lease_token, _TABLE.c.attempts)
    .where(db.among_given(_TABLE.c.id, "ids"))
    .order_by(_TABLE.c.id)
    .with_for_update()
)


class _Row(NamedTuple):
    id: int
    status: str
    lease_token: str | None
    attempts: int


def lock(session: Session, claimed: Iterable[Claimed]) -> dict[int, _Row]:
    """Lock deliveries in the order of their ids, before parts of them are changed one by one.

    Returns those that are still there, by id.
    """
    ids = {one.delivery_id for one in claimed}
    return {row[0]: _Row(*row) for row in _LOCKED.fetch(session, ids=[*ids])}


def _is_late(one: Settlement, row: _Row | None) -> bool:
    if row is None or row.status == DeliveryStatus.DELIVERED:
        return True
    claim = (one.claimed.lease_token, one.claimed.attempts)
    return (row.lease_token, row.attempts) != claim and not isinstance(one.decision, Delivered)


_NO_LEASE: dict[str, Any] = {"lease_token": None, "leased_until": None}
# Only a retry has `due_at` and `lost_claims`.
_END_LEASES = RowsStatement(
    {name: _TABLE.c[name].type for name in ("id", "status", "due_at", "reason", "lost_claims")},
    "UPDATE deliveries SET status = given.status, reason = given.reason, "
    "due_at = COALESCE(given.due_at, deliveries.due_at), "
    "lost_claims = COALESCE(given.lost_claims, deliveries.lost_claims), "
    "settled_at = CASE WHEN given.status = 'pending' THEN NULL ELSE :now END, "
    "lease_token = NULL, leased_until = NULL FROM {given} WHERE deliveries.id = given.id",
    now=UtcDateTime(),
)


def _end_leases(session: Session, decisions: Mapping[int, Decision | None], now: datetime) -> None:
    """Apply decisions to deliveries; with None their leases end, and nothing else changes."""
    rows = []
    for delivery_id, decision in decisions.items():
        row: dict[str, Any] = dict.fromkeys(("due_at", "reason", "lost_claims"))
        row |= {"id": delivery_id, "status": DeliveryStatus.PENDING}
        match decision:
            case Delivered():
                row["status"] = DeliveryStatus.DELIVERED
            case RetryAt(due_at, lost_claims):
                row |= {"due_at": due_at, "lost_claims": lost_claims}
            case Dead(reason):
                row |= {"status": DeliveryStatus.DEAD, "reason": reason}
        rows.append(row)
    if rows:
        _END_LEASES.execute(session, rows, now=now)


_DECIDED = {Delivered: "delivered", RetryAt: "retry", Dead: "dead", Disable: "disable"}


def _attempt(one: Settlement) -> dict[str, Any]:
    counts = isinstance(one.decision, Delivered) or not one.is_late
    return {
        "delivery_id": one.claimed.delivery_id,
        "started_at": one.attempt.started_at,
        "milliseconds": one.attempt.milliseconds,
        **result_columns(one.attempt.result),
        "decided": _DECIDED[type(one.decision)] if counts else "too late",
    }

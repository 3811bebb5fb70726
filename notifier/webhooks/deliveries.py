"""Deliveries: create, settle, bury, hold, release; with `leases` every statement that moves one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from contract.events import OPERATIONAL_TYPES
from foundation.db import session as db
from foundation.tracing import Trace
from notifier import signals
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Lane
from notifier.webhooks.retry_policy import Dead, Decision, Delivered, Disable, RetryAt


@dataclass(frozen=True)
class Claimed:
    """A delivery under a lease: what to send where, and which attempt this is.

    `span` is the attempt's own, in the trace of what caused the event.
    """

    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: str
    url: str
    body: str
    lane: Lane
    attempts: int
    lease_token: str
    occurred_at: datetime
    claimed_at: datetime
    span: Trace


@dataclass(frozen=True)
class Settlement:
    """What came of an attempt: its record, and what is done next."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    outcome: Decision
    status: int | None = None
    failure: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class SettleResult:
    """What settling did: which settlements stand as their delivery's state, which were fenced."""

    standing: list[Settlement]
    fenced: list[Settlement]


def create(
    session: Session, event_ids: Sequence[str], endpoints: Iterable[Endpoint], *, now: datetime
) -> None:
    """Write one delivery of each event for each endpoint, held where the endpoint is disabled."""
    rows = [
        {
            "event_id": event_id,
            "endpoint_id": endpoint.id,
            "status": DeliveryStatus.HELD if endpoint.disabled_at else DeliveryStatus.PENDING,
            "lane": Lane.FIRST,
            "attempts": 0,
            "due_at": now,
            "created_at": now,
        }
        for endpoint in endpoints
        for event_id in event_ids
    ]
    db.insert_all(session, Delivery, rows)


def settle(session: Session, settlements: Sequence[Settlement], *, now: datetime) -> SettleResult:
    """Write down attempts and what follows from them, each by the holder of its lease only.

    One whose lease went to another, or whose schedule has begun anew, is fenced: its success
    still counts, its failure does not.
    """
    standing = _standing(session, [one.claimed.delivery_id for one in settlements])
    delivered = {one.id for one in standing.values() if one.status == DeliveryStatus.DELIVERED}
    changes: dict[int, dict[str, Any]] = {}
    stands: dict[int, Settlement] = {}
    fenced = [one for one in settlements if _is_fenced(one, standing[one.claimed.delivery_id])]
    for one in settlements:
        row = standing[one.claimed.delivery_id]
        success = isinstance(one.outcome, Delivered)
        if row.id not in delivered and (success or one not in fenced):
            changes[row.id] = {"id": row.id, **_next_step(one.outcome, row.status, now)}
            stands[row.id] = one
        elif row.lease_token == one.claimed.lease_token:
            changes.setdefault(row.id, {"id": row.id, **_NO_LEASE})
        if success:
            delivered.add(row.id)
    db.insert_all(session, Attempt, [_attempt(one, fenced=one in fenced) for one in settlements])
    if changes:
        # In this order those that set the same columns stand together and go as one statement.
        session.execute(update(Delivery), sorted(changes.values(), key=sorted))
    _tell_dead(session, [_dead(one, now) for one in settlements if _is_dead(one, changes)])
    return SettleResult(list(stands.values()), fenced)


def mark_dead(session: Session, dead: Sequence[signals.DeadDelivery], *, now: datetime) -> None:
    """Give up deliveries, each with its reason."""
    if dead:
        steps = [
            {"id": one.delivery_id, **_next_step(Dead(one.reason), DeliveryStatus.PENDING, now)}
            for one in dead
        ]
        session.execute(update(Delivery), steps)
    _tell_dead(session, dead)


def hold(session: Session, endpoint_id: int) -> None:
    """Hold what is open for an endpoint; an attempt under way may still settle its own."""
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(_locked(endpoint_id, DeliveryStatus.PENDING)))
        .values(status=DeliveryStatus.HELD)
    )


def release(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make due what was held for an endpoint, each on a fresh schedule; return how many.

    An attempt under way keeps its lease, so that nobody sends beside it, but belongs to the
    schedule before.
    """
    released = session.execute(
        update(Delivery)
        .where(Delivery.id.in_(_locked(endpoint_id, DeliveryStatus.HELD)))
        .values(status=DeliveryStatus.PENDING, lane=Lane.RETRY, due_at=now, attempts=0)
        .returning(Delivery.id)
    )
    return len(released.all())


def make_due_now(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make due what waits for an endpoint until later, each on a fresh schedule; return how many.

    So whoever asks for it again and again uses up nobody's attempts. What is under way is left.
    """
    later = _locked(endpoint_id, DeliveryStatus.PENDING).where(
        Delivery.due_at > now, Delivery.lease_token.is_(None)
    )
    hastened = session.execute(
        update(Delivery)
        .where(Delivery.id.in_(later))
        .values(due_at=now, attempts=0)
        .returning(Delivery.id)
    )
    return len(hastened.all())


def make_due(session: Session, ids: Sequence[int], *, now: datetime) -> None:
    """Put deliveries at the beginning of the schedule, due now; an attempt under way is fenced."""
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(ids))
        .values(
            status=DeliveryStatus.PENDING,
            lane=Lane.RETRY,
            due_at=now,
            attempts=0,
            settled_at=None,
            reason=None,
            lease_token=None,
            leased_until=None,
        )
    )


def any_pending(session: Session, endpoint_id: int) -> bool:
    """Tell whether anything is pending for an endpoint."""
    return _any(session, endpoint_id, DeliveryStatus.PENDING)


def any_delivered(session: Session, endpoint_id: int) -> bool:
    """Tell whether an endpoint has ever taken anything."""
    return _any(session, endpoint_id, DeliveryStatus.DELIVERED)


def _any(session: Session, endpoint_id: int, status: DeliveryStatus) -> bool:
    query = select(Delivery.id).where(
        Delivery.endpoint_id == endpoint_id, Delivery.status == status
    )
    return session.scalar(query.limit(1)) is not None


def _locked(endpoint_id: int, status: DeliveryStatus) -> Select[tuple[int]]:
    """Return the query for an endpoint's deliveries, locked in their order as in a settlement."""
    return (
        select(Delivery.id)
        .where(Delivery.endpoint_id == endpoint_id, Delivery.status == status)
        .order_by(Delivery.id)
        .with_for_update()
    )


def _standing(session: Session, ids: Sequence[int]) -> dict[int, Any]:
    rows = session.execute(
        select(Delivery.id, Delivery.status, Delivery.lease_token, Delivery.attempts)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.id)
        .with_for_update()
    )
    return {row.id: row for row in rows}


def _is_fenced(one: Settlement, row: Any) -> bool:
    return (row.lease_token, row.attempts) != (one.claimed.lease_token, one.claimed.attempts)


_NO_LEASE: dict[str, Any] = {"lease_token": None, "leased_until": None}


def _next_step(outcome: Decision, status: str, now: datetime) -> dict[str, Any]:
    step = _NO_LEASE
    match outcome:
        case Delivered():
            return step | {"status": DeliveryStatus.DELIVERED, "settled_at": now, "reason": None}
        case RetryAt(due_at):
            return step | {"status": status, "due_at": due_at, "lane": Lane.RETRY}
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


def _decided(outcome: Decision, *, fenced: bool) -> str:
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


def _is_dead(one: Settlement, changes: dict[int, dict[str, Any]]) -> bool:
    changed = changes.get(one.claimed.delivery_id, {})
    return isinstance(one.outcome, Dead) and changed.get("status") == DeliveryStatus.DEAD


def _dead(one: Settlement, now: datetime) -> signals.DeadDelivery:
    reason = one.outcome.reason if isinstance(one.outcome, Dead) else ""
    return signals.DeadDelivery(
        one.claimed.delivery_id,
        one.claimed.endpoint_id,
        one.claimed.webhook_id,
        one.claimed.event_type,
        one.claimed.course_id,
        reason,
        now,
    )


def _tell_dead(session: Session, dead: Sequence[signals.DeadDelivery]) -> None:
    # A dead letter about dead letters would tell of itself without end.
    told = [one for one in dead if one.event_type not in OPERATIONAL_TYPES]
    if told:
        signals.send(signals.deliveries_dead, session, told)

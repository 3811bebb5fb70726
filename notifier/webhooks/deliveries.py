"""The state of deliveries: create, settle, mark dead, release, cancel, restart.

A transaction locks endpoints before deliveries, both in the order of their ids. Deliveries of which
it changes some after others are locked together before.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, select, update
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

    `encrypted_secrets` sign it. `span` is the trace span of the attempt.
    """

    url: str
    body: str
    encrypted_secrets: tuple[str, ...]
    attempts: int
    lease_token: str
    occurred_at: datetime
    claimed_at: datetime
    span: Span


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
    rows = _lock(session, {one.claimed.delivery_id for one in settlements})
    known = [one for one in settlements if one.claimed.delivery_id in rows]
    applied = _judge(known, rows)
    _apply(session, applied, now)
    _end_leases(session, rows, [one for one in known if not _is_in(applied, one)])
    attempts = [_attempt(one, fenced=_is_fenced(one, rows)) for one in known]
    bulk.insert(session, Attempt, attempts)
    dead = [
        signals.DeadDelivery.of(one.claimed, one.decision.reason, now)
        for one in applied.values()
        if isinstance(one.decision, Dead)
    ]
    _signal_dead(session, dead)
    return [one if _is_in(applied, one) else replace(one, is_late=True) for one in settlements]


def not_recorded(session: Session, finished: Sequence[Finished]) -> list[Finished]:
    """Return the attempts that are not recorded: a commit whose response was lost has happened."""
    ids = {one.claimed.delivery_id for one in finished}
    query = select(Attempt.delivery_id, Attempt.started_at).where(
        db.among(Attempt.delivery_id, ids)
    )
    recorded = {(row.delivery_id, row.started_at) for row in session.execute(query)}
    return [one for one in finished if (one.claimed.delivery_id, one.started_at) not in recorded]


def mark_dead(session: Session, dead: Sequence[signals.DeadDelivery], *, now: datetime) -> None:
    """Make deliveries dead, each for its reason."""
    rows = [_state(one.delivery_id, Dead(one.reason), now) for one in dead]
    if rows:
        _SETTLE.execute(session, rows)
    _signal_dead(session, dead)


def release(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make an endpoint's open deliveries due on a new schedule; return how many there were.

    An attempt in progress keeps its lease, so that no second one starts, but it counts for the
    old schedule.
    """
    return _start_schedule(session, _lock_query(endpoint_id), now)


def cancel(session: Session, endpoint_id: int, reason: str, *, now: datetime) -> int:
    """Cancel an endpoint's open deliveries; return how many there were.

    An attempt in progress is fenced: only its success still counts.
    """
    state = {"status": DeliveryStatus.CANCELLED, "settled_at": now, "reason": reason}
    return _update(session, _lock_query(endpoint_id), **state, **_NO_LEASE)


def make_due_now(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Make an endpoint's waiting deliveries due on a new schedule; return how many there were.

    The new schedule means that repeated use does not consume attempts. Deliveries under a lease
    are not changed.
    """
    waiting = _lock_query(endpoint_id).where(Delivery.due_at > now, Delivery.lease_token.is_(None))
    return _start_schedule(session, waiting, now)


def restart(session: Session, ids: Sequence[int], *, now: datetime) -> None:
    """Restart the schedule of deliveries, due now; an attempt in progress is fenced."""
    _start_schedule(session, ids, now, settled_at=None, reason=None, **_NO_LEASE)


def any_pending(session: Session, endpoint_id: int) -> bool:
    """Return True if an endpoint has an open delivery."""
    return _any(session, endpoint_id, DeliveryStatus.PENDING)


def any_delivered(session: Session, endpoint_id: int) -> bool:
    """Return True if anything was ever delivered to an endpoint."""
    return _any(session, endpoint_id, DeliveryStatus.DELIVERED)


def _any(session: Session, endpoint_id: int, status: DeliveryStatus) -> bool:
    query = select(Delivery.id).where(
        Delivery.endpoint_id == endpoint_id, Delivery.stored_status == status
    )
    return session.scalar(query.limit(1)) is not None


def _start_schedule(
    session: Session, ids: Sequence[int] | Select[tuple[int]], now: datetime, **columns: Any
) -> int:
    """Make deliveries pending, due now, with no attempts counted; return how many there were."""
    wakeup.notify(session, CHANNEL)
    columns |= {"status": DeliveryStatus.PENDING, "due_at": now, "attempts": 0, "lost_claims": 0}
    return _update(session, ids, **columns)


def _update(session: Session, ids: Sequence[int] | Select[tuple[int]], **columns: Any) -> int:
    """Change deliveries, and return how many there were; objects in the session are not changed."""
    result: Any = session.execute(update(_TABLE).where(_TABLE.c.id.in_(ids)).values(columns))
    return int(result.rowcount)


def _lock_query(endpoint_id: int) -> Select[tuple[int]]:
    # In the order of ids, as in a settlement.
    return (
        select(Delivery.id)
        .where(
            Delivery.endpoint_id == endpoint_id, Delivery.stored_status == DeliveryStatus.PENDING
        )
        .order_by(Delivery.id)
        .with_for_update()
    )


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


def lock(session: Session, claimed: Sequence[Claimed]) -> None:
    """Lock deliveries in the order of their ids, before parts of them are changed one by one."""
    _lock(session, {one.delivery_id for one in claimed})


def _lock(session: Session, ids: Collection[int]) -> dict[int, _Row]:
    """Lock deliveries in the order of their ids; return those that are still there."""
    return {row[0]: _Row(*row) for row in _LOCKED.fetch(session, ids=[*ids])}


_NO_LEASE: dict[str, Any] = {"lease_token": None, "leased_until": None}
_DELIVERED = (
    update(_TABLE)
    .where(db.among_given(_TABLE.c.id, "ids"))
    .values(
        status=DeliveryStatus.DELIVERED,
        settled_at=bindparam("settled_now", type_=UtcDateTime()),
        reason=None,
        **_NO_LEASE,
    )
)
_SETTLE = RowsStatement(
    {
        name: _TABLE.c[name].type
        for name in ("id", "status", "due_at", "settled_at", "reason", "lost_claims")
    },
    "UPDATE deliveries SET status = given.status, settled_at = given.settled_at, "
    "reason = given.reason, due_at = COALESCE(given.due_at, deliveries.due_at), "
    "lost_claims = COALESCE(given.lost_claims, deliveries.lost_claims), "
    "lease_token = NULL, leased_until = NULL FROM {given} WHERE deliveries.id = given.id",
)


def _judge(settlements: Sequence[Settlement], rows: Mapping[int, _Row]) -> dict[int, Settlement]:
    """Return the settlements that change their deliveries, by the delivery's id."""
    delivered = {row.id for row in rows.values() if row.status == DeliveryStatus.DELIVERED}
    applied: dict[int, Settlement] = {}
    for one in settlements:
        delivery_id = one.claimed.delivery_id
        is_success = isinstance(one.decision, Delivered)
        if delivery_id not in delivered and (is_success or not _is_fenced(one, rows)):
            # It may replace a failure: the late success of an earlier claim.
            applied[delivery_id] = one
            if is_success:
                delivered.add(delivery_id)
    return applied


def _is_in(applied: Mapping[int, Settlement], one: Settlement) -> bool:
    return applied.get(one.claimed.delivery_id) is one


def _is_fenced(one: Settlement, rows: Mapping[int, _Row]) -> bool:
    row = rows[one.claimed.delivery_id]
    return (row.lease_token, row.attempts) != (one.claimed.lease_token, one.claimed.attempts)


def _apply(session: Session, changed: Mapping[int, Settlement], now: datetime) -> None:
    successes = [one for one in changed if isinstance(changed[one].decision, Delivered)]
    if successes:
        session.execute(_DELIVERED, {"ids": successes, "settled_now": now})
    others = [
        _state(delivery_id, one.decision, now)
        for delivery_id, one in changed.items()
        if not isinstance(one.decision, Delivered)
    ]
    if others:
        _SETTLE.execute(session, others)


def _end_leases(
    session: Session, rows: Mapping[int, _Row], superseded: Sequence[Settlement]
) -> None:
    """End the leases of results that change nothing; those that were changed have none."""
    ids = [
        one.claimed.delivery_id
        for one in superseded
        if rows[one.claimed.delivery_id].lease_token == one.claimed.lease_token
    ]
    if ids:
        session.execute(update(_TABLE).where(db.among(_TABLE.c.id, ids)).values(**_NO_LEASE))


def _state(delivery_id: int, decision: RetryAt | Dead | Disable, now: datetime) -> dict[str, Any]:
    state: dict[str, Any] = {
        "id": delivery_id,
        "status": DeliveryStatus.PENDING,
        "due_at": None,
        "settled_at": None,
        "reason": None,
        "lost_claims": None,
    }
    match decision:
        case RetryAt(due_at):
            return state | {"due_at": due_at, "lost_claims": 0}
        case Dead(reason):
            return state | {"status": DeliveryStatus.DEAD, "settled_at": now, "reason": reason}
        case Disable():
            return state


def _attempt(one: Settlement, *, fenced: bool) -> dict[str, Any]:
    return {
        "delivery_id": one.claimed.delivery_id,
        "started_at": one.attempt.started_at,
        "milliseconds": one.attempt.milliseconds,
        **result_columns(one.attempt.result),
        "decided": _decided(one.decision, fenced=fenced),
    }


def _decided(decision: Decision, *, fenced: bool) -> str:
    match decision:
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


def _signal_dead(session: Session, dead: Sequence[signals.DeadDelivery]) -> None:
    # An event about a dead delivery that is itself dead causes no further event, or there would
    # be no end.
    about_courses = [one for one in dead if one.event_type not in OPERATIONAL_TYPES]
    if about_courses:
        signals.send(signals.deliveries_dead, session, about_courses)

"""Deliveries as operations see them: find, list, show, count, replay with an audit row."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ScalarSelect, func, or_, select
from sqlalchemy.orm import Session, joinedload

from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import Page, PageRequest
from notifier.errors import DeliveryUnknownError, ReplayRefusedError
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Lane, Replay
from notifier.webhooks import circuit_breaker, deliveries, delivery_filter
from notifier.webhooks.delivery_filter import DeliveryFilter, DeliveryScope

DEFAULT_LIMIT = 100
_BATCH = 500
_AS_A_RULE = frozenset({DeliveryStatus.DELIVERED})
"""A replay leaves these out unless it is asked for them by status."""
_WAITING = frozenset(DeliveryStatus) - _AS_A_RULE
UNTRIED = timedelta(minutes=1)
"""An endpoint whose pause has been over for so long is one that no worker tries."""


@dataclass(frozen=True)
class Backlog:
    """How many deliveries are open or dead, by status, and since when the oldest one is due."""

    counts: dict[str, int]
    oldest_due_at: datetime | None


@dataclass(frozen=True)
class ReplayPreview:
    """How many deliveries a replay would take, and how many it must leave, by endpoint."""

    replayed: dict[int, int]
    held: dict[int, int]


def find(
    session: Session,
    wanted: DeliveryFilter,
    *,
    before: int | None = None,
    limit: int = DEFAULT_LIMIT,
) -> list[Delivery]:
    """Return deliveries with their events and endpoints, the newest first, from `before` on."""
    scope = delivery_filter.scope_of(session, wanted)
    return _read(session, delivery_filter.newest(session, scope, before=before, limit=limit))


def page(
    session: Session,
    wanted: DeliveryFilter,
    page_request: PageRequest,
    *,
    limit: int = DEFAULT_LIMIT,
) -> Page[Delivery]:
    """Return a page of deliveries as `find` does; a cursor is the id of a delivery."""
    scope = delivery_filter.scope_of(session, wanted)
    (cursor,) = page_request.cursor or (None,)
    if page_request.backwards:
        ids = delivery_filter.oldest(session, scope, after=cursor, limit=limit + 1)
    else:
        ids = delivery_filter.newest(session, scope, before=cursor, limit=limit + 1)
    found = [(row, (row.id,)) for row in _read(session, ids)]
    return pagination.page_of(found, page_request, limit)


def _read(session: Session, ids: Sequence[int]) -> list[Delivery]:
    query = (
        select(Delivery)
        .where(Delivery.id.in_(ids))
        .options(joinedload(Delivery.event), joinedload(Delivery.endpoint))
    )
    rows = {row.id: row for row in session.scalars(query)} if ids else {}
    return [rows[one] for one in ids]


def get(session: Session, delivery_id: int) -> Delivery:
    """Return a delivery with its event and endpoint, or raise DeliveryUnknownError."""
    options = (joinedload(Delivery.event), joinedload(Delivery.endpoint))
    delivery = session.get(Delivery, delivery_id, options=options)
    if delivery is None:
        raise DeliveryUnknownError(f"there is no delivery {delivery_id}")
    return delivery


def history(session: Session, delivery_id: int) -> tuple[list[Attempt], list[Replay]]:
    """Return the attempts and the replays of a delivery, the oldest first."""
    attempts = select(Attempt).where(Attempt.delivery_id == delivery_id).order_by(Attempt.id)
    replays = select(Replay).where(Replay.delivery_id == delivery_id).order_by(Replay.id)
    return list(session.scalars(attempts)), list(session.scalars(replays))


def last_attempts(session: Session, delivery_ids: Sequence[int]) -> dict[int, Attempt]:
    """Return the latest attempt of each delivery that has one."""
    latest = (
        select(func.max(Attempt.id))
        .where(Attempt.delivery_id.in_(delivery_ids))
        .group_by(Attempt.delivery_id)
    )
    rows = session.scalars(select(Attempt).where(Attempt.id.in_(latest)))
    return {row.delivery_id: row for row in rows}


def backlog(session: Session, *, now: datetime) -> Backlog:
    """Return how open and dead deliveries stand, and since when the oldest that may be sent is due.

    The delivered ones are not counted: they are many.
    """
    counts = session.execute(
        select(Delivery.status, func.count())
        .where(Delivery.status.in_(_WAITING))
        .group_by(Delivery.status)
    )
    return Backlog(dict(counts.tuples().all()), oldest_due_at(session, now=now))


def oldest_due_at(session: Session, *, now: datetime) -> datetime | None:
    """Return since when the oldest delivery that may be sent is due; None if none is pending.

    Those of a paused endpoint may not, until its pause has been over for so long that a worker
    would have tried it.
    """
    paused = Endpoint.paused_until
    sent = select(*map(first_due, Lane)).where(or_(paused.is_(None), paused < now - UNTRIED))
    moments = [moment for row in session.execute(sent) for moment in row if moment is not None]
    return min(moments, default=None)


def first_due(lane: Lane) -> ScalarSelect[datetime]:
    """Return the subquery that finds when the first of an endpoint's pending deliveries is due."""
    return (
        select(func.min(Delivery.due_at))
        .where(
            Delivery.endpoint_id == Endpoint.id,
            Delivery.status == DeliveryStatus.PENDING,
            Delivery.lane == lane,
        )
        .correlate(Endpoint)
        .scalar_subquery()
    )


def last_attempted_at(session: Session) -> datetime | None:
    """Return when the attempt began that was written down last, or None for none."""
    return session.scalar(select(Attempt.started_at).order_by(Attempt.id.desc()).limit(1))


def replayable(session: Session, wanted: DeliveryFilter, limit: int | None) -> list[int]:
    """Return the ids that a replay by filter takes, the oldest first.

    Those of disabled endpoints are held, not replayable; delivered ones only if asked for by
    status, so that nobody sends everything again by leaving the status out.
    """
    return delivery_filter.oldest(session, _replayable(session, wanted), limit=limit)


def _replayable(session: Session, wanted: DeliveryFilter) -> DeliveryScope:
    return delivery_filter.scope_of(session, wanted, disabled=False, leave_out=_AS_A_RULE)


def preview_replay(session: Session, wanted: DeliveryFilter, *, most: int) -> ReplayPreview:
    """Return how many a replay by filter would take for each endpoint, and how many are held.

    Of each endpoint and status no more than `most` are counted.
    """
    held = delivery_filter.scope_of(session, wanted, disabled=True, leave_out=_AS_A_RULE)
    if wanted.status == DeliveryStatus.DELIVERED:
        held = replace(held, endpoint_ids=())
    return ReplayPreview(
        _sums(delivery_filter.count(session, _replayable(session, wanted), most=most)),
        _sums(delivery_filter.count(session, held, most=most)),
    )


def count(session: Session, wanted: DeliveryFilter, *, most: int) -> dict[DeliveryStatus, int]:
    """Return how many deliveries of each status there are that are otherwise as wanted.

    Of each endpoint no more than `most` are counted. Empty where counting would take long: for
    a type of which there are many events.
    """
    scope = delivery_filter.scope_of(session, replace(wanted, status=None))
    if not scope.is_cheap:
        return {}
    counted = delivery_filter.count(session, scope, most=most).values()
    return {status: sum(one[status] for one in counted) for status in DeliveryStatus}


def _sums(counts: Mapping[int, Counter[str]]) -> dict[int, int]:
    return {one: counted.total() for one, counted in counts.items() if counted.total()}


def count_held(session: Session, wanted: DeliveryFilter) -> int:
    """Return how many a filter finds that a disabled endpoint holds back."""
    if wanted.status == DeliveryStatus.DELIVERED:
        return 0
    scope = delivery_filter.scope_of(session, wanted, disabled=True, leave_out=_AS_A_RULE)
    return sum(one.total() for one in delivery_filter.count(session, scope).values())


def check(session: Session, ids: Sequence[int]) -> list[int]:
    """Return the ids that a replay would take, each once, or raise as it would."""
    return [row.id for rows in _batches(session, ids) for row in rows]


def replay_found(
    session: Session, wanted: DeliveryFilter, limit: int | None, *, by: str, now: datetime
) -> list[int]:
    """Replay what `replayable` finds, as `replay` does, and return the ids."""
    ids = replayable(session, wanted, limit)
    of = _WAITING if wanted.status is None else {wanted.status}
    return replay(session, ids, by=by, now=now, of=of)


def replay(
    session: Session,
    ids: Sequence[int],
    *,
    by: str,
    now: datetime,
    of: Collection[str] = frozenset(DeliveryStatus),
) -> list[int]:
    """Make deliveries due now under their own webhook-ids and write who asked; return the ids.

    Those that are not of the statuses `of` any more are left out: a delivery that was found as
    pending may have been delivered since. Who replays believes the receiver to be well, so that
    paused endpoints are tried at once. Raises DeliveryUnknownError, or ReplayRefusedError for
    one of a disabled endpoint; then none of them is replayed.
    """
    circuit_breaker.end_pauses(session, now=now)
    replayed: list[int] = []
    for locked in _batches(session, ids):
        rows = [row for row in locked if row.status in of]
        batch = [row.id for row in rows]
        deliveries.make_due(session, batch, now=now)
        db.insert_all(session, Replay, [_audit(row, by, now) for row in rows])
        replayed += batch
    return replayed


def _batches(session: Session, ids: Sequence[int]) -> Iterator[Sequence[Any]]:
    # None may be disabled meanwhile, or a delivery of it would be pending where it must be held.
    session.execute(select(Endpoint.id).order_by(Endpoint.id).with_for_update(read=True))
    unique = sorted(set(ids))
    for start in range(0, len(unique), _BATCH):
        yield _lock_replayable(session, unique[start : start + _BATCH])


def _lock_replayable(session: Session, ids: Sequence[int]) -> Sequence[Any]:
    rows = session.execute(
        select(Delivery.id, Delivery.status, Delivery.endpoint_id, Endpoint.disabled_at)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.id)
        .with_for_update(of=Delivery)
    ).all()
    missing = sorted(set(ids) - {row.id for row in rows})
    if missing:
        raise DeliveryUnknownError(f"there is no delivery {', '.join(map(str, missing))}")
    for row in rows:
        if row.disabled_at is not None:
            raise ReplayRefusedError(
                f"delivery {row.id} is for endpoint {row.endpoint_id}, which is disabled",
                next_step=f"Enable it with `notifier endpoints enable {row.endpoint_id}`; "
                "that sends what it holds.",
            )
    return rows


def _audit(row: Any, by: str, now: datetime) -> dict[str, Any]:
    return {
        "delivery_id": row.id,
        "replayed_at": now,
        "replayed_by": by,
        "previous_status": row.status,
    }

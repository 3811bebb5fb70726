"""Replay of deliveries: make them due again, and record it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from foundation.db import audit, bulk
from foundation.db.audit import Actor
from foundation.errors import Advice
from foundation.text import count
from notifier.errors import DeliveryUnknownError, ReplayRefusedError
from notifier.models import Delivery, DeliveryStatus, Endpoint, Replay
from notifier.webhooks import circuit_breaker, deliveries, delivery_filter
from notifier.webhooks.delivery_filter import DeliveryFilter, DeliveryScope

AUDITED = "delivery.replay"
"""The action of an entry in the audit table."""
_BATCH = 500
# A filter without a status does not match these, so that no one sends everything again by mistake.
_ONLY_ON_REQUEST = frozenset({DeliveryStatus.DELIVERED})
_REPLAYED_BY_DEFAULT = frozenset(DeliveryStatus) - _ONLY_ON_REQUEST


@dataclass(frozen=True)
class ReplayPreview:
    """How many deliveries a replay would send again, and how many are held, by endpoint."""

    replayed: dict[int, int]
    held: dict[int, int]


def find_replayable(session: Session, criteria: DeliveryFilter, limit: int | None) -> list[int]:
    """Return the ids that a replay by filter would send again, oldest first.

    Deliveries of disabled endpoints are held and cannot be replayed. Delivered ones match only if
    `criteria` asks for that status.
    """
    return delivery_filter.oldest(session, _replayable_scope(session, criteria), limit=limit)


def preview_replay(session: Session, criteria: DeliveryFilter, *, limit: int) -> ReplayPreview:
    """Return what a replay by filter would do, counting at most `limit` per endpoint and status."""
    return ReplayPreview(
        _totals(session, _replayable_scope(session, criteria), limit=limit),
        _totals(session, _held_scope(session, criteria), limit=limit),
    )


def count_held(session: Session, criteria: DeliveryFilter) -> int:
    """Return how many matching deliveries are held because their endpoint is disabled."""
    return sum(_totals(session, _held_scope(session, criteria)).values())


def _replayable_scope(session: Session, criteria: DeliveryFilter) -> DeliveryScope:
    return delivery_filter.scope_of(session, criteria, disabled=False, leave_out=_ONLY_ON_REQUEST)


def _held_scope(session: Session, criteria: DeliveryFilter) -> DeliveryScope:
    scope = delivery_filter.scope_of(session, criteria, disabled=True, leave_out=_ONLY_ON_REQUEST)
    is_delivered = criteria.status == DeliveryStatus.DELIVERED
    return replace(scope, endpoint_ids=()) if is_delivered else scope


def _totals(session: Session, scope: DeliveryScope, *, limit: int | None = None) -> dict[int, int]:
    counts = delivery_filter.count(session, scope, limit=limit)
    totals = {endpoint_id: counter.total() for endpoint_id, counter in counts.items()}
    return {endpoint_id: total for endpoint_id, total in totals.items() if total}


def check(session: Session, ids: Sequence[int]) -> list[int]:
    """Return the ids that a replay would send again, each once, or raise as `replay` does."""
    return [row.id for rows in _locked_batches(session, ids) for row in rows]


def replay_found(
    session: Session, criteria: DeliveryFilter, limit: int | None, *, by: Actor, now: datetime
) -> list[int]:
    """Replay what `find_replayable` returns, and return the ids."""
    ids = find_replayable(session, criteria, limit)
    statuses = _REPLAYED_BY_DEFAULT if criteria.status is None else {criteria.status}
    return replay(session, ids, by=by, now=now, statuses=statuses)


def replay(
    session: Session,
    ids: Sequence[int],
    *,
    by: Actor,
    now: datetime,
    statuses: Collection[str] = frozenset(DeliveryStatus),
) -> list[int]:
    """Make deliveries due now, under the same webhook-ids, record who did it; return the ids.

    The audit table has one entry, at the time of the rows in the table of replays.

    Deliveries that have left `statuses` in the meantime are skipped: one that was found pending
    may have been delivered since. Pauses of all endpoints end, because someone who replays expects
    the receivers to work.

    Raises DeliveryUnknownError, or ReplayRefusedError for a delivery of a disabled or removed
    endpoint; then nothing is replayed.
    """
    circuit_breaker.end_pauses(session, now=now)
    replayed: list[int] = []
    for locked in _locked_batches(session, ids):
        rows = [row for row in locked if row.status in statuses]
        batch = [row.id for row in rows]
        deliveries.restart(session, batch, now=now)
        records = [
            {"delivery_id": row.id, "replayed_at": now, "previous_status": row.status}
            for row in rows
        ]
        bulk.insert(session, Replay, records)
        replayed += batch
    if replayed:
        what = str(replayed[0]), ""
        if len(replayed) > 1:
            what = "", count(len(replayed), "delivery", "deliveries")
        audit.record(session, by, AUDITED, *what, now=now)
    return replayed


def _locked_batches(session: Session, ids: Sequence[int]) -> Iterator[Sequence[Any]]:
    # Endpoints are locked so that none is removed meanwhile: its deliveries would stay pending.
    kept = select(Endpoint.id).order_by(Endpoint.id).with_for_update(read=True, key_share=True)
    session.execute(kept)
    unique = sorted(set(ids))
    for start in range(0, len(unique), _BATCH):
        yield _lock_replayable(session, unique[start : start + _BATCH])


def _lock_replayable(session: Session, ids: Sequence[int]) -> Sequence[Any]:
    rows = session.execute(
        select(
            Delivery.id,
            Delivery.stored_status.label("status"),
            Delivery.endpoint_id,
            Endpoint.disabled_at,
            Endpoint.removed_at,
        )
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.id)
        .with_for_update(of=Delivery)
    ).all()
    missing = sorted(set(ids) - {row.id for row in rows})
    if missing:
        raise DeliveryUnknownError(f"there is no delivery {', '.join(map(str, missing))}")
    for row in rows:
        if row.removed_at is not None:
            raise ReplayRefusedError(
                f"delivery {row.id} is for endpoint {row.endpoint_id}, which was removed",
                advice=Advice("Nothing is sent to a removed endpoint; leave this delivery out."),
            )
        if row.disabled_at is not None:
            raise ReplayRefusedError(
                f"delivery {row.id} is for endpoint {row.endpoint_id}, which is disabled",
                advice=ReplayRefusedError.advice.fill("ENDPOINT_ID", str(row.endpoint_id)),
            )
    return rows

"""Read access to deliveries: lists, pages, attempts, counts, the backlog."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ScalarSelect, func, or_, select
from sqlalchemy.orm import Session, joinedload, undefer

from foundation.db import pagination
from foundation.db import session as db
from foundation.db.audit import AuditEntry
from foundation.db.pagination import COUNTED, Page, PageRequest, Sort
from notifier.errors import DeliveryUnknownError
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event, Replay
from notifier.webhooks import delivery_filter, replay
from notifier.webhooks.delivery_filter import NEWEST_FIRST, DeliveryFilter

DEFAULT_LIMIT = 100
# A worker retries an endpoint within this time after its pause has ended.
RETRIED_WITHIN = timedelta(minutes=1)
_LOADED = (
    joinedload(Delivery.event),
    joinedload(Delivery.endpoint),
    undefer(Delivery.attempt_count),
)
_NOT_DELIVERED = (DeliveryStatus.PENDING, DeliveryStatus.DEAD)


@dataclass(frozen=True)
class Backlog:
    """The number of pending, held and dead deliveries, and the oldest due time of those to send."""

    counts: dict[str, int]
    oldest_due_at: datetime | None


def find(
    session: Session,
    criteria: DeliveryFilter,
    *,
    before: int | None = None,
    limit: int = DEFAULT_LIMIT,
) -> list[Delivery]:
    """Return deliveries with events, endpoints, attempt counts, newest first, before `before`."""
    scope = delivery_filter.scope_of(session, criteria)
    return _load(session, delivery_filter.newest(session, scope, before=before, limit=limit))


def page(
    session: Session,
    criteria: DeliveryFilter,
    page_request: PageRequest,
    *,
    sort: Sort = NEWEST_FIRST,
    limit: int = DEFAULT_LIMIT,
) -> Page[Delivery]:
    """Return a page of deliveries as `find` does; a cursor is the id of a delivery."""
    scope = delivery_filter.scope_of(session, criteria)
    (cursor,) = page_request.cursor or (None,)
    if sort.descending is page_request.backwards:
        ids = delivery_filter.oldest(session, scope, after=cursor, limit=limit + 1)
    else:
        ids = delivery_filter.newest(session, scope, before=cursor, limit=limit + 1)
    items = [(row, (row.id,)) for row in _load(session, ids)]
    return pagination.page_of(items, page_request, limit)


def count_by_course(
    session: Session, event_type: str, course_ids: Collection[str]
) -> defaultdict[str, Counter[str]]:
    """Return by course id the number of deliveries of its last event of a type, by status."""
    # The type is compared here: in the query, SQLite would read all events of that type.
    found = (
        select(Event.course_id, Event.course_version, Event.type, Delivery.status)
        .join(Delivery.event)
        .where(db.among(Event.course_id, course_ids))
        .subquery()
    )
    query = select(*found.c, func.count()).group_by(*found.c).order_by(found.c.course_version)
    rows = session.execute(query)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    versions: dict[str, int] = {}
    for course_id, version, found_type, status, number in rows:
        if found_type == event_type:
            if versions.get(course_id) != version:
                counts[course_id] = Counter()
            counts[course_id][status], versions[course_id] = number, version
    return counts


def _load(session: Session, ids: Sequence[int]) -> list[Delivery]:
    query = select(Delivery).where(Delivery.id.in_(ids)).options(*_LOADED)
    rows = {row.id: row for row in session.scalars(query)} if ids else {}
    return [rows[row_id] for row_id in ids]


def get(session: Session, delivery_id: int) -> Delivery:
    """Return a delivery as `find` does, or raise DeliveryUnknownError."""
    delivery = session.get(Delivery, delivery_id, options=_LOADED)
    if delivery is None:
        raise DeliveryUnknownError(f"there is no delivery {delivery_id}")
    return delivery


@dataclass(frozen=True)
class DeliveryReplay:
    """A replay of a delivery, and its audit entry unless that was pruned."""

    replayed_at: datetime
    previous_status: str
    entry: AuditEntry | None


def attempts_of(session: Session, delivery_id: int) -> list[Attempt]:
    """Return the attempts of a delivery, oldest first."""
    query = select(Attempt).where(Attempt.delivery_id == delivery_id)
    return list(session.scalars(query.order_by(Attempt.id)))


def replays_of(session: Session, delivery_id: int) -> list[DeliveryReplay]:
    """Return the replays of a delivery, oldest first."""
    query = select(Replay).where(Replay.delivery_id == delivery_id)
    rows = session.scalars(query.order_by(Replay.id)).all()
    entries = select(AuditEntry).where(
        AuditEntry.recorded_at.in_({row.replayed_at for row in rows}),
        AuditEntry.action == replay.AUDITED,
        # Of several deliveries that were replayed together, or of this one.
        AuditEntry.object_id.in_(("", str(delivery_id))),
    )
    by_time = {entry.recorded_at: entry for entry in session.scalars(entries)} if rows else {}
    return [
        DeliveryReplay(row.replayed_at, row.previous_status, by_time.get(row.replayed_at))
        for row in rows
    ]


def last_attempts(session: Session, delivery_ids: Sequence[int]) -> dict[int, Attempt]:
    """Return the last attempt of each delivery that has one."""
    latest = (
        select(func.max(Attempt.id))
        .where(Attempt.delivery_id.in_(delivery_ids))
        .group_by(Attempt.delivery_id)
    )
    rows = session.scalars(select(Attempt).where(Attempt.id.in_(latest)))
    return {row.delivery_id: row for row in rows}


def last_attempted_at(session: Session) -> datetime | None:
    """Return when the last recorded attempt started, or None if there is none."""
    return session.scalar(select(Attempt.started_at).order_by(Attempt.id.desc()).limit(1))


def count_by_status(
    session: Session, criteria: DeliveryFilter, *, limit: int
) -> dict[DeliveryStatus, int]:
    """Return the number of deliveries per status; the status in `criteria` is ignored.

    At most `limit` are counted for each endpoint. Empty if counting would be slow: for a type
    that has many events.
    """
    scope = delivery_filter.scope_of(session, criteria.model_copy(update={"status": None}))
    if not scope.is_cheap_to_count:
        return {}
    counted = delivery_filter.count(session, scope, limit=limit).values()
    return {status: sum(counts[status] for counts in counted) for status in DeliveryStatus}


def count(session: Session, criteria: DeliveryFilter) -> int | None:
    """Return the number of deliveries, as `pagination.count` does, or None if counting is slow."""
    counts = count_by_status(session, criteria, limit=COUNTED + 1)
    if not counts:
        return None
    return sum(counts.values()) if criteria.status is None else counts[criteria.status]


def backlog(session: Session, *, now: datetime) -> Backlog:
    """Return the backlog; delivered ones are not counted, because that would read most rows."""
    rows = session.execute(
        select(Delivery.endpoint_id, Delivery.stored_status, func.count())
        .where(Delivery.stored_status.in_(_NOT_DELIVERED))
        .group_by(Delivery.endpoint_id, Delivery.stored_status)
    )
    disabled = set(session.scalars(select(Endpoint.id).where(Endpoint.disabled_at.is_not(None))))
    counts: Counter[str] = Counter()
    for endpoint_id, status, number in rows:
        is_held = status == DeliveryStatus.PENDING and endpoint_id in disabled
        counts[DeliveryStatus.HELD if is_held else status] += number
    return Backlog(counts, oldest_due_at(session, now=now))


def oldest_due_at(session: Session, *, now: datetime) -> datetime | None:
    """Return the due time of the oldest pending delivery that may be sent, or None.

    Deliveries of a paused endpoint are left out, until its pause ended so long ago that a running
    worker would have retried it.
    """
    paused = Endpoint.paused_until
    is_sent_to = or_(paused.is_(None), paused < now - RETRIED_WITHIN)
    rows = session.scalars(select(first_due()).where(is_sent_to))
    return min((at for at in rows if at is not None), default=None)


def first_due() -> ScalarSelect[datetime]:
    """Return a subquery for the earliest due time of an endpoint's pending deliveries.

    Those that are being sent are left out, and those that are held.
    """
    return (
        select(func.min(Delivery.due_at))
        .where(
            Delivery.endpoint_id == Endpoint.id,
            Delivery.stored_status == DeliveryStatus.PENDING,
            Delivery.lease_token.is_(None),
            Endpoint.disabled_at.is_(None),
        )
        .correlate(Endpoint)
        .scalar_subquery()
    )

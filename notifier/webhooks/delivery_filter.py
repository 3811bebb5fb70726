"""Filters of deliveries: their ids in order and their counts, always read through an index."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, and_, func, literal, select
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import Sort
from notifier.models import Course, Delivery, DeliveryStatus, Endpoint, Event

# Up to this many events are looked up one by one; beyond that deliveries are scanned in order.
_FEW_EVENTS = 2000
_MICROSECOND = timedelta(microseconds=1)


class DeliveryFilter(BaseModel):
    """Conditions on deliveries; None is no condition, `since` and `until` apply to the event.

    `matching` is a part of a course id, in any case; `webhook_id` and `course_id` are whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: DeliveryStatus | None = None
    event_type: str | None = None
    endpoint_id: int | None = None
    course_id: str | None = None
    matching: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    webhook_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> dict[str, Any]:
        """Return the conditions by name."""
        values = {name: getattr(self, name) for name in DeliveryFilter.model_fields}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class DeliveryScope:
    """A filter resolved to endpoints, statuses and, if they are few, events.

    The index holds the deliveries of each endpoint and status in the order of their events; a
    result is merged from one query for each of these. `events` are the ids of the events that the
    filter selects by type, course or id, or None if there are many.
    """

    criteria: DeliveryFilter
    endpoint_ids: Sequence[int]
    disabled_ids: Collection[int]
    statuses: Sequence[DeliveryStatus]
    events: Sequence[str] | None

    @property
    def is_cheap_to_count(self) -> bool:
        """Whether counting reads only deliveries that match."""
        return self.events is not None or not _event_conditions(self.criteria)

    def parts(self) -> Iterator[tuple[int, DeliveryStatus]]:
        """Yield each endpoint with each status that its deliveries can have."""
        for endpoint_id, status in product(self.endpoint_ids, self.statuses):
            is_disabled = endpoint_id in self.disabled_ids
            if status != (DeliveryStatus.PENDING if is_disabled else DeliveryStatus.HELD):
                yield endpoint_id, status


def scope_of(
    session: Session,
    criteria: DeliveryFilter,
    *,
    disabled: bool | None = None,
    leave_out: Collection[DeliveryStatus] = (),
) -> DeliveryScope:
    """Return a filter's scope; `disabled` restricts it to disabled or to enabled endpoints.

    Those that were removed are then left out.

    `leave_out` has no effect on a status that the filter asks for.
    """
    query = select(Endpoint.id, Endpoint.disabled_at).order_by(Endpoint.id)
    if criteria.endpoint_id is not None:
        query = query.where(Endpoint.id == criteria.endpoint_id)
    if disabled is not None:
        is_disabled = Endpoint.disabled_at.is_not(None)
        query = query.where(
            is_disabled if disabled else ~is_disabled, Endpoint.removed_at.is_(None)
        )
    statuses = [status for status in DeliveryStatus if status not in leave_out]
    chosen = statuses if criteria.status is None else [criteria.status]
    rows = session.execute(query).all()
    return DeliveryScope(
        criteria,
        [row.id for row in rows],
        {row.id for row in rows if row.disabled_at},
        chosen,
        _find_few_events(session, criteria),
    )


def newest(
    session: Session, scope: DeliveryScope, *, before: int | None = None, limit: int | None
) -> list[int]:
    """Return the ids of deliveries, newest first, older than the delivery `before`."""
    return _ids(session, scope, before, limit, descending=True)


def oldest(
    session: Session, scope: DeliveryScope, *, after: int | None = None, limit: int | None
) -> list[int]:
    """Return the ids of deliveries, oldest first, newer than the delivery `after`."""
    return _ids(session, scope, after, limit, descending=False)


def count(
    session: Session, scope: DeliveryScope, *, limit: int | None = None
) -> dict[int, Counter[str]]:
    """Return the number of deliveries by endpoint and status, each up to `limit`."""
    counts: dict[int, Counter[str]] = {number: Counter() for number in scope.endpoint_ids}
    if scope.events is not None:
        for row in _read_by_events(session, scope, scope.events):
            counts[row.endpoint_id][row.status] += 1
        return counts
    parts = []
    for endpoint_id, status in scope.parts():
        rows = _query(scope.criteria, endpoint_id, status)
        if limit is not None:
            # Ordered, although any rows would do: without it PostgreSQL scans the whole table.
            rows = _Window(descending=True, limit=limit).apply(rows, *_ORDER)
        counted = select(literal(endpoint_id), literal(status.value), func.count())
        parts.append(counted.select_from(rows.subquery()))
    for endpoint_id, status, number in db.union_rows(session, parts):
        counts[endpoint_id][status] += number
    return counts


# The position of a delivery among all: the time of its event, its id.
_ORDER = (Delivery.created_at, Delivery.id)
_Position = tuple[datetime, int]
SORTS: dict[str, tuple[pagination.Key, ...]] = {"occurred": _ORDER}
"""The columns that a list can be sorted by: those that an index has for every filter."""
NEWEST_FIRST = Sort("occurred", _ORDER, descending=True)


@dataclass(frozen=True)
class _Window:
    """Up to `limit` deliveries in order, those beyond a position."""

    descending: bool
    limit: int | None
    position: _Position | None = None

    def apply(self, query: Select[Any], *keys: pagination.Key) -> Select[Any]:
        """Return the query for these deliveries; the keys are those of a position."""
        if self.position is not None:
            query = query.where(pagination.beyond(keys, self.position, descending=self.descending))
        return pagination.in_order(query, keys, descending=self.descending).limit(self.limit)

    def time_conditions(self, at: Any) -> list[Any]:
        """Return the condition on a time that all these deliveries meet, to read fewer rows."""
        if self.position is None:
            return []
        return [at <= self.position[0] if self.descending else at >= self.position[0]]

    def pick_ids(self, rows: Iterable[Any]) -> list[int]:
        """Return the ids of these deliveries from rows in any order."""
        positions = sorted(((row.created_at, row.id) for row in rows), reverse=self.descending)
        if (position := self.position) is not None:
            positions = [
                one for one in positions if (one < position if self.descending else one > position)
            ]
        return [row_id for _, row_id in positions[: self.limit]]


def _ids(
    session: Session,
    scope: DeliveryScope,
    beyond: int | None,
    limit: int | None,
    *,
    descending: bool,
) -> list[int]:
    position = None if beyond is None else _position_of(session, beyond, descending=descending)
    if beyond is not None and position is None:
        return []
    window = _Window(descending, limit, position)
    if scope.events is not None:
        return window.pick_ids(_read_by_events(session, scope, scope.events))
    if scope.criteria.event_type is not None and DeliveryStatus.DELIVERED in scope.statuses:
        return window.pick_ids(_read_by_type(session, scope, window))
    criteria = _start_at_first_event(session, scope.criteria, window)
    if criteria is None:
        return []
    parts = [
        select(window.apply(_query(criteria, endpoint_id, status), *_ORDER).subquery())
        for endpoint_id, status in scope.parts()
    ]
    return window.pick_ids(db.union_rows(session, parts))


def _position_of(session: Session, delivery_id: int, *, descending: bool) -> _Position | None:
    """Return the position of a delivery or, if it is gone, of its id; None if nothing is beyond."""
    query = select(Delivery.created_at).limit(1)
    if descending:
        query = query.where(Delivery.id <= delivery_id).order_by(Delivery.id.desc())
    else:
        query = query.where(Delivery.id >= delivery_id).order_by(Delivery.id)
    created_at = session.scalar(query)
    return None if created_at is None else (created_at, delivery_id)


def _find_few_events(session: Session, criteria: DeliveryFilter) -> list[str] | None:
    """Return the ids of the events that match, or None for many or if all events match."""
    conditions = _event_conditions(criteria)
    if not conditions:
        return None
    if criteria.matching is not None:
        # Each course that an event is about has a row: these are far fewer, and lead to the events
        # by an index.
        found = Course.course_id.icontains(criteria.matching, autoescape=True)
        conditions.append(Event.course_id.in_(select(Course.course_id).where(found)))
    query = select(Event.id).where(*conditions, *_in_period(Event.occurred_at, criteria))
    event_ids = list(session.scalars(query.limit(_FEW_EVENTS + 1)))
    return event_ids if len(event_ids) <= _FEW_EVENTS else None


def _read_by_events(session: Session, scope: DeliveryScope, event_ids: Sequence[str]) -> list[Any]:
    # Filtered in Python: with these conditions too, SQLite picks the index of all deliveries.
    rows = session.execute(
        select(Delivery.id, Delivery.created_at, Delivery.endpoint_id, Delivery.status).where(
            Delivery.event_id.in_(event_ids)
        )
    )
    return [
        row
        for row in rows
        if row.endpoint_id in scope.endpoint_ids and row.status in scope.statuses
    ]


def _read_by_type(session: Session, scope: DeliveryScope, window: _Window) -> Iterable[Any]:
    """Return rows from a scan of the events of a type in order.

    Most deliveries are delivered: if those match, the scan reaches its limit soon.
    """
    at = Event.occurred_at
    endpoint_id: Any = Delivery.endpoint_id
    if session.get_bind().dialect.name == "sqlite":
        # Written as an expression, so that SQLite does not start from an index on this column.
        endpoint_id = endpoint_id + 0
    query = (
        select(Delivery.id, at.label("created_at"))
        .join(Event, Event.id == Delivery.event_id)
        .where(
            *_event_conditions(scope.criteria),
            *_in_period(at, scope.criteria),
            endpoint_id.in_(scope.endpoint_ids),
            Delivery.status.in_(scope.statuses),
            *window.time_conditions(at),
        )
    )
    return session.execute(window.apply(query, at, Delivery.id))


def _start_at_first_event(
    session: Session, criteria: DeliveryFilter, window: _Window
) -> DeliveryFilter | None:
    """Return the filter restricted to start at the first event of its type, or None if none."""
    if criteria.event_type is None:
        return criteria
    at = Event.occurred_at
    query = select(at).where(
        Event.type == criteria.event_type, *_in_period(at, criteria), *window.time_conditions(at)
    )
    first = session.scalar(query.order_by(at.desc() if window.descending else at).limit(1))
    if first is None:
        return None
    narrowed = {"until": first + _MICROSECOND} if window.descending else {"since": first}
    return criteria.model_copy(update=narrowed)


def _query(criteria: DeliveryFilter, endpoint_id: int, status: DeliveryStatus) -> Select[Any]:
    stored = DeliveryStatus.PENDING if status == DeliveryStatus.HELD else status
    query = select(Delivery.id, Delivery.created_at).where(
        Delivery.endpoint_id == endpoint_id,
        Delivery.stored_status == stored,
        *_in_period(Delivery.created_at, criteria),
    )
    conditions = _event_conditions(criteria)
    if conditions:
        query = query.join(Event, and_(Event.id == Delivery.event_id, *conditions))
    return query


def _event_conditions(criteria: DeliveryFilter) -> list[Any]:
    columns = (
        (Event.type, criteria.event_type),
        (Event.course_id, criteria.course_id),
        (Event.id, criteria.webhook_id),
    )
    conditions: list[Any] = [column == value for column, value in columns if value is not None]
    if criteria.matching is not None:
        conditions.append(Event.course_id.icontains(criteria.matching, autoescape=True))
    return conditions


def _in_period(column: Any, criteria: DeliveryFilter) -> list[Any]:
    since = [] if criteria.since is None else [column >= criteria.since]
    return since if criteria.until is None else [*since, column < criteria.until]

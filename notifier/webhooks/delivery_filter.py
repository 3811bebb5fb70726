"""Filters: which deliveries are meant, and their ids in order, by index however many there are."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice, product
from typing import Any

from sqlalchemy import Select, and_, func, literal, select, union_all
from sqlalchemy.orm import Session

from foundation.db import pagination
from notifier.models import Delivery, DeliveryStatus, Endpoint, Event

_FEW = 2000
"""So many events are looked at one by one; of more, the deliveries are gone through in order."""
_PARTS_AT_ONCE = 150  # SQLite joins 500 SELECTs at the most
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries are meant; None is no condition, `since` and `until` speak of the event."""

    status: DeliveryStatus | None = None
    event_type: str | None = None
    endpoint_id: int | None = None
    course_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class DeliveryScope:
    """A filter for deliveries to some endpoints, of some statuses.

    For each endpoint and status the index holds deliveries in their order, the order of their
    events: what a scope finds is put together from these. `events` names the events of the
    filter's type or course where these are few.
    """

    wanted: DeliveryFilter
    endpoint_ids: Sequence[int]
    statuses: Sequence[DeliveryStatus]
    events: Sequence[str] | None

    @property
    def is_cheap(self) -> bool:
        """Whether it can be counted without going through deliveries that it does not find."""
        return self.wanted.event_type is None or self.events is not None


def scope_of(
    session: Session,
    wanted: DeliveryFilter,
    *,
    disabled: bool | None = None,
    leave_out: Collection[DeliveryStatus] = (),
) -> DeliveryScope:
    """Return a filter's scope; `disabled` picks disabled endpoints or the others.

    The statuses that are left out are taken all the same if the filter asks for them.
    """
    query = select(Endpoint.id).order_by(Endpoint.id)
    if wanted.endpoint_id is not None:
        query = query.where(Endpoint.id == wanted.endpoint_id)
    if disabled is not None:
        is_disabled = Endpoint.disabled_at.is_not(None)
        query = query.where(is_disabled if disabled else ~is_disabled)
    statuses = [one for one in DeliveryStatus if one not in leave_out]
    chosen = statuses if wanted.status is None else [wanted.status]
    return DeliveryScope(wanted, list(session.scalars(query)), chosen, _few_events(session, wanted))


def newest(
    session: Session, scope: DeliveryScope, *, before: int | None = None, limit: int | None
) -> list[int]:
    """Return the ids of deliveries, the newest first, those before the delivery `before`."""
    return _ids(session, scope, before, limit, backwards=True)


def oldest(
    session: Session, scope: DeliveryScope, *, after: int | None = None, limit: int | None
) -> list[int]:
    """Return the ids of deliveries, the oldest first, those after the delivery `after`."""
    return _ids(session, scope, after, limit, backwards=False)


def count(
    session: Session, scope: DeliveryScope, *, most: int | None = None
) -> dict[int, Counter[str]]:
    """Return for each endpoint how many deliveries of each status a scope finds.

    With `most` no more than that are counted of each.
    """
    counts: dict[int, Counter[str]] = {one: Counter() for one in scope.endpoint_ids}
    if scope.events is not None:
        for row in _of_events(session, scope, scope.events):
            counts[row.endpoint_id][row.status] += 1
        return counts
    parts = [
        _counted(_part(scope.wanted, endpoint_id, status), most, endpoint_id, status)
        for endpoint_id, status in product(scope.endpoint_ids, scope.statuses)
    ]
    for endpoint_id, status, number in _rows(session, parts):
        counts[endpoint_id][status] += number
    return counts


_Mark = tuple[datetime, int]
"""A delivery's place in the order of all."""


def _ids(
    session: Session,
    scope: DeliveryScope,
    beyond: int | None,
    limit: int | None,
    *,
    backwards: bool,
) -> list[int]:
    mark = None if beyond is None else _mark(session, beyond, backwards=backwards)
    if beyond is not None and mark is None:
        return []
    if scope.events is not None:
        rows: Iterable[Any] = _of_events(session, scope, scope.events)
    elif scope.wanted.event_type is not None and DeliveryStatus.DELIVERED in scope.statuses:
        is_sqlite = session.get_bind().dialect.name == "sqlite"
        rows = session.execute(
            _by_type(scope, mark, limit, backwards=backwards, is_sqlite=is_sqlite)
        )
    else:
        rows = _rows(session, _parts(session, scope, mark, limit, backwards=backwards))
    found = [
        (row.created_at, row.id)
        for row in rows
        if mark is None or _is_beyond((row.created_at, row.id), mark, backwards=backwards)
    ]
    return [one for _, one in islice(sorted(found, reverse=backwards), limit)]


def _is_beyond(place: _Mark, mark: _Mark, *, backwards: bool) -> bool:
    return place < mark if backwards else place > mark


def _mark(session: Session, delivery_id: int, *, backwards: bool) -> _Mark | None:
    """Return the place of a delivery, or of its number where it is gone; None: beyond is none."""
    query = select(Delivery.created_at).limit(1)
    if backwards:
        query = query.where(Delivery.id <= delivery_id).order_by(Delivery.id.desc())
    else:
        query = query.where(Delivery.id >= delivery_id).order_by(Delivery.id)
    created_at = session.scalar(query)
    return None if created_at is None else (created_at, delivery_id)


def _few_events(session: Session, wanted: DeliveryFilter) -> list[str] | None:
    """Return the ids of the events that a filter names, or None for too many, or for any."""
    if wanted.event_type is None and wanted.course_id is None:
        return None
    query = select(Event.id).where(*_of_event(wanted), *_within(Event.occurred_at, wanted))
    found = list(session.scalars(query.limit(_FEW + 1)))
    return found if len(found) <= _FEW else None


def _of_events(session: Session, scope: DeliveryScope, event_ids: Sequence[str]) -> list[Any]:
    # Chosen from here: asked for these too, SQLite would go by the index that has them all.
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


def _by_type(
    scope: DeliveryScope, mark: _Mark | None, limit: int | None, *, backwards: bool, is_sqlite: bool
) -> Select[Any]:
    """Return the query that goes through the events of a type in their order.

    Most of their deliveries are delivered: while those are asked for too, it soon has enough.
    """
    at, number = Event.occurred_at, Delivery.id
    endpoint_id: Any = Delivery.endpoint_id
    status: Any = Delivery.status
    if is_sqlite:
        # Spelled as no index has them: it would begin with one that has.
        endpoint_id, status = endpoint_id + 0, status + ""
    query = (
        select(Delivery.id, Event.occurred_at.label("created_at"))
        .join(Event, Event.id == Delivery.event_id)
        .where(
            *_of_event(scope.wanted),
            *_within(at, scope.wanted),
            endpoint_id.in_(scope.endpoint_ids),
            status.in_(scope.statuses),
        )
    )
    if mark is not None:
        query = query.where(at <= mark[0] if backwards else at >= mark[0])
        query = query.where(pagination.beyond((at, number), mark, descending=backwards))
    return pagination.in_order(query, (at, number), descending=backwards).limit(limit)


def _parts(
    session: Session,
    scope: DeliveryScope,
    mark: _Mark | None,
    limit: int | None,
    *,
    backwards: bool,
) -> list[Select[Any]]:
    wanted = _narrowed(session, scope.wanted, mark, backwards=backwards)
    if wanted is None:
        return []
    return [
        _ordered(_part(wanted, endpoint_id, status), mark, limit, backwards=backwards)
        for endpoint_id, status in product(scope.endpoint_ids, scope.statuses)
    ]


def _narrowed(
    session: Session, wanted: DeliveryFilter, mark: _Mark | None, *, backwards: bool
) -> DeliveryFilter | None:
    """Return the filter from the first event of its type on: none before it need be looked at."""
    if wanted.event_type is None:
        return wanted
    at = Event.occurred_at
    query = select(at).where(Event.type == wanted.event_type, *_within(at, wanted)).limit(1)
    if mark is not None:
        query = query.where(at <= mark[0] if backwards else at >= mark[0])
    first = session.scalar(query.order_by(at.desc() if backwards else at))
    if first is None:
        return None
    return replace(wanted, until=first + _TICK) if backwards else replace(wanted, since=first)


def _part(wanted: DeliveryFilter, endpoint_id: int, status: DeliveryStatus) -> Select[Any]:
    query = select(Delivery.id, Delivery.created_at).where(
        Delivery.endpoint_id == endpoint_id,
        Delivery.status == status,
        *_within(Delivery.created_at, wanted),
    )
    conditions = _of_event(wanted)
    if conditions:
        query = query.join(Event, and_(Event.id == Delivery.event_id, *conditions))
    return query


def _of_event(wanted: DeliveryFilter) -> list[Any]:
    return [
        column == value
        for column, value in ((Event.type, wanted.event_type), (Event.course_id, wanted.course_id))
        if value is not None
    ]


def _within(column: Any, wanted: DeliveryFilter) -> list[Any]:
    since = [] if wanted.since is None else [column >= wanted.since]
    return since if wanted.until is None else [*since, column < wanted.until]


def _ordered(
    part: Select[Any], mark: _Mark | None, limit: int | None, *, backwards: bool
) -> Select[Any]:
    keys = (Delivery.created_at, Delivery.id)
    if mark is not None:
        part = part.where(pagination.beyond(keys, mark, descending=backwards))
    return select(pagination.in_order(part, keys, descending=backwards).limit(limit).subquery())


def _counted(
    part: Select[Any], most: int | None, endpoint_id: int, status: DeliveryStatus
) -> Select[Any]:
    # In order, though it does not matter which: PostgreSQL would look for some in the whole table.
    found = part if most is None else _ordered(part, None, most, backwards=True)
    counted = select(literal(endpoint_id), literal(status.value), func.count())
    return counted.select_from(found.subquery())


def _rows(session: Session, parts: Sequence[Select[Any]]) -> Iterator[Any]:
    for start in range(0, len(parts), _PARTS_AT_ONCE):
        yield from session.execute(union_all(*parts[start : start + _PARTS_AT_ONCE]))

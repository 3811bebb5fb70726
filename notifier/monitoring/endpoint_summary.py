"""Summaries of endpoints: status, open deliveries, last attempt, last ping."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, func, select
from sqlalchemy.orm import Session

from contract.events import EVENT_TYPES
from notifier.errors import EndpointUnknownError
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, EndpointPing
from notifier.monitoring import endpoint_status
from notifier.monitoring.endpoint_status import EndpointStatus, EndpointStatusDetails
from notifier.webhooks import delivery_queries
from notifier.webhooks.circuit_breaker import PAUSED_AFTER

# The latest attempts of all endpoints in which the last one of each is searched.
_RECENT_ATTEMPTS = 1000
COLUMNS = (
    *("endpoint_id", "name", "url", "event_types", "created_at"),
    *("status", "since", "detail", "disabled_by", "pending", "held", "dead"),
)
"""The columns of an exported list."""


@dataclass(frozen=True)
class EndpointSummary:
    """An endpoint's status, deliveries, last attempt and last ping.

    `due_at` is the earliest due time of its pending deliveries. `last` is the newest attempt that
    an index finds: among the latest attempts of all endpoints, or else of its newest delivered,
    dead and retried deliveries.
    """

    endpoint: Endpoint
    status_details: EndpointStatusDetails
    pending: int
    held: int
    dead: int
    due_at: datetime | None
    ever_delivered: bool
    last: Attempt | None
    ping: EndpointPing | None

    @property
    def has_accepted(self) -> bool:
        """Whether the endpoint ever accepted a delivery or its last ping."""
        return self.ever_delivered or (self.ping is not None and self.ping.accepted)

    @property
    def last_response(self) -> Attempt | EndpointPing | None:
        """The last attempt or ping, whichever is newer."""
        if self.ping is None or self.last is None:
            return self.ping or self.last
        return self.ping if self.ping.started_at > self.last.started_at else self.last

    @property
    def has_failed_test(self) -> bool:
        """Whether the last ping failed, and nothing was accepted since."""
        return has_failed_test(self.endpoint, self.ping)

    @property
    def needs_attention(self) -> bool:
        """Whether it keeps failing, failed its last test, or was disabled, not by a person."""
        if self.endpoint.disabled_at is not None:
            return self.endpoint.disabled_by is None
        return self.endpoint.failures >= PAUSED_AFTER or self.has_failed_test

    @property
    def tried_at(self) -> datetime | None:
        """When the next attempt is made, or None if nothing is pending."""
        if self.due_at is None:
            return None
        return max(self.due_at, self.status_details.tried_at or self.due_at)

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.status_details.status in {EndpointStatus.FAILING, EndpointStatus.PAUSED}


def has_failed_test(endpoint: Endpoint, ping: EndpointPing | None) -> bool:
    """Return whether the last ping failed, and nothing was accepted since.

    A failed ping counts as a failure in a row, which a success ends.
    """
    if ping is None or ping.accepted or endpoint.disabled_at is not None:
        return False
    return endpoint.failing_since is not None and endpoint.failing_since <= ping.started_at


def failed_tests(session: Session) -> list[tuple[Endpoint, EndpointPing]]:
    """Return the endpoints whose last ping failed, with nothing accepted since, oldest first."""
    query = (
        select(Endpoint, EndpointPing)
        .join(EndpointPing)
        .where(Endpoint.removed_at.is_(None), EndpointPing.accepted.is_(False))
        .order_by(Endpoint.id)
    )
    rows = session.execute(query)
    return [(endpoint, ping) for endpoint, ping in rows if has_failed_test(endpoint, ping)]


def read_one(session: Session, endpoint_id: int) -> EndpointSummary:
    """Return the summary of an endpoint, or raise EndpointUnknownError."""
    summaries = read(session, only=endpoint_id)
    if not summaries:
        raise EndpointUnknownError(f"there is no endpoint {endpoint_id}")
    return summaries[0]


def read(
    session: Session, *, only: int | None = None, removed: bool = False
) -> list[EndpointSummary]:
    """Return the summaries of all endpoints, oldest first, in four statements.

    Those that were removed are left out, unless `removed` is true or it is the `only` one.
    """
    query = (
        select(Endpoint, EndpointPing, *_COUNTS, *_LAST_IDS, _DUE)
        .outerjoin(EndpointPing)
        .order_by(Endpoint.id)
    )
    if only is not None:
        query = query.where(Endpoint.id == only)
    elif not removed:
        query = query.where(Endpoint.removed_at.is_(None))
    rows = session.execute(query).all()
    last = _last_attempts(session, rows)
    return [
        EndpointSummary(
            endpoint=row.Endpoint,
            status_details=endpoint_status.status_details(row.Endpoint),
            pending=row.pending,
            held=row.held,
            dead=row.dead,
            due_at=row.due_at,
            ever_delivered=row.delivered_id is not None,
            last=last.get(row.Endpoint.id),
            ping=row.EndpointPing,
        )
        for row in rows
    ]


def export(session: Session, *, removed: bool) -> list[dict[str, Any]]:
    """Return rows with `COLUMNS`."""
    return [
        {
            "endpoint_id": one.endpoint.id,
            "name": one.endpoint.name,
            "url": one.endpoint.url,
            "event_types": " ".join(one.endpoint.event_types or EVENT_TYPES),
            "created_at": one.endpoint.created_at,
            "status": one.status_details.status,
            "since": one.status_details.since,
            "detail": one.status_details.reason,
            "disabled_by": one.endpoint.disabled_by,
            "pending": one.pending,
            "held": one.held,
            "dead": one.dead,
        }
        for one in read(session, removed=removed)
    ]


def _newest(status: DeliveryStatus) -> ColumnElement[int]:
    newest = (Delivery.created_at.desc(), Delivery.id.desc())
    return _subquery(Delivery.id, status, order=newest).label(f"{status}_id")


def _subquery(
    what: Any,
    status: DeliveryStatus,
    *,
    order: Sequence[Any] = (),
    also: Sequence[ColumnElement[bool]] = (),
) -> ScalarSelect[Any]:
    query = select(what).where(
        Delivery.endpoint_id == Endpoint.id, Delivery.stored_status == status, *also
    )
    query = query.order_by(*order).limit(1) if order else query
    return query.correlate(Endpoint).scalar_subquery()


_COUNTED = func.count(Delivery.id)
_COUNTS = (
    _subquery(_COUNTED, DeliveryStatus.PENDING, also=(Endpoint.disabled_at.is_(None),)).label(
        DeliveryStatus.PENDING
    ),
    _subquery(_COUNTED, DeliveryStatus.PENDING, also=(Endpoint.disabled_at.is_not(None),)).label(
        DeliveryStatus.HELD
    ),
    _subquery(_COUNTED, DeliveryStatus.DEAD).label(DeliveryStatus.DEAD),
)
_RETRIED = _subquery(
    Delivery.id,
    DeliveryStatus.PENDING,
    order=(Delivery.due_at.desc(),),
    also=(Delivery.lease_token.is_(None),),
).label("retried_id")
_DUE = delivery_queries.first_due().label("due_at")
_LAST_IDS = (_newest(DeliveryStatus.DELIVERED), _newest(DeliveryStatus.DEAD), _RETRIED)


def _last_attempts(session: Session, rows: Sequence[Any]) -> dict[int, Attempt]:
    owners = {
        delivery_id: row.Endpoint.id
        for row in rows
        for delivery_id in (row.delivered_id, row.dead_id, row.retried_id)
        if delivery_id is not None
    }
    attempts = [
        (owners[delivery_id], attempt)
        for delivery_id, attempt in delivery_queries.last_attempts(session, list(owners)).items()
    ]
    attempts += _latest(session, {row.Endpoint.id for row in rows})
    return dict(sorted(attempts, key=lambda item: item[1].id))


def _latest(session: Session, endpoint_ids: Collection[int]) -> list[tuple[int, Attempt]]:
    # The limit keeps the planner from scanning all deliveries.
    recent = (
        select(Attempt.id, Attempt.delivery_id)
        .order_by(Attempt.id.desc())
        .limit(_RECENT_ATTEMPTS)
        .subquery()
    )
    latest = (
        select(Delivery.endpoint_id, func.max(recent.c.id).label("attempt_id"))
        .join(recent, recent.c.delivery_id == Delivery.id)
        .group_by(Delivery.endpoint_id)
        .subquery()
    )
    attempts = session.execute(
        select(latest.c.endpoint_id, Attempt).join(Attempt, Attempt.id == latest.c.attempt_id)
    )
    return [(owner, attempt) for owner, attempt in attempts if owner in endpoint_ids]

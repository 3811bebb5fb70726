"""Deliveries, or the attempts of one, as rows of a CSV file."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db.pagination import Cursor, Page, PageRequest, Sort
from foundation.db.session import Database
from notifier.models import Attempt, Delivery, DeliveryStatus
from notifier.webhooks import delivery_queries
from notifier.webhooks.delivery_filter import NEWEST_FIRST, DeliveryFilter

COLUMNS = (
    *("delivery_id", "webhook_id", "event_type", "course_id", "course_version", "endpoint_id"),
    *("endpoint_name", "url", "status", "attempt_count", "last_http_status", "last_failure"),
    *("occurred_at", "due_at", "settled_at", "detail"),
)
"""The columns of an exported list."""
ATTEMPT_COLUMNS = (
    *("delivery_id", "started_at", "milliseconds", "http_status", "failure", "outcome", "detail"),
)
"""The columns of the exported attempts of a delivery."""


def export(
    database: Database, criteria: DeliveryFilter, sort: Sort = NEWEST_FIRST
) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `COLUMNS`, each read in its own transaction."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        request = PageRequest(after=cursor)
        found = delivery_queries.page(session, criteria, request, sort=sort, limit=pagination.BATCH)
        last = delivery_queries.last_attempts(session, [row.id for row in found.rows])
        return Page([_row(one, last.get(one.id)) for one in found.rows], None, found.after)

    return pagination.batches(database, read)


def export_attempts(database: Database, delivery_id: int) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield the attempts of a delivery as rows with `ATTEMPT_COLUMNS`, oldest first."""
    with database.reading() as session:
        attempts = delivery_queries.attempts_of(session, delivery_id)
    yield [
        {
            "delivery_id": delivery_id,
            "started_at": attempt.started_at,
            "milliseconds": attempt.milliseconds,
            "http_status": attempt.status,
            "failure": attempt.failure,
            "outcome": attempt.decided,
            "detail": attempt.detail,
        }
        for attempt in attempts
    ]


def _row(delivery: Delivery, last: Attempt | None) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "webhook_id": delivery.event_id,
        "event_type": delivery.event.type,
        "course_id": delivery.event.course_id,
        "course_version": delivery.event.course_version,
        "endpoint_id": delivery.endpoint_id,
        "endpoint_name": delivery.endpoint.name,
        "url": delivery.endpoint.url,
        "status": delivery.status,
        "attempt_count": delivery.attempt_count,
        "last_http_status": last and last.status,
        "last_failure": last and last.failure,
        "occurred_at": delivery.event.occurred_at,
        "due_at": delivery.due_at if delivery.status == DeliveryStatus.PENDING else None,
        "settled_at": delivery.settled_at,
        "detail": delivery.reason,
    }

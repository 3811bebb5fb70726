"""Deliveries as rows of a CSV file."""

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
    *("url", "status", "attempt_count", "last_http_status", "last_failure"),
    *("occurred_at", "due_at", "settled_at", "detail"),
)
"""The columns of an exported list."""


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


def _row(delivery: Delivery, last: Attempt | None) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "webhook_id": delivery.event_id,
        "event_type": delivery.event.type,
        "course_id": delivery.event.course_id,
        "course_version": delivery.event.course_version,
        "endpoint_id": delivery.endpoint_id,
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

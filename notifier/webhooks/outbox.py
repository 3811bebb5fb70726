"""The outbox: writes the event and the deliveries of a signalled change in its transaction."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from contract import events
from foundation import tracing
from foundation.db import session as db
from notifier import signals
from notifier.models import SOURCE, Event
from notifier.webhooks import deliveries, endpoints


def subscribe() -> None:
    """Connect the outbox to every signal; repeated calls have no effect."""
    signals.course_deleted.connect(on_course_deleted)
    signals.token_regenerated.connect(on_token_regenerated)
    signals.endpoint_disabled.connect(on_endpoint_disabled)
    signals.deliveries_dead.connect(on_deliveries_dead)


def on_course_deleted(session: Session, change: signals.CourseChange) -> str:
    """Write the event of a deletion and return its id."""
    data = events.CourseDeletedData(**_facts(session, change))
    return _write(session, events.CourseDeleted(timestamp=change.at, data=data))


def on_token_regenerated(session: Session, change: signals.CourseChange) -> str:
    """Write the event of a regeneration, with only the public id of the new token."""
    data = events.TokenRegeneratedData(**_facts(session, change))
    return _write(session, events.TokenRegenerated(timestamp=change.at, data=data))


def on_endpoint_disabled(session: Session, change: signals.EndpointChange) -> int:
    """Write the event of a disabled endpoint if any endpoint subscribes to it; return how many."""
    facts = _facts(session, replace(change, url=change.url.partition("?")[0]))
    data = events.EndpointDisabledData(**facts)
    return _write_operational(session, [events.EndpointDisabled(timestamp=change.at, data=data)])


def on_deliveries_dead(session: Session, change: Sequence[signals.DeadDelivery]) -> int:
    """Write an event for each dead delivery if any endpoint subscribes; return how many."""
    written = [
        events.DeliveryDead(
            timestamp=dead.at, data=events.DeliveryDeadData(**_facts(session, dead))
        )
        for dead in change
    ]
    return _write_operational(session, written)


def _facts(session: Session, change: object) -> dict[str, Any]:
    # An event has the fields that its model names, and ignores the others.
    return {"source": session.info[SOURCE], **vars(change)}


def _write_operational(session: Session, written: Sequence[events.OperationalEvent]) -> int:
    # Without a lock: the caller has locked deliveries, and endpoints must be locked before those.
    subscribers = endpoints.subscribed_to(session, written[0].type, lock=False)
    if not subscribers:
        return 0
    rows = [
        {
            "id": new_webhook_id(),
            "type": event.type,
            "course_id": "",
            "course_version": 0,
            "body": events.dump(event),
            "occurred_at": event.timestamp,
            "traceparent": _traceparent(),
        }
        for event in written
    ]
    db.insert_all(session, Event, rows)
    ids = [str(row["id"]) for row in rows]
    deliveries.create(session, ids, subscribers, now=written[0].timestamp)
    return len(rows)


def _write(session: Session, event: events.Event) -> str:
    row = Event(
        id=new_webhook_id(),
        type=event.type,
        course_id=event.data.course_id,
        course_version=event.data.course_version,
        body=events.dump(event),
        occurred_at=event.timestamp,
        traceparent=_traceparent(),
    )
    session.add(row)
    session.flush()
    subscribers = endpoints.subscribed_to(session, event.type)
    deliveries.create(session, [row.id], subscribers, now=event.timestamp)
    return row.id


def _traceparent() -> str:
    """Return the current span, or a new one that starts with this event."""
    return (tracing.current() or tracing.new_span()).header


def new_webhook_id() -> str:
    """Return a new unique event id of 128 random bits."""
    return f"msg_{secrets.token_hex(16)}"

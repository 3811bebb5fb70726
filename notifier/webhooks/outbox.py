"""The outbox: writes the event and the deliveries of a signalled change in its transaction."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from contract import events
from foundation import tracing
from foundation.db import bulk
from notifier import signals
from notifier.models import SOURCE, Event
from notifier.webhooks import deliveries, endpoints

_Event = events.Event | events.OperationalEvent

# The key in a session's `info` of the events to be written when their changes are complete.
_ADDED = "added_events"


def subscribe() -> None:
    """Connect the outbox to every signal; repeated calls have no effect."""
    signals.course_deleted.connect(on_course_deleted)
    signals.course_restored.connect(on_course_restored)
    signals.token_regenerated.connect(on_token_regenerated)
    signals.endpoint_disabled.connect(on_endpoint_disabled)
    signals.deliveries_dead.connect(on_deliveries_dead)
    signals.changes_complete.connect(on_changes_complete)


def on_course_deleted(session: Session, change: signals.CourseChange) -> None:
    """Add the event of a deletion."""
    data = events.CourseDeletedData(**_facts(session, change))
    _add(session, events.CourseDeleted(timestamp=change.at, data=data))


def on_course_restored(session: Session, change: signals.CourseChange) -> None:
    """Add the event of a restoration."""
    data = events.CourseRestoredData(**_facts(session, change))
    _add(session, events.CourseRestored(timestamp=change.at, data=data))


def on_token_regenerated(session: Session, change: signals.CourseChange) -> None:
    """Add the event of a regeneration, with only the public id of the new token."""
    data = events.TokenRegeneratedData(**_facts(session, change))
    _add(session, events.TokenRegenerated(timestamp=change.at, data=data))


def on_endpoint_disabled(session: Session, change: signals.EndpointChange) -> None:
    """Add the event of a disabled endpoint."""
    facts = _facts(session, replace(change, url=change.url.partition("?")[0]))
    data = events.EndpointDisabledData(**facts)
    _add(session, events.EndpointDisabled(timestamp=change.at, data=data))


def on_deliveries_dead(session: Session, change: Sequence[signals.DeadDelivery]) -> None:
    """Add an event for each dead delivery."""
    for dead in change:
        data = events.DeliveryDeadData(**_facts(session, dead))
        _add(session, events.DeliveryDead(timestamp=dead.at, data=data))


def on_changes_complete(session: Session) -> None:
    """Write the events that were added, and a delivery of each for every subscribed endpoint.

    An operational event that no endpoint subscribes to is not written.
    """
    added: list[_Event] = session.info.pop(_ADDED, [])
    if not added:
        return
    event_type, at = added[0].type, added[0].timestamp  # of all: a signal has one type of event
    is_operational = event_type in events.OPERATIONAL_TYPES
    # At an operational event deliveries are locked already, and endpoints must be locked before
    # those, or without waiting.
    subscribers = endpoints.lock_subscribed(session, event_type, wait=not is_operational)
    if is_operational and not subscribers:
        return
    rows = [_row(event) for event in added]
    bulk.insert(session, Event, rows)
    deliveries.create(session, [row["id"] for row in rows], subscribers, now=at)


def _row(event: _Event) -> dict[str, Any]:
    course = event.data if isinstance(event, events.Event) else None
    return {
        "id": new_webhook_id(),
        "type": event.type,
        "course_id": course.course_id if course else "",
        "course_version": course.course_version if course else 0,
        "body": events.dump(event),
        "occurred_at": event.timestamp,
        "traceparent": _traceparent(),
    }


def _facts(session: Session, change: object) -> dict[str, Any]:
    # An event has the fields that its model names, and ignores the others.
    return {"source": session.info[SOURCE], **vars(change)}


def _add(session: Session, event: _Event) -> None:
    session.info.setdefault(_ADDED, []).append(event)


def _traceparent() -> str:
    """Return the current span, or a new one that starts with this event."""
    return (tracing.current() or tracing.new_span()).header


def new_webhook_id() -> str:
    """Return a new unique event id of 128 random bits."""
    return f"msg_{secrets.token_hex(16)}"

"""The outbox: a signalled change becomes an event and its deliveries, in its transaction."""

import secrets

from sqlalchemy.orm import Session

from contract import events
from notifier import deliveries, endpoints, signals
from notifier.db import SOURCE
from notifier.models import Event


def subscribe() -> None:
    """Connect the outbox to every signal; doing it again changes nothing."""
    signals.course_deleted.connect(on_course_deleted)
    signals.token_regenerated.connect(on_token_regenerated)


def on_course_deleted(session: Session, change: signals.CourseChange) -> str:
    """Write the event of a deletion; return its id."""
    data = events.CourseDeletedData(
        source=session.info[SOURCE],
        course_id=change.course_id,
        course_version=change.course_version,
    )
    return _write(session, events.CourseDeleted(timestamp=change.at, data=data))


def on_token_regenerated(session: Session, change: signals.CourseChange) -> str:
    """Write the event of a regeneration, which names the new token by its public id only."""
    data = events.TokenRegeneratedData(
        source=session.info[SOURCE],
        course_id=change.course_id,
        course_version=change.course_version,
        token_id=change.token_id,
    )
    return _write(session, events.TokenRegenerated(timestamp=change.at, data=data))


def _write(session: Session, event: events.Event) -> str:
    row = Event(
        id=new_webhook_id(),
        type=event.type,
        course_id=event.data.course_id,
        course_version=event.data.course_version,
        body=events.dump(event),
        occurred_at=event.timestamp,
    )
    session.add(row)
    session.flush()
    wanting = endpoints.that_want(session, event.type)
    deliveries.create(session, row.id, wanting, now=event.timestamp)
    return row.id


def new_webhook_id() -> str:
    """Return an id that no other event has: 128 random bits."""
    return f"msg_{secrets.token_hex(16)}"

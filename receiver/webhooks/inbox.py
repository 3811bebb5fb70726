"""The inbox: each event once, then the registry, in one transaction; what was taken in."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, select, tuple_
from sqlalchemy.orm import Session

from contract.events import CourseDeleted, Event, Ping, TokenRegenerated, UnknownEvent
from foundation.db import counters, pagination
from foundation.db import session as db
from foundation.db.pagination import Cursor, Page, PageRequest
from receiver.course_state import Deleted, Fact, TokenNamed
from receiver.errors import SourceMismatchError, WebhookIdReusedError
from receiver.models import CounterShard, Entry, Source, Taken
from receiver.monitoring.metrics import WEBHOOKS
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources.store import Door


class Outcome(StrEnum):
    """What an event that was understood did, as its sender is told."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    IGNORED = "ignored"


def accept(
    session: Session,
    door: Door,
    webhook_id: str,
    event: Event | UnknownEvent,
    raw: bytes,
    *,
    now: datetime,
) -> Outcome:
    """Take an event in: once for each webhook id, whatever comes how often and in which order.

    Raises SourceMismatchError before anything is written, and WebhookIdReusedError if the id was
    taken with another body.
    """
    _check_source(door, event)
    taken = _columns(door, webhook_id, event, raw, now)
    if not _insert(session, taken):
        _check_same_body(session, taken)
        outcome = Outcome.DUPLICATE
    elif isinstance(event, UnknownEvent):
        outcome = Outcome.IGNORED
    else:
        outcome = _apply(session, door, webhook_id, event, now=now)
    counters.add(session, CounterShard, WEBHOOKS.of(outcome))
    return outcome


def _apply(
    session: Session, door: Door, webhook_id: str, event: Event, *, now: datetime
) -> Outcome:
    course_id, fact = event.data.course_id, _fact_of(event)
    actor = Actor(ActorKind.WEBHOOK, webhook_id)
    applied = registry.apply(session, door.source_id, course_id, fact, actor=actor, now=now)
    if applied is registry.Outcome.STALE:
        session.get_one(Taken, (door.source_id, webhook_id)).outcome = Outcome.STALE
    return Outcome(applied.value)


@dataclass(frozen=True)
class Wanted:
    """Which messages are meant: of this outcome, source, course, or webhook id."""

    outcome: Outcome | None = None
    source_id: int | None = None
    course_id: str | None = None
    webhook_id: str | None = None


@dataclass(frozen=True)
class Message:
    """What was taken in, from which source, and the course's entry as it stands now."""

    taken: Taken
    source: str
    entry: Entry | None


def page(
    session: Session, wanted: Wanted, page_request: PageRequest, *, limit: int = pagination.PAGE
) -> Page[Message]:
    """Return a page of what was taken in, the newest first, in one query."""
    of_the_course = and_(Entry.source_id == Taken.source_id, Entry.course_id == Taken.course_id)
    query = (
        select(Taken, Source.name, Entry)
        .join(Source, Source.id == Taken.source_id)
        .outerjoin(Entry, of_the_course)
        .where(*_conditions(wanted))
    )
    keys = (Taken.received_at, Taken.source_id, Taken.webhook_id)
    return pagination.read(
        session, query, keys, _placed, page_request, limit=limit, descending=True
    )


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    columns = {
        Taken.outcome: wanted.outcome,
        Taken.source_id: wanted.source_id,
        Taken.course_id: wanted.course_id,
        Taken.webhook_id: wanted.webhook_id,
    }
    found = [column == value for column, value in columns.items() if value is not None]
    if wanted.webhook_id is not None:
        # The primary key begins with the source: so it is looked up in each of them.
        found.append(Taken.source_id.in_(select(Source.id)))
    return found


def _placed(row: Any) -> tuple[Message, Cursor]:
    message = Message(*row)
    taken = message.taken
    return message, (taken.received_at, taken.source_id, taken.webhook_id)


def _check_source(door: Door, event: Event | UnknownEvent) -> None:
    if isinstance(event, UnknownEvent) and not isinstance(event, Ping):
        return
    source = event.data.source
    if source is not None and source != door.name:
        raise SourceMismatchError(
            f"the event is of the source {source!r}, this is the door of {door.name!r}"
        )


def _columns(
    door: Door, webhook_id: str, event: Event | UnknownEvent, raw: bytes, now: datetime
) -> dict[str, Any]:
    data = None if isinstance(event, UnknownEvent) else event.data
    return {
        "source_id": door.source_id,
        "webhook_id": webhook_id,
        "type": event.type,
        "course_id": data and data.course_id,
        "course_version": data and data.course_version,
        "body_sha256": hashlib.sha256(raw).hexdigest(),
        "outcome": Outcome.APPLIED if data else Outcome.IGNORED,
        "received_at": now,
    }


def _insert(session: Session, taken: dict[str, Any]) -> bool:
    """Tell whether the id is new: asking first and writing then would let two at once through."""
    # RETURNING, since the row count of an INSERT through the ORM is -1 on PostgreSQL.
    written = session.scalar(
        db.insert(session, Taken).values(taken).on_conflict_do_nothing().returning(Taken.webhook_id)
    )
    return written is not None


def _check_same_body(session: Session, taken: dict[str, Any]) -> None:
    first = session.scalars(
        select(Taken.body_sha256).where(
            Taken.source_id == taken["source_id"], Taken.webhook_id == taken["webhook_id"]
        )
    ).one()
    if first != taken["body_sha256"]:
        raise WebhookIdReusedError(
            f"the webhook id {taken['webhook_id']} was taken with another body"
        )


def _fact_of(event: Event) -> Fact:
    match event:
        case CourseDeleted(data=data, timestamp=at):
            return Deleted(data.course_version, at)
        case TokenRegenerated(data=data, timestamp=at):
            return TokenNamed(data.course_version, data.token_id, at)


def forget(session: Session, before: datetime, most: int) -> int:
    """Forget so many of the webhook ids that were taken before then; return how many there were.

    One that comes again afterwards is no duplicate any more, but stale by the registry's law.
    """
    key = tuple_(Taken.source_id, Taken.webhook_id)
    old = select(Taken.source_id, Taken.webhook_id).where(Taken.received_at < before).limit(most)
    gone: Any = session.execute(delete(Taken).where(key.in_(old)))
    return int(gone.rowcount)

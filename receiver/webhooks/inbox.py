"""The inbox: accepts each webhook once and applies its event to the registry, one transaction."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import TextualSelect, and_, bindparam, delete, select, text, tuple_, update
from sqlalchemy.orm import Session

from contract.events import CourseDeleted, Event, Ping, TokenRegenerated, UnknownEvent
from foundation.db import counters, pagination
from foundation.db.pagination import Page, PageRequest
from receiver.course_state import Deleted, Fact, TokenAnnounced
from receiver.errors import SourceMismatchError, WebhookIdReusedError
from receiver.models import Entry, InboxMessage, Source
from receiver.monitoring.metrics import WEBHOOKS
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources.store import WebhookSource


class WebhookOutcome(StrEnum):
    """What an accepted webhook did; its sender gets this in the response."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    IGNORED = "ignored"


_INBOX: Any = InboxMessage.__table__

# Built once, so that a webhook costs no construction of statements.
_HAS_ID = and_(_INBOX.c.source_id == bindparam("source"), _INBOX.c.webhook_id == bindparam("id"))
_FIRST_BODY = select(_INBOX.c.body_sha256).where(_HAS_ID)
_MARK_STALE = update(_INBOX).where(_HAS_ID).values(outcome=str(WebhookOutcome.STALE))


@cache
def _insert(dialect: str) -> TextualSelect:
    """Return the INSERT that does nothing for an id that is there; a SELECT first lets two through.

    As text, because SQLAlchemy compiles an INSERT with ON CONFLICT again each time.
    """
    now = ":received_at" if dialect == "sqlite" else "coalesce(:received_at, clock_timestamp())"
    names = [column.name for column in _INBOX.columns]
    values = [now if name == "received_at" else f":{name}" for name in names]
    statement = text(
        f"INSERT INTO inbox ({', '.join(names)}) VALUES ({', '.join(values)}) "  # noqa: S608 - our own columns
        "ON CONFLICT DO NOTHING RETURNING received_at"
    )
    typed = (bindparam(column.name, type_=column.type) for column in _INBOX.columns)
    return statement.bindparams(*typed).columns(_INBOX.c.received_at)


@dataclass(frozen=True)
class InboxFilter:
    """Which messages to list: of this outcome, source, course, or webhook id."""

    outcome: WebhookOutcome | None = None
    source_id: int | None = None
    course_id: str | None = None
    webhook_id: str | None = None


@dataclass(frozen=True)
class ListedMessage:
    """An inbox message with the name of its source and the present entry of its course."""

    message: InboxMessage
    source: str
    entry: Entry | None


def accept(
    session: Session,
    source: WebhookSource,
    webhook_id: str,
    event: Event | UnknownEvent,
    raw: bytes,
    *,
    now: datetime | None = None,
) -> WebhookOutcome:
    """Store a webhook and apply its event, unless its id was accepted before (a duplicate).

    In at most five statements, in Core: this is the most frequent transaction of ELMS. Without
    `now` the time is that of the database's clock.

    Raises SourceMismatchError before anything is written, and WebhookIdReusedError if the id was
    accepted with another body.
    """
    if not isinstance(event, UnknownEvent) or isinstance(event, Ping):
        named = event.data.source
        if named is not None and named != source.name:
            raise SourceMismatchError(
                f"the event is from the source {named!r}, "
                f"but this is the webhook route of {source.name!r}"
            )
    data = None if isinstance(event, UnknownEvent) else event.data
    body_sha256 = hashlib.sha256(raw).hexdigest()
    dialect = session.get_bind().dialect.name
    if now is None and dialect == "sqlite":
        now = datetime.now(UTC)  # its clock is this machine's
    inserted = session.connection().execute(
        _insert(dialect),
        {
            "source_id": source.source_id,
            "webhook_id": webhook_id,
            "type": event.type,
            "course_id": data and data.course_id,
            "course_version": data and data.course_version,
            "body_sha256": body_sha256,
            "outcome": str(WebhookOutcome.APPLIED if data else WebhookOutcome.IGNORED),
            "received_at": now,
        },
    )
    received_at = inserted.scalar_one_or_none()
    if received_at is None:
        key = {"source": source.source_id, "id": webhook_id}
        if session.connection().execute(_FIRST_BODY, key).scalar_one() != body_sha256:
            raise WebhookIdReusedError(
                f"the webhook id {webhook_id} was accepted with another body"
            )
        outcome = WebhookOutcome.DUPLICATE
    elif isinstance(event, UnknownEvent):
        outcome = WebhookOutcome.IGNORED
    else:
        outcome = _apply(session, source, webhook_id, event, now=received_at)
    counters.add(session, WEBHOOKS.count([(outcome,)]))
    return outcome


def _apply(
    session: Session, source: WebhookSource, webhook_id: str, event: Event, *, now: datetime
) -> WebhookOutcome:
    match event:
        case CourseDeleted(data=data, timestamp=at):
            fact: Fact = Deleted(data.course_version, at)
        case TokenRegenerated(data=data, timestamp=at):
            fact = TokenAnnounced(data.course_version, data.token_id, at)
    actor = Actor(ActorKind.WEBHOOK, webhook_id)
    course_id = event.data.course_id
    result = registry.apply(session, source.source_id, course_id, fact, actor=actor, now=now)
    if result is registry.ApplyResult.STALE:
        key = {"source": source.source_id, "id": webhook_id}
        session.connection().execute(_MARK_STALE, key)
    return WebhookOutcome(result.value)


def page(
    session: Session,
    inbox_filter: InboxFilter,
    page_request: PageRequest,
    *,
    limit: int = pagination.PAGE,
) -> Page[ListedMessage]:
    """Return a page of accepted webhooks, newest first, in one query."""
    same_course = and_(
        Entry.source_id == InboxMessage.source_id, Entry.course_id == InboxMessage.course_id
    )
    query = (
        select(InboxMessage, Source.name, Entry)
        .join(Source, Source.id == InboxMessage.source_id)
        .outerjoin(Entry, same_course)
    )
    for column, value in (
        (InboxMessage.outcome, inbox_filter.outcome),
        (InboxMessage.source_id, inbox_filter.source_id),
        (InboxMessage.course_id, inbox_filter.course_id),
        (InboxMessage.webhook_id, inbox_filter.webhook_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if inbox_filter.webhook_id is not None:
        # The primary key begins with the source, so the id is looked up in each source.
        query = query.where(InboxMessage.source_id.in_(select(Source.id)))
    keys = (InboxMessage.received_at, InboxMessage.source_id, InboxMessage.webhook_id)
    return pagination.read(
        session,
        query,
        keys,
        lambda row: (
            ListedMessage(*row),
            (row[0].received_at, row[0].source_id, row[0].webhook_id),
        ),
        page_request,
        limit=limit,
        descending=True,
    )


def prune(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` messages received before a time; return the number deleted.

    If one of them comes again, it is no longer a duplicate, but stale by the rule of the registry.
    """
    key = tuple_(InboxMessage.source_id, InboxMessage.webhook_id)
    old = select(InboxMessage.source_id, InboxMessage.webhook_id)
    old = old.where(InboxMessage.received_at < before).limit(limit)
    gone: Any = session.execute(delete(InboxMessage).where(key.in_(old)))
    return int(gone.rowcount)

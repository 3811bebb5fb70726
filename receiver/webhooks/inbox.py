"""The inbox: accepts each webhook once and applies its event to the registry, one transaction."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    TextualSelect,
    and_,
    bindparam,
    delete,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session, aliased

from contract.events import (
    CourseDeleted,
    CourseRestored,
    Event,
    Ping,
    TokenRegenerated,
    UnknownEvent,
)
from foundation.db import counters, pagination
from foundation.db import session as db
from foundation.db.pagination import Cursor, Page, PageRequest
from foundation.db.session import Database
from receiver.course_state import Deleted, Fact, Restored, TokenAnnounced
from receiver.errors import SourceMismatchError, WebhookIdReusedError
from receiver.models import Entry, InboxMessage, Source
from receiver.monitoring.metrics import WEBHOOKS
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
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


COLUMNS = (
    *("received_at", "source", "webhook_id", "event_type"),
    *("course_id", "course_version", "outcome"),
)
"""The columns of an exported list."""

# Up to this many courses that a search finds are looked up by an index; the messages of more are
# so frequent that reading all messages in order finds a page of them soon.
_FEW_COURSES = 200


@dataclass(frozen=True)
class InboxFilter:
    """Which messages to list; None is no condition, and `since` and `until` apply to the receipt.

    `matching` is a part of the course id, in any case.
    """

    outcome: WebhookOutcome | None = None
    source_id: int | None = None
    course_id: str | None = None
    webhook_id: str | None = None
    matching: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class ListedMessage:
    """An inbox message with the name of its source and the present entry of its course."""

    message: InboxMessage
    source: str
    entry: Entry | None

    @property
    def row(self) -> dict[str, Any]:
        """What lists for programs say: `COLUMNS`."""
        return {
            "received_at": self.message.received_at,
            "source": self.source,
            "webhook_id": self.message.webhook_id,
            "event_type": self.message.type,
            "course_id": self.message.course_id,
            "course_version": self.message.course_version,
            "outcome": self.message.outcome,
        }

    @property
    def cursor(self) -> Cursor:
        """Its position in the list."""
        return (self.message.received_at, self.message.source_id, self.message.webhook_id)


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
    `now` the time is that of the database's clock. Of heartbeats only the last one is stored, with
    its source; so is the interval that a ping states.

    Raises SourceMismatchError before anything is written, WebhookIdReusedError if the id was
    accepted with another body, and SourceUnknownError if the source of a heartbeat was removed.
    """
    if not isinstance(event, UnknownEvent) or isinstance(event, Ping):
        named = event.data.source
        if named is not None and named != source.name:
            raise SourceMismatchError(
                f"the event is from the source {named!r}, "
                f"but this is the webhook route of {source.name!r}"
            )
    if isinstance(event, Ping) and event.data.heartbeat_seconds is not None:
        at = now or db.now(session)
        sources.store_heartbeat(session, source.source_id, event.data.heartbeat_seconds, now=at)
    if isinstance(event, Ping) and event.is_heartbeat:
        counters.add(session, WEBHOOKS.count([(WebhookOutcome.IGNORED,)]))
        return WebhookOutcome.IGNORED
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
        case CourseRestored(data=data, timestamp=at):
            fact = Restored(data.course_version, at)
        case TokenRegenerated(data=data, timestamp=at):
            fact = TokenAnnounced(data.course_version, data.token_id, at, data.valid_until)
    actor = Actor(ActorKind.WEBHOOK, webhook_id)
    course_id = event.data.course_id
    if registry.apply(session, source.source_id, course_id, fact, actor=actor, now=now):
        return WebhookOutcome.APPLIED
    key = {"source": source.source_id, "id": webhook_id}
    session.connection().execute(_MARK_STALE, key)
    return WebhookOutcome.STALE


def page(
    session: Session,
    inbox_filter: InboxFilter,
    page_request: PageRequest,
    *,
    limit: int = pagination.PAGE,
) -> Page[ListedMessage]:
    """Return a page of accepted webhooks, newest first, in one query; in two for a search."""
    same_course = and_(
        Entry.source_id == InboxMessage.source_id, Entry.course_id == InboxMessage.course_id
    )
    query = (
        _matching(session, inbox_filter)
        .add_columns(Source.name, Entry)
        .join(Source, Source.id == InboxMessage.source_id)
        .outerjoin(Entry, same_course)
    )

    def show(row: Row[Any]) -> tuple[ListedMessage, Cursor]:
        listed = ListedMessage(*row)
        return listed, listed.cursor

    keys = (InboxMessage.received_at, InboxMessage.source_id, InboxMessage.webhook_id)
    return pagination.read(session, query, keys, show, page_request, limit=limit, descending=True)


def count(session: Session, inbox_filter: InboxFilter) -> int:
    """Return the number of webhooks that match, as `pagination.count` does."""
    query = _matching(session, inbox_filter).with_only_columns(InboxMessage.webhook_id)
    return pagination.count(session, query)


def export(database: Database, inbox_filter: InboxFilter) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `COLUMNS`, newest first, each read in its own transaction."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        request = PageRequest(after=cursor)
        found = page(session, inbox_filter, request, limit=pagination.BATCH)
        return Page([listed.row for listed in found.rows], None, found.after)

    return pagination.batches(database, read)


def cursor_of(session: Session, webhook_id: str, source_id: int | None) -> Cursor:
    """Return the position of a webhook in the list; raise ValueError unless there is one."""
    inbox_filter = InboxFilter(webhook_id=webhook_id, source_id=source_id)
    rows = page(session, inbox_filter, PageRequest(), limit=2).rows
    if len(rows) != 1:
        raise ValueError(
            f"several sources sent {webhook_id}: name one"
            if rows
            else f"no webhook {webhook_id} was received"
        )
    return rows[0].cursor


def _matching(session: Session, inbox_filter: InboxFilter) -> Select[tuple[InboxMessage]]:
    query = select(InboxMessage)
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
    if inbox_filter.matching is not None:
        query = query.where(_of_course(session, inbox_filter.matching))
    if inbox_filter.since is not None:
        query = query.where(InboxMessage.received_at >= inbox_filter.since)
    if inbox_filter.until is not None:
        query = query.where(InboxMessage.received_at < inbox_filter.until)
    return query


def _of_course(session: Session, text: str) -> ColumnElement[bool]:
    # Each course that a webhook was about has an entry.
    courses = select(Entry.course_id).where(Entry.course_id.icontains(text, autoescape=True))
    found = session.scalars(courses.distinct().limit(_FEW_COURSES + 1)).all()
    if len(found) <= _FEW_COURSES:
        return db.among(InboxMessage.course_id, found)
    return InboxMessage.course_id.icontains(text, autoescape=True)


def prune(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` messages received before a time; return the number deleted.

    The last message of each source is kept, to know when it was. If one that was deleted comes
    again, it is no longer a duplicate, but stale by the rule of the registry.
    """
    # All columns of an index: by the primary key alone, SQLite reads all messages of a source.
    key = (InboxMessage.source_id, InboxMessage.received_at, InboxMessage.webhook_id)
    old = select(*key)
    newer = aliased(InboxMessage)
    has_newer = select(newer.webhook_id).where(
        newer.source_id == InboxMessage.source_id, newer.received_at > InboxMessage.received_at
    )
    old = old.where(InboxMessage.received_at < before, has_newer.exists()).limit(limit)
    gone: Any = session.execute(delete(InboxMessage).where(tuple_(*key).in_(old)))
    return int(gone.rowcount)

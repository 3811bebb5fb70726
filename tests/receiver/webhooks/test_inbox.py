"""The inbox: each event is applied once, together with its message, or not at all."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, UnknownEvent
from foundation.db.session import Database
from receiver.errors import SourceMismatchError, WebhookIdReusedError
from receiver.models import Entry, InboxMessage, Source
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.inbox import WebhookOutcome

Accept = Callable[..., WebhookOutcome]
Rows = Callable[[type[Any]], list[Any]]


@pytest.fixture
def source(make_source: Callable[..., Source]) -> WebhookSource:
    """A source."""
    row = make_source()
    return WebhookSource(row.id, row.name, ())


@pytest.fixture
def accept(database: Database, source: WebhookSource, now: datetime) -> Accept:
    """Return what accepts an event in a transaction of its own."""

    def call(webhook_id: str, event: Any, raw: bytes | None = None) -> WebhookOutcome:
        body = raw if raw is not None else events.dump(event).encode()
        with database.writing() as session:
            return inbox.accept(session, source, webhook_id, event, body, now=now)

    return call


def deleted(source: WebhookSource, version: int = 4, at: datetime | None = None) -> CourseDeleted:
    """Return the deletion of CS101."""
    data = CourseDeletedData(source=source.name, course_id="CS101", course_version=version)
    return CourseDeleted(timestamp=at or datetime.fromisoformat("2026-11-22T09:00:00Z"), data=data)


def test_new_event_is_applied_and_stored(
    source: WebhookSource,
    accept: Accept,
    rows: Rows,
    now: datetime,
) -> None:
    outcome = accept("msg_1", deleted(source))

    (message,), (entry,) = rows(InboxMessage), rows(Entry)
    assert outcome is WebhookOutcome.APPLIED
    assert (message.type, message.course_id, message.course_version) == (
        "course.deleted",
        "CS101",
        4,
    )
    assert (message.outcome, message.received_at) == ("applied", now)
    assert entry.deleted_version == 4


def test_repeated_event_is_a_duplicate(
    source: WebhookSource,
    accept: Accept,
    rows: Rows,
) -> None:
    accept("msg_1", deleted(source))

    outcome = accept("msg_1", deleted(source))

    assert outcome is WebhookOutcome.DUPLICATE
    assert len(rows(InboxMessage)) == 1


def test_older_event_is_stale(
    source: WebhookSource,
    accept: Accept,
    rows: Rows,
) -> None:
    accept("msg_2", deleted(source, 5))

    outcome = accept("msg_1", deleted(source, 4))

    assert outcome is WebhookOutcome.STALE
    assert {row.webhook_id: row.outcome for row in rows(InboxMessage)} == {
        "msg_2": "applied",
        "msg_1": "stale",
    }


def test_unknown_type_is_stored_and_ignored(accept: Accept, rows: Rows) -> None:
    # B8
    event = UnknownEvent(type="course.renamed")

    first, second = (accept("msg_1", event, b"{}") for _ in range(2))

    assert (first, second) == (WebhookOutcome.IGNORED, WebhookOutcome.DUPLICATE)
    assert (rows(InboxMessage)[0].outcome, rows(Entry)) == ("ignored", [])


def test_known_id_with_another_body_is_refused(
    source: WebhookSource,
    accept: Accept,
    rows: Rows,
) -> None:
    # B11
    accept("msg_1", deleted(source, 4))

    with pytest.raises(WebhookIdReusedError, match="msg_1 was accepted with another body"):
        accept("msg_1", deleted(source, 5))

    assert rows(Entry)[0].deleted_version == 4


def test_event_of_another_source_changes_nothing(
    source: WebhookSource,
    accept: Accept,
    rows: Rows,
) -> None:
    # B10
    stranger = WebhookSource(source.source_id, "elsewhere.example", ())

    with pytest.raises(SourceMismatchError, match=r"from the source 'elsewhere\.example'"):
        accept("msg_1", deleted(stranger))

    assert (rows(InboxMessage), rows(Entry)) == ([], [])


def test_two_sources_may_use_the_same_id(
    database: Database,
    source: WebhookSource,
    accept: Accept,
    make_source: Callable[..., Source],
    now: datetime,
) -> None:
    accept("msg_1", deleted(source))
    other = make_source("other.example")
    second = WebhookSource(other.id, other.name, ())

    with database.writing() as session:
        outcome = inbox.accept(session, second, "msg_1", deleted(second), b"another", now=now)

    assert outcome is WebhookOutcome.APPLIED


def test_failure_rolls_the_message_back(
    database: Database, source: WebhookSource, rows: Rows, now: datetime
) -> None:
    def crash() -> None:
        with database.writing() as session:
            inbox.accept(session, source, "msg_1", deleted(source), b"{}", now=now)
            raise RuntimeError("crashed before the commit")

    with pytest.raises(RuntimeError, match="crashed"):
        crash()

    assert (rows(InboxMessage), rows(Entry)) == ([], [])

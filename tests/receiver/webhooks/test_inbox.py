"""The inbox: each event once, with its effect, or not at all."""

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


@pytest.fixture
def door(make_source: Callable[..., Source]) -> WebhookSource:
    """The door of a source."""
    source = make_source()
    return WebhookSource(source.id, source.name, ())


@pytest.fixture
def take(database: Database, door: WebhookSource, now: datetime) -> Callable[..., WebhookOutcome]:
    """Return what takes an event in, in a transaction of its own."""

    def accept(webhook_id: str, event: Any, raw: bytes | None = None) -> WebhookOutcome:
        body = raw if raw is not None else events.dump(event).encode()
        with database.writing() as session:
            return inbox.accept(session, door, webhook_id, event, body, now=now)

    return accept


def deleted(door: WebhookSource, version: int = 4, at: datetime | None = None) -> CourseDeleted:
    """Return the event that CS101 was deleted."""
    data = CourseDeletedData(source=door.name, course_id="CS101", course_version=version)
    return CourseDeleted(timestamp=at or datetime.fromisoformat("2026-11-22T09:00:00Z"), data=data)


def test_a_new_event_is_applied_and_recorded(
    door: WebhookSource,
    take: Callable[..., WebhookOutcome],
    rows: Callable[[type[Any]], list[Any]],
    now: datetime,
) -> None:
    outcome = take("msg_1", deleted(door))

    (taken,), (entry,) = rows(InboxMessage), rows(Entry)
    assert outcome is WebhookOutcome.APPLIED
    assert (taken.type, taken.course_id, taken.course_version) == ("course.deleted", "CS101", 4)
    assert (taken.outcome, taken.received_at) == ("applied", now)
    assert entry.deleted_version == 4


def test_the_second_time_is_a_duplicate(
    door: WebhookSource, take: Callable[..., WebhookOutcome], rows: Callable[[type[Any]], list[Any]]
) -> None:
    take("msg_1", deleted(door))

    outcome = take("msg_1", deleted(door))

    assert outcome is WebhookOutcome.DUPLICATE
    assert len(rows(InboxMessage)) == 1


def test_an_overtaken_event_is_stale(
    door: WebhookSource, take: Callable[..., WebhookOutcome], rows: Callable[[type[Any]], list[Any]]
) -> None:
    take("msg_2", deleted(door, 5))

    outcome = take("msg_1", deleted(door, 4))

    assert outcome is WebhookOutcome.STALE
    assert {row.webhook_id: row.outcome for row in rows(InboxMessage)} == {
        "msg_2": "applied",
        "msg_1": "stale",
    }


def test_an_unknown_type_is_recorded_and_left_alone(
    take: Callable[..., WebhookOutcome], rows: Callable[[type[Any]], list[Any]]
) -> None:
    """An event of a later release is heard once and changes nothing (B8)."""
    event = UnknownEvent(type="course.renamed")

    first, second = (take("msg_1", event, b"{}") for _ in range(2))

    assert (first, second) == (WebhookOutcome.IGNORED, WebhookOutcome.DUPLICATE)
    assert (rows(InboxMessage)[0].outcome, rows(Entry)) == ("ignored", [])


def test_an_id_names_one_body_for_good(
    door: WebhookSource, take: Callable[..., WebhookOutcome], rows: Callable[[type[Any]], list[Any]]
) -> None:
    """The same id with another body is refused, and the first is kept (B11)."""
    take("msg_1", deleted(door, 4))

    with pytest.raises(WebhookIdReusedError, match="msg_1 was accepted with another body"):
        take("msg_1", deleted(door, 5))

    assert rows(Entry)[0].deleted_version == 4


def test_anothers_event_leaves_nothing_behind(
    door: WebhookSource, take: Callable[..., WebhookOutcome], rows: Callable[[type[Any]], list[Any]]
) -> None:
    """An event of another source is refused before anything is written (B10)."""
    stranger = WebhookSource(door.source_id, "elsewhere.example", ())

    with pytest.raises(SourceMismatchError, match=r"from the source 'elsewhere\.example'"):
        take("msg_1", deleted(stranger))

    assert (rows(InboxMessage), rows(Entry)) == ([], [])


def test_two_sources_may_use_one_id(
    database: Database,
    door: WebhookSource,
    take: Callable[..., WebhookOutcome],
    make_source: Callable[..., Source],
    now: datetime,
) -> None:
    take("msg_1", deleted(door))
    other = make_source("other.example")
    second = WebhookSource(other.id, other.name, ())

    with database.writing() as session:
        outcome = inbox.accept(session, second, "msg_1", deleted(second), b"another", now=now)

    assert outcome is WebhookOutcome.APPLIED


def test_a_failure_takes_the_inbox_row_back(
    database: Database, door: WebhookSource, rows: Callable[[type[Any]], list[Any]], now: datetime
) -> None:
    def crash() -> None:
        with database.writing() as session:
            inbox.accept(session, door, "msg_1", deleted(door), b"{}", now=now)
            raise RuntimeError("crashed before the commit")

    with pytest.raises(RuntimeError, match="crashed"):
        crash()

    assert (rows(InboxMessage), rows(Entry)) == ([], [])

"""The inbox: each event is applied once, together with its message, or not at all."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, Event, UnknownEvent
from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.errors import SourceMismatchError, WebhookIdReusedError
from receiver.models import Entry, InboxMessage, Source
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome
from tests.receiver.conftest import NINE, SITE

Accept = Callable[..., WebhookOutcome]
Rows = Callable[[type[Any]], list[Any]]


def make_deleted(
    version: int = 4, course_id: str = "CS101", source: str | None = SITE
) -> CourseDeleted:
    """Return the deletion of a course."""
    data = CourseDeletedData(source=source, course_id=course_id, course_version=version)
    return CourseDeleted(timestamp=NINE, data=data)


@pytest.fixture
def accept(database: Database, make_source: Callable[..., Source], now: datetime) -> Accept:
    """Return a function that accepts an event in a transaction of its own."""
    row = make_source()
    source = WebhookSource(row.id, row.name, ())

    def call(
        webhook_id: str,
        event: Event | UnknownEvent,
        source: WebhookSource = source,
        seconds: int = 0,
    ) -> WebhookOutcome:
        at = now + timedelta(seconds=seconds)
        raw = b"{}" if isinstance(event, UnknownEvent) else events.dump(event).encode()
        with database.writing() as session:
            return inbox.accept(session, source, webhook_id, event, raw, now=at)

    return call


def test_new_event_is_applied_and_stored(accept: Accept, rows: Rows, now: datetime) -> None:
    outcome = accept("msg_1", make_deleted())

    [message], [entry] = rows(InboxMessage), rows(Entry)
    assert outcome is WebhookOutcome.APPLIED
    assert (message.type, message.course_id, message.course_version) == (
        "course.deleted",
        "CS101",
        4,
    )
    assert (message.outcome, message.received_at) == ("applied", now)
    assert entry.deleted_version == 4


def test_repeated_event_is_a_duplicate(accept: Accept, rows: Rows) -> None:
    accept("msg_1", make_deleted())

    outcome = accept("msg_1", make_deleted())

    assert outcome is WebhookOutcome.DUPLICATE
    assert len(rows(InboxMessage)) == 1


def test_older_event_is_stale(accept: Accept, rows: Rows) -> None:
    accept("msg_2", make_deleted(5))

    outcome = accept("msg_1", make_deleted(4))

    assert outcome is WebhookOutcome.STALE
    assert {row.webhook_id: row.outcome for row in rows(InboxMessage)} == {
        "msg_2": "applied",
        "msg_1": "stale",
    }


def test_unknown_type_is_ignored_once(accept: Accept, rows: Rows) -> None:  # B8
    event = UnknownEvent(type="course.renamed")

    first, second = (accept("msg_1", event) for _ in range(2))

    assert (first, second) == (WebhookOutcome.IGNORED, WebhookOutcome.DUPLICATE)
    assert (rows(InboxMessage)[0].outcome, rows(Entry)) == ("ignored", [])


def test_known_id_with_another_body_is_refused(accept: Accept, rows: Rows) -> None:  # B11
    accept("msg_1", make_deleted(4))

    with pytest.raises(WebhookIdReusedError, match="msg_1 was accepted with another body"):
        accept("msg_1", make_deleted(5))

    assert rows(Entry)[0].deleted_version == 4


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(make_deleted(source="elsewhere.example"), id="deletion"),
        pytest.param(events.load(events.dump_ping("elsewhere.example", NINE).encode()), id="ping"),
    ],
)
def test_event_of_another_source_changes_nothing(  # B10
    accept: Accept, rows: Rows, event: Event | UnknownEvent
) -> None:
    with pytest.raises(SourceMismatchError, match=r"from the source 'elsewhere\.example'") as error:
        accept("msg_1", event)

    assert "NOTIFIER_SOURCE" in str(error.value.advice)
    assert (rows(InboxMessage), rows(Entry)) == ([], [])


def test_two_sources_may_use_the_same_id(
    accept: Accept, make_source: Callable[..., Source]
) -> None:
    accept("msg_1", make_deleted())
    other = make_source("other.example")

    outcome = accept(
        "msg_1",
        make_deleted(source="other.example"),
        WebhookSource(other.id, other.name, ()),
    )

    assert outcome is WebhookOutcome.APPLIED


def test_failure_rolls_the_message_back(
    database: Database, accept: Accept, rows: Rows, now: datetime
) -> None:
    def crash() -> None:
        with database.writing() as session:
            source = WebhookSource(1, SITE, ())
            inbox.accept(session, source, "msg_1", make_deleted(), b"{}", now=now)
            raise RuntimeError("crashed before the commit")

    with pytest.raises(RuntimeError, match="crashed"):
        crash()

    assert (rows(InboxMessage), rows(Entry)) == ([], [])


@pytest.mark.parametrize(
    ("inbox_filter", "expected"),
    [
        pytest.param(InboxFilter(), ["msg_3", "msg_2", "msg_1"], id="all"),
        pytest.param(InboxFilter(WebhookOutcome.STALE), ["msg_2"], id="outcome"),
        pytest.param(InboxFilter(course_id="CS101"), ["msg_2", "msg_1"], id="course"),
        pytest.param(InboxFilter(webhook_id="msg_1"), ["msg_1"], id="webhook id"),
        pytest.param(InboxFilter(source_id=2), [], id="source without webhooks"),
        pytest.param(
            InboxFilter(WebhookOutcome.APPLIED, 1, "CS101"), ["msg_1"], id="several filters"
        ),
    ],
)
def test_filter_selects_messages(
    database: Database,
    accept: Accept,
    make_source: Callable[..., Source],
    inbox_filter: InboxFilter,
    expected: list[str],
) -> None:
    make_source("two")
    accept("msg_1", make_deleted(5), seconds=1)
    accept("msg_2", make_deleted(4), seconds=2)
    accept("msg_3", make_deleted(course_id="CS1"), seconds=3)

    with database.reading() as session:
        page = inbox.page(session, inbox_filter, PageRequest())

    assert [row.message.webhook_id for row in page.rows] == expected


def test_pages_have_every_message_once(database: Database, accept: Accept, now: datetime) -> None:
    for number in range(5):
        accept(f"msg_{number}", make_deleted(course_id=f"CS{number}"))

    pages = []
    with database.reading() as session:
        for request in (
            PageRequest(),
            PageRequest(after=(now, 1, "msg_3")),
            PageRequest(before=(now, 1, "msg_2")),
        ):
            page = inbox.page(session, InboxFilter(), request, limit=2)
            pages.append([row.message.webhook_id for row in page.rows])

    assert pages == [["msg_4", "msg_3"], ["msg_2", "msg_1"], ["msg_4", "msg_3"]]

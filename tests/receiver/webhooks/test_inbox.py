"""The inbox: each event is applied once, together with its message, or not at all."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, Event, UnknownEvent
from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.errors import SourceMismatchError, WebhookIdReusedError
from receiver.models import Entry, InboxMessage
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome
from tests.receiver.conftest import NINE, SITE, Store

Accept = Callable[..., WebhookOutcome]


def make_deleted(
    version: int = 4, course_id: str = "CS101", source: str | None = SITE
) -> CourseDeleted:
    """Return the deletion of a course."""
    data = CourseDeletedData(source=source, course_id=course_id, course_version=version)
    return CourseDeleted(timestamp=NINE, data=data)


@pytest.fixture
def accept(database: Database, store: Store, now: datetime) -> Accept:
    """Return a function that accepts an event in a transaction of its own."""
    store.add_source()
    source = WebhookSource(1, SITE, ())

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


def test_new_event_is_applied_and_stored(accept: Accept, store: Store, now: datetime) -> None:
    outcome = accept("msg_1", make_deleted())

    [message], [entry] = store.rows(InboxMessage), store.rows(Entry)
    assert outcome is WebhookOutcome.APPLIED
    assert (message.type, message.course_id, message.course_version) == (
        "course.deleted",
        "CS101",
        4,
    )
    assert (message.outcome, message.received_at) == ("applied", now)
    assert entry.deleted_version == 4


def test_repeated_event_is_a_duplicate(accept: Accept, store: Store) -> None:
    accept("msg_1", make_deleted())

    outcome = accept("msg_1", make_deleted())

    assert outcome is WebhookOutcome.DUPLICATE
    assert len(store.rows(InboxMessage)) == 1


def test_older_event_is_stale(accept: Accept, store: Store) -> None:
    accept("msg_2", make_deleted(5))

    outcome = accept("msg_1", make_deleted(4))

    assert outcome is WebhookOutcome.STALE
    assert {row.webhook_id: row.outcome for row in store.rows(InboxMessage)} == {
        "msg_2": "applied",
        "msg_1": "stale",
    }


def test_unknown_type_is_ignored_once(accept: Accept, store: Store) -> None:  # B8
    event = UnknownEvent(type="course.renamed")

    first, second = (accept("msg_1", event) for _ in range(2))

    assert (first, second) == (WebhookOutcome.IGNORED, WebhookOutcome.DUPLICATE)
    assert (store.rows(InboxMessage)[0].outcome, store.rows(Entry)) == ("ignored", [])


def test_known_id_with_another_body_is_refused(accept: Accept, store: Store) -> None:  # B11
    accept("msg_1", make_deleted(4))

    with pytest.raises(WebhookIdReusedError, match="msg_1 was accepted with another body"):
        accept("msg_1", make_deleted(5))

    assert store.rows(Entry)[0].deleted_version == 4


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(make_deleted(source="elsewhere.example"), id="deletion"),
        pytest.param(events.load(events.dump_ping("elsewhere.example", NINE).encode()), id="ping"),
    ],
)
def test_event_of_another_source_changes_nothing(  # B10
    accept: Accept, store: Store, event: Event | UnknownEvent
) -> None:
    with pytest.raises(SourceMismatchError, match=r"from the source 'elsewhere\.example'") as error:
        accept("msg_1", event)

    assert "NOTIFIER_SOURCE" in str(error.value.advice)
    assert (store.rows(InboxMessage), store.rows(Entry)) == ([], [])


def test_two_sources_may_use_the_same_id(accept: Accept, store: Store) -> None:
    accept("msg_1", make_deleted())
    other = WebhookSource(store.add_source("other.example").id, "other.example", ())

    outcome = accept("msg_1", make_deleted(source="other.example"), other)

    assert outcome is WebhookOutcome.APPLIED


def test_failure_rolls_the_message_back(
    database: Database, accept: Accept, store: Store, now: datetime
) -> None:
    def crash() -> None:
        with database.writing() as session:
            source = WebhookSource(1, SITE, ())
            inbox.accept(session, source, "msg_1", make_deleted(), b"{}", now=now)
            raise RuntimeError("crashed before the commit")

    with pytest.raises(RuntimeError, match="crashed"):
        crash()

    assert (store.rows(InboxMessage), store.rows(Entry)) == ([], [])


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
    store: Store,
    inbox_filter: InboxFilter,
    expected: list[str],
) -> None:
    store.add_source("two")
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

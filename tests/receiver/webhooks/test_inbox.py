"""The inbox: each event is applied once, together with its message, or not at all."""

from datetime import timedelta

import pytest

from contract import events
from contract.events import Event, UnknownEvent
from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.errors import SourceMismatchError, SourceUnknownError, WebhookIdReusedError
from receiver.models import Entry, InboxMessage
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome
from tests.receiver.conftest import NINE, Store, make_deleted, make_heartbeat, make_ping

HOUR = timedelta(hours=1)


def test_new_event_is_applied_and_stored(store: Store) -> None:
    outcome = store.receive("msg_1", make_deleted())

    [message], [entry] = store.rows(InboxMessage), store.rows(Entry)
    assert outcome is WebhookOutcome.APPLIED
    assert (message.type, message.course_id) == ("course.deleted", "CS101")
    assert message.course_version == entry.deleted_version == 4
    assert (message.outcome, message.received_at) == ("applied", NINE)


def test_repeated_event_is_a_duplicate(store: Store) -> None:
    store.receive("msg_1", make_deleted())

    outcome = store.receive("msg_1", make_deleted())

    assert outcome is WebhookOutcome.DUPLICATE
    assert len(store.rows(InboxMessage)) == 1


def test_older_event_is_stale(store: Store) -> None:
    store.receive("msg_2", make_deleted(5))

    outcome = store.receive("msg_1", make_deleted(4))

    assert outcome is WebhookOutcome.STALE
    assert {row.webhook_id: row.outcome for row in store.rows(InboxMessage)} == {
        "msg_2": "applied",
        "msg_1": "stale",
    }


def test_unknown_type_is_ignored_once(store: Store) -> None:  # B8
    event = UnknownEvent(type="course.renamed")

    first, second = (store.receive("msg_1", event) for _ in range(2))

    assert (first, second) == (WebhookOutcome.IGNORED, WebhookOutcome.DUPLICATE)
    assert (store.rows(InboxMessage)[0].outcome, store.rows(Entry)) == ("ignored", [])


def test_known_id_with_another_body_is_refused(store: Store) -> None:  # B11
    store.receive("msg_1", make_deleted(4))

    with pytest.raises(WebhookIdReusedError, match="msg_1 was accepted with another body"):
        store.receive("msg_1", make_deleted(5))

    assert store.rows(Entry)[0].deleted_version == 4


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(make_deleted(source="elsewhere.example"), id="deletion"),
        pytest.param(events.load(events.dump_ping("elsewhere.example", NINE).encode()), id="ping"),
    ],
)
def test_event_of_another_source_changes_nothing(  # B10
    store: Store, event: Event | UnknownEvent
) -> None:
    with pytest.raises(SourceMismatchError, match=r"from the source 'elsewhere\.example'") as error:
        store.receive("msg_1", event)

    assert "NOTIFIER_SOURCE" in str(error.value.advice)
    assert (store.rows(InboxMessage), store.rows(Entry)) == ([], [])


def test_heartbeat_is_stored_with_its_source_only(store: Store) -> None:
    outcomes = [store.receive(f"msg_{at}", make_heartbeat(), at=NINE + at * HOUR) for at in (0, 1)]

    source = store.source("one")
    assert outcomes == [WebhookOutcome.IGNORED] * 2
    assert (source.heartbeat_at, source.heartbeat_seconds) == (NINE + HOUR, 3600)
    assert store.rows(InboxMessage) == []


def test_ping_of_a_site_without_heartbeats_ends_them(store: Store) -> None:
    store.receive("msg_1", make_heartbeat())

    store.receive("msg_2", make_ping(0), at=NINE + HOUR)

    assert store.source("one").heartbeat_seconds is None
    assert [message.webhook_id for message in store.rows(InboxMessage)] == ["msg_2"]


def test_ping_of_a_person_tells_the_interval_and_is_listed(store: Store) -> None:
    outcome = store.receive("msg_1", make_ping(3600), at=NINE)

    source = store.source("one")
    assert outcome is WebhookOutcome.IGNORED
    assert (source.heartbeat_at, source.heartbeat_seconds) == (NINE, 3600)
    assert [message.webhook_id for message in store.rows(InboxMessage)] == ["msg_1"]


def test_heartbeat_of_a_removed_source_is_refused(database: Database) -> None:
    with database.writing() as session, pytest.raises(SourceUnknownError):
        inbox.accept(session, WebhookSource(9, "one", ()), "msg_1", make_heartbeat(), b"{}")


def test_two_sources_may_use_the_same_id(store: Store) -> None:
    store.receive("msg_1", make_deleted())

    outcome = store.receive("msg_1", make_deleted(source="two"), source="two")

    assert outcome is WebhookOutcome.APPLIED


def test_failure_rolls_the_message_back(database: Database, store: Store) -> None:
    source = WebhookSource(store.add_source("one").id, "one", ())

    def crash() -> None:
        with database.writing() as session:
            inbox.accept(session, source, "msg_1", make_deleted(), b"{}", now=NINE)
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
        pytest.param(InboxFilter(matching="s10"), ["msg_2", "msg_1"], id="part of the course id"),
        pytest.param(InboxFilter(matching="_"), [], id="no wildcard"),
        pytest.param(
            InboxFilter(since=NINE + timedelta(seconds=2), until=NINE + timedelta(seconds=3)),
            ["msg_2"],
            id="time",
        ),
        pytest.param(
            InboxFilter(WebhookOutcome.APPLIED, 1, "CS101"), ["msg_1"], id="several filters"
        ),
    ],
)
def test_filter_selects_messages(
    database: Database, store: Store, inbox_filter: InboxFilter, expected: list[str]
) -> None:
    store.add_source("one")
    store.add_source("two")
    store.receive("msg_1", make_deleted(5), at=NINE + timedelta(seconds=1))
    store.receive("msg_2", make_deleted(4), at=NINE + timedelta(seconds=2))
    store.receive("msg_3", make_deleted(course_id="CS1"), at=NINE + timedelta(seconds=3))

    with database.reading() as session:
        page = inbox.page(session, inbox_filter, PageRequest())
        count = inbox.count(session, inbox_filter)

    assert [row.message.webhook_id for row in page.rows] == expected
    assert count == len(expected)


@pytest.mark.parametrize("few", [0, 9], ids=["many courses", "few courses"])
def test_search_finds_webhooks_of_many_courses(
    database: Database, store: Store, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(inbox, "_FEW_COURSES", few)
    for number, course_id in enumerate(("Bio/1", "ABIO_2", "Ébio", "CS1")):
        store.receive(f"msg_{number}", make_deleted(course_id=course_id))

    def found(text: str) -> list[str]:
        with database.reading() as session:
            rows = inbox.page(session, InboxFilter(matching=text), PageRequest()).rows
        return [row.message.webhook_id for row in rows]

    assert found("bIo") == ["msg_2", "msg_1", "msg_0"]
    assert (found("Éb"), found("bio_"), found("o/1")) == (["msg_2"], ["msg_1"], ["msg_0"])


def test_pages_have_every_message_once(database: Database, store: Store) -> None:
    for number in range(5):
        store.receive(f"msg_{number}", make_deleted(course_id=f"CS{number}"))

    pages = []
    with database.reading() as session:
        for request in (
            PageRequest(),
            PageRequest(after=(NINE, 1, "msg_3")),
            PageRequest(before=(NINE, 1, "msg_2")),
        ):
            page = inbox.page(session, InboxFilter(), request, limit=2)
            pages.append([row.message.webhook_id for row in page.rows])

    assert pages == [["msg_4", "msg_3"], ["msg_2", "msg_1"], ["msg_4", "msg_3"]]

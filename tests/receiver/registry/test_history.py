"""The history of a course: its entries, their actors, and the resulting status."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import events
from contract.events import CourseDeleted, CourseDeletedData
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.pagination import PageRequest
from receiver.course_state import (
    Deleted,
    Fact,
    Restored,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
)
from receiver.models import HistoryEntry
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.receiver.conftest import NINE, WEBHOOK, Store

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
RUN = Actor(ActorKind.SYNC, "run 7")


@pytest.fixture
def written(store: Store) -> Callable[[], list[tuple[str, ...]]]:
    """Return a function that reads all entries, oldest first: actor, event, resulting status."""

    def read() -> list[tuple[str, ...]]:
        lines = sorted(store.rows(HistoryEntry), key=lambda line: line.id)
        return [(line.actor, line.actor_name, line.event, line.status) for line in lines]

    return read


def test_every_change_has_an_entry_without_a_secret(
    store: Store, written: Callable[[], list[tuple[str, ...]]]
) -> None:
    source, first, second = store.source("one"), CourseToken.generate(), CourseToken.generate()
    by_ada: dict[str, Any] = {"actor": ADA, "now": NINE}

    with store.database.writing() as session:
        registry.add(session, source, "CS101", first, vault=store.vault, **by_ada)
    store.apply("CS101", TokenAnnounced(2, second.token_id, NINE))
    with store.database.writing() as session:
        entry = registry.get_added(session, source, "CS101")
        registry.set_token(session, entry, second, vault=store.vault, **by_ada)
        registry.remove(session, source, "CS101", **by_ada)

    assert written() == [
        ("administrator", "ada@elms", "course.added", "active"),
        ("webhook", "msg_1", "token.regenerated", "token_invalid"),
        ("administrator", "ada@elms", "token.entered", "active"),
        ("administrator", "ada@elms", "course.removed", "token_invalid"),
    ]
    lines = [vars(line) for line in store.rows(HistoryEntry)]
    assert f"stored token {first.token_id}" in {line["detail"] for line in lines}
    assert first.secret not in repr(lines)
    assert second.secret not in repr(lines)


def test_stale_webhook_has_an_entry_and_duplicate_has_none(
    store: Store, written: Callable[[], list[tuple[str, ...]]]
) -> None:
    source = WebhookSource(store.source("one").id, "one", ())

    for webhook_id, version in (("msg_2", 5), ("msg_2", 5), ("msg_1", 4)):
        data = CourseDeletedData(source=source.name, course_id="CS101", course_version=version)
        event = CourseDeleted(timestamp=NINE, data=data)
        with store.database.writing() as session:
            raw = events.dump(event).encode()
            inbox.accept(session, source, webhook_id, event, raw, now=NINE)

    assert written() == [
        ("webhook", "msg_2", "course.deleted", "course_deleted"),
        ("webhook", "msg_1", "stale course.deleted", "course_deleted"),
    ]


def test_sync_writes_only_facts_that_changed_something(
    store: Store, written: Callable[[], list[tuple[str, ...]]]
) -> None:
    changed, known = store.add_course("CS101"), store.add_course("CS102")
    stored = str(changed.stored_token_id)
    facts = (TokenAnnounced(2, "new", NINE), TokenRejected(stored, "it was regenerated", NINE))

    with store.database.writing() as session:
        updates = [EntryUpdate(changed.id, facts), EntryUpdate(known.id, (), '"etag"', True)]
        registry.apply_updates(session, updates, actor=RUN, now=NINE)

    assert written()[2:] == [
        ("sync", "run 7", "token.regenerated", "token_invalid"),
        ("sync", "run 7", "token.rejected", "token_invalid"),
    ]


def test_latest_entries_come_first(store: Store) -> None:
    store.apply("CS101", *(TokenAnnounced(number, f"t{number}", NINE) for number in range(1, 6)))

    with store.database.reading() as session:
        entry = registry.get_any(session, store.source("one"), "CS101")
        lines = history.page(session, entry.id, PageRequest(), limit=2).rows

    assert [line.detail for line in lines] == [
        "version 5, current token t5",
        "version 4, current token t4",
    ]


_hours = st.integers(0, 2)
_facts = st.one_of(
    st.builds(Deleted, st.integers(1, 3), _hours),
    st.builds(TokenAnnounced, st.integers(1, 3), st.sampled_from("ab"), _hours),
    st.builds(TokenRejected, st.sampled_from("ab"), st.just("unknown"), _hours),
    st.builds(TokenAccepted, st.sampled_from("ab"), _hours),
)
_tokens = {name: CourseToken(name, "s" * 24) for name in "ab"}
_steps = st.one_of(
    st.tuples(st.just("webhook"), _facts),
    st.tuples(st.just("sync"), st.lists(_facts, max_size=3)),
    st.tuples(st.just("token"), st.sampled_from("ab")),
)
_numbers = count()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_steps, max_size=8))
def test_last_entry_has_the_current_status(store: Store, life: list[tuple[str, Any]]) -> None:
    name = f"source-{next(_numbers)}"
    entry, source = store.add_course("CS101", source=name, token=_tokens["a"]), store.source(name)

    def at(fact: Fact) -> Fact:
        return type(fact)(**{**vars(fact), "at": NINE + timedelta(hours=fact.at)})

    for kind, what in life:
        with store.database.writing() as session:
            if kind == "webhook":
                registry.apply(session, source.id, "CS101", at(what), actor=WEBHOOK, now=NINE)
            elif kind == "sync":
                update = EntryUpdate(entry.id, tuple(map(at, what)))
                registry.apply_updates(session, [update], actor=RUN, now=NINE)
            else:
                row = registry.get_added(session, source, "CS101")
                token = _tokens[what]
                registry.set_token(session, row, token, vault=store.vault, actor=ADA, now=NINE)

    with store.database.reading() as session:
        (newest,) = history.page(session, entry.id, PageRequest(), limit=1).rows
    status = registry.status_of(store.entry("CS101", name), now=NINE)
    assert newest.status == status


LATER = NINE + timedelta(hours=1)


@pytest.fixture
def find(store: Store, vault: Vault) -> Callable[..., None]:
    """Return a function that lets a sync find facts of CS101, which is there since nine."""
    store.add_source("one", secrets=(Secret.generate(),))
    entry = store.add_course("CS101")

    def run(*facts: Fact) -> None:
        with store.database.writing() as session:
            update = EntryUpdate(entry.id, facts)
            registry.apply_updates(session, [update], actor=RUN, now=LATER)

    return run


def missed(store: Store, now: datetime = LATER) -> dict[str, dict[str, int]]:
    """Return the facts that no webhook brought."""
    with store.database.reading() as session:
        return history.missed_webhooks(session, now=now)


def test_facts_that_only_a_sync_found_are_missed_webhooks(
    store: Store, find: Callable[..., None]
) -> None:
    find(TokenAnnounced(2, "other", LATER), Deleted(3, LATER))
    deleted = missed(store)
    find(Restored(4, LATER))

    assert deleted == {"one": {"course.deleted": 1, "token.regenerated": 1}}
    assert missed(store) == {"one": {"course.restored": 1, "token.regenerated": 1}}
    assert missed(store, LATER + timedelta(days=7, seconds=1)) == {}


def test_replaced_token_that_is_still_good_is_a_missed_webhook(
    store: Store, find: Callable[..., None]
) -> None:
    overlap = TokenAnnounced(2, "other", LATER, LATER + timedelta(days=1))
    find(overlap)
    found = missed(store)
    store.apply("CS101", overlap)

    assert (found, missed(store)) == ({"one": {"token.regenerated": 1}}, {})


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([Deleted(3, NINE - timedelta(days=1))], id="deleted before it was added"),
        pytest.param([TokenAnnounced(1, "stored", LATER)], id="stored token"),
        pytest.param([TokenRejected("stored", "unknown", LATER)], id="rejected token"),
    ],
)
def test_facts_without_a_webhook_are_not_missed(
    store: Store, find: Callable[..., None], facts: list[Fact]
) -> None:
    stored = str(store.entry("CS101").stored_token_id)
    find(*(replace(one, token_id=stored) if hasattr(one, "token_id") else one for one in facts))

    assert missed(store) == {}


def test_webhook_that_arrives_later_is_not_missed(store: Store, find: Callable[..., None]) -> None:
    find(TokenAnnounced(2, "other", LATER), Deleted(3, LATER), Restored(4, LATER))

    store.apply("CS101", Restored(4, LATER), Deleted(3, LATER))
    after_deletion = missed(store)
    store.apply("CS101", TokenAnnounced(2, "other", LATER))

    assert (after_deletion, missed(store)) == ({"one": {"token.regenerated": 1}}, {})


def test_webhook_that_says_more_than_the_sync_found_has_arrived(
    store: Store, find: Callable[..., None]
) -> None:
    find(TokenAnnounced(2, "other", LATER))
    found = missed(store)
    until = LATER + timedelta(hours=1)
    store.apply("CS101", TokenAnnounced(2, "other", LATER, until))

    assert (found, missed(store)) == ({"one": {"token.regenerated": 1}}, {})


def test_source_without_secrets_sends_no_webhooks(store: Store) -> None:
    entry = store.add_course("CS101", source="moodle")
    with store.database.writing() as session:
        update = EntryUpdate(entry.id, (Deleted(3, LATER),))
        registry.apply_updates(session, [update], actor=RUN, now=LATER)

    assert missed(store) == {}

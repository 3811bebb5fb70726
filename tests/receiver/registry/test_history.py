"""The history of a course: its entries, their actors, and the resulting status."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from contract import events
from contract.events import CourseDeleted, CourseDeletedData
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.course_state import Deleted, Fact, TokenAccepted, TokenAnnounced, TokenRejected
from receiver.models import Entry, HistoryEntry, Source
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
RUN = Actor(ActorKind.SYNC, "run 7")
WEBHOOK = Actor(ActorKind.WEBHOOK, "msg_1")


@pytest.fixture
def written(rows: Callable[[type[Any]], list[Any]]) -> Callable[[], list[tuple[str, ...]]]:
    """Return what reads all entries, oldest first: actor, event, resulting status."""

    def read() -> list[tuple[str, ...]]:
        lines = sorted(rows(HistoryEntry), key=lambda line: line.id)
        return [(line.actor, line.actor_name, line.event, line.status) for line in lines]

    return read


def test_every_change_has_an_entry(
    database: Database,
    vault: Vault,
    make_source: Callable[..., Source],
    written: Callable[[], list[tuple[str, ...]]],
    now: datetime,
) -> None:
    source, first, second = make_source(), CourseToken.generate(), CourseToken.generate()
    announced = TokenAnnounced(2, second.token_id, now)

    with database.writing() as session:
        entry = registry.add(session, source, "CS101", first, vault=vault, actor=ADA, now=now)
        registry.apply(session, source.id, "CS101", announced, actor=WEBHOOK, now=now)
        registry.set_token(session, entry, second, vault=vault, actor=ADA, now=now)
        registry.remove(session, source, "CS101", actor=ADA, now=now)

    assert written() == [
        ("administrator", "ada@elms", "course added", "active"),
        ("webhook", "msg_1", "token.regenerated", "token_invalid"),
        ("administrator", "ada@elms", "token entered", "active"),
        ("administrator", "ada@elms", "course removed", "token_invalid"),
    ]


def test_history_has_no_secret(
    database: Database,
    vault: Vault,
    make_source: Callable[..., Source],
    rows: Callable[[type[Any]], list[Any]],
    now: datetime,
) -> None:
    token = CourseToken.generate()

    with database.writing() as session:
        registry.add(session, make_source(), "CS101", token, vault=vault, actor=ADA, now=now)

    (line,) = rows(HistoryEntry)
    assert line.detail == f"stored token {token.token_id}"
    assert token.secret not in repr(vars(line))


def test_stale_webhook_has_an_entry_and_duplicate_has_none(
    database: Database,
    make_source: Callable[..., Source],
    written: Callable[[], list[tuple[str, ...]]],
    now: datetime,
) -> None:
    source = make_source()
    webhook_source = WebhookSource(source.id, source.name, ())

    for webhook_id, version in (("msg_2", 5), ("msg_2", 5), ("msg_1", 4)):
        data = CourseDeletedData(source=source.name, course_id="CS101", course_version=version)
        event = CourseDeleted(timestamp=now, data=data)
        with database.writing() as session:
            raw = events.dump(event).encode()
            inbox.accept(session, webhook_source, webhook_id, event, raw, now=now)

    assert written() == [
        ("webhook", "msg_2", "course.deleted", "course_deleted"),
        ("webhook", "msg_1", "stale course.deleted", "course_deleted"),
    ]


def test_sync_writes_only_facts_that_changed_something(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    written: Callable[[], list[tuple[str, ...]]],
    now: datetime,
) -> None:
    source = make_source()
    changed, known = make_entry(source, "CS101"), make_entry(source, "CS102")
    stored = str(changed.stored_token_id)
    facts = (TokenAnnounced(2, "new", now), TokenRejected(stored, "it was regenerated", now))

    with database.writing() as session:
        updates = [EntryUpdate(changed.id, facts), EntryUpdate(known.id, (), '"etag"', True)]
        registry.apply_updates(session, updates, actor=RUN, now=now)

    assert written()[2:] == [
        ("sync", "run 7", "token announced", "token_invalid"),
        ("sync", "run 7", "token rejected", "token_invalid"),
    ]


def test_latest_entries_come_first(
    database: Database, make_source: Callable[..., Source], now: datetime
) -> None:
    source = make_source()
    with database.writing() as session:
        for version in range(1, 6):
            fact = TokenAnnounced(version, f"t{version}", now)
            registry.apply(session, source.id, "CS101", fact, actor=WEBHOOK, now=now)

    with database.reading() as session:
        entry = registry.get_known(session, source, "CS101")
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
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_steps, max_size=8))
def test_last_entry_has_the_current_status(
    database: Database,
    vault: Vault,
    make_source: Callable[..., Source],
    now: datetime,
    life: list[tuple[str, Any]],
) -> None:
    source = make_source(f"source-{next(_numbers)}")

    def at(fact: Fact) -> Fact:
        return type(fact)(**{**vars(fact), "at": now + timedelta(hours=fact.at)})

    with database.writing() as session:
        entry = registry.add(
            session, source, "CS101", _tokens["a"], vault=vault, actor=ADA, now=now
        )
    for kind, what in life:
        with database.writing() as session:
            if kind == "webhook":
                registry.apply(session, source.id, "CS101", at(what), actor=WEBHOOK, now=now)
            elif kind == "sync":
                update = EntryUpdate(entry.id, tuple(map(at, what)))
                registry.apply_updates(session, [update], actor=RUN, now=now)
            else:
                row = registry.get(session, source, "CS101")
                token = _tokens[what]
                registry.set_token(session, row, token, vault=vault, actor=ADA, now=now)

    with database.reading() as session:
        row = session.scalars(select(Entry).where(Entry.id == entry.id)).one()
        (newest,) = history.page(session, entry.id, PageRequest(), limit=1).rows
    assert newest.status == registry.course_status(row).status

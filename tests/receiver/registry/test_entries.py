"""The registry in its database: facts are stored, whatever their order, and statements are few."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import reduce
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver import course_state
from receiver.course_state import (
    CourseState,
    Deleted,
    Fact,
    Status,
    TokenAnnounced,
    TokenRejected,
)
from receiver.errors import EntryExistsError, EntryUnknownError, TokenMalformedError
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry.entries import ApplyResult, EntryUpdate
from receiver.registry.history import Actor, ActorKind

WEBHOOK = Actor(ActorKind.WEBHOOK, "msg_1")
RUN = Actor(ActorKind.SYNC, "run 7")
Apply = Callable[..., ApplyResult]


@pytest.fixture
def apply(database: Database, now: datetime) -> Apply:
    """Return what applies a fact to a course in a transaction of its own."""

    def call(source: Source, fact: Fact, course_id: str = "CS101") -> ApplyResult:
        with database.writing() as session:
            return registry.apply(session, source.id, course_id, fact, actor=WEBHOOK, now=now)

    return call


def test_fact_about_a_course_that_is_not_added_is_stored(
    database: Database,
    make_source: Callable[..., Source],
    apply: Apply,
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    result = apply(make_source(), Deleted(4, now))

    assert result is ApplyResult.APPLIED
    assert registry.course_status(entry_of("CS101")).status is Status.COURSE_DELETED
    assert entry_of("CS101").added_at is None
    with database.reading() as session:
        assert registry.list_entries(session) == []


def test_added_course_has_the_facts_from_before(
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    apply: Apply,
    now: datetime,
) -> None:
    source = make_source()
    apply(source, Deleted(4, now))

    entry = make_entry(source)

    assert registry.course_status(entry).status is Status.COURSE_DELETED


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(lambda now: TokenAnnounced(3, "b", now), ApplyResult.STALE, id="same"),
        pytest.param(lambda now: TokenAnnounced(2, "a", now), ApplyResult.STALE, id="older"),
        pytest.param(lambda now: TokenAnnounced(4, "c", now), ApplyResult.APPLIED, id="newer"),
        pytest.param(lambda now: Deleted(1, now), ApplyResult.APPLIED, id="old deletion"),
    ],
)
def test_fact_that_changes_nothing_is_stale(
    make_source: Callable[..., Source],
    apply: Apply,
    now: datetime,
    second: Callable[[datetime], Fact],
    expected: ApplyResult,
) -> None:
    source = make_source()
    apply(source, TokenAnnounced(3, "b", now))

    assert apply(source, second(now)) is expected


def test_highest_version_of_the_wire_is_stored(
    make_source: Callable[..., Source],
    apply: Apply,
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    apply(make_source(), Deleted(2**53 - 1, now))

    assert entry_of("CS101").deleted_version == 2**53 - 1


_hours = st.integers(0, 2)
_facts = st.one_of(
    st.tuples(st.just(Deleted), st.integers(1, 3), _hours),
    st.tuples(st.just(TokenAnnounced), st.integers(1, 3), st.sampled_from("ab"), _hours),
    st.tuples(st.just(TokenRejected), st.sampled_from("ab"), st.just("unknown"), _hours),
)
_numbers = count()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_facts, min_size=1, max_size=6))
def test_stored_state_is_the_one_of_the_rule(
    database: Database,
    make_source: Callable[..., Source],
    apply: Apply,
    now: datetime,
    made: list[tuple[Callable[..., Fact], ...]],
) -> None:
    source = make_source(f"source-{next(_numbers)}")
    facts = [kind(*rest, now + timedelta(hours=hours)) for kind, *rest, hours in made]

    for course_id, order in (("forwards", facts), ("backwards", [*reversed(facts), *facts])):
        for fact in order:
            apply(source, fact, course_id)

    with database.reading() as session:
        entries = session.scalars(select(Entry).where(Entry.source_id == source.id))
        stored = {registry.state_of(entry) for entry in entries}
    assert stored == {reduce(course_state.apply, facts, CourseState())}


def test_concurrent_facts_are_all_applied(
    make_source: Callable[..., Source],
    apply: Apply,
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    source = make_source()

    with ThreadPoolExecutor(8) as threads:
        facts = [TokenAnnounced(version, f"t{version}", now) for version in range(1, 25)]
        list(threads.map(lambda fact: apply(source, fact), facts))

    assert entry_of("CS101").announced_token_id == "t24"


def test_course_is_added_once(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> None:
    source = make_source()
    make_entry(source)

    with pytest.raises(EntryExistsError) as caught:
        make_entry(source)

    assert caught.value.advice.command == "registry set-token CS101"


def test_token_is_encrypted_and_reencrypted(
    database: Database,
    vault: Vault,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
) -> None:
    token = CourseToken.generate()
    before = make_entry(make_source(), token=token)

    with database.writing() as session:
        reencrypted = registry.reencrypt(session, vault=vault)
    with database.reading() as session:
        (after,) = registry.list_entries(session)

    assert before.stored_token_id == token.token_id
    assert (reencrypted, before.encrypted_token != after.encrypted_token) == (1, True)
    for entry in (before, after):
        assert token.secret not in str(entry.encrypted_token)
        assert vault.decrypt(str(entry.encrypted_token)) == token.reveal()


def test_list_takes_one_query(
    database: Database, make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> None:
    source = make_source()
    for number in range(5):
        make_entry(source, f"CS10{number}")
    before = database.statements

    with database.reading() as session:
        entries = registry.list_entries(session)
        names = [(entry.source.name, entry.course_id) for entry in entries]

    assert database.statements - before == 1
    assert names == [(source.name, f"CS10{number}") for number in range(5)]


def test_unknown_course_is_named(database: Database, make_source: Callable[..., Source]) -> None:
    source = make_source()

    with database.reading() as session:
        with pytest.raises(EntryUnknownError, match="'NONE'"):
            registry.list_entries(session, course_ids=["NONE"])
        with pytest.raises(EntryUnknownError, match="'NONE'"):
            registry.get(session, source, "NONE")


def test_mistyped_token_is_refused_without_showing_it() -> None:
    mistyped = CourseToken.generate().reveal()[:-1] + "!"

    with pytest.raises(TokenMalformedError) as caught:
        registry.parse_token(mistyped)

    assert mistyped not in str(caught.value)


def test_updates_take_four_statements(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    source = make_source()
    entries = [make_entry(source, f"CS10{number}") for number in range(5)]
    updates = [
        EntryUpdate(
            entry.id, (TokenAnnounced(2, str(entry.stored_token_id), now),), f'"{entry.id}"', True
        )
        for entry in entries
    ]
    before = database.statements

    with database.writing() as session:
        registry.apply_updates(session, updates, actor=RUN, now=now)

    assert database.statements - before == 4
    with database.reading() as session:
        after = registry.list_entries(session)
    assert [entry.etag for entry in after] == [f'"{entry.id}"' for entry in entries]
    assert {(entry.announced_version, entry.synced_at) for entry in after} == {(2, now)}


def test_update_without_change_writes_nothing(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    entry = make_entry(make_source())
    before = database.statements

    with database.writing() as session:
        registry.apply_updates(session, [EntryUpdate(entry.id)], actor=RUN, now=now)
        registry.apply_updates(session, [], actor=RUN, now=now)

    assert database.statements - before == 1

"""The registry in its database: what was told is kept, whoever came first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import reduce
from itertools import count
from typing import Any

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


def test_first_fact_of_an_unlinked_course_is_kept(
    database: Database,
    make_source: Callable[..., Source],
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    source = make_source()

    with database.writing() as session:
        outcome = registry.apply(
            session,
            source.id,
            "CS101",
            Deleted(4, now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )
    with database.reading() as session:
        listed = registry.list_entries(session)

    assert outcome is ApplyResult.APPLIED
    assert registry.course_status(entry_of("CS101")).status is Status.COURSE_DELETED
    assert (entry_of("CS101").added_at, listed) == (None, [])


def test_later_enrolment_starts_from_the_truth(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    source = make_source()
    with database.writing() as session:
        registry.apply(
            session,
            source.id,
            "CS101",
            Deleted(4, now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    entry = make_entry(source)

    assert registry.course_status(entry).status is Status.COURSE_DELETED


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(lambda now: TokenAnnounced(3, "b", now), ApplyResult.STALE, id="the same"),
        pytest.param(lambda now: TokenAnnounced(2, "a", now), ApplyResult.STALE, id="older"),
        pytest.param(lambda now: TokenAnnounced(4, "c", now), ApplyResult.APPLIED, id="newer"),
        pytest.param(lambda now: Deleted(1, now), ApplyResult.APPLIED, id="an old deletion"),
    ],
)
def test_a_fact_that_changes_nothing_is_stale(
    database: Database,
    make_source: Callable[..., Source],
    now: datetime,
    second: Callable[[datetime], Fact],
    expected: ApplyResult,
) -> None:
    source = make_source()
    with database.writing() as session:
        registry.apply(
            session,
            source.id,
            "CS101",
            TokenAnnounced(3, "b", now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    with database.writing() as session:
        actual = registry.apply(
            session,
            source.id,
            "CS101",
            second(now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    assert expected is actual


def test_the_largest_version_of_the_wire_is_kept(
    database: Database,
    make_source: Callable[..., Source],
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    source = make_source()

    with database.writing() as session:
        registry.apply(
            session,
            source.id,
            "CS101",
            Deleted(2**53 - 1, now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    assert entry_of("CS101").deleted_version == 2**53 - 1


_moments = st.integers(0, 2)
_facts = st.one_of(
    st.tuples(st.just("deleted"), st.integers(1, 3), _moments),
    st.tuples(st.just("named"), st.integers(1, 3), st.sampled_from("ab"), _moments),
    st.tuples(st.just("refused"), st.sampled_from("ab"), st.just("unknown"), _moments),
)
_numbers = count()
_KINDS: dict[str, Callable[..., Fact]] = {
    "deleted": Deleted,
    "named": TokenAnnounced,
    "refused": TokenRejected,
}


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_facts, min_size=1, max_size=6))
def test_what_is_stored_is_the_fold_of_what_was_told(
    database: Database, make_source: Callable[..., Source], now: datetime, told: list[Any]
) -> None:
    source = make_source(f"source-{next(_numbers)}")
    facts = [_KINDS[kind](*rest, now + timedelta(hours=hours)) for kind, *rest, hours in told]
    expected = reduce(course_state.apply, facts, CourseState())

    for name, order in (("forwards", facts), ("backwards", [*reversed(facts), *facts])):
        for fact in order:
            with database.writing() as session:
                registry.apply(
                    session,
                    source.id,
                    name,
                    fact,
                    actor=registry.Actor("webhook", "msg_1"),
                    now=now,
                )

    with database.reading() as session:
        stored = {
            registry.state_of(entry)
            for entry in session.scalars(select(Entry).where(Entry.source_id == source.id))
        }
    assert stored == {expected}


def test_two_facts_at_once_are_both_taken(
    database: Database,
    make_source: Callable[..., Source],
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    source = make_source()

    def tell(version: int) -> None:
        with database.writing() as session:
            fact = TokenAnnounced(version, f"t{version}", now)
            registry.apply(
                session,
                source.id,
                "CS101",
                fact,
                actor=registry.Actor("webhook", "msg_1"),
                now=now,
            )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(tell, range(1, 25)))

    assert entry_of("CS101").announced_token_id == "t24"


def test_linking_twice_is_refused(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> None:
    source = make_source()
    make_entry(source)

    with pytest.raises(
        EntryExistsError, match=r"'CS101' of .* is already in the registry"
    ) as refused:
        make_entry(source)

    assert refused.value.advice.command == "registry set-token CS101"


def test_held_token_is_sealed(
    vault: Vault, make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> None:
    token = CourseToken.generate()

    entry = make_entry(make_source(), token=token)

    assert entry.stored_token_id == token.token_id
    assert token.secret not in str(entry.encrypted_token)
    assert vault.decrypt(str(entry.encrypted_token)) == token.reveal()


def test_resealed_tokens_open_still(
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

    assert reencrypted == 1
    assert before.encrypted_token != after.encrypted_token
    assert vault.decrypt(str(after.encrypted_token)) == token.reveal()


def test_listing_takes_one_query(
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


def test_unknown_courses_are_named(database: Database, make_source: Callable[..., Source]) -> None:
    source = make_source()

    with (
        database.reading() as session,
        pytest.raises(EntryUnknownError, match="not in the registry: 'NONE'"),
    ):
        registry.list_entries(session, course_ids=["NONE"])
    with (
        database.reading() as session,
        pytest.raises(EntryUnknownError, match=r"the course 'NONE' of .* is not in the registry"),
    ):
        registry.get(session, source, "NONE")


def test_a_mistyped_token_is_told_without_a_query() -> None:
    mistyped = CourseToken.generate().reveal()[:-1] + "!"

    with pytest.raises(TokenMalformedError, match="cut off or mistyped") as refused:
        registry.parse_token(mistyped)

    assert mistyped not in str(refused.value)


def test_lessons_are_learnt_in_four_statements(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    source = make_source()
    entries = [make_entry(source, f"CS10{number}") for number in range(5)]
    lessons = [
        EntryUpdate(
            entry.id, (TokenAnnounced(2, str(entry.stored_token_id), now),), f'"{entry.id}"', True
        )
        for entry in entries
    ]
    before = database.statements

    with database.writing() as session:
        registry.apply_updates(session, lessons, actor=registry.Actor("webhook", "msg_1"), now=now)

    assert database.statements - before == 4
    with database.reading() as session:
        after = registry.list_entries(session)
    assert [entry.etag for entry in after] == [f'"{entry.id}"' for entry in entries]
    assert {(entry.announced_version, entry.synced_at) for entry in after} == {(2, now)}


def test_a_lesson_without_news_costs_no_row(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    entry = make_entry(make_source())
    before = database.statements

    with database.writing() as session:
        registry.apply_updates(
            session, [EntryUpdate(entry.id)], actor=registry.Actor("webhook", "msg_1"), now=now
        )
        registry.apply_updates(session, [], actor=registry.Actor("webhook", "msg_1"), now=now)

    assert database.statements - before == 1

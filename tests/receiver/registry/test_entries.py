"""The registry in its database: facts are stored, whatever their order, and statements are few."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import reduce
from itertools import count, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.tokens import CourseToken
from receiver import course_state
from receiver.course_state import (
    CourseState,
    CourseStatus,
    Deleted,
    Fact,
    TokenAnnounced,
    TokenRejected,
)
from receiver.errors import EntryExistsError, EntryUnknownError, TokenMalformedError
from receiver.models import Entry, HistoryEntry
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.sources.base import ClaimedToken
from tests.receiver.conftest import NINE, Store

MAX_VERSION = 2**53 - 1
HOUR = timedelta(hours=1)
RUN = Actor(ActorKind.SYNC, "run 7")


def entries_of(store: Store) -> list[Entry]:
    """Return the courses in the registry."""
    with store.database.reading() as session:
        return registry.list_added(session)


def test_fact_about_a_course_is_stored_before_the_course_is_added(store: Store) -> None:
    results = store.apply("CS101", Deleted(MAX_VERSION, NINE))
    known, listed = store.entry("CS101"), entries_of(store)

    added = store.add_course("CS101")

    assert (results, known.added_at, listed) == ([True], None, [])
    assert known.deleted_version == MAX_VERSION
    assert registry.status_of(added, now=NINE) is CourseStatus.COURSE_DELETED


def store_claimed(store: Store, claimed: ClaimedToken, replaced: dict[int, str | None]) -> int:
    """Store a claimed token in entries, if they have the ones that it replaces."""
    with store.database.writing() as session:
        return registry.store_claimed(
            session,
            dict.fromkeys(replaced, claimed),
            replaced,
            vault=store.vault,
            actor=RUN,
            now=NINE,
        )


def test_claimed_token_does_not_replace_one_that_was_entered_meanwhile(store: Store) -> None:
    replaced, other = (store.add_course(one) for one in ("CS101", "CS102"))
    token = CourseToken.generate()

    stored = store_claimed(
        store,
        ClaimedToken(token, TokenAnnounced(2, token.token_id, NINE, NINE + HOUR)),
        {replaced.id: replaced.stored_token_id, other.id: "older"},
    )

    assert stored == 1
    assert store.entry("CS101").stored_token_id == token.token_id
    assert store.entry("CS102").stored_token_id == other.stored_token_id
    assert store.entry("CS102").announced_version is None


def test_claim_and_webhooks_give_one_state_in_any_order(store: Store) -> None:
    token = CourseToken.generate()
    first = TokenAnnounced(2, "second", NINE, NINE + HOUR)
    last = TokenAnnounced(3, token.token_id, NINE, NINE + 24 * HOUR)
    states = set()

    for order in permutations(["first", "last", "claim"]):
        entry = store.add_course("-".join(order))
        for step in order:
            if step == "claim":
                store_claimed(store, ClaimedToken(token, last), {entry.id: entry.stored_token_id})
            else:
                store.apply(entry.course_id, first if step == "first" else last)
        states.add(registry.state_of(store.entry(entry.course_id)))

    late = store.entry("first-claim-last")
    assert states == {CourseState(token.token_id, announced=last)}
    assert registry.status_of(late, now=NINE + 2 * HOUR) is CourseStatus.ACTIVE
    assert [one.event for one in store.rows(HistoryEntry) if one.entry_id == late.id] == [
        *("course.added", "token.regenerated", "token.claimed", "token.announced"),
        "stale token.regenerated",
    ]


def test_claimed_token_of_an_older_site_brings_no_announcement(store: Store) -> None:
    entry, token = store.add_course("CS101"), CourseToken.generate()

    store_claimed(store, ClaimedToken(token, None), {entry.id: entry.stored_token_id})

    assert registry.state_of(store.entry("CS101")) == CourseState(token.token_id)


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        pytest.param(TokenAnnounced(3, "b", NINE), False, id="same"),
        pytest.param(TokenAnnounced(2, "a", NINE), False, id="older"),
        pytest.param(TokenAnnounced(4, "c", NINE), True, id="newer"),
        pytest.param(Deleted(1, NINE), True, id="old deletion"),
    ],
)
def test_fact_that_changes_nothing_is_stale(store: Store, fact: Fact, expected: bool) -> None:
    results = store.apply("CS101", TokenAnnounced(3, "b", NINE), fact)

    assert results == [True, expected]


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
    store: Store, made: list[tuple[Callable[..., Fact], ...]]
) -> None:
    source = f"source-{next(_numbers)}"
    facts = [kind(*rest, NINE + timedelta(hours=hours)) for kind, *rest, hours in made]

    store.apply("forwards", *facts, source=source)
    store.apply("backwards", *reversed(facts), *facts, source=source)

    entries = [store.entry(course_id, source) for course_id in ("forwards", "backwards")]
    assert {registry.state_of(entry) for entry in entries} == {
        reduce(course_state.apply, facts, CourseState())
    }


def test_concurrent_facts_are_all_applied(store: Store) -> None:
    store.add_source("one")
    facts = [TokenAnnounced(version, f"t{version}", NINE) for version in range(1, 13)]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda fact: store.apply("CS101", fact), facts))

    assert store.entry("CS101").announced_token_id == "t12"


def test_course_is_added_once(store: Store) -> None:
    store.add_course()

    with pytest.raises(EntryExistsError) as caught:
        store.add_course()

    assert caught.value.advice.command == "registry set-token CS101"


def test_token_is_encrypted_and_reencrypted(store: Store) -> None:
    token = CourseToken.generate()
    before = store.add_course(token=token)

    with store.database.writing() as session:
        reencrypted = registry.reencrypt(session, vault=store.vault)

    (after,) = entries_of(store)
    assert before.stored_token_id == token.token_id
    assert (reencrypted, before.encrypted_token != after.encrypted_token) == (1, True)
    for entry in (before, after):
        assert token.secret not in str(entry.encrypted_token)
        assert store.vault.decrypt(str(entry.encrypted_token)) == token.reveal()


@pytest.mark.parametrize("course_id", ["UNKNOWN", "NOT-ADDED"])
def test_course_that_is_not_in_grade_sync_is_refused(store: Store, course_id: str) -> None:
    store.apply("NOT-ADDED", Deleted(4, NINE))
    source = store.source("one")

    with store.database.reading() as session, pytest.raises(EntryUnknownError, match=course_id):
        registry.get_added(session, source, course_id)


def test_mistyped_token_is_refused_without_showing_it() -> None:
    mistyped = CourseToken.generate().reveal()[:-1] + "!"

    with pytest.raises(TokenMalformedError) as caught:
        registry.parse_token(mistyped)

    assert mistyped not in str(caught.value)


def test_updates_take_four_statements(store: Store) -> None:
    updates = [
        EntryUpdate(
            entry.id, (TokenAnnounced(2, str(entry.stored_token_id), NINE),), f'"{entry.id}"', True
        )
        for entry in (
            store.add_course("CS101"),
            store.add_course("CS102"),
            store.add_course("CS103"),
        )
    ]
    before = store.database.statements

    with store.database.writing() as session:
        registry.apply_updates(session, updates, actor=RUN, now=NINE)

    assert store.database.statements - before == 4
    entries = entries_of(store)
    assert [entry.etag for entry in entries] == [f'"{entry.id}"' for entry in entries]
    assert {(entry.announced_version, entry.synced_at) for entry in entries} == {(2, NINE)}


def test_update_without_change_writes_nothing(store: Store) -> None:
    entry = store.add_course()
    before = store.database.statements

    with store.database.writing() as session:
        registry.apply_updates(session, [EntryUpdate(entry.id)], actor=RUN, now=NINE)
        registry.apply_updates(session, [], actor=RUN, now=NINE)

    assert store.database.statements - before == 1

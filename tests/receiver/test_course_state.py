"""The rule of the registry: order and repetition do not matter."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from foundation.db.session import Database
from receiver import course_state
from receiver.course_state import (
    CourseState,
    CourseStatus,
    Deleted,
    Fact,
    Restored,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
    cause_at,
    conditions,
    index_conditions,
    to_columns,
)
from receiver.models import Entry, Source

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)
ELEVEN = TEN + timedelta(hours=1)

times = st.integers(0, 3).map(lambda hours: NINE + timedelta(hours=hours))
versions = st.integers(1, 4)
token_ids = st.sampled_from(["old", "stored", "new"])
facts = st.one_of(
    st.builds(Deleted, versions, times),
    st.builds(Restored, versions, times),
    st.builds(TokenAnnounced, versions, token_ids, times, st.none() | times),
    st.builds(TokenRejected, token_ids, st.sampled_from(["unknown", "wrong course"]), times),
    st.builds(TokenAccepted, token_ids, times),
)


def after(*applied: Fact, stored: str | None = "stored") -> CourseState:
    """Return the state of a course after these facts."""
    return reduce(course_state.apply, applied, CourseState(stored))


def status_at(state: CourseState, now: datetime = TEN) -> CourseStatus:
    """Return the status of a state, by default at ten."""
    return course_state.status_of(state, now=now)


@given(st.lists(facts, max_size=6), st.data())
def test_order_and_repetition_do_not_matter(applied: list[Fact], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(applied), max_size=6)) if applied else []
    shuffled = data.draw(st.permutations([*applied, *repeated]))

    assert after(*shuffled) == after(*applied)


def test_all_720_orders_of_six_facts_give_one_state() -> None:  # F20
    life = (
        TokenAnnounced(1, "old", NINE),
        TokenAnnounced(2, "stored", NINE),
        TokenRejected("old", "unknown", NINE),
        TokenAnnounced(2, "stored", TEN, ELEVEN),
        TokenAnnounced(3, "new", TEN, ELEVEN),
        Deleted(4, TEN),
    )

    states = {after(*order) for order in permutations(life)}
    repeated = {after(*order, *order) for order in permutations(life)}

    deleted, announced, rejected = life[5], life[4], life[2]
    assert states == repeated == {CourseState("stored", deleted, announced, rejected)}


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param(TokenAnnounced(2, "old", TEN), TokenAnnounced(3, "new", NINE), id="token"),
        pytest.param(Deleted(2, TEN), Deleted(3, NINE), id="deletion"),
        pytest.param(Deleted(2, TEN), Restored(3, NINE), id="restoration"),
        pytest.param(Restored(2, TEN), Deleted(3, NINE), id="deletion after a restoration"),
        pytest.param(Restored(2, TEN), Deleted(2, NINE), id="deletion of the same version"),
    ],
)
def test_higher_version_wins_over_later_time(low: Fact, high: Fact) -> None:
    assert after(low, high) == after(high, low) == after(high)


def lives(events: tuple[Fact, ...] = ()) -> Iterator[tuple[Fact, ...]]:
    """Yield what can happen to a course in up to six events: each of them has the next version."""
    version, at = len(events) + 2, NINE + timedelta(minutes=len(events))
    is_deleted = isinstance(next((e for e in reversed(events) if not is_token(e)), None), Deleted)
    if events:
        yield events
    if len(events) == 6:
        return
    following: list[Fact] = [Restored(version, at)] if is_deleted else [Deleted(version, at)]
    if not is_deleted:
        following.append(TokenAnnounced(version, f"token{version}", at))
    for event in following:
        yield from lives((*events, event))


def is_token(event: Fact) -> bool:
    return isinstance(event, TokenAnnounced)


def ends(events: tuple[Fact, ...]) -> set[CourseState]:
    """Return every state after all events arrived, in any order and repeated any number of times.

    The next state follows from the present one and an event, so each pair of a state and the events
    that have arrived is continued once.
    """
    found = {(CourseState("stored"), frozenset[Fact]())}
    to_continue = list(found)
    while to_continue:
        state, arrived = to_continue.pop()
        following = {(course_state.apply(state, one), arrived | {one}) for one in events}
        to_continue += following - found
        found |= following
    return {state for state, arrived in found if arrived == {*events}}


def test_every_order_of_up_to_six_events_gives_the_same_registry() -> None:  # F20
    every_life = list(lives())

    for events in every_life:
        tokens = [event for event in events if is_token(event)]
        presence = [event for event in events if not is_token(event)][-1:]
        announced = tokens[-1] if tokens else None
        [last] = presence or [None]
        expected = CourseState("stored", announced=announced)
        if isinstance(last, Deleted):
            expected = CourseState("stored", last, announced)
        elif isinstance(last, Restored):
            expected = CourseState("stored", announced=announced, restored=last)

        assert ends(events) == {expected}

    assert len(every_life) == 2 + 3 + 5 + 8 + 13 + 21


@pytest.mark.parametrize(
    ("applied", "expected"),
    [
        pytest.param((), CourseStatus.ACTIVE, id="no facts"),
        pytest.param(
            (TokenAnnounced(2, "stored", NINE),), CourseStatus.ACTIVE, id="stored token announced"
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE),),
            CourseStatus.TOKEN_INVALID,
            id="other token announced",
        ),
        pytest.param(
            (TokenRejected("stored", "unknown", NINE),),
            CourseStatus.TOKEN_INVALID,
            id="stored token rejected",
        ),
        pytest.param(
            (TokenRejected("old", "unknown", NINE),), CourseStatus.ACTIVE, id="other token rejected"
        ),
        pytest.param(
            (TokenRejected("stored", "unknown", NINE), TokenAnnounced(2, "stored", TEN)),
            CourseStatus.ACTIVE,
            id="announced after it was rejected",
        ),
        pytest.param(
            (TokenRejected("stored", "unknown", TEN), TokenAnnounced(2, "stored", NINE)),
            CourseStatus.TOKEN_INVALID,
            id="rejected after it was announced",
        ),
        pytest.param(
            (TokenRejected("stored", "unknown", NINE), TokenAccepted("stored", TEN)),
            CourseStatus.ACTIVE,
            id="accepted after it was rejected",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE), TokenAccepted("stored", TEN)),
            CourseStatus.ACTIVE,
            id="accepted after another was announced",
        ),
        pytest.param((Deleted(1, NINE),), CourseStatus.COURSE_DELETED, id="deleted"),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, ELEVEN),), CourseStatus.ACTIVE, id="in an overlap"
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, TEN),),
            CourseStatus.TOKEN_INVALID,
            id="after an overlap",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, TEN), TokenAccepted("stored", TEN)),
            CourseStatus.TOKEN_INVALID,
            id="accepted in an overlap that ended",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, ELEVEN), TokenRejected("stored", "unknown", NINE)),
            CourseStatus.TOKEN_INVALID,
            id="rejected in an overlap",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, ELEVEN), TokenAnnounced(3, "newer", TEN)),
            CourseStatus.TOKEN_INVALID,
            id="replaced at once in an overlap",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, ELEVEN), Deleted(3, TEN)),
            CourseStatus.COURSE_DELETED,
            id="deleted in an overlap",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE, ELEVEN), TokenAnnounced(2, "new", TEN)),
            CourseStatus.ACTIVE,
            id="overlap named by one of two facts",
        ),
        pytest.param((Restored(2, NINE), Deleted(1, NINE)), CourseStatus.ACTIVE, id="restored"),
        pytest.param(
            (TokenAnnounced(2, "stored", NINE), Deleted(3, NINE), Restored(4, NINE)),
            CourseStatus.ACTIVE,
            id="restored with its token",
        ),
        pytest.param(
            (TokenAnnounced(2, "new", NINE), Deleted(3, NINE), Restored(4, NINE)),
            CourseStatus.TOKEN_INVALID,
            id="restored with another token",
        ),
        pytest.param(
            (Deleted(1, NINE), Restored(2, NINE), Deleted(3, NINE)),
            CourseStatus.COURSE_DELETED,
            id="deleted again",
        ),
    ],
)
def test_status_follows_from_facts_and_stored_token(
    applied: tuple[Fact, ...], expected: CourseStatus
) -> None:
    assert status_at(after(*applied)) is expected


@pytest.mark.parametrize(
    ("applied", "version"),
    [
        pytest.param((), None, id="no facts"),
        pytest.param((Deleted(4, NINE), TokenAnnounced(7, "a", NINE)), 7, id="token"),
        pytest.param((TokenAnnounced(3, "a", NINE), Deleted(4, NINE)), 4, id="deletion"),
        pytest.param((Restored(5, NINE), TokenAnnounced(3, "a", NINE)), 5, id="restoration"),
    ],
)
def test_course_version_is_the_highest_one(applied: tuple[Fact, ...], version: int | None) -> None:
    assert after(*applied).course_version == version


# Every state that the rule can tell apart: each fact or none, in each order of times.
_TIMES = [NINE + timedelta(microseconds=number) for number in range(3)]
_IDS = ["stored", "other"]
EVERY_STATE = [
    CourseState(stored, deleted, *parts, restored=restored)
    for stored, (deleted, restored), *parts in product(
        [None, "stored"],
        [(None, None), (Deleted(4, NINE), None), (None, Restored(5, NINE))],
        [
            None,
            *(TokenAnnounced(3, token_id, at) for token_id in _IDS for at in _TIMES),
            *(TokenAnnounced(3, token_id, _TIMES[0], at) for token_id in _IDS for at in _TIMES),
        ],
        [None, *(TokenRejected(token_id, "unknown", at) for token_id in _IDS for at in _TIMES)],
        [None, *(TokenAccepted(token_id, at) for token_id in _IDS for at in _TIMES)],
    )
]


@pytest.mark.parametrize("now", _TIMES)
def test_sql_conditions_agree_with_the_rule(database: Database, now: datetime) -> None:
    with database.writing() as session:
        session.add(Source(name="one", url="http://one.example", created_at=NINE))
        session.flush()
        rows = [
            {
                "source_id": 1,
                "course_id": str(number),
                "created_at": NINE,
                "stored_token_id": state.stored_token_id,
                **to_columns(state),
            }
            for number, state in enumerate(EVERY_STATE)
        ]
        session.execute(insert(Entry.__table__), rows)

        found = {
            status: set(session.scalars(select(Entry.course_id).where(condition)))
            for status, condition in conditions(Entry, now=now).items()
        }
        indexed = {
            status: set(session.scalars(select(Entry.course_id).where(condition)))
            for status, condition in index_conditions(Entry).items()
        }
        since = dict(session.execute(select(Entry.course_id, cause_at(Entry))).tuples().all())

    expected: dict[CourseStatus, set[str]] = {status: set() for status in CourseStatus}
    for number, state in enumerate(EVERY_STATE):
        expected[status_at(state, now)].add(str(number))
    assert found == expected
    assert all(found[status] <= indexed[status] for status in CourseStatus)
    for number, state in enumerate(EVERY_STATE):
        if cause := course_state.cause_of(state, now=now):
            assert since[str(number)] == course_state.since(cause)
        elif since[str(number)] is not None:
            assert since[str(number)] > now
    assert len(EVERY_STATE) == sum(map(len, found.values())) == 3822

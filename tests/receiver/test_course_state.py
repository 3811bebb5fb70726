"""The rule of the registry: order and repetition do not matter, a deletion is final."""

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
    ],
)
def test_higher_version_wins_over_later_time(low: Fact, high: Fact) -> None:
    assert after(low, high) == after(high, low) == after(high)


@given(st.lists(facts, max_size=6), versions, times)
def test_deletion_is_final(applied: list[Fact], version: int, at: datetime) -> None:
    assert status_at(after(Deleted(version, at), *applied)) is CourseStatus.COURSE_DELETED


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
    ],
)
def test_course_version_is_the_highest_one(applied: tuple[Fact, ...], version: int | None) -> None:
    assert after(*applied).course_version == version


# Every state that the rule can tell apart: each fact or none, in each order of times.
_TIMES = [NINE + timedelta(microseconds=number) for number in range(3)]
_IDS = ["stored", "other"]
EVERY_STATE = [
    CourseState(*parts)
    for parts in product(
        [None, "stored"],
        [None, Deleted(4, NINE)],
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
    assert len(EVERY_STATE) == sum(map(len, found.values())) == 2548

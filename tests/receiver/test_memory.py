"""The law of the registry: order and repetition do not matter, deletion is final."""

from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.course_state import (
    REGENERATED,
    Deleted,
    Fact,
    Memory,
    Refused,
    Standing,
    Status,
    TokenNamed,
    fold,
    standing_of,
    status_of,
)

NINE = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)

moments = st.integers(0, 3).map(lambda hours: NINE + timedelta(hours=hours))
versions = st.integers(1, 4)
token_ids = st.sampled_from(["old", "held", "new"])
facts = st.one_of(
    st.builds(Deleted, versions, moments),
    st.builds(TokenNamed, versions, token_ids, moments),
    st.builds(Refused, token_ids, st.sampled_from(["unknown", "wrong course"]), moments),
)


def remembered(told: tuple[Fact, ...], held: str | None = "held") -> Memory:
    """Return the memory of a course of which all this was told."""
    return reduce(fold, told, Memory(held))


@given(st.lists(facts, max_size=6), st.data())
def test_every_order_and_duplication_gives_the_same_memory(
    told: list[Fact], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(told), max_size=6)) if told else []
    shuffled = data.draw(st.permutations([*told, *again]))

    expected = remembered(tuple(told))
    actual = remembered(tuple(shuffled))

    assert expected == actual
    assert standing_of(expected, "CS101") == standing_of(actual, "CS101")


def test_all_orders_of_six_facts_give_one_memory() -> None:
    life = (
        TokenNamed(1, "old", NINE),
        TokenNamed(2, "held", NINE),
        Refused("old", "unknown", NINE),
        TokenNamed(2, "held", TEN),
        TokenNamed(3, "new", TEN),
        Deleted(4, TEN),
    )

    memories = {remembered(order) for order in permutations(life)}

    assert memories == {
        Memory("held", Deleted(4, TEN), TokenNamed(3, "new", TEN), Refused("old", "unknown", NINE))
    }


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param(TokenNamed(2, "old", TEN), TokenNamed(3, "new", NINE), id="token"),
        pytest.param(Deleted(2, TEN), Deleted(3, NINE), id="deletion"),
    ],
)
def test_versions_decide_and_not_times(low: Fact, high: Fact) -> None:
    assert remembered((low, high)) == remembered((high, low)) == remembered((high,))


@given(st.lists(facts, max_size=6), versions, moments)
def test_deletion_is_final(told: list[Fact], version: int, at: datetime) -> None:
    memory = remembered((Deleted(version, at), *told))

    assert status_of(memory) is Status.COURSE_DELETED


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param((), Status.ACTIVE, id="nothing was told"),
        pytest.param((TokenNamed(2, "held", NINE),), Status.ACTIVE, id="the held token is named"),
        pytest.param((TokenNamed(2, "new", NINE),), Status.TOKEN_INVALID, id="another is named"),
        pytest.param(
            (TokenNamed(3, "held", TEN), TokenNamed(2, "old", NINE)),
            Status.ACTIVE,
            id="a late event names a token already replaced",
        ),
        pytest.param((Refused("held", "unknown", NINE),), Status.TOKEN_INVALID, id="refused"),
        pytest.param((Refused("old", "unknown", NINE),), Status.ACTIVE, id="another was refused"),
        pytest.param(
            (Refused("held", "unknown", NINE), TokenNamed(2, "held", TEN)),
            Status.ACTIVE,
            id="proven good after it was refused",
        ),
        pytest.param(
            (Refused("held", "unknown", TEN), TokenNamed(2, "held", NINE)),
            Status.TOKEN_INVALID,
            id="refused after it was named",
        ),
        pytest.param((Deleted(1, NINE),), Status.COURSE_DELETED, id="deleted"),
    ],
)
def test_status_is_derived_from_what_is_remembered(
    told: tuple[Fact, ...], expected: Status
) -> None:
    actual = status_of(remembered(told))

    assert expected == actual


def test_entering_the_named_token_heals() -> None:
    told = (TokenNamed(2, "new", NINE),)

    before, after = remembered(told, held="held"), remembered(told, held="new")

    assert (status_of(before), status_of(after)) == (Status.TOKEN_INVALID, Status.ACTIVE)


@pytest.mark.parametrize("order", [1, -1], ids=["as it happened", "the other way round"])
def test_the_highest_version_names_the_token(order: int) -> None:
    told = (TokenNamed(2, "zzz", NINE), TokenNamed(3, "aaa", NINE))[::order]

    after = remembered(told, held="aaa")

    assert (after.named, status_of(after)) == (TokenNamed(3, "aaa", NINE), Status.ACTIVE)


@pytest.mark.parametrize(
    ("told", "version"),
    [
        pytest.param((), None, id="none seen"),
        pytest.param((Deleted(4, NINE), TokenNamed(7, "a", NINE)), 7, id="of a token"),
        pytest.param((TokenNamed(3, "a", NINE), Deleted(4, NINE)), 4, id="of the deletion"),
    ],
)
def test_course_version_is_the_highest_seen(told: tuple[Fact, ...], version: int | None) -> None:
    assert remembered(told).course_version == version


def test_active_needs_no_reason() -> None:
    assert standing_of(Memory("held"), "CS101") == Standing(Status.ACTIVE)


def test_standing_says_why_the_token_held_was_refused_besides() -> None:
    named = TokenNamed(5, "new", NINE)
    wrong = Refused("held", "token-wrong-course: it belongs to another course", NINE)
    replaced = Refused("held", REGENERATED, NINE)

    both, one = (standing_of(remembered((named, fact)), "CS101") for fact in (wrong, replaced))

    told = "the token was regenerated: present is new, held is held"
    assert both.reason == f"{told}, which was refused: {wrong.reason}"
    assert one.reason == told


@pytest.mark.parametrize(
    ("fact", "reason", "next_step"),
    [
        pytest.param(
            Deleted(4, NINE), "the course was deleted in eAssessment", "Nothing to mend", id="gone"
        ),
        pytest.param(
            TokenNamed(5, "new", NINE),
            "the token was regenerated: present is new, held is held",
            "`receiver registry set-token 'CS 101'`",
            id="regenerated",
        ),
        pytest.param(
            Refused("held", "token-unknown: no course has it", NINE),
            "eAssessment refused the token held: token-unknown: no course has it",
            "`receiver registry set-token 'CS 101'`",
            id="refused",
        ),
    ],
)
def test_standing_says_why_since_when_and_what_to_do(
    fact: Fact, reason: str, next_step: str
) -> None:
    standing = standing_of(remembered((fact,)), "CS 101")

    assert (standing.reason, standing.since) == (reason, NINE)
    assert next_step in str(standing.next_step)

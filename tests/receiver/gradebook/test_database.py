"""The gradebook in ELMS's own database."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import Score
from receiver.gradebook import database as gradebook
from receiver.gradebook.base import ScoreCounts
from receiver.models import StoredScore
from tests.receiver.conftest import Store

# The ids of two courses.
CS101, CS102 = 1, 2
Write = Callable[[dict[int, list[Score]]], dict[int, ScoreCounts]]


@pytest.fixture
def write(store: Store) -> Write:
    """Return a function that writes scores of two courses in a transaction of its own."""
    assert [store.add_course(name).id for name in ("CS101", "CS102")] == [CS101, CS102]

    def transact(scores: dict[int, list[Score]]) -> dict[int, ScoreCounts]:
        with store.database.writing() as session:
            return gradebook.write(session, scores)

    return transact


@pytest.fixture
def score(make_score: Callable[..., dict[str, Any]]) -> Callable[..., Score]:
    """Return a function that makes a score as it is read."""
    return lambda *args, **more: Score.model_validate_json(json.dumps(make_score(*args, **more)))


def test_added_changed_and_unchanged_scores_are_counted(
    store: Store, write: Write, score: Callable[..., Score]
) -> None:
    later = {"timestamp": "2026-11-23T09:00:00.000000Z"}
    write({CS101: [score("ada"), score("bob"), score("cat")], CS102: [score("ada")]})

    counts = write(
        {
            CS101: [score("ada", "7.50", **later), score("bob", None), score("cat", "8", **later)],
            CS102: [score("eve", "1"), score("eve", "2")],
        }
    )

    assert counts == {CS101: ScoreCounts(changed=2, unchanged=1), CS102: ScoreCounts(added=1)}
    assert {(row.entry_id, row.user_id): row.score_given for row in store.rows(StoredScore)} == {
        (CS101, "ada"): Decimal("7.5"),
        (CS101, "bob"): None,
        (CS101, "cat"): Decimal(8),
        (CS102, "ada"): Decimal("7.5"),
        (CS102, "eve"): Decimal(2),
    }
    first = store.rows(StoredScore)[0]
    assert (first.user_id, first.timestamp) == ("ada", score().timestamp)


def test_batch_is_three_statements(store: Store, write: Write, score: Callable[..., Score]) -> None:
    write({CS101: [score(str(number)) for number in range(9)]})
    before = store.database.statements

    write({course: [score(str(number), "8") for number in range(9)] for course in (CS101, CS102)})

    assert store.database.statements - before == 3


def test_nothing_to_write_sends_no_statement(store: Store, write: Write) -> None:
    before = store.database.statements

    counts = write({})

    assert (counts, store.database.statements - before) == ({}, 0)


def test_every_field_is_stored_exactly(
    store: Store, write: Write, score: Callable[..., Score]
) -> None:
    given = score(
        "زينب",
        "9999999999.99999",
        scoreMaximum="9999999999.99999",
        comment="'; DROP TABLE scores;--\n🙂",
        activityProgress="Submitted",
        gradingProgress="PendingManual",
    )

    write({CS101: [given]})

    (row,) = store.rows(StoredScore)
    assert {name: getattr(row, name) for name in Score.model_fields} == given.model_dump()

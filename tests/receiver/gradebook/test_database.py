"""The gradebook in ELMS's own database."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import Score
from foundation.db.session import Database
from receiver.gradebook import database as gradebook
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, Source, StoredScore


@pytest.fixture
def score(make_score: Callable[..., dict[str, Any]]) -> Callable[..., Score]:
    """Return what makes a score as it was read."""
    return lambda *args, **more: Score.model_validate_json(json.dumps(make_score(*args, **more)))


@pytest.fixture
def entries(make_source: Callable[..., Source], make_entry: Callable[..., Entry]) -> list[int]:
    """Two courses, by entry id."""
    source = make_source()
    return [make_entry(source, course_id).id for course_id in ("CS101", "CS102")]


def test_added_changed_and_unchanged_scores_are_counted(
    database: Database,
    entries: list[int],
    score: Callable[..., Score],
    rows: Callable[[type[Any]], list[Any]],
) -> None:
    first, second = entries
    with database.writing() as session:
        gradebook.write(session, {first: [score("ada"), score("bob")], second: [score("ada")]})

    with database.writing() as session:
        written = gradebook.write(
            session, {first: [score("ada", "7.50"), score("bob", None)], second: [score("eve")]}
        )

    stored = {(row.entry_id, row.user_id): row.score_given for row in rows(StoredScore)}
    assert written == {first: ScoreCounts(changed=1, unchanged=1), second: ScoreCounts(added=1)}
    assert stored == {
        (first, "ada"): Decimal("7.5"),
        (first, "bob"): None,
        (second, "ada"): Decimal("7.5"),
        (second, "eve"): Decimal("7.5"),
    }


def test_another_timestamp_alone_is_unchanged(
    database: Database,
    entries: list[int],
    score: Callable[..., Score],
    rows: Callable[[type[Any]], list[Any]],
) -> None:
    later = score(timestamp="2026-11-23T09:00:00.000000Z")
    with database.writing() as session:
        gradebook.write(session, {entries[0]: [score()]})

    with database.writing() as session:
        written = gradebook.write(session, {entries[0]: [later]})

    (row,) = rows(StoredScore)
    assert written == {entries[0]: ScoreCounts(unchanged=1)}
    assert row.timestamp == score().timestamp


def test_batch_is_three_statements(
    database: Database, entries: list[int], score: Callable[..., Score]
) -> None:
    first, second = entries
    with database.writing() as session:
        gradebook.write(session, {first: [score(str(number)) for number in range(50)]})
    before = database.statements

    with database.writing() as session:
        gradebook.write(
            session,
            {
                first: [score(str(number), "8") for number in range(50)],
                second: [score(str(number)) for number in range(50)],
            },
        )

    assert database.statements - before == 3


def test_nothing_to_write_sends_no_statement(database: Database) -> None:
    before = database.statements

    with database.writing() as session:
        written = gradebook.write(session, {})

    assert (written, database.statements - before) == ({}, 0)


def test_last_score_of_a_user_counts(
    database: Database,
    entries: list[int],
    score: Callable[..., Score],
    rows: Callable[[type[Any]], list[Any]],
) -> None:
    with database.writing() as session:
        gradebook.write(session, {entries[0]: [score("ada", "1"), score("ada", "2")]})

    assert [row.score_given for row in rows(StoredScore)] == [Decimal(2)]


def test_every_field_is_stored_exactly(
    database: Database,
    entries: list[int],
    score: Callable[..., Score],
    rows: Callable[[type[Any]], list[Any]],
) -> None:
    given = score(
        "زينب‮",
        "9999999999.99999",
        scoreMaximum="9999999999.99999",
        comment="'; DROP TABLE scores;--\n🙂",
        activityProgress="Submitted",
        gradingProgress="PendingManual",
    )

    with database.writing() as session:
        gradebook.write(session, {entries[0]: [given]})

    (row,) = rows(StoredScore)
    assert {name: getattr(row, name) for name in Score.model_fields} == given.model_dump()

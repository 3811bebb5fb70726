"""Queries over recorded runs: results of courses, counts, the last run of each source."""

from collections.abc import Callable
from datetime import datetime

import pytest

from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.gradebook.base import ScoreCounts
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from tests.receiver.conftest import Store

Record = Callable[..., int]


@pytest.fixture
def record(database: Database, now: datetime) -> Record:
    """Return a function that records a run with these results, which does not end."""

    def call(*results: CourseResult) -> int:
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", now=now)
            runs.record(session, run_id, results)
        return run_id

    return call


def make_result(
    outcome: CourseOutcome, course_id: str = "CS101", source: str = "one"
) -> CourseResult:
    """Return the result of a course."""
    return CourseResult(source, course_id, outcome)


SYNCED, FAILED = make_result(CourseOutcome.SYNCED), make_result(CourseOutcome.FAILED, "CS102")


def test_courses_of_a_run_have_their_entries(
    database: Database, record: Record, store: Store
) -> None:
    entry = store.add_course("CS102")
    elsewhere = make_result(CourseOutcome.FAILED, "CS102", "two")
    run_id = record(elsewhere, FAILED, SYNCED)
    record(FAILED)

    with database.reading() as session:
        page = queries.page_of_courses(session, run_id, CourseOutcome.FAILED, PageRequest())

    assert [(row.source, row.course_id, entry_id) for row, entry_id in page.rows] == [
        ("one", "CS102", entry.id),
        ("two", "CS102", None),
    ]


def test_results_of_a_course_are_newest_first(database: Database, record: Record) -> None:
    record(SYNCED)
    record(FAILED)
    record(make_result(CourseOutcome.SKIPPED), make_result(CourseOutcome.SYNCED, source="two"))

    with database.reading() as session:
        found = queries.of_course(session, "one", "CS101")
        [newest] = queries.of_course(session, "one", "CS101", limit=1)

    assert [(row.outcome, run.id) for row, run in found] == [("skipped", 3), ("synced", 1)]
    assert newest == found[0]


def test_last_fetch_of_each_source_ignores_skipped_courses(
    database: Database, record: Record, store: Store
) -> None:
    one, two = store.add_source("one"), store.add_source("two")
    record(make_result(CourseOutcome.FAILED, source="two"))
    record(FAILED, make_result(CourseOutcome.FAILED, source="two"))
    record(SYNCED, make_result(CourseOutcome.SKIPPED, source="two"))

    with database.reading() as session:
        last = queries.last_fetches(session)

    assert {source_id: run.id for source_id, run in last.items()} == {one.id: 3, two.id: 2}


def test_run_that_stopped_counts_what_it_did_not_record(
    database: Database, record: Record, now: datetime
) -> None:
    in_progress, stopped = record(SYNCED, FAILED), record(FAILED)
    with database.writing() as session:
        result = RunResult(
            stopped, (FAILED,) * 3, ScoreCounts(), 0, 0, 0.5, 143, "SIGTERM was received"
        )
        runs.end(session, result, now=now)

    with database.reading() as session:
        every = [runs.get(session, run_id) for run_id in (in_progress, stopped)]
        counts = queries.counts(session, every)
        not_recorded = [queries.not_recorded(session, run) for run in every]

    assert counts[in_progress][CourseOutcome.SYNCED] == counts[in_progress]["failed"] == 1
    assert counts[stopped][CourseOutcome.FAILED] == 3
    assert not_recorded == [0, 2]

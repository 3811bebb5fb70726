"""Queries over recorded runs: results of courses, counts, the last run of each source."""

from dataclasses import replace

from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.conftest import Store

SYNCED = CourseResult("one", "CS101", CourseOutcome.SYNCED)
SKIPPED = CourseResult("one", "CS101", CourseOutcome.SKIPPED)
FAILED = CourseResult("one", "CS102", CourseOutcome.FAILED)
ELSEWHERE = CourseResult("two", "CS102", CourseOutcome.FAILED)


def test_courses_of_a_run_have_their_entries(database: Database, store: Store) -> None:
    entry = store.add_course("CS102")
    run_id = store.add_run(ELSEWHERE, FAILED, SYNCED)
    store.add_run(FAILED)

    with database.reading() as session:
        page = queries.page_of_courses(session, run_id, CourseOutcome.FAILED, PageRequest())

    assert [(row.source, row.course_id, entry_id) for row, entry_id in page.rows] == [
        ("one", "CS102", entry.id),
        ("two", "CS102", None),
    ]


def test_results_of_a_course_are_newest_first(database: Database, store: Store) -> None:
    store.add_run(SYNCED)
    store.add_run(FAILED)
    store.add_run(SKIPPED, replace(SYNCED, source="two"))

    with database.reading() as session:
        found = queries.of_course(session, "one", "CS101")
        [newest] = queries.of_course(session, "one", "CS101", limit=1)

    assert [(row.outcome, run.id) for row, run in found] == [("skipped", 3), ("synced", 1)]
    assert newest == found[0]


def test_last_fetch_of_each_source_ignores_skipped_courses(
    database: Database, store: Store
) -> None:
    one, two = store.add_source("one"), store.add_source("two")
    store.add_run(ELSEWHERE)
    store.add_run(FAILED, ELSEWHERE)
    store.add_run(SYNCED, replace(SKIPPED, source="two"))

    with database.reading() as session:
        last = queries.last_fetches(session)

    assert {source_id: run.id for source_id, run in last.items()} == {one.id: 3, two.id: 2}


def test_run_that_stopped_counts_what_it_did_not_record(database: Database, store: Store) -> None:
    in_progress = store.add_run(SYNCED, FAILED, ended=False)
    stopped = store.add_run(FAILED, stopped="SIGTERM", not_recorded=(FAILED, FAILED))

    with database.reading() as session:
        every = [runs.get(session, run_id) for run_id in (in_progress, stopped)]
        counts = queries.counts(session, every)
        not_recorded = [queries.not_recorded(session, run) for run in every]

    assert counts[in_progress][CourseOutcome.SYNCED] == counts[in_progress]["failed"] == 1
    assert counts[stopped][CourseOutcome.FAILED] == 3
    assert not_recorded == [0, 2]

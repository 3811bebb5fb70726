"""Queries over recorded runs: results of courses and counts."""

from dataclasses import replace

from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from foundation.errors import Advice
from receiver.course_state import CourseStatus
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.groups import group_results
from receiver.runs.queries import ResultFilter
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.conftest import Store

SYNCED = CourseResult("one", "CS101", CourseOutcome.SYNCED)
SKIPPED = CourseResult("one", "CS101", CourseOutcome.SKIPPED)
FAILED = CourseResult("one", "CS102", CourseOutcome.FAILED)
DELETED = CourseResult("one", "CS101", CourseOutcome.SKIPPED, CourseStatus.COURSE_DELETED)
ELSEWHERE = CourseResult("two", "CS102", CourseOutcome.FAILED)


def test_courses_of_a_run_have_their_entries(database: Database, store: Store) -> None:
    entry = store.add_course("CS102")
    run_id = store.add_run(ELSEWHERE, FAILED, SYNCED)
    store.add_run(FAILED)

    with database.reading() as session:
        failed = ResultFilter(CourseOutcome.FAILED)
        page = queries.page_of_courses(session, run_id, failed, PageRequest())

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


def test_run_that_stopped_counts_what_it_did_not_record(database: Database, store: Store) -> None:
    in_progress = store.add_run(SYNCED, FAILED, DELETED, known_deleted=3, ended=False)
    stopped = store.add_run(FAILED, stopped="SIGTERM", not_recorded=(FAILED, FAILED))

    with database.reading() as session:
        every = [runs.get(session, run_id) for run_id in (in_progress, stopped)]
        counts = queries.counts(session, every)
        not_recorded = [queries.not_recorded(session, run) for run in every]

    assert counts[in_progress].parts == {
        "synced": 1,
        "unchanged": 0,
        "course_deleted": 4,
        "skipped": 0,
        "failed": 1,
    }
    assert counts[in_progress].outcomes[CourseOutcome.SKIPPED] == 4
    assert counts[stopped].parts["failed"] == 3
    assert not_recorded == [0, 2]


def test_recorded_results_are_grouped_like_those_of_a_run(database: Database, store: Store) -> None:
    again = Advice("Wait.", "registry set-activity", ("CS102",))
    alike = tuple(
        replace(FAILED, course_id=f"CS10{number}", reason="transient", detail="503", advice=again)
        for number in range(2, 9)
    )
    results = (
        SYNCED,
        *alike,
        replace(alike[0], source="two"),
        replace(alike[0], course_id="CS201", advice=Advice("Act.")),
        replace(alike[0], course_id="CS202", detail="504", advice=Advice("Act.")),
        DELETED,
    )
    entry = store.add_course("CS102")
    run_id = store.add_run(*results)

    with database.reading() as session:
        groups = queries.result_groups(session, run_id)
        entry_ids = queries.entry_ids(session, groups)

    found = [(group.source, group.courses, group.names, group.detail) for group in groups]
    assert found == [
        ("one", 7, "CS102, CS103, CS104, CS105, CS106 and 2 more", "503"),
        ("one", 2, "CS201, CS202", None),
        ("two", 1, "CS102", "503"),
    ]
    assert found == [
        (group.source, group.courses, group.names, group.detail) for group in group_results(results)
    ]
    assert [group.advice and group.advice.args for group in groups] == [
        ("COURSE_ID",),
        (),
        ("CS102",),
    ]
    assert entry_ids == {("one", "CS102"): entry.id}

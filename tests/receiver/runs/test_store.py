"""The records of runs."""

from datetime import timedelta

import pytest

from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from foundation.errors import Advice
from receiver.errors import RunUnknownError
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run, RunCourse
from receiver.runs import lease as leases
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.store import CourseFailure, CourseOutcome, CourseResult, RunResult, RunStatus
from tests.receiver.conftest import NINE, Store


def test_run_is_recorded_with_its_courses(store: Store) -> None:
    courses = (
        CourseResult("one", "CS101", CourseOutcome.SYNCED, url="http://x.example"),
        CourseResult(
            "one",
            "CS102",
            CourseOutcome.SKIPPED,
            "course_deleted",
            "deleted",
            NINE,
            Advice("Look.", "runs show", ("1",)),
        ),
    )
    with store.database.writing() as session:
        run_id = runs.begin(session, "ada@elms", now=NINE)
        runs.record(session, run_id, courses)
        runs.record(session, run_id, [])
        result = RunResult(run_id, courses, ScoreCounts(1, 2, 3), 1, 7, 0.5, 0)
        runs.end(session, result, now=NINE + timedelta(seconds=1))

    (run,) = store.rows(Run)
    assert (run.synced, run.unchanged, run.skipped, run.deleted, run.failed) == (1, 0, 1, 1, 0)
    assert (run.scores_added, run.scores_changed, run.scores_unchanged) == (1, 2, 3)
    assert (run.requests, run.statements, run.exit_code) == (1, 7, 0)
    assert run.ended_at - run.started_at == timedelta(seconds=1)
    assert [(row.course_id, row.outcome, row.since) for row in store.rows(RunCourse)] == [
        ("CS101", "synced", None),
        ("CS102", "skipped", NINE),
    ]
    assert [row.advice for row in store.rows(RunCourse)] == [course.advice for course in courses]


def test_latest_full_run_ignores_partial_ones(database: Database) -> None:
    with database.writing() as session:
        assert runs.latest_full(session) is None
        runs.begin(session, "ada@elms", now=NINE)
        full = runs.begin(session, "bob@elms", now=NINE)
        partial = runs.begin(session, "ada@elms", partial=True, now=NINE)

    with database.reading() as session:
        latest_full, latest = runs.latest_full(session), runs.get(session)

    assert latest_full is not None
    assert (latest_full.id, latest_full.ended_at, latest.id) == (full, None, partial)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        pytest.param(timedelta(minutes=5), RunStatus.RUNNING, id="leased"),
        pytest.param(timedelta(0), RunStatus.KILLED, id="lease expired"),
    ],
)
def test_only_the_latest_run_can_be_running(
    database: Database, duration: timedelta, expected: RunStatus
) -> None:
    failed = (CourseResult("one", "CS101", CourseOutcome.FAILED),)
    ends = {
        1: ((), 0, None),
        2: (failed, 1, None),
        3: ((), 4, "the database is away"),
        4: ((), 1, None),
    }
    with database.writing() as session:
        leases.acquire(session, "ada@elms", duration, now=NINE)
        ids = [runs.begin(session, "ada@elms", now=NINE) for _ in range(6)]
        for run_id, (courses, exit_code, stopped) in ends.items():
            result = RunResult(run_id, courses, ScoreCounts(), 0, 0, 0.5, exit_code, stopped)
            runs.end(session, result, now=NINE)

    with database.reading() as session:
        run = runs.get(session, 3)
        statuses = runs.statuses(session, queries.page(session, PageRequest()).rows, now=NINE)

    assert [statuses[run_id] for run_id in ids] == [
        RunStatus.COMPLETED,
        RunStatus.WITH_ERRORS,
        RunStatus.STOPPED,
        RunStatus.NEEDS_ACTION,
        RunStatus.KILLED,
        expected,
    ]
    assert (run.seconds, run.stopped) == (0.5, "the database is away")


def test_unknown_run_is_refused(database: Database) -> None:
    with database.reading() as session:
        with pytest.raises(RunUnknownError, match="no run 7"):
            runs.get(session, 7)
        with pytest.raises(RunUnknownError, match="no run yet"):
            runs.get(session)


def test_unchanged_courses_are_counted_while_the_run_is_in_progress(store: Store) -> None:
    unchanged = CourseResult("one", "CS101", CourseOutcome.UNCHANGED)
    failed = CourseResult("one", "CS102", CourseOutcome.FAILED)
    with store.database.writing() as session:
        run_id = runs.begin(session, "ada@elms", now=NINE)
        runs.record(session, run_id, [unchanged, failed])
        runs.record(session, run_id, [unchanged, unchanged])

    with store.database.reading() as session:
        [counts] = queries.counts(session, [runs.get(session)]).values()

    assert (counts.parts["unchanged"], counts.parts["failed"]) == (3, 1)
    assert [row.course_id for row in store.rows(RunCourse)] == ["CS102"]


def test_failure_is_searched_in_recent_runs_by_one_query(store: Store) -> None:
    for course_id in ("CS101", "CS102"):
        store.add_course(course_id)
    for number in range(runs.RUNS_SEARCHED + 1):
        failed = CourseResult("one", "CS102" if number else "CS101", *FAILED)
        store.add_run(failed, at=NINE + timedelta(minutes=number))
    before = store.database.statements

    with store.database.reading() as session:
        failures = runs.failures(session, ["CS101", "CS102"])

    assert store.database.statements == before + 1
    assert failures == {("one", "CS102"): CourseFailure(NINE + timedelta(minutes=1))}


ADVICE = Advice("Look.")
FAILED = (CourseOutcome.FAILED, "transient")
OUTAGE = (CourseOutcome.SKIPPED, "site_trouble")
DELETED = (CourseOutcome.FAILED, "course_deleted")
SYNCED = (CourseOutcome.SYNCED, "people_left_out")
UNCHANGED = (CourseOutcome.UNCHANGED, None)


@pytest.mark.parametrize(
    ("results", "failing_since"),
    [
        pytest.param([FAILED], 0, id="once"),
        pytest.param([FAILED, SYNCED, FAILED, OUTAGE, FAILED], 2, id="since it was synced"),
        pytest.param([FAILED, OUTAGE], 0, id="site trouble"),
        pytest.param([FAILED] * 25, 0, id="longer than is searched"),
        pytest.param([FAILED, SYNCED], None, id="synced"),
        pytest.param([FAILED, UNCHANGED], None, id="unchanged"),
        pytest.param([FAILED, UNCHANGED, FAILED, FAILED], 2, id="since it was unchanged"),
        pytest.param([FAILED, DELETED], None, id="deleted"),
        pytest.param([FAILED, (CourseOutcome.SKIPPED, "token_invalid")], None, id="token invalid"),
    ],
)
def test_course_is_failing_since_it_was_last_synced(
    store: Store, results: list[tuple[CourseOutcome, str | None]], failing_since: int | None
) -> None:
    entry = store.add_course("CS1")
    store.add_course("CS1", source="two")
    for number, (outcome, reason) in enumerate(results):
        at = NINE + timedelta(minutes=number)
        result = CourseResult("one", "CS1", outcome, reason, "why", advice=ADVICE)
        store.add_run(result, CourseResult("two", "CS1", CourseOutcome.SYNCED), at=at)
        if outcome is CourseOutcome.UNCHANGED:
            store.update(entry, synced_at=at + timedelta(seconds=1))

    with store.database.reading() as session:
        failures = runs.failures(session, ["CS1"])

    since = None if failing_since is None else NINE + timedelta(minutes=failing_since)
    assert failures == ({("one", "CS1"): CourseFailure(since, "why", ADVICE)} if since else {})

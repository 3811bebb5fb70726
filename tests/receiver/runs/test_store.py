"""The runs of the sync: one at a time, and a record of each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from foundation.db.session import Database
from receiver.config import LEASE_MARGIN_SECONDS
from receiver.errors import LeaseLostError, RunInProgressError, RunUnknownError
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run, RunCourse
from receiver.runs import lease as leases
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, LastOutcome, RunResult, RunStatus

LASTING = timedelta(minutes=5)


@pytest.fixture
def acquire(database: Database, now: datetime) -> Callable[..., str]:
    """Return what takes the lease, so many minutes after nine."""

    def take(holder: str = "ada@elms", minutes: int = 0) -> str:
        with database.writing() as session:
            return leases.acquire(session, holder, LASTING, now=now + timedelta(minutes=minutes))

    return take


def test_a_second_run_is_refused(acquire: Callable[..., str]) -> None:
    """While one run is at work, the next is told who it is and until when (F29)."""
    acquire("ada@elms")

    with pytest.raises(
        RunInProgressError, match=r"running: ada@elms, its lease lasts until 2026-11-22 09:05:00Z"
    ):
        acquire("bob@elms", minutes=4)


def test_a_crashed_run_frees_itself(
    database: Database, acquire: Callable[..., str], now: datetime
) -> None:
    """An expired lease is taken over, and its first holder can write no more (F29)."""
    first = acquire("ada@elms")

    second = acquire("bob@elms", minutes=5)

    with database.writing() as session, pytest.raises(LeaseLostError, match="taken over"):
        leases.renew(session, first, LASTING, now=now)
    with database.writing() as session:
        leases.renew(session, second, LASTING, now=now)


def test_a_renewed_lease_lasts_longer(
    database: Database, acquire: Callable[..., str], now: datetime
) -> None:
    token = acquire()
    with database.writing() as session:
        leases.renew(session, token, LASTING, now=now + timedelta(minutes=4))

    with pytest.raises(RunInProgressError, match="09:09:00Z"):
        acquire("bob@elms", minutes=6)


@pytest.mark.parametrize(
    ("ago", "renewed"),
    [pytest.param(9, False, id="just now"), pytest.param(11, True, id="a while ago")],
)
def test_a_lease_never_ends_during_one_request(
    database: Database, now: datetime, ago: float, renewed: bool
) -> None:
    held = leases.RunLease(database, timedelta(seconds=300 + LEASE_MARGIN_SECONDS))
    with database.writing() as session:
        held.acquire(session, "ada@elms", now=now)
    held._renewed_at -= ago

    held.renew_if_due()

    with database.reading() as session:
        lease = leases.current(session)
        assert lease is not None
        assert lease.leased_until is not None
        assert (lease.leased_until > now + timedelta(days=1)) is renewed


def test_a_released_lease_is_free_at_once(database: Database, acquire: Callable[..., str]) -> None:
    token = acquire()
    with database.writing() as session:
        leases.release(session, "another token")
    with pytest.raises(RunInProgressError, match="running"):
        acquire("bob@elms")

    with database.writing() as session:
        leases.release(session, token)

    assert acquire("bob@elms")


def test_a_lease_of_a_clock_that_was_wrong_is_taken_over(
    database: Database, acquire: Callable[..., str], now: datetime
) -> None:
    token = acquire()
    with database.writing() as session:
        leases.renew(session, token, LASTING, now=now + timedelta(days=3650))

    assert acquire("bob@elms")
    with database.writing() as session, pytest.raises(LeaseLostError):
        leases.renew(session, token, LASTING, now=now)


def test_a_longer_lease_of_another_machine_is_respected(
    database: Database, acquire: Callable[..., str], now: datetime
) -> None:
    with database.writing() as session:
        leases.acquire(session, "bob@elms", timedelta(hours=12), now=now)

    with pytest.raises(RunInProgressError, match="bob@elms"):
        acquire()


def test_of_many_at_once_one_takes_the_lease(acquire: Callable[..., str]) -> None:
    def attempt(number: int) -> bool:
        try:
            return bool(acquire(f"host-{number}"))
        except RunInProgressError:
            return False

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(attempt, range(8)))

    assert sum(taken) == 1


def test_a_run_is_recorded_with_its_courses(
    database: Database, now: datetime, rows: Callable[[type[Any]], list[Any]]
) -> None:
    courses = (
        CourseResult("one", "CS101", CourseOutcome.SYNCED, url="http://x.example"),
        CourseResult(
            "one", "CS102", CourseOutcome.SKIPPED, "course_deleted", "it was", now, "Nothing."
        ),
    )
    with database.writing() as session:
        run_id = runs.begin(session, "ada@elms", now=now)
        runs.record(session, run_id, courses)
        runs.record(session, run_id, [])
        report = RunResult(run_id, courses, ScoreCounts(), 1, 7, 0.5, 0)
        runs.end(session, report, now=now + timedelta(seconds=1))

    (run,) = rows(Run)
    assert (run.synced, run.unchanged, run.skipped, run.failed) == (1, 0, 1, 0)
    assert (run.requests, run.statements, run.exit_code) == (1, 7, 0)
    assert run.ended_at - run.started_at == timedelta(seconds=1)
    assert [(row.course_id, row.outcome, row.since) for row in rows(RunCourse)] == [
        ("CS101", "synced", None),
        ("CS102", "skipped", now),
    ]


def test_the_latest_run_is_the_one_that_began_last(database: Database, now: datetime) -> None:
    with database.writing() as session:
        assert runs.latest_full(session) is None
        runs.begin(session, "ada@elms", now=now)
        last = runs.begin(session, "bob@elms", now=now)

    with database.reading() as session:
        run = runs.latest_full(session)

    assert run is not None
    assert (run.id, run.ended_at) == (last, None)


def test_a_run_of_some_courses_is_not_the_latest_whole_one(
    database: Database, now: datetime
) -> None:
    with database.writing() as session:
        whole = runs.begin(session, "ada@elms", now=now)
        part = runs.begin(session, "ada@elms", now=now)
        session.get_one(Run, part).partial = True

    with database.reading() as session:
        latest, last = runs.latest_full(session), runs.get(session)

    assert latest is not None
    assert (latest.id, last.id) == (whole, part)


@pytest.mark.parametrize(
    ("lasting", "expected"),
    [
        pytest.param(timedelta(minutes=5), RunStatus.RUNNING, id="its lease is held"),
        pytest.param(timedelta(0), RunStatus.KILLED, id="its lease ended"),
    ],
)
def test_a_run_without_end_is_at_work_while_its_lease_is_held(
    database: Database, now: datetime, lasting: timedelta, expected: RunStatus
) -> None:
    with database.writing() as session:
        leases.acquire(session, "ada@elms", lasting, now=now)
        before = runs.begin(session, "ada@elms", now=now)
        last = runs.begin(session, "ada@elms", now=now)

    with database.reading() as session:
        ends = runs.statuses(session, runs.listing(session, 10), now=now)

    assert ends == {before: RunStatus.KILLED, last: expected}


@pytest.mark.parametrize(
    ("exit_code", "stopped", "expected"),
    [
        pytest.param(0, None, RunStatus.COMPLETED, id="well"),
        pytest.param(1, None, RunStatus.WITH_ERRORS, id="with failures"),
        pytest.param(4, "the database is away", RunStatus.STOPPED, id="before its time"),
    ],
)
def test_an_ended_run_tells_how(
    database: Database, now: datetime, exit_code: int, stopped: str | None, expected: RunStatus
) -> None:
    with database.writing() as session:
        run_id = runs.begin(session, "ada@elms", now=now)
        runs.end(
            session, RunResult(run_id, (), ScoreCounts(), 0, 0, 0.5, exit_code, stopped), now=now
        )

    with database.reading() as session:
        run = runs.get(session, run_id)
        ends = runs.statuses(session, [run], now=now)

    assert (run.seconds, run.stopped, ends[run_id]) == (0.5, stopped, expected)


def test_an_unknown_run_is_refused(database: Database) -> None:
    with database.reading() as session:
        with pytest.raises(RunUnknownError, match="there is no run 7"):
            runs.get(session, 7)
        with pytest.raises(RunUnknownError, match="there is no run yet"):
            runs.get(session)


def test_the_last_outcome_is_of_the_run_that_told_of_the_course_last(
    database: Database, now: datetime
) -> None:
    with database.writing() as session:
        for number in range(runs.RUNS_SEARCHED + 2):
            at = now + timedelta(minutes=number)
            run_id = runs.begin(session, "ada@elms", now=at)
            told = {0: "LONG-AGO", 5: "CS101", 6: "CS102", 7: "CS101"}.get(number)
            outcome = CourseOutcome.FAILED if number == 5 else CourseOutcome.SYNCED
            if told:
                runs.record(session, run_id, [CourseResult("one", told, outcome)])

    before = database.statements
    with database.reading() as session:
        last = runs.last_outcomes(session)

    assert database.statements == before + 1
    assert last == {
        ("one", "CS101"): LastOutcome(CourseOutcome.SYNCED, now + timedelta(minutes=7)),
        ("one", "CS102"): LastOutcome(CourseOutcome.SYNCED, now + timedelta(minutes=6)),
    }

"""`receiver runs …`."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from click.testing import Result

from foundation.db.session import Database
from foundation.errors import Advice
from receiver.gradebook.base import ScoreCounts
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult

COURSES = (
    CourseResult("one", "CS101", CourseOutcome.SYNCED),
    CourseResult(
        "one", "CS102", CourseOutcome.FAILED, "transient", "answered 503", None, Advice("Wait.")
    ),
)


@pytest.fixture
def have_run(database: Database, now: datetime) -> Callable[[], int]:
    """Return what records a run with a course that was synced and one that failed."""

    def record() -> int:
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", now=now)
            runs.record(session, run_id, COURSES)
            report = RunResult(run_id, COURSES, ScoreCounts(), 2, 7, 1.25, 1)
            runs.end(session, report, now=now + timedelta(seconds=1))
            return run_id

    return record


def test_list_is_newest_first(receiver: Callable[..., Result], have_run: Callable[[], int]) -> None:
    empty = receiver("runs", "list")
    have_run()
    have_run()

    table = receiver("runs", "list").stdout
    (newest,) = json.loads(receiver("runs", "list", "--limit", "1", "--json").stdout)

    assert empty.stdout == "No runs yet. Start one with `receiver sync-grades`.\n"
    assert ("ada@elms" in table, "completed with errors" in table) == (True, True)
    assert (newest["run_id"], newest["by"], newest["partial"]) == (2, "ada@elms", False)
    assert (newest["synced"], newest["failed"]) == (1, 1)
    assert (newest["requests"], newest["database_queries"], newest["seconds"]) == (2, 7, 1.25)


def test_show_prints_the_result_of_each_course(
    receiver: Callable[..., Result], have_run: Callable[[], int]
) -> None:
    have_run()

    shown = receiver("runs", "show").stdout
    failed = json.loads(receiver("runs", "show", "1", "--outcome", "failed", "--json").stdout)

    assert all(words in shown for words in ("CS101", "answered 503", "Wait."))
    assert failed["status"] == "completed with errors"
    assert [course["course_id"] for course in failed["courses"]] == ["CS102"]


def test_unknown_run_is_refused(receiver: Callable[..., Result]) -> None:
    result = receiver("runs", "show", "7")

    assert result.exit_code == 1
    assert "there is no run 7" in result.stderr
    assert "receiver runs list" in result.stderr

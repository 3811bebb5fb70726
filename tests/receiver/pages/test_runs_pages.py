"""The pages of the runs: each as a bar, over time, and one with its courses, the worst first."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from foundation.db.session import Database
from foundation.errors import Advice
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, Source
from receiver.runs import lease
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from tests.receiver.conftest import NINE
from tests.receiver.pages.conftest import Ada, rows_of, said

Record = Callable[..., int]


def course(name: str, outcome: CourseOutcome, detail: str | None = None) -> CourseResult:
    """Return what became of a course."""
    step = Advice("Ask somebody.", "sync-grades") if detail else None
    return CourseResult("one", name, outcome, "transient" if detail else None, detail, None, step)


COURSES = (
    course("CS101", CourseOutcome.SYNCED),
    course("CS102", CourseOutcome.UNCHANGED),
    course("CS103", CourseOutcome.FAILED, "answered 503"),
    course("CS104", CourseOutcome.SKIPPED, "deleted"),
    course("CS105", CourseOutcome.SKIPPED, "deleted"),
)


@pytest.fixture
def record(database: Database) -> Record:
    """Return what records a run; `ended=False` leaves it as one that was killed."""

    def make(
        *courses: CourseResult,
        ended: bool = True,
        partial: bool = False,
        stopped: str | None = None,
        not_recorded: int = 0,
    ) -> int:
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", partial=partial, now=NINE)
            runs.record(session, run_id, courses)
            if ended:
                lost = tuple(course(f"X{n}", CourseOutcome.FAILED) for n in range(not_recorded))
                failed = any(one.outcome is CourseOutcome.FAILED for one in courses)
                report = RunResult(
                    run_id,
                    (*courses, *lost),
                    ScoreCounts(4, 5, 6),
                    2,
                    7,
                    1.25,
                    int(failed),
                    stopped,
                )
                runs.end(session, report, now=NINE + timedelta(seconds=2))
            return run_id

    return make


class TestList:
    """All runs."""

    def test_without_a_run_it_says_how_to_begin(self, ada: Ada) -> None:
        page = said(ada.get("/runs"))

        assert "No runs yet. Run receiver sync-grades , and schedule it" in page

    def test_each_run_is_a_bar_and_its_words(self, ada: Ada, record: Record) -> None:
        record(*COURSES)
        record(COURSES[0], partial=True)

        answer = ada.get("/runs")

        assert rows_of(answer)[-2:] == [
            "2 some courses 2026-11-22 09:00:00 UTC completed 1 synced 1.2 2 ada@elms",
            "1 2026-11-22 09:00:00 UTC completed with errors "
            "1 synced 1 unchanged 2 skipped 1 failed 1.2 2 ada@elms",
        ]
        assert '<rect class="chart-good" x="0" y="0" width="20.0" height="1"/>' in answer.text
        assert '<rect class="chart-bad" x="80.0" y="0" width="20.0" height="1"/>' in answer.text

    def test_a_run_that_was_killed_shows_what_it_wrote_down(self, ada: Ada, record: Record) -> None:
        record(*COURSES[:2], ended=False)

        [row] = rows_of(ada.get("/runs"))

        assert "killed 1 synced 1 unchanged" in row

    def test_a_run_at_work_is_told_as_such(
        self, ada: Ada, record: Record, database: Database
    ) -> None:
        record(ended=False)
        with database.writing() as session:
            now = datetime.now(NINE.tzinfo)
            lease.acquire(session, "ada@elms", timedelta(minutes=5), now=now)

        assert "running" in rows_of(ada.get("/runs"))[0]
        assert "It is running." in said(ada.get("/runs/1"))

    def test_durations_and_requests_are_drawn_from_two_runs_on(
        self, ada: Ada, record: Record
    ) -> None:
        record(*COURSES)
        one = ada.get("/runs").text
        record(*COURSES, ended=False)
        record(*COURSES)

        two = ada.get("/runs").text

        assert "chart-line" not in one
        assert two.count('class="chart-line') == 2
        assert "From 1 to 3. seconds: up to 1.2 s" in two
        assert "Duration" in two

    def test_the_list_goes_on(self, ada: Ada, record: Record) -> None:
        for _ in range(52):
            record()

        first, second = ada.get("/runs"), ada.get("/runs?after=%5B3%5D")

        assert 'rel="next" href="/runs?after=%5B3%5D"' in first.text
        assert [row.split()[0] for row in rows_of(second) if "ada@elms" in row] == ["2", "1"]

    def test_it_costs_the_same_statements_with_2_runs_and_with_40(
        self, ada: Ada, record: Record, statements: Callable[[], int]
    ) -> None:
        record(*COURSES)
        record(*COURSES, ended=False)
        statements()
        ada.get("/runs")
        with_two = statements()
        for number in range(38):
            record(*COURSES, ended=bool(number % 2))
        statements()

        ada.get("/runs")

        assert with_two == statements()
        assert with_two <= 6


class TestOne:
    """One run."""

    def test_it_tells_its_story_as_the_command_did(self, ada: Ada, record: Record) -> None:
        page = said(ada.get(f"/runs/{record(*COURSES)}"))

        assert (
            "Grade sync 1: 5 courses, 2 of them skipped before any request. "
            "... fetched grades: 1 course, 4 scores added, 5 changed, 6 unchanged "
            "... unchanged since the last fetch: 1 course "
            "... failed: 1 course "
            "... used 2 requests to eAssessment "
            "... used 7 database queries "
            "... used 1.25 seconds "
            "Grade sync complete, with errors; see each failed course."
        ) in page

    def test_the_courses_that_failed_come_first(
        self,
        ada: Ada,
        record: Record,
        make_source: Callable[..., Source],
        make_entry: Callable[..., Entry],
    ) -> None:
        entry = make_entry(make_source("one"), "CS103")

        answer = ada.get(f"/runs/{record(*COURSES)}")

        assert rows_of(answer) == [
            "CS103 one failed answered 503 \N{EN DASH} Ask somebody. receiver sync-grades"
        ]
        assert f'<a href="/entries/{entry.id}"><bdi class="name">CS103</bdi></a>' in answer.text
        assert "failed 1 skipped 2 synced 1 unchanged 1" in said(answer)

    def test_without_a_failure_the_skipped_come_first(self, ada: Ada, record: Record) -> None:
        answer = ada.get(f"/runs/{record(COURSES[0], COURSES[3])}")

        assert [row.split()[0] for row in rows_of(answer)] == ["CS104"]

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            ("synced", ["CS101"]),
            ("unchanged", ["CS102"]),
            ("failed", ["CS103"]),
            ("skipped", ["CS104", "CS105"]),
            ("none", ["CS103"]),
        ],
    )
    def test_the_courses_are_shown_by_outcome(
        self, ada: Ada, record: Record, outcome: str, expected: list[str]
    ) -> None:
        answer = ada.get(f"/runs/{record(*COURSES)}?outcome={outcome}")

        assert expected == [row.split()[0] for row in rows_of(answer)]

    def test_courses_that_had_no_turn_are_counted_though_they_are_not_listed(
        self, ada: Ada, record: Record
    ) -> None:
        run_id = record(COURSES[2], stopped="SIGTERM was received", not_recorded=3)

        page = said(ada.get(f"/runs/{run_id}"))

        assert "Grade sync stopped early: SIGTERM was received" in page
        assert "failed 4" in page
        assert "3 courses were not reached before the run ended and are not listed" in page

    def test_a_killed_run_says_what_that_means(self, ada: Ada, record: Record) -> None:
        page = said(ada.get(f"/runs/{record(COURSES[0], ended=False)}"))

        assert "It was killed before it could end." in page
        assert "The next run continues automatically" in page

    def test_a_run_that_wrote_no_scores_down_tells_the_rest(
        self, ada: Ada, record: Record, database: Database
    ) -> None:
        run_id = record(*COURSES)
        with database.writing() as session:
            run = runs.get(session, run_id)
            run.scores_added = run.scores_changed = run.scores_unchanged = run.seconds = None

        page = said(ada.get(f"/runs/{run_id}"))

        assert "... fetched grades: 1 course ... unchanged" in page
        assert "seconds" not in page

    def test_the_courses_go_on(self, ada: Ada, record: Record) -> None:
        run_id = record(*(course(f"CS{n:02}", CourseOutcome.FAILED, "503") for n in range(53)))

        first = ada.get(f"/runs/{run_id}")
        second = ada.get(f"/runs/{run_id}?outcome=failed&after=%5B%22one%22%2C50%5D")

        assert (
            f'rel="next" href="/runs/{run_id}?outcome=failed&amp;after=%5B%22one%22,50%5D"'
            in first.text
        )
        assert (len(rows_of(first)), len(rows_of(second))) == (50, 3)

    def test_a_run_that_there_is_not_is_refused(self, ada: Ada) -> None:
        answer = ada.get("/runs/7")

        assert answer.status_code == 404
        assert "There is no run 7." in said(answer)

    def test_it_costs_the_same_statements_however_many_courses(
        self, ada: Ada, record: Record, statements: Callable[[], int]
    ) -> None:
        few = record(*COURSES)
        many = record(*(course(f"CS{n}", CourseOutcome.FAILED, "503") for n in range(1000)))
        statements()
        ada.get(f"/runs/{few}")
        with_five = statements()

        ada.get(f"/runs/{many}")

        assert with_five == statements()
        assert with_five <= 6


def test_what_sites_say_is_shown_as_text(ada: Ada, record: Record) -> None:
    """Markup in a reason is no markup, and 10 kB of it open on demand (B7)."""
    text: Any = ada.get(
        f"/runs/{record(course('<b>', CourseOutcome.FAILED, '<script>' * 2000))}"
    ).text

    assert "<script>" * 2 not in text
    assert "Show all (16,000 characters)" in text

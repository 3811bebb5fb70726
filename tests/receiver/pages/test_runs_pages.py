"""The pages of the runs: the list with its charts, and one run with its courses."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from foundation.db.session import Database
from foundation.errors import Advice
from receiver.course_state import CourseStatus
from receiver.runs import lease, schedule
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, ResultReason
from receiver.sources.base import PersonProblem
from tests.receiver.conftest import NINE, Store
from tests.receiver.pages.conftest import Browser


def make_result(course_id: str, outcome: CourseOutcome, detail: str | None = None) -> CourseResult:
    """Return the result of a course."""
    advice = Advice("Try again.", "sync-grades") if detail else None
    reason = "transient" if detail else None
    return CourseResult("one", course_id, outcome, reason, detail, None, advice)


SYNCED = make_result("CS101", CourseOutcome.SYNCED)
FAILED = make_result("CS103", CourseOutcome.FAILED, "responded 503")
SKIPPED = replace(
    make_result("CS104", CourseOutcome.SKIPPED, "rejected"), reason=CourseStatus.TOKEN_INVALID
)
DELETED = replace(
    make_result("CS105", CourseOutcome.SKIPPED, "deleted"), reason=CourseStatus.COURSE_DELETED
)
RESULTS = (
    SYNCED,
    make_result("CS102", CourseOutcome.UNCHANGED),
    FAILED,
    SKIPPED,
    DELETED,
)


def test_list_has_a_bar_and_counts_for_each_run(browser: Browser, store: Store) -> None:
    store.add_run(*RESULTS)
    store.add_run(SYNCED, partial=True)

    page = browser.get("/runs")

    assert page.rows[-2:] == [
        "2 some courses 2026-11-22 09:00:00 UTC completed 1 synced 1.2 2 ada@elms",
        "1 2026-11-22 09:00:00 UTC completed with errors "
        "1 synced 1 unchanged 1 course deleted 1 skipped 1 failed 1.2 2 ada@elms",
    ]
    assert '<rect class="chart-good" x="0" y="0" width="20.0" height="1"/>' in page.html
    assert '<rect class="chart-gone" x="40.0" y="0" width="20.0" height="1"/>' in page.html
    assert '<rect class="chart-bad" x="80.0" y="0" width="20.0" height="1"/>' in page.html


def test_runs_are_filtered_by_time_and_exported(browser: Browser, store: Store) -> None:
    for days in range(3):
        store.add_run(SYNCED, at=NINE + timedelta(days=days))
    query = "since=2026-11-23&until=2026-11-24"

    page = browser.get(f"/runs?{query}")
    exported = browser.get(f"/runs.csv?{query}").html.splitlines()

    assert "Results 1 run " in page.text
    assert '<a href="/runs?until=2026-11-24">' in page.html
    assert [row.split()[0] for row in page.rows] == ["2"]
    assert exported[1:] == [
        "2,2026-11-23T09:00:00.123456Z,2026-11-23T09:00:02.123456Z,ada@elms,no,no,"
        "1,0,0,0,0,2,7,1.25,completed"
    ]


def test_courses_and_people_of_a_run_are_exported(browser: Browser, store: Store) -> None:
    people = (PersonProblem("=s1", "2 users of ELMS have this ID number"),)
    store.add_run(replace(SYNCED, people=people), FAILED)

    courses = browser.get("/runs/1/courses.csv?outcome=failed").html.splitlines()[1:]
    left_out = browser.get("/runs/1/people.csv").html.splitlines()[1:]

    assert courses == ["one,CS103,failed,transient,responded 503,,Try again.,sync-grades"]
    assert left_out == ["one,CS101,'=s1,no,2 users of ELMS have this ID number"]
    assert browser.get("/runs/9/courses.csv").status == 404


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/runs.csv?since=soon", id="time of the file"),
        pytest.param("/runs?status=killed", id="parameter"),
        pytest.param("/runs/1?outcome=none", id="outcome"),
        pytest.param("/runs/1?outcome=unchanged", id="outcome that is only counted"),
        pytest.param("/runs/1?reason=none", id="reason"),
        pytest.param("/runs/1/people?user=x", id="parameter of the people"),
    ],
)
def test_filter_without_effect_is_refused(browser: Browser, store: Store, path: str) -> None:
    store.add_run(SYNCED)

    assert browser.get(path).status == 422


def test_invalid_filter_is_shown_with_its_message(browser: Browser, store: Store) -> None:
    store.add_run(SYNCED)

    page = browser.get("/runs?since=soon")

    assert (page.status, "'soon' is not a time such as 2h" in page.text) == (200, True)
    assert (page.rows, 'value="soon"' in page.html) == ([], True)


def test_schedule_follows_from_unattended_runs(browser: Browser, store: Store) -> None:
    store.add_run(SYNCED)
    before = browser.get("/runs")
    started_at = datetime.now(UTC).replace(microsecond=0)
    for minutes in (31, 16, 1):
        store.add_run(SYNCED, at=started_at - timedelta(minutes=minutes), unattended=True)

    page = browser.get("/runs")

    expected = started_at + timedelta(minutes=14)
    assert "Next run not known yet" in before.text
    assert (
        f"Status waiting Next run expected at {expected:%Y-%m-%d %H:%M:%S} UTC : every 15 min, "
        "as the last 3 unattended runs"
    ) in page.text


def test_late_schedule_is_overdue(browser: Browser, store: Store) -> None:
    for minutes in (0, 15, 30):
        store.add_run(SYNCED, at=NINE + timedelta(minutes=minutes), unattended=True)

    assert "Status overdue Check that cron or a timer starts" in browser.get("/runs").text


def test_sync_is_paused_and_resumed(browser: Browser, store: Store, database: Database) -> None:
    paused = browser.submit("/runs/pause")
    with database.reading() as session:
        pause = schedule.get_pause(session)
    resumed = browser.submit("/runs/resume")

    assert pause is not None
    assert pause.paused_by == "Ada"
    assert "Status paused since" in paused.text
    assert "by Ada Next run none while it is paused Run now Resume" in paused.text
    assert "Status waiting" in resumed.text


def test_no_second_run_is_started(browser: Browser, store: Store, database: Database) -> None:
    at = datetime.now(UTC)
    store.add_run(ended=False, at=at)
    with database.writing() as session:
        lease.acquire(session, "ada@elms", timedelta(minutes=5), now=at)

    page = browser.submit("/runs/start")

    assert "A run is in progress. Wait until it ends." in page.text
    assert "Run now" not in page.text
    assert "Status running" in page.text


def test_charts_need_two_ended_runs(browser: Browser, store: Store) -> None:
    store.add_run(*RESULTS)
    store.add_run(ended=False)
    before = browser.get("/runs")
    store.add_run(*RESULTS)

    page = browser.get("/runs")

    assert "chart-line" not in before.html
    assert page.html.count('class="chart-line') == 2
    assert "Duration" in page.text
    assert "all courses: up to 1.2 s" in page.text


def test_run_of_some_courses_is_apart_from_the_line_of_full_runs(
    browser: Browser, store: Store
) -> None:
    for partial in (False, True, False):
        store.add_run(*RESULTS, partial=partial)

    page = browser.get("/runs")

    full, some = re.findall(r'<path class="chart-line chart-\w+" d="([^"]*)"', page.html)[:2]
    assert (full.count("M"), full.count("L")) == (1, 1)
    assert (some.count("M"), some.count("L")) == (1, 0)
    assert "22 Nov" in page.text


def test_killed_run_has_what_it_recorded(browser: Browser, store: Store) -> None:
    store.add_run(SYNCED, ended=False)

    [row] = browser.get("/runs").rows
    page = browser.get("/runs/1")

    assert "killed 1 synced" in row
    assert "It was killed before it could end." in page.text
    assert "The next run continues automatically" in page.text


def test_run_in_progress_is_running(browser: Browser, store: Store, database: Database) -> None:
    store.add_run(ended=False)
    with database.writing() as session:
        at = datetime.now(UTC)
        lease.acquire(session, "ada@elms", timedelta(minutes=5), now=at)

    assert "running" in browser.get("/runs").rows[0]
    assert "It is running." in browser.get("/runs/1").text


def test_run_has_the_summary_of_the_command(browser: Browser, store: Store) -> None:
    store.add_run(*RESULTS)

    assert (
        "Grade sync 1: 5 courses "
        "... fetched grades: 1 course, 4 scores added, 5 changed, 6 unchanged "
        "... unchanged since the last fetch: 1 course "
        "... 1 skipped: course deleted; no action needed "
        "... 1 skipped: action needed "
        "... failed: 1 course "
        "... used 2 requests to eAssessment "
        "... used 7 database queries "
        "... used 1.25 seconds "
        "Grade sync complete, with errors. "
        "Download its courses as CSV , without the unchanged ones"
    ) in browser.get("/runs/1").text


def test_summary_leaves_out_what_was_not_recorded(
    browser: Browser, store: Store, database: Database
) -> None:
    store.add_run(*RESULTS)
    with database.writing() as session:
        run = runs.get(session, 1)
        run.scores_added = run.scores_changed = run.scores_unchanged = run.seconds = None

    page = browser.get("/runs/1")

    assert "... fetched grades: 1 course ... unchanged" in page.text
    assert "seconds" not in page.text


def test_what_needs_attention_is_grouped_by_reason(browser: Browser, store: Store) -> None:
    entry = store.add_course("CS103")
    others = tuple(replace(FAILED, course_id=f"MA{number}") for number in range(5))
    store.add_run(*RESULTS, *others)

    page = browser.get("/runs/1")

    assert page.rows == [
        "temporary failure one 6 courses of one: temporary failure "
        "CS103 , MA0 , MA1 , MA2 , MA3 , all 6 responded 503 Try again. Run now",
        "token invalid one 1 courses of one: token invalid CS104 rejected Try again. Run now",
    ]
    assert f'<a href="/entries/{entry.id}"><bdi class="name">CS103</bdi></a>' in page.html
    assert 'href="/runs/1?reason=transient&amp;source=one"' in page.html
    assert "Needs attention (7)" in page.text


def test_what_needs_no_action_is_folded(browser: Browser, store: Store) -> None:
    kept = replace(SYNCED, course_id="CS106", reason=ResultReason.PEOPLE_KEPT)
    store.add_run(*RESULTS, kept)

    [_, folded] = browser.get("/runs/1").html.split("<summary>No action needed</summary>")

    assert 'href="/runs/1?outcome=synced">2 courses</a> synced' in folded
    assert 'href="/?status=course_deleted">1 course</a> skipped: course deleted' in folded
    assert "people_kept" in folded


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("outcome=skipped", ["CS104", "CS105"], id="outcome"),
        pytest.param("reason=transient&source=one", ["CS103"], id="reason"),
        pytest.param("reason=transient&source=two", [], id="source"),
    ],
)
def test_courses_are_listed(
    browser: Browser, store: Store, query: str, expected: list[str]
) -> None:
    store.add_run(*RESULTS)

    page = browser.get(f"/runs/1?{query}")

    assert [row.split()[0] for row in page.rows] == expected


def test_courses_that_were_not_reached_are_counted(browser: Browser, store: Store) -> None:
    store.add_run(FAILED, stopped="SIGTERM was received", not_recorded=(FAILED,) * 3)

    page = browser.get("/runs/1")

    assert "Grade sync stopped early: SIGTERM was received" in page.text
    assert "... failed: 4 courses" in page.text
    assert "3 courses were not reached before the run ended and are not listed" in page.text


def test_long_reason_is_shown_as_text(browser: Browser, store: Store) -> None:  # B7
    store.add_run(make_result("<b>", CourseOutcome.FAILED, "<script>" * 2000))

    page = browser.get("/runs/1")

    assert "<script>" * 2 not in page.html
    assert "Show all (16,000 characters)" in page.html


def test_people_whose_scores_were_not_imported_are_listed(browser: Browser, store: Store) -> None:
    people = (
        PersonProblem(None, "has no ID number"),
        PersonProblem("<b>", "ELMS has 5, locked there", kept=True),
    )
    store.add_run(replace(SYNCED, people=people))

    run, page = browser.get("/runs/1"), browser.get("/runs/1/people")

    assert 'href="/runs/1/people"' in run.html
    assert page.rows == [
        "without ID number CS101 one left out has no ID number",
        "<b> CS101 one kept in ELMS ELMS has 5, locked there",
    ]

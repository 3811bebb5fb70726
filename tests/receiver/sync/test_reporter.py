"""What a run reports of its courses, and what it logs."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from foundation.errors import Advice
from receiver.course_state import Deleted
from receiver.models import RunCourse
from receiver.sources.base import Grades, PersonProblem, SiteOutage, Transient
from tests.receiver.conftest import FakeSite
from tests.receiver.sync.conftest import Rows, StubSource, Sync, outcomes

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def start_log(
    make_app: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> Callable[[], Read]:
    """Return what starts the log from WARNING on, and returns what reads it."""

    def start() -> Read:
        make_app(log_level="WARNING")
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return start


def test_each_failure_is_logged_once_with_what_to_do(
    add_course: Callable[..., Any],
    sync: Sync,
    fake_site: FakeSite,
    now: datetime,
    start_log: Callable[[], Read],
) -> None:
    logged = start_log()
    add_course("CS101", facts=(Deleted(4, now),))
    for course_id in ("CS102", "CS103", "CS104"):
        add_course(course_id)
    fake_site.answer("CS102", 503)
    fake_site.regenerated("CS103", "new")

    sync()

    lines = logged()
    assert [(line["course_id"], line["level"], line["event"]) for line in lines] == [
        ("CS101", "warning", "course skipped"),
        ("CS102", "warning", "course failed"),
        ("CS103", "error", "course failed"),
    ]
    assert lines[2]["url"] == f"{fake_site.url}/api/v1/courses/CS103/grades"
    assert all(line["next_step"] and line["reason"] for line in lines)


@pytest.mark.parametrize("unreachable", [True, False], ids=["down", "busy"])
def test_site_that_is_down_does_not_fill_the_log(
    add_courses: Callable[..., None],
    sync: Sync,
    rows: Rows,
    start_log: Callable[[], Read],
    unreachable: bool,
) -> None:
    logged = start_log()
    ids = [f"C{number}" for number in range(8)]
    add_courses(*ids)

    sync(StubSource({one: [Transient("no answer", unreachable=unreachable)] for one in ids}))

    *each, rest = logged()
    assert [line["event"] for line in each] == ["course failed"] * 5
    assert (rest["source"], rest["detail"], rest["courses"]) == ("one", "no answer", 3)
    assert len(rows(RunCourse)) == 8


def test_site_outage_is_logged_once(
    add_courses: Callable[..., None], sync: Sync, start_log: Callable[[], Read]
) -> None:
    logged = start_log()
    add_courses("CS1", "CS2")

    sync(StubSource({"CS1": [SiteOutage("suspended", Advice("Reactivate it."))]}))

    (line,) = logged()
    assert (line["level"], line["source"], line["courses"]) == ("error", "one", 2)
    assert line["next_step"] == "Reactivate it."


def test_people_who_are_left_out_are_reported(
    add_courses: Callable[..., None], sync: Sync, start_log: Callable[[], Read]
) -> None:
    logged = start_log()
    add_courses("CS1", "CS2")
    unknown = PersonProblem(None, "has no ID number")
    twins = tuple(PersonProblem(f"s{number}", "exists twice") for number in range(6))

    result = sync(StubSource({"CS1": [Grades((), None, left_out=(unknown, *twins))]}))

    assert outcomes(result) == {"CS1": ("synced", "people_left_out"), "CS2": ("synced", None)}
    assert result.courses[0].detail == (
        "left out 7: without ID number: has no ID number; s0: exists twice; s1: exists twice; "
        "s2: exists twice; s3: exists twice; and 2 more"
    )
    assert result.exit_code == 0
    (line,) = logged()
    assert (line["level"], line["event"], line["course_id"]) == ("warning", "course synced", "CS1")


def test_endless_id_number_is_cut(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses("CS1")
    endless = PersonProblem("9" * 1_000_000, "too long")

    result = sync(StubSource({"CS1": [Grades((), None, left_out=(endless,))]}))

    assert result.courses[0].detail == f"left out 1: {'9' * 100}…: too long"


def test_progress_reaches_all_courses(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses("CS1", "CS2", "CS3")
    progress: list[tuple[int, int]] = []

    sync(
        StubSource(),
        batch_size=1,
        progress=lambda done, courses: progress.append((done, courses)),
    )

    assert progress == [(1, 3), (2, 3), (3, 3)]

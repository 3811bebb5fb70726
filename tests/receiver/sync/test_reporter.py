"""What a run reports of its courses, and what it logs."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from contract.grades import Score
from foundation.errors import Advice
from receiver.course_state import Deleted
from receiver.models import RunPerson
from receiver.runs.store import RunResult
from receiver.sources.base import Grades, PersonProblem, SiteOutage, Transient
from receiver.sync import reporter
from tests.receiver.conftest import NINE, SITE
from tests.receiver.sync.conftest import Lab, StubSource, outcomes

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

SyncLogged = Callable[..., tuple[RunResult, list[dict[str, Any]]]]


@pytest.fixture
def sync_logged(
    lab: Lab, make_app: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> SyncLogged:
    """Return a function that runs the sync and returns its result and log."""

    def run(
        stub: StubSource | None = None, level: str = "WARNING"
    ) -> tuple[RunResult, list[dict[str, Any]]]:
        make_app(log_level=level)
        result = lab.sync(stub)
        reporter.log_end(result, with_reasons=True)
        return result, [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return run


def test_each_reason_is_logged_once_with_what_to_do(lab: Lab, sync_logged: SyncLogged) -> None:
    ids = [f"CS20{number}" for number in range(7)]
    for course_id in ("CS101", *ids):
        lab.serve_course(course_id)
    for course_id in ids:
        lab.fake_site.answer(course_id, 503)
    lab.fake_site.regenerated("CS101", "new")

    _, [transient, invalid] = sync_logged()

    assert (transient["level"], transient["courses"]) == ("warning", 7)
    assert transient["course_ids"] == ids[:5]
    assert transient["url"] == f"{lab.fake_site.url}/api/v1/courses/CS200/grades"
    assert transient["list_command"] == f"runs show 1 --reason transient --source {SITE}"
    assert (invalid["level"], invalid["reason"]) == ("error", "token_invalid")
    assert all(line["next_step"] and line["detail"] for line in (transient, invalid))


def test_log_does_not_grow_with_deletions(lab: Lab, sync_logged: SyncLogged) -> None:
    for number in range(4):
        lab.add_course(f"CS10{number}", Deleted(4, NINE))

    _, [started, ended] = sync_logged(level="DEBUG")

    assert (started["event"], started["deleted"]) == ("grade sync started", 4)
    assert (ended["event"], ended["skipped"], ended["deleted"]) == ("grade sync ended", 4, 4)


def test_each_course_is_logged_for_debugging(lab: Lab, sync_logged: SyncLogged) -> None:
    lab.add_courses("CS1", "CS2")
    stub = StubSource({"CS1": [Transient("no answer")], "CS2": [Transient("no answer")]})

    _, lines = sync_logged(stub, "DEBUG")

    assert [line["course_id"] for line in lines if line["event"] == "course failed"] == [
        "CS1",
        "CS2",
    ]


def test_site_outage_is_one_line(lab: Lab, sync_logged: SyncLogged) -> None:
    lab.add_courses("CS1", "CS2")
    stub = StubSource({"CS1": [SiteOutage("suspended", Advice("Reactivate it."))]})

    _, [line] = sync_logged(stub)

    assert (line["level"], line["source"], line["courses"]) == ("error", "one", 2)
    assert line["next_step"] == "Reactivate it."


def test_people_who_are_left_out_are_reported(lab: Lab, sync_logged: SyncLogged) -> None:
    lab.add_courses("CS1", "CS2")
    unknown = PersonProblem(None, "has no ID number")
    endless = PersonProblem("9" * 1_000_000, "too long")
    twins = tuple(PersonProblem(f"s{number}", "exists twice") for number in range(5))
    graded = Score(user_id="ada", score_given="7", score_maximum="10", timestamp=NINE)
    stub = StubSource({"CS1": [Grades((graded,), None, left_out=(unknown, endless, *twins))]})

    result, [line] = sync_logged(stub)

    assert outcomes(result) == {"CS1": ("synced", "people_left_out"), "CS2": ("synced", None)}
    assert result.courses[0].detail == (
        f"left out 7: without ID number: has no ID number; {'9' * 100}…: too long; "
        "s0: exists twice; s1: exists twice; s2: exists twice; and 2 more"
    )
    assert result.exit_code == 0
    assert (line["level"], line["detail"]) == ("warning", result.courses[0].detail)
    recorded = [person.user_id for person in lab.rows(RunPerson)]
    assert recorded == [None, "9" * 255, "s0", "s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    ("left_out", "ungraded", "expected"),
    [
        pytest.param(1, 0, ("synced", "people_left_out"), id="one person"),
        pytest.param(2, 0, ("failed", "misconfigured"), id="everyone"),
        pytest.param(2, 1, ("failed", "misconfigured"), id="everyone with a grade"),
        pytest.param(2, 2, ("synced", "people_left_out"), id="some of the people"),
    ],
)
def test_course_whose_people_are_left_out_is_not_synced(
    lab: Lab, left_out: int, ungraded: int, expected: tuple[str, str]
) -> None:
    lab.add_courses("CS1")
    people = tuple(PersonProblem(f"s{number}", "total is hidden") for number in range(left_out))
    scores = tuple(
        Score(user_id=f"u{number}", score_maximum="10", timestamp=NINE)
        for number in range(ungraded)
    )

    result = lab.sync(StubSource({"CS1": [Grades(scores, None, left_out=people)]}))

    assert outcomes(result) == {"CS1": expected}
    assert "s0: total is hidden" in str(result.courses[0].detail)
    assert len(lab.rows(RunPerson)) == left_out
    assert (lab.entry("CS1").synced_at is None) == (expected[0] == "failed")


def test_progress_reaches_all_courses(lab: Lab) -> None:
    lab.add_courses("CS1", "CS2", "CS3")
    progress: list[tuple[int, int]] = []

    lab.sync(StubSource(), batch_size=1, progress=lambda *counts: progress.append(counts))

    assert progress == [(1, 3), (2, 3), (3, 3)]

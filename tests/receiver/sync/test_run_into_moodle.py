"""A run whose gradebook is a Moodle: what is requested, written, reported, and fetched again."""

import json
import threading
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import Score
from contract.tokens import CourseToken, MoodleToken
from receiver.course_state import Deleted
from receiver.gradebook.base import ScoreCounts
from receiver.models import RunCourse, RunPerson, StoredScore
from receiver.moodle import users
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.gradebook import UPDATE, MoodleGradebook
from receiver.runs.store import RunResult
from receiver.sources.base import Grades, PersonProblem
from receiver.sources.http_client import HttpClient
from receiver.sync import run_control
from receiver.sync.run import SyncRun
from tests.receiver.conftest import NINE, Clients
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle
from tests.receiver.moodle.recordings import RECORDED, Recorded
from tests.receiver.sync.conftest import Lab, StubSource, outcomes

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
MAINTENANCE = Recorded(503, "text/html", b"maintenance")
TARGET = (COURSE, ACTIVITY)
STOPPED = (143, "SIGTERM was received")


@dataclass(frozen=True)
class MoodleLab(Lab):
    """A lab whose gradebook is a Moodle."""

    elms: Elms = field(kw_only=True)

    def add(
        self, course_id: str, *scores: Any, target: tuple[str | None, str | None] = TARGET
    ) -> CourseToken:
        """Add a course with its target activity."""
        token = self.serve_course(course_id, *scores)
        course, activity = target
        self.update(self.entry(course_id), gradebook_course=course, gradebook_activity=activity)
        return token

    def run(
        self,
        stub: StubSource | None = None,
        *,
        max_courses: int = 20,
        seconds: float = 10.0,
        **more: Any,
    ) -> RunResult:
        """Run the sync into ELMS's Moodle, `max_courses` in one write."""
        clients = self.clients if stub is None else Clients(stub)
        options = self.make_options(**more)
        http_client = HttpClient(connect_timeout=10.0, read_timeout=seconds, total=2 * seconds)
        with closing(http_client):
            gradebook = MoodleGradebook(http_client, url=self.elms.moodle.url, token=TOKEN)
            gradebook.max_courses = max_courses
            return SyncRun(self.database, self.vault, clients, options, gradebook).execute()


@pytest.fixture
def lab(lab: Lab, moodle: FakeMoodle) -> MoodleLab:
    """A lab whose gradebook is a Moodle with two students in its course."""
    elms = Elms(moodle)
    elms.enrol(14, "ada")
    elms.enrol(15, "bob")
    return MoodleLab(**vars(lab), elms=elms)


def score_of(lab: MoodleLab, user_id: str) -> Score:
    """Return a score as it is read."""
    return Score.model_validate_json(json.dumps(lab.score(user_id)))


def test_grades_go_into_the_moodle_and_nowhere_else(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"), lab.score("bob", "5"))

    first, second = lab.run(), lab.run()

    assert outcomes(first) == {"CS101": ("synced", None)}
    assert (first.scores, first.exit_code) == (ScoreCounts(added=2), 0)
    assert (first.requests, first.gradebook_requests) == (1, 5)
    assert lab.elms.grades == {14: Decimal(75), 15: Decimal(50)}
    assert lab.rows(StoredScore) == []
    assert outcomes(second) == {"CS101": ("unchanged", None)}
    written = [SITE_INFO, users.FUNCTION, FUNCTION, UPDATE, FUNCTION]
    assert lab.elms.moodle.functions() == [*written, SITE_INFO]


def test_nothing_is_requested_if_every_course_is_skipped(lab: MoodleLab) -> None:
    lab.add_course("CS101", Deleted(4, NINE))

    result = lab.run()

    assert (result.exit_code, lab.elms.moodle.called) == (0, [])


def test_person_without_a_grade_is_reported_and_fetched_again(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"), lab.score("eve"))

    first = lab.run()
    entry = lab.entry("CS101")
    lab.elms.enrol(16, "eve")
    second = lab.run()

    assert outcomes(first) == {"CS101": ("synced", "people_left_out")}
    assert str(first.courses[0].detail).startswith("left out 1: eve: no users of ELMS")
    assert (first.exit_code, entry.etag, entry.synced_at) == (0, None, None)
    assert "if-none-match" not in lab.fake_site.requests[1].headers
    assert outcomes(second) == {"CS101": ("synced", None)}
    assert second.scores == ScoreCounts(added=1, unchanged=1)
    assert lab.entry("CS101").etag is not None


def test_kept_grade_is_named_once_and_the_course_is_unchanged_next_time(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"), lab.score("bob"))
    lab.elms.overridden.add(15)

    first, second = lab.run(), lab.run()

    assert outcomes(first) == {"CS101": ("synced", "people_kept")}
    assert first.courses[0].detail == "kept in ELMS 1: bob: ELMS has no grade, overridden there"
    assert first.scores == ScoreCounts(added=1)
    assert outcomes(second) == {"CS101": ("unchanged", None)}
    assert (first.exit_code, second.exit_code) == (0, 0)
    [person] = lab.rows(RunPerson)
    assert (person.run_id, person.course_id, person.user_id, person.kept) == (
        1,
        "CS101",
        "bob",
        True,
    )


def test_scale_fails_the_course_and_nothing_is_written(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"), lab.score("bob"))
    lab.elms.scale, lab.elms.maximum = True, 3

    result = lab.run()

    assert outcomes(result) == {"CS101": ("failed", "misconfigured")}
    assert result.exit_code == 1
    assert UPDATE not in lab.elms.moodle.functions()


def test_people_left_out_at_both_sites_are_reported_together(lab: MoodleLab) -> None:
    lab.add("CS101")
    problem = PersonProblem(None, "has none")
    grades = Grades((score_of(lab, "eve"),), None, left_out=(problem,))

    (course,) = lab.run(StubSource({"CS101": [grades]})).courses

    assert course.detail == (
        "left out 2: without ID number: has none; "
        "eve: no users of ELMS have this ID number, expected exactly one"
    )
    assert "at the source and in ELMS" in str(course.advice)


def test_grades_that_are_changed_back_are_written_back(lab: MoodleLab) -> None:
    token = lab.add("CS101", lab.score("ada", "7"))
    lab.run()
    lab.fake_site.grades("CS101", token, lab.score("ada", "8"), lab.score("eve"), etag='"2"')
    lab.run()
    lab.fake_site.grades("CS101", token, lab.score("ada", "7"), etag='"1"')

    result = lab.run()

    assert outcomes(result) == {"CS101": ("synced", None)}
    assert result.scores == ScoreCounts(changed=1)
    assert lab.elms.grades[14] == Decimal(70)


def test_course_whose_activity_changes_during_the_write_is_fetched_again(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"))
    entry = lab.entry("CS101")
    lab.elms.moodle.during(UPDATE, lambda: lab.update(entry, gradebook_activity="43"))

    result = lab.run()

    assert (outcomes(result), lab.elms.grades[14]) == ({"CS101": ("synced", None)}, Decimal(75))
    assert lab.entry("CS101").etag is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(RECORDED["token_invalid"], id="token"),
        pytest.param(MAINTENANCE, id="maintenance"),
    ],
)
def test_no_grades_are_requested_while_none_can_be_written(
    lab: MoodleLab, answer: Recorded
) -> None:
    lab.add("CS101")
    lab.add("CS102")
    lab.elms.moodle.sends(SITE_INFO, answer)

    result = lab.run()

    assert (lab.fake_site.connections, result.requests, result.gradebook_requests) == (0, 0, 1)
    assert set(outcomes(result).values()) == {("failed", "gradebook_trouble")}
    assert result.exit_code == 1
    assert str(result.stopped).startswith("ELMS's own Moodle: ")
    assert {one.advice for one in result.courses} == {result.advice}
    assert {row.reason for row in lab.rows(RunCourse)} == {"gradebook_trouble"}


def test_course_that_cannot_be_written_fails_alone(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"), target=(COURSE, None))
    lab.add("CS102", lab.score("ada"), target=(COURSE, "43"))
    lab.add("CS103", lab.score("ada"), target=("8", ACTIVITY))
    lab.add("CS104", lab.score("bob"))
    report = lab.elms.moodle.answers[FUNCTION]
    busy = Recorded(500, "text/html", b"")
    lab.elms.moodle.answers[FUNCTION] = lambda form: (
        busy if form["courseid"] == "8" else report(form)
    )

    result = lab.run()

    assert outcomes(result) == {
        "CS101": ("failed", "misconfigured"),
        "CS102": ("failed", "misconfigured"),
        "CS103": ("failed", "transient"),
        "CS104": ("synced", None),
    }
    assert "set-activity" in str(result.courses[0].advice)
    assert lab.requested == ["CS102", "CS103", "CS104"]
    assert lab.elms.moodle.functions().count(SITE_INFO) == 2
    assert (lab.entry("CS102").etag, lab.entry("CS102").synced_at) == (None, None)
    assert lab.elms.grades == {14: None, 15: Decimal(75)}
    assert (result.exit_code, result.stopped) == (1, None)


@pytest.mark.parametrize(
    ("answer", "reason", "stopped"),
    [
        pytest.param(MAINTENANCE, "transient", "responded 503", id="maintenance"),
        pytest.param(
            RECORDED["token_invalid"],
            "gradebook_trouble",
            "invalidtoken: Invalid token - token not found",
            id="token",
        ),
    ],
)
def test_outage_during_the_run_stops_it(
    lab: MoodleLab, answer: Recorded, reason: str, stopped: str
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.add(course_id, lab.score("ada"))

    def break_down() -> None:
        for function in (FUNCTION, SITE_INFO):
            lab.elms.moodle.sends(function, answer)

    lab.during("CS102", break_down)

    result = lab.run(batch_size=1, window=1)

    assert outcomes(result) == {
        "CS101": ("synced", None),
        "CS102": ("failed", reason),
        "CS103": ("failed", "gradebook_trouble"),
    }
    assert (result.exit_code, result.stopped) == (1, f"ELMS's own Moodle: {stopped}")
    assert lab.requested == ["CS101", "CS102"]
    assert lab.entry("CS101").etag is not None


@pytest.mark.parametrize("function", [SITE_INFO, UPDATE])
def test_moodle_that_hangs_does_not_delay_the_end(
    lab: MoodleLab, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(run_control, "GRACE_SECONDS", 0.0)
    lab.add("CS101", lab.score("ada"))
    stop = threading.Event()
    lab.elms.moodle.slow.add(function)
    lab.elms.moodle.during(function, stop.set)

    result = lab.run(seconds=60.0, stop=stop)

    assert lab.elms.moodle.waited_for == []
    assert (result.exit_code, result.stopped) == STOPPED
    assert lab.elms.moodle.functions()[-1] == function
    assert [one.outcome for one in result.courses] == ["failed"]


def test_stopped_run_finishes_only_the_part_in_progress(lab: MoodleLab) -> None:
    lab.add("CS101")
    lab.add("CS102")
    grades = Grades((score_of(lab, "ada"),), '"1"')
    stop = threading.Event()
    lab.elms.moodle.during(UPDATE, stop.set)

    result = lab.run(
        StubSource({"CS101": [grades], "CS102": [grades]}, max_queries=2), max_courses=1, stop=stop
    )

    assert outcomes(result) == {"CS101": ("synced", None), "CS102": ("failed", "stopped")}
    assert result.exit_code == 143
    assert (lab.entry("CS101").etag, lab.entry("CS102").etag) == ('"1"', None)


def test_run_that_lost_its_lease_is_cancelled_before_it_writes(lab: MoodleLab) -> None:
    lab.add("CS101", lab.score("ada"))
    lab.elms.moodle.slow.add(FUNCTION)
    take_over = "UPDATE sync_lease SET token = 'another'"
    lab.elms.moodle.during(FUNCTION, lambda: lab.execute(take_over))

    result = lab.run(seconds=60.0, lease=timedelta(milliseconds=1))

    assert outcomes(result) == {"CS101": ("failed", "lease_lost")}
    assert UPDATE not in lab.elms.moodle.functions()
    assert result.exit_code == 3


def test_grades_written_but_not_recorded_are_not_written_again(lab: MoodleLab) -> None:
    token = lab.add("CS101")
    lab.run()
    lab.fake_site.grades("CS101", token, lab.score("ada"), etag='"2"')

    lab.elms.moodle.during(UPDATE, lambda: lab.execute("ALTER TABLE entries RENAME TO gone"))
    try:
        broken = lab.run()
    finally:
        lab.execute("ALTER TABLE gone RENAME TO entries")
    etag = lab.entry("CS101").etag
    fixed = lab.run()

    assert (broken.exit_code, broken.scores, etag) == (4, ScoreCounts(added=1), None)
    assert (fixed.exit_code, fixed.scores) == (0, ScoreCounts(unchanged=1))
    assert lab.elms.moodle.functions().count(UPDATE) == 1
    assert lab.entry("CS101").etag is not None

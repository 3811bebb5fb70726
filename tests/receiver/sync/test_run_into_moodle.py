"""A run whose gradebook is a Moodle: what is requested, written, reported, and fetched again."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from contract.grades import Score
from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Deleted
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, RunCourse, StoredScore
from receiver.moodle import users
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.gradebook import UPDATE, MoodleGradebook
from receiver.registry import bulk
from receiver.runs.store import CourseResult, RunResult
from receiver.sources.base import Grades, PersonProblem
from receiver.sources.http_client import HttpClient
from receiver.sync import heartbeat
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import NINE, Clients, FarSide
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle, Form
from tests.receiver.moodle.recordings import RECORDED, Recorded
from tests.receiver.sync.conftest import Rows, StubSource, during, outcomes

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
MAINTENANCE = Recorded(503, "text/html", b"maintenance")
STOPPED = (143, "SIGTERM was received")

Add = Callable[..., CourseToken]
Sync = Callable[..., RunResult]
MakeScore = Callable[..., Any]


@pytest.fixture
def elms(moodle: FakeMoodle) -> Elms:
    """ELMS with two students in its course."""
    there = Elms(moodle)
    there.enrol(14, "ada")
    there.enrol(15, "bob")
    return there


@pytest.fixture
def add(database: Database, add_course: Add, entry_of: Callable[[str], Entry]) -> Add:
    """Return what adds a course with its target activity in ELMS's Moodle."""

    def make(
        course_id: str,
        *scores: Any,
        target: tuple[str | None, str | None] = (COURSE, ACTIVITY),
        **more: Any,
    ) -> CourseToken:
        token = add_course(course_id, *scores, **more)
        with database.writing() as session:
            entry = session.get_one(Entry, entry_of(course_id).id)
            entry.gradebook_course, entry.gradebook_activity = target
        return token

    return make


@pytest.fixture
def sync(
    database: Database,
    vault: Vault,
    clients: Clients,
    elms: Elms,
    make_options: Callable[..., SyncOptions],
) -> Sync:
    """Return what runs the sync into ELMS's Moodle, `batch` courses in one write."""

    def run(
        stub: StubSource | None = None, *, batch: int = 20, seconds: float = 0.5, **overrides: Any
    ) -> RunResult:
        used = clients if stub is None else Clients(stub)
        http_client = HttpClient(connect_timeout=0.5, read_timeout=seconds, total=2 * seconds)
        with closing(http_client):
            gradebook = MoodleGradebook(http_client, url=elms.moodle.url, token=TOKEN)
            gradebook.batch = batch
            return grade_sync.run(database, vault, used, make_options(**overrides), gradebook)

    return run


def course(result: RunResult, course_id: str = "CS101") -> CourseResult:
    """Return the result of a course."""
    return next(one for one in result.courses if one.course_id == course_id)


def during_call(moodle: FakeMoodle, function: str, action: Callable[[], object]) -> None:
    """Let something happen at the first call of a function, before the response."""
    answer, actions = moodle.answers[function], [action]

    def respond(form: Form) -> Recorded:
        while actions:
            actions.pop()()
        return answer(form)

    moodle.answers[function] = respond


def test_grades_go_into_the_moodle_and_nowhere_else(
    add: Add, sync: Sync, elms: Elms, make_score: MakeScore, rows: Rows
) -> None:
    add("CS101", make_score("ada"), make_score("bob", "5"))

    result = sync()

    assert elms.grades == {14: Decimal(75), 15: Decimal(50)}
    assert elms.moodle.functions() == [SITE_INFO, users.FUNCTION, FUNCTION, UPDATE, FUNCTION]
    assert outcomes(result) == {"CS101": ("synced", None)}
    assert (result.scores, result.exit_code) == (ScoreCounts(added=2), 0)
    assert (result.requests, result.gradebook_requests) == (1, 5)
    assert rows(StoredScore) == []


def test_unchanged_grades_cost_the_moodle_one_request(
    add: Add, sync: Sync, elms: Elms, make_score: MakeScore
) -> None:
    add("CS101", make_score("ada"))
    sync()
    del elms.moodle.called[:]

    result = sync()

    assert outcomes(result) == {"CS101": ("unchanged", None)}
    assert elms.moodle.functions() == [SITE_INFO]


def test_nothing_is_requested_if_every_course_is_skipped(add: Add, sync: Sync, elms: Elms) -> None:
    add("CS101", facts=(Deleted(4, NINE),))

    result = sync()

    assert (result.exit_code, elms.moodle.called) == (0, [])


def test_person_without_a_grade_is_reported_and_fetched_again(
    add: Add,
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: MakeScore,
    entry_of: Callable[[str], Entry],
) -> None:
    add("CS101", make_score("ada"), make_score("eve"))

    first = sync()
    entry = entry_of("CS101")
    elms.enrol(16, "eve")
    second = sync()

    assert outcomes(first) == {"CS101": ("synced", "people_left_out")}
    assert str(course(first).detail).startswith("left out 1: eve: no users of ELMS")
    assert (first.exit_code, entry.etag, entry.synced_at) == (0, None, None)
    assert "if-none-match" not in far_side.asked[1].headers
    assert outcomes(second) == {"CS101": ("synced", None)}
    assert second.scores == ScoreCounts(added=1, unchanged=1)
    assert entry_of("CS101").etag is not None


def test_people_left_out_at_both_sites_are_reported_together(
    add: Add, sync: Sync, make_score: MakeScore
) -> None:
    add("CS101")
    score = Score.model_validate_json(json.dumps(make_score("eve")))
    problem = PersonProblem(None, "has none")

    result = sync(StubSource({"CS101": [Grades((score,), None, left_out=(problem,))]}))

    assert course(result).detail == (
        "left out 2: without ID number: has none; "
        "eve: no users of ELMS have this ID number, and it must be one"
    )
    assert "at the source and in ELMS" in str(course(result).advice)


def test_grades_that_are_changed_back_are_written_back(
    add: Add, sync: Sync, elms: Elms, far_side: FarSide, make_score: MakeScore
) -> None:
    token = add("CS101", make_score("ada", "7"))
    sync()
    far_side.grades("CS101", token, make_score("ada", "8"), make_score("eve"), etag='"2"')
    sync()
    far_side.grades("CS101", token, make_score("ada", "7"), etag='"1"')

    result = sync()

    assert outcomes(result) == {"CS101": ("synced", None)}
    assert result.scores == ScoreCounts(changed=1)
    assert elms.grades[14] == Decimal(70)


def test_course_whose_activity_changes_during_the_write_is_fetched_again(
    database: Database,
    add: Add,
    sync: Sync,
    elms: Elms,
    make_score: MakeScore,
    entry_of: Callable[[str], Entry],
) -> None:
    add("CS101", make_score("ada"))
    entry_id = entry_of("CS101").id

    def move() -> None:
        with database.writing() as session:
            bulk.set_gradebook_target(session.get_one(Entry, entry_id), "8", "43")

    during_call(elms.moodle, UPDATE, move)

    result = sync()

    assert (outcomes(result), elms.grades[14]) == ({"CS101": ("synced", None)}, Decimal(75))
    assert entry_of("CS101").etag is None


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        pytest.param(RECORDED["token_invalid"], "error", id="token"),
        pytest.param(MAINTENANCE, "warning", id="maintenance"),
    ],
)
def test_no_grades_are_requested_while_none_can_be_written(
    add: Add,
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_app: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    rows: Rows,
    answer: Recorded,
    level: str,
) -> None:
    make_app(log_level="WARNING")
    add("CS101")
    add("CS102")
    elms.moodle.sends(SITE_INFO, answer)

    result = sync()

    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["level"], line["courses"]) == ("gradebook cannot be used", level, 2)
    assert (far_side.connections, result.requests, result.gradebook_requests) == (0, 0, 1)
    assert set(outcomes(result).values()) == {("failed", "gradebook_trouble")}
    assert result.exit_code == 1
    assert str(result.stopped).startswith("ELMS's own Moodle: ")
    assert {one.advice for one in result.courses} == {result.advice}
    assert {row.reason for row in rows(RunCourse)} == {"gradebook_trouble"}


@pytest.mark.parametrize(
    "target",
    [
        pytest.param((None, None), id="neither"),
        pytest.param((COURSE, None), id="no activity"),
        pytest.param((None, ACTIVITY), id="no course"),
    ],
)
def test_course_without_a_target_activity_is_not_requested(
    add: Add, sync: Sync, far_side: FarSide, make_score: MakeScore, target: Any
) -> None:
    add("CS101", make_score("ada"), target=target)
    add("CS102", make_score("ada"))

    result = sync()

    assert outcomes(result) == {"CS101": ("failed", "misconfigured"), "CS102": ("synced", None)}
    assert "set-activity" in str(course(result).advice)
    assert [asked.course_id for asked in far_side.asked] == ["CS102"]
    assert result.exit_code == 1


def test_activity_that_does_not_exist_fails_only_its_course(
    add: Add, sync: Sync, make_score: MakeScore, entry_of: Callable[[str], Entry]
) -> None:
    add("CS101", make_score("ada"), target=(COURSE, "43"))
    add("CS102", make_score("ada"))

    result = sync()

    assert outcomes(result) == {"CS101": ("failed", "misconfigured"), "CS102": ("synced", None)}
    assert (entry_of("CS101").etag, entry_of("CS101").synced_at) == (None, None)
    assert entry_of("CS102").etag is not None


def test_transient_failure_fails_only_its_course_if_the_moodle_works(
    add: Add, sync: Sync, elms: Elms, make_score: MakeScore
) -> None:
    add("CS101", make_score("ada"))
    add("CS102", make_score("bob"))
    answer = elms.moodle.answers[FUNCTION]
    errors = [Recorded(500, "text/html", b"")]
    elms.moodle.answers[FUNCTION] = lambda form: errors.pop() if errors else answer(form)

    result = sync()

    assert outcomes(result) == {"CS101": ("failed", "transient"), "CS102": ("synced", None)}
    assert result.stopped is None
    assert elms.grades == {14: None, 15: Decimal(75)}


def test_outage_during_the_run_stops_it(
    add: Add,
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: MakeScore,
    entry_of: Callable[[str], Entry],
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        add(course_id, make_score("ada"))

    def break_down() -> None:
        for function in (FUNCTION, SITE_INFO):
            elms.moodle.sends(function, MAINTENANCE)

    during(far_side, "CS102", break_down)

    result = sync(batch_size=1, window=1)

    assert outcomes(result) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "transient"),
        "CS103": ("failed", "gradebook_trouble"),
    }
    assert (result.exit_code, result.stopped) == (1, "ELMS's own Moodle: responded 503")
    assert [asked.course_id for asked in far_side.asked] == ["CS101", "CS102"]
    assert entry_of("CS101").etag is not None


def test_rejected_token_costs_no_more_requests(
    add: Add, sync: Sync, elms: Elms, make_score: MakeScore
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        add(course_id, make_score("ada"))
    elms.moodle.says(FUNCTION, "token_invalid")

    result = sync()

    assert set(outcomes(result).values()) == {("failed", "gradebook_trouble")}
    assert elms.moodle.functions() == [SITE_INFO, users.FUNCTION, FUNCTION]


@pytest.mark.parametrize(
    ("function", "seconds", "ended"),
    [
        pytest.param(SITE_INFO, None, STOPPED, id="check"),
        pytest.param(users.FUNCTION, None, STOPPED, id="users"),
        pytest.param(FUNCTION, None, STOPPED, id="report"),
        pytest.param(UPDATE, None, STOPPED, id="update"),
        pytest.param(
            UPDATE, 4, (1, "its time limit of 4 seconds was reached"), id="until the deadline"
        ),
    ],
)
def test_moodle_that_hangs_does_not_delay_the_end(
    add: Add,
    sync: Sync,
    elms: Elms,
    make_score: MakeScore,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    seconds: int | None,
    ended: tuple[int, str],
) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_SECONDS", 0.0)
    add("CS101", make_score("ada"))
    stop = threading.Event()
    elms.moodle.slow.add(function)
    if seconds is None:
        during_call(elms.moodle, function, stop.set)

    result = sync(seconds=60.0, stop=stop, deadline=timedelta(seconds=seconds or 60))

    assert elms.moodle.waited_for == []
    assert (result.exit_code, result.stopped) == ended
    assert elms.moodle.functions()[-1] == function
    assert [one.outcome for one in result.courses] == ["failed"]


def test_stopped_run_finishes_only_the_part_in_progress(
    add: Add, sync: Sync, elms: Elms, make_score: MakeScore, entry_of: Callable[[str], Entry]
) -> None:
    stub = StubSource(batch=2)
    for course_id in ("CS101", "CS102"):
        add(course_id)
        score = Score.model_validate_json(json.dumps(make_score("ada")))
        stub.outcomes[course_id] = [Grades((score,), '"1"')]
    stop = threading.Event()
    during_call(elms.moodle, UPDATE, stop.set)

    result = sync(stub, batch=1, stop=stop)

    assert outcomes(result) == {"CS101": ("synced", None), "CS102": ("failed", "stopped")}
    assert result.exit_code == 143
    assert (entry_of("CS101").etag, entry_of("CS102").etag) == ('"1"', None)


def test_run_that_lost_its_lease_is_cancelled_before_it_writes(
    database: Database, add: Add, sync: Sync, elms: Elms, make_score: MakeScore
) -> None:
    add("CS101", make_score("ada"))

    def take_over() -> None:
        with database.writing() as session:
            session.execute(text("UPDATE sync_lease SET token = 'another'"))
        time.sleep(2.0)

    during_call(elms.moodle, FUNCTION, take_over)

    result = sync(seconds=60.0, lease=timedelta(milliseconds=1))

    assert outcomes(result) == {"CS101": ("failed", "lease_lost")}
    assert UPDATE not in elms.moodle.functions()
    assert result.exit_code == 3


def test_grades_written_but_not_recorded_are_not_written_again(
    database: Database,
    add: Add,
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: MakeScore,
    entry_of: Callable[[str], Entry],
) -> None:
    token = add("CS101")
    sync()
    far_side.grades("CS101", token, make_score("ada"), etag='"2"')

    def rename(old: str, new: str) -> None:
        with database.writing() as session:
            session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    during_call(elms.moodle, UPDATE, lambda: rename("entries", "gone"))
    try:
        broken = sync()
    finally:
        rename("gone", "entries")
    etag = entry_of("CS101").etag
    fixed = sync()

    assert (broken.exit_code, broken.scores, etag) == (4, ScoreCounts(added=1), None)
    assert (fixed.exit_code, fixed.scores) == (0, ScoreCounts(unchanged=1))
    assert elms.moodle.functions().count(UPDATE) == 1
    assert entry_of("CS101").etag is not None

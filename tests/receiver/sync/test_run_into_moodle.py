"""A run whose gradebook is a Moodle: what is asked, written, reported, and asked for again."""

import json
import threading
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
from receiver.models import Entry, RunCourse, Source, StoredScore
from receiver.moodle import users
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.gradebook import UPDATE, MoodleGradebook
from receiver.registry import bulk
from receiver.runs.store import CourseResult, RunResult
from receiver.sources.base import Grades, PersonProblem
from receiver.sources.http_client import Exchange
from receiver.sync import heartbeat
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import NINE, Clients, FarSide
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle, Form
from tests.receiver.moodle.recordings import RECORDED, Recorded
from tests.receiver.sync.test_fetcher import Told

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")

Rows = Callable[[type[Any]], list[Any]]
Sync = Callable[..., RunResult]


@pytest.fixture
def elms(moodle: FakeMoodle) -> Elms:
    """ELMS with two students in its course."""
    there = Elms(moodle)
    there.enrol(14, "ada")
    there.enrol(15, "bob")
    return there


@pytest.fixture
def link(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    far_side: FarSide,
) -> Callable[..., CourseToken]:
    """Return what links a course with its place, which the far side answers with these scores."""
    source = make_source(url=far_side.url)

    def make(
        course_id: str,
        *scores: Any,
        place: tuple[str, str] | None = (COURSE, ACTIVITY),
        **more: Any,
    ) -> CourseToken:
        token = CourseToken.generate()
        entry = make_entry(source, course_id, token=token, **more)
        if place is not None:
            with database.writing() as session:
                row = session.get_one(Entry, entry.id)
                row.gradebook_course, row.gradebook_activity = place
        far_side.grades(course_id, token, *scores)
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
        *, batch: int = 20, told: Told | None = None, patience: float = 0.5, **overrides: Any
    ) -> RunResult:
        asked = clients if told is None else Clients(told)
        exchange = Exchange(connect_timeout=0.5, read_timeout=patience, total=2 * patience)
        with closing(exchange):
            gradebook = MoodleGradebook(exchange, url=elms.moodle.url, token=TOKEN)
            gradebook.batch = batch
            return grade_sync.run(database, vault, asked, make_options(**overrides), gradebook)

    return run


def by_course(report: RunResult) -> dict[str, CourseResult]:
    """Return the report of each course."""
    return {course.course_id: course for course in report.courses}


def reasons(report: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in report.courses}


def meanwhile(moodle: FakeMoodle, function: str, do: Callable[[], None]) -> None:
    """Let something happen at the first call of a function, before it is answered."""
    whole, left = moodle.answers[function], [do]

    def say(form: Form) -> Recorded:
        while left:
            left.pop()()
        return whole(form)

    moodle.answers[function] = say


def test_grades_go_into_the_moodle_and_nowhere_else(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: Callable[..., Any],
    rows: Rows,
) -> None:
    link("CS101", make_score("ada"), make_score("bob", "5"))

    report = sync()

    assert elms.grades == {14: Decimal(75), 15: Decimal(50)}
    assert elms.moodle.functions() == [SITE_INFO, users.FUNCTION, FUNCTION, UPDATE, FUNCTION]
    assert reasons(report) == {"CS101": ("synced", None)}
    assert (report.scores, report.exit_code) == (ScoreCounts(added=2), 0)
    assert (report.requests, report.gradebook_requests) == (1, 5)
    assert rows(StoredScore) == []


def test_a_second_run_with_nothing_new_only_looks_whether_it_could_write(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_score: Callable[..., Any],
) -> None:
    link("CS101", make_score("ada"))
    sync()
    del elms.moodle.called[:]

    report = sync()

    assert reasons(report) == {"CS101": ("unchanged", None)}
    assert elms.moodle.functions() == [SITE_INFO]


def test_who_cannot_be_graded_is_told_and_asked_for_again(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
    rows: Rows,
) -> None:
    link("CS101", make_score("ada"), make_score("eve"))

    first = sync()
    left = entry_of("CS101")
    told = [(row.outcome, row.reason, row.detail) for row in rows(RunCourse)]
    elms.enrol(16, "eve")
    then = sync()

    course = by_course(first)["CS101"]
    assert (course.outcome, course.reason) == ("synced", "people_left_out")
    assert course.detail == (
        "left out 1: eve: no users of ELMS have this ID number, and it must be one"
    )
    assert course.next_step == ("Fix each problem in ELMS; the next run imports these grades.")
    assert told == [("synced", "people_left_out", course.detail)]
    assert (first.exit_code, left.etag, left.synced_at) == (0, None, None)
    assert "if-none-match" not in far_side.asked[1].headers
    assert (reasons(then), then.scores) == (
        {"CS101": ("synced", None)},
        ScoreCounts(added=1, unchanged=1),
    )
    assert entry_of("CS101").etag is not None


def test_grades_that_are_changed_back_are_written_back(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: Callable[..., Any],
) -> None:
    """A site that names grades by what they are is not believed to have nothing new.

    Between the two equal names others came, and were written but for one person.
    """
    token = link("CS101", make_score("ada", "7"))
    sync()
    far_side.grades("CS101", token, make_score("ada", "8"), make_score("eve"), etag='"2"')
    sync()
    far_side.grades("CS101", token, make_score("ada", "7"), etag='"1"')

    report = sync()

    assert (reasons(report), report.scores) == (
        {"CS101": ("synced", None)},
        ScoreCounts(changed=1),
    )
    assert elms.grades[14] == Decimal(70)


def test_a_course_that_moves_while_it_is_written_is_asked_for_again(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    link("CS101", make_score("ada"))
    moved = entry_of("CS101").id

    def move() -> None:
        with database.writing() as session:
            bulk.set_gradebook_target(session.get_one(Entry, moved), "8", "43")

    meanwhile(elms.moodle, UPDATE, move)

    report = sync()

    assert (reasons(report), elms.grades[14]) == ({"CS101": ("synced", None)}, Decimal(75))
    assert entry_of("CS101").etag is None


def test_who_was_left_out_at_both_ends_is_told_together(
    link: Callable[..., CourseToken], sync: Sync, make_score: Callable[..., Any]
) -> None:
    link("CS101")
    score = json.dumps(make_score("eve"))
    there = Told(
        outcomes={
            "CS101": [
                Grades(
                    (Score.model_validate_json(score),),
                    None,
                    left_out=(PersonProblem(None, "has none"),),
                )
            ]
        }
    )

    course = by_course(sync(told=there))["CS101"]

    assert course.detail == (
        "left out 2: without ID number: has none; "
        "eve: no users of ELMS have this ID number, and it must be one"
    )
    assert course.next_step == (
        "Fix each problem at the source and in ELMS; the next run imports these grades."
    )


def test_an_id_number_without_end_is_cut_in_the_report(
    link: Callable[..., CourseToken], sync: Sync
) -> None:
    link("CS101")
    endless = PersonProblem("9" * 1_000_000, "too long")
    there = Told(outcomes={"CS101": [Grades((), None, left_out=(endless,))]})

    course = by_course(sync(told=there))["CS101"]

    assert course.detail == f"left out 1: {'9' * 100}…: too long"


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        pytest.param("token_invalid", "error", id="token"),
        pytest.param(Recorded(503, "text/html", b"maintenance"), "warning", id="maintenance"),
    ],
)
def test_where_nothing_can_be_written_nobody_is_asked(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_app: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    rows: Rows,
    answer: str | Recorded,
    level: str,
) -> None:
    make_app(log_level="WARNING")
    link("CS101")
    link("CS102")
    elms.moodle.sends(SITE_INFO, RECORDED[answer] if isinstance(answer, str) else answer)

    report = sync()

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (far_side.connections, report.requests, report.gradebook_requests) == (0, 0, 1)
    assert set(reasons(report).values()) == {("failed", "gradebook_trouble")}
    assert report.exit_code == 1
    assert str(report.stopped).startswith("ELMS's own Moodle: ")
    assert {course.next_step for course in report.courses} == {report.next_step}
    assert [(line["event"], line["level"], line["courses"]) for line in lines] == [
        ("gradebook cannot be used", level, 2)
    ]
    assert [(row.course_id, row.reason) for row in rows(RunCourse)] == [
        ("CS101", "gradebook_trouble"),
        ("CS102", "gradebook_trouble"),
    ]


@pytest.mark.parametrize(
    ("function", "seconds", "ended"),
    [
        pytest.param(SITE_INFO, None, (143, "it was told to stop"), id="looked at"),
        pytest.param(users.FUNCTION, None, (143, "it was told to stop"), id="asked for people"),
        pytest.param(FUNCTION, None, (143, "it was told to stop"), id="asked how grades stand"),
        pytest.param(UPDATE, None, (143, "it was told to stop"), id="written into"),
        pytest.param(
            UPDATE, 4, (1, "its time limit of 4 seconds was reached"), id="until the deadline"
        ),
    ],
)
def test_a_moodle_that_hangs_does_not_hold_up_the_end(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_score: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    seconds: int | None,
    ended: tuple[int, str],
) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_SECONDS", 0.0)
    link("CS101", make_score("ada"))
    stop = threading.Event()
    elms.moodle.slow.add(function)
    if seconds is None:
        meanwhile(elms.moodle, function, stop.set)

    report = sync(patience=60.0, stop=stop, deadline=timedelta(seconds=seconds or 60))

    assert elms.moodle.waited_for == []
    assert (report.exit_code, report.stopped) == ended
    assert elms.moodle.functions()[-1] == function
    assert [course.outcome for course in report.courses] == ["failed"]


def test_a_run_without_anybody_to_ask_does_not_look(
    link: Callable[..., CourseToken], sync: Sync, elms: Elms
) -> None:
    link("CS101", facts=(Deleted(4, NINE),))

    report = sync()

    assert (report.exit_code, elms.moodle.called) == (0, [])


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(None, id="neither"),
        pytest.param((COURSE, None), id="no activity"),
        pytest.param((None, ACTIVITY), id="no course"),
    ],
)
def test_a_course_without_a_place_is_not_asked_for(
    link: Callable[..., CourseToken],
    sync: Sync,
    far_side: FarSide,
    make_score: Callable[..., Any],
    place: Any,
) -> None:
    link("CS101", make_score("ada"), place=place)
    link("CS102", make_score("ada"))

    report = sync()

    course = by_course(report)["CS101"]
    assert reasons(report) == {"CS101": ("failed", "misconfigured"), "CS102": ("synced", None)}
    assert course.detail == "no activity in ELMS's Moodle is set for its grades"
    assert course.next_step == (
        "Set it with `receiver registry set-activity CS101 --course N --activity N`."
    )
    assert [asked.course_id for asked in far_side.asked] == ["CS102"]
    assert report.exit_code == 1


def test_a_place_that_is_not_there_fails_its_course_alone(
    link: Callable[..., CourseToken],
    sync: Sync,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    link("CS101", make_score("ada"), place=(COURSE, "43"))
    link("CS102", make_score("ada"))

    report = sync()

    assert reasons(report) == {"CS101": ("failed", "misconfigured"), "CS102": ("synced", None)}
    assert "has no activity 43 with points" in str(by_course(report)["CS101"].detail)
    assert (entry_of("CS101").etag, entry_of("CS101").synced_at) == (None, None)
    assert entry_of("CS102").etag is not None


def test_what_fails_for_now_fails_its_course_if_the_moodle_is_well(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    link("CS101", make_score("ada"))
    link("CS102", make_score("bob"))
    whole = elms.moodle.answers[FUNCTION]
    left = [Recorded(500, "text/html", b"")]
    elms.moodle.answers[FUNCTION] = lambda form: left.pop() if left else whole(form)

    report = sync()

    assert reasons(report) == {"CS101": ("failed", "transient"), "CS102": ("synced", None)}
    assert (entry_of("CS101").etag, report.stopped) == (None, None)
    assert elms.grades == {14: None, 15: Decimal(75)}


def test_a_moodle_that_breaks_down_stops_the_run_once(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        link(course_id, make_score("ada"))
    away = Recorded(503, "text/html", b"maintenance")

    def break_down() -> None:
        for function in (FUNCTION, SITE_INFO):
            elms.moodle.sends(function, away)

    answer = far_side.answers["CS102"]

    def answer_while_it_breaks_down(handler: Any) -> None:
        break_down()
        answer(handler)

    far_side.answers["CS102"] = answer_while_it_breaks_down

    report = sync(batch_size=1, window=1)

    assert reasons(report) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "transient"),
        "CS103": ("failed", "gradebook_trouble"),
    }
    assert (report.exit_code, report.stopped) == (1, "ELMS's own Moodle: responded 503")
    assert [asked.course_id for asked in far_side.asked] == ["CS101", "CS102"]
    assert entry_of("CS101").etag is not None


def test_a_token_that_ends_in_the_midst_of_a_write_costs_no_more_requests(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_score: Callable[..., Any],
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        link(course_id, make_score("ada"))
    elms.moodle.says(FUNCTION, "token_invalid")

    report = sync()

    assert set(reasons(report).values()) == {("failed", "gradebook_trouble")}
    assert elms.moodle.functions() == [SITE_INFO, users.FUNCTION, FUNCTION]
    assert str(report.stopped).startswith("ELMS's own Moodle: invalidtoken")


def test_a_run_that_is_told_to_stop_begins_no_further_piece(
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_options: Callable[..., SyncOptions],
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    """The piece under way is written and recorded; the next run asks for the others (F8)."""
    there = Told(batch=2)
    for course_id in ("CS101", "CS102"):
        link(course_id)
        score = Score.model_validate_json(json.dumps(make_score("ada")))
        there.outcomes[course_id] = [Grades((score,), '"1"')]
    stop = make_options().stop
    meanwhile(elms.moodle, UPDATE, stop.set)

    report = sync(told=there, batch=1, stop=stop)

    assert reasons(report) == {"CS101": ("synced", None), "CS102": ("failed", "stopped")}
    assert report.exit_code == 143
    assert (entry_of("CS101").etag, entry_of("CS102").etag) == ('"1"', None)


def test_a_run_that_lost_its_lease_writes_no_more(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    make_score: Callable[..., Any],
) -> None:
    def take_over() -> None:
        with database.writing() as session:
            session.execute(text("UPDATE sync_lease SET token = 'another'"))

    link("CS101", make_score("ada"))
    elms.moodle.slow.add(FUNCTION)
    meanwhile(elms.moodle, FUNCTION, take_over)

    report = sync(patience=60.0, lease=timedelta(milliseconds=1))

    assert reasons(report) == {"CS101": ("failed", "lease_lost")}
    assert elms.moodle.waited_for == []
    assert UPDATE not in elms.moodle.functions()
    assert report.exit_code == 3


def test_grades_that_were_written_and_not_recorded_are_found_as_they_stand(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Sync,
    elms: Elms,
    far_side: FarSide,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    token = link("CS101")
    sync()
    far_side.grades("CS101", token, make_score("ada"), etag='"2"')

    def die() -> None:
        with database.writing() as session:
            session.execute(text("ALTER TABLE entries RENAME TO gone"))

    meanwhile(elms.moodle, UPDATE, die)
    try:
        broken = sync()
    finally:
        with database.writing() as session:
            session.execute(text("ALTER TABLE gone RENAME TO entries"))
    before = entry_of("CS101").etag
    mended = sync()

    assert (broken.exit_code, broken.scores, before) == (4, ScoreCounts(added=1), None)
    assert (mended.exit_code, mended.scores) == (0, ScoreCounts(unchanged=1))
    assert elms.moodle.functions().count(UPDATE) == 1
    assert entry_of("CS101").etag is not None

"""Who is asked when, by a source that answers as told and writes down what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.models import Entry, RunCourse, Source
from receiver.runs.store import RunResult
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    PersonProblem,
    SeemsGone,
    SiteOutage,
    Transient,
)
from receiver.sync import heartbeat
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import Clients

WELL = Grades((), None)
BUSY = Transient("answered 503")
DOWN = Transient("no answer: Connection refused", unreachable=True)
TROUBLE = SiteOutage("the service account is suspended", "Have it let in again.")


@dataclass
class Told:
    """A source that gives each course its outcomes, one after another; the last one stays."""

    batch: int = 1
    outcomes: dict[str, list[FetchOutcome]] = field(default_factory=dict)
    gone: dict[str, bool | None] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    confirmed: list[list[str]] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    confirming: Callable[[], None] = lambda: None
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    broken_off: threading.Event = field(default_factory=threading.Event)

    @property
    def requests(self) -> int:
        """How often it was asked."""
        return len(self.asked)

    def fetch(self, questions: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Answer as told."""
        with self.lock:
            self.asked.append([question.course_id for question in questions])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.meanwhile()
        with self.lock:
            self.at_once -= 1
            return [self._next(question.course_id) for question in questions]

    def _next(self, course_id: str) -> FetchOutcome:
        told = self.outcomes.get(course_id, [WELL])
        return told.pop(0) if len(told) > 1 else told[0]

    def confirm_deleted(self, questions: Sequence[GradeQuery]) -> list[bool | None]:
        """Say which are gone."""
        self.confirming()
        self.confirmed.append([question.course_id for question in questions])
        return [self.gone.get(question.course_id) for question in questions]

    def url_of(self, question: GradeQuery) -> str:
        """Name the course."""
        return f"told:{question.course_id}"

    def cancel(self) -> None:
        """Be told to end."""
        self.broken_off.set()


Sync = Callable[..., RunResult]


@pytest.fixture
def link(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> Callable[..., Any]:
    """Return what links courses of a source."""
    known: dict[str, Source] = {}

    def make(*course_ids: str, source: str = "one") -> None:
        known.setdefault(source, make_source(source) if source not in known else known[source])
        for course_id in course_ids:
            make_entry(known[source], course_id)

    return make


@pytest.fixture
def sync(database: Database, vault: Vault, make_options: Callable[..., SyncOptions]) -> Sync:
    """Return what runs the sync with a source for each name, or one for all."""

    def run(told: Told | dict[str, Told], **overrides: Any) -> RunResult:
        options = make_options(**overrides)
        return grade_sync.run(database, vault, Clients(told), options)

    return run


def outcomes(report: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in report.courses}


def test_what_failed_for_now_is_asked_again_after_all_others(
    link: Callable[..., None], sync: Sync
) -> None:
    link("CS1", "CS2", "CS3")
    there = Told(outcomes={"CS1": [BUSY, WELL]})

    report = sync(there, retry_waits=(0.01,))

    assert there.asked == [["CS1"], ["CS2"], ["CS3"], ["CS1"]]
    assert outcomes(report)["CS1"] == ("synced", None)
    assert report.exit_code == 0


def test_what_stays_so_fails_after_the_last_time(link: Callable[..., None], sync: Sync) -> None:
    link("CS1")
    there = Told(outcomes={"CS1": [BUSY]})

    report = sync(there, retry_waits=(0.01, 0.01))

    assert there.asked == [["CS1"]] * 3
    assert outcomes(report) == {"CS1": ("failed", "transient")}


def test_a_batch_that_failed_is_asked_again_in_smaller_ones(
    link: Callable[..., None], sync: Sync
) -> None:
    link(*(f"C{number:02}" for number in range(20)))
    there = Told(batch=100, outcomes={f"C{number:02}": [BUSY, WELL] for number in range(20)})
    there.outcomes["C00"] = [BUSY]

    report = sync(there, retry_waits=(0.01, 0.01))

    assert [len(asked) for asked in there.asked] == [20, 10, 10, 1]
    assert [course for course, told in outcomes(report).items() if told[0] == "failed"] == ["C00"]


def test_a_site_asks_to_be_left_alone_for_a_while(link: Callable[..., None], sync: Sync) -> None:
    link("CS1")
    there = Told(outcomes={"CS1": [Transient("answered 429", retry_after=0.4), WELL]})
    began = time.monotonic()

    sync(there, retry_waits=(0.01,))

    assert time.monotonic() - began >= 0.4


def test_a_site_that_cannot_be_reached_is_asked_once_a_round(
    link: Callable[..., None], sync: Sync
) -> None:
    link("A1", "A2", "A3", source="one")
    link("B1", "B2", source="two")
    one = Told(outcomes={course: [DOWN] for course in ("A1", "A2", "A3")})
    two = Told()

    report = sync({"one": one, "two": two}, retry_waits=(0.01,))

    assert (one.requests, two.requests) == (2, 2)
    assert {told for course, told in outcomes(report).items() if course[0] == "A"} == {
        ("failed", "transient")
    }
    assert {told for course, told in outcomes(report).items() if course[0] == "B"} == {
        ("synced", None)
    }


def test_a_site_that_comes_back_between_rounds_is_synced(
    link: Callable[..., None], sync: Sync
) -> None:
    link("A1", "A2", "A3")
    there = Told(outcomes={"A1": [DOWN, WELL]})

    report = sync(there, retry_waits=(0.01,))

    assert set(outcomes(report).values()) == {("synced", None)}


def test_a_site_that_cannot_be_opened_costs_its_courses_alone(
    link: Callable[..., None], sync: Sync
) -> None:
    link("CS1", "CS2", source="lost")
    link("CS3")

    report = sync({"one": Told()})

    assert outcomes(report) == {
        "CS1": ("failed", "site_trouble"),
        "CS2": ("failed", "site_trouble"),
        "CS3": ("synced", None),
    }
    assert report.courses[0].detail == "unexpected error: KeyError"
    assert report.exit_code == 1


def test_a_site_out_of_order_is_stopped_once(link: Callable[..., None], sync: Sync) -> None:
    link("A1", "A2", "A3", source="one")
    link("B1", source="two")
    one = Told(outcomes={"A1": [TROUBLE]})

    report = sync({"one": one, "two": Told()}, retry_waits=(0.01,))

    assert one.requests == 1
    assert outcomes(report) == {
        "A1": ("failed", "site_trouble"),
        "A2": ("skipped", "site_trouble"),
        "A3": ("skipped", "site_trouble"),
        "B1": ("synced", None),
    }
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("gone", "certain", "came"),
    [
        pytest.param(True, False, ("failed", "course_deleted"), id="confirmed"),
        pytest.param(False, True, ("failed", "misconfigured"), id="it is there"),
        pytest.param(None, True, ("failed", "course_deleted"), id="certain by itself"),
        pytest.param(None, False, ("failed", "transient"), id="not certain"),
    ],
)
def test_a_course_that_seems_gone_is_confirmed_first(
    link: Callable[..., None],
    sync: Sync,
    gone: bool | None,
    certain: bool,
    came: tuple[str, str],
) -> None:
    link("CS1", "CS2", "CS3")
    seems = SeemsGone("no such course", certain)
    there = Told(outcomes={"CS1": [seems], "CS3": [seems]}, gone={"CS1": gone, "CS3": True})

    report = sync(there)

    assert there.confirmed == [["CS1", "CS3"]]
    assert outcomes(report) == {
        "CS1": came,
        "CS2": ("synced", None),
        "CS3": ("failed", "course_deleted"),
    }


def test_a_few_requests_are_under_way_at_once(link: Callable[..., None], sync: Sync) -> None:
    link(*(f"C{number:02}" for number in range(12)))
    together = threading.Barrier(3)
    there = Told(meanwhile=lambda: together.wait(10) and None)

    report = sync(there, concurrency=3)

    assert there.most_at_once == 3
    assert set(outcomes(report).values()) == {("synced", None)}


def test_the_deadline_ends_a_run(link: Callable[..., None], sync: Sync) -> None:
    link("CS1", "CS2", "CS3")
    there = Told(meanwhile=lambda: time.sleep(2.2))

    report = sync(there, deadline=timedelta(seconds=2))

    assert outcomes(report) == {
        "CS1": ("synced", None),
        "CS2": ("failed", "deadline"),
        "CS3": ("failed", "deadline"),
    }
    assert (report.exit_code, report.stopped) == (1, "its time limit of 2 seconds was reached")


def test_a_run_that_is_told_to_stop_reports_what_it_did(
    link: Callable[..., None], sync: Sync
) -> None:
    link("CS1", "CS2")
    stop = threading.Event()
    there = Told(meanwhile=stop.set)

    report = sync(there, stop=stop)
    again = sync(Told())

    assert outcomes(report) == {"CS1": ("synced", None), "CS2": ("failed", "stopped")}
    assert (report.exit_code, report.stopped) == (143, "it was told to stop")
    assert set(outcomes(again).values()) == {("synced", None)}


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way has no time left when the run is to end."""
    monkeypatch.setattr(heartbeat, "GRACE_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("stops", "ended"),
    [
        pytest.param(True, (143, "it was told to stop"), id="told to stop"),
        pytest.param(False, (1, "its time limit of 2 seconds was reached"), id="deadline"),
    ],
)
def test_what_outlasts_the_end_of_a_run_is_broken_off(
    no_grace: None, link: Callable[..., None], sync: Sync, stops: bool, ended: tuple[int, str]
) -> None:
    link("CS1", "CS2", "CS3")
    stop = threading.Event()
    there = Told(outcomes={"CS2": [Transient("broken off")]})

    def hang_at_the_second() -> None:
        if there.requests == 2:
            if stops:
                stop.set()
            there.broken_off.wait(30)

    there.meanwhile = hang_at_the_second

    report = sync(there, stop=stop, deadline=timedelta(seconds=60 if stops else 2))

    assert there.broken_off.is_set()
    assert (report.exit_code, report.stopped) == ended
    assert outcomes(report)["CS1"] == ("synced", None)
    assert outcomes(report)["CS2"] == ("failed", "transient")


def test_a_confirmation_that_hangs_keeps_no_run_from_ending(
    no_grace: None, link: Callable[..., None], sync: Sync
) -> None:
    link("CS1")
    stop = threading.Event()
    there = Told(outcomes={"CS1": [SeemsGone("no such course", certain=False)]})
    there.confirming = lambda: stop.set() or (there.broken_off.wait(30) and None)

    report = sync(there, stop=stop)

    assert there.broken_off.is_set()
    assert outcomes(report) == {"CS1": ("failed", "transient")}


def test_a_confirmation_that_breaks_tells_nothing(link: Callable[..., None], sync: Sync) -> None:
    link("CS1", "CS2")
    there = Told(outcomes={"CS1": [SeemsGone("no such course", certain=False)]})

    def break_down() -> None:
        raise RuntimeError("unforeseen")

    there.confirming = break_down

    report = sync(there)

    assert outcomes(report) == {"CS1": ("failed", "transient"), "CS2": ("synced", None)}


def test_a_source_that_breaks_fails_its_piece_alone(link: Callable[..., None], sync: Sync) -> None:
    link("CS1", "CS2")
    first = iter([True])

    def break_once() -> None:
        if next(first, False):
            raise RuntimeError("unforeseen")

    report = sync(Told(meanwhile=break_once))

    assert outcomes(report) == {"CS1": ("failed", "unforeseen"), "CS2": ("synced", None)}


def test_a_whole_site_of_every_failure_syncs_every_healthy_course(
    link: Callable[..., None], sync: Sync
) -> None:
    bad: dict[str, list[FetchOutcome]] = {
        "A1": [BUSY],
        "A2": [Misconfigured("answered 404", "Check it.")],
        "A3": [SeemsGone("no such course", certain=True)],
        "A4": [DOWN, BUSY],
    }
    link(*bad, *(f"B{number:02}" for number in range(30)))

    report = sync(Told(batch=10, outcomes=bad), retry_waits=(0.01, 0.01), concurrency=3)

    healthy = {told for course, told in outcomes(report).items() if course[0] == "B"}
    assert healthy == {("synced", None)}
    assert len(outcomes(report)) == 34


def test_people_who_are_left_out_are_told(
    link: Callable[..., None], sync: Sync, make_app: Callable[..., Any], capsys: Any
) -> None:
    make_app(log_level="WARNING")
    link("CS1", "CS2")
    missing = tuple(PersonProblem(f"s{number}", "is there twice") for number in range(6))
    unknown = PersonProblem(None, "has no ID number")
    there = Told(outcomes={"CS1": [Grades((), None, left_out=(unknown, *missing))]})

    report = sync(there)

    told = report.courses[0]
    assert outcomes(report) == {"CS1": ("synced", "people_left_out"), "CS2": ("synced", None)}
    assert told.detail == (
        "left out 7: without ID number: has no ID number; s0: is there twice; s1: is there twice; "
        "s2: is there twice; s3: is there twice; and 2 more"
    )
    assert report.exit_code == 0
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["level"], line["event"], line["course_id"]) == ("warning", "course synced", "CS1")


def test_only_a_named_source_is_asked(link: Callable[..., None], sync: Sync) -> None:
    link("A1", source="one")
    link("B1", source="two")
    one, two = Told(), Told()

    report = sync({"one": one, "two": two}, sources=("two",))

    assert (one.asked, two.asked) == ([], [["B1"]])
    assert outcomes(report) == {"B1": ("synced", None)}


def test_progress_is_told(link: Callable[..., None], sync: Sync) -> None:
    link("CS1", "CS2", "CS3")
    told: list[tuple[int, int]] = []

    sync(
        Told(), batch_size=1, window=1, progress=lambda done, courses: told.append((done, courses))
    )

    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("why", [pytest.param(DOWN, id="down"), pytest.param(BUSY, id="busy")])
def test_a_site_that_is_down_fills_no_log(
    link: Callable[..., None],
    sync: Sync,
    make_app: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    rows: Callable[[type[Any]], list[Any]],
    why: Transient,
) -> None:
    make_app(log_level="WARNING")
    link(*(f"C{number}" for number in range(8)))

    sync(Told(outcomes={f"C{number}": [why] for number in range(8)}))

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == [
        *["course failed"] * 5,
        "more courses failed for the same reason",
    ]
    assert (lines[5]["source"], lines[5]["detail"], lines[5]["courses"]) == ("one", why.detail, 3)
    assert len(rows(RunCourse)) == 8

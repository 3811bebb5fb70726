"""The run: each course apart from the others, and nothing asked that is known to be in vain."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from contract.problems import ProblemType
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Deleted, Status, TokenAnnounced
from receiver.errors import EntryUnknownError, RunInProgressError
from receiver.gradebook import database as gradebook
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, Run, RunCourse, Source, StoredScore
from receiver.registry import entries as registry
from receiver.runs import lease
from receiver.runs.store import RunResult
from receiver.sync import run as grade_sync
from receiver.sync.planner import Planner
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import NINE, Clients

Rows = Callable[[type[Any]], list[Any]]


@pytest.fixture
def source(make_source: Callable[..., Source], far_side: Any) -> Source:
    """The far side, as ELMS knows it."""
    return make_source(url=far_side.url)


@pytest.fixture
def link(
    source: Source, make_entry: Callable[..., Entry], far_side: Any
) -> Callable[..., CourseToken]:
    """Return what links a course that the far side answers with these scores."""

    def make(course_id: str = "CS101", *scores: Any, **more: Any) -> CourseToken:
        token = CourseToken.generate()
        make_entry(source, course_id, token=token, **more)
        far_side.grades(course_id, token, *scores)
        return token

    return make


@pytest.fixture
def sync(
    database: Database, vault: Vault, clients: Clients, make_options: Callable[..., SyncOptions]
) -> Callable[..., RunResult]:
    """Return what runs the sync."""

    def run(**overrides: Any) -> RunResult:
        return grade_sync.run(database, vault, clients, make_options(**overrides))

    return run


def told(report: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in report.courses}


def test_grades_are_fetched_and_stored(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    make_score: Callable[..., Any],
    rows: Rows,
) -> None:
    link("CS101", make_score("ada"), make_score("bob", None))
    link("CS102", make_score("ada", "3"))

    report = sync()

    assert told(report) == {"CS101": ("synced", None), "CS102": ("synced", None)}
    assert (report.scores, report.requests, report.exit_code) == (ScoreCounts(added=3), 2, 0)
    assert len(rows(StoredScore)) == 3


def test_a_second_run_finds_all_unchanged(
    link: Callable[..., CourseToken], sync: Callable[..., RunResult], make_score: Callable[..., Any]
) -> None:
    link("CS101", make_score())
    sync()

    report = sync()

    assert told(report) == {"CS101": ("unchanged", None)}
    assert (report.scores, report.exit_code) == (ScoreCounts(), 0)


def test_known_invalid_courses_open_no_socket(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    now: datetime,
) -> None:
    link("CS101", facts=(Deleted(4, now),))
    link("CS102", facts=(TokenAnnounced(4, "new", now),))

    report = sync()

    assert (far_side.connections, far_side.asked, report.requests) == (0, [], 0)
    assert told(report) == {
        "CS101": ("skipped", "course_deleted"),
        "CS102": ("skipped", "token_invalid"),
    }
    assert {course.since for course in report.courses} == {now}
    assert all(course.detail and course.next_step for course in report.courses)
    assert report.exit_code == 0


def test_one_course_never_stops_the_others(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    for course_id in ("A", "B", "C", "D", "E", "F", "G"):
        link(course_id, make_score())
    far_side.gone("B")
    far_side.refuse("C", ProblemType.TOKEN_UNKNOWN)
    far_side.answer("D", 200, b"<html>")
    far_side.answer("E", 500)
    del far_side.answers["F"]

    report = sync()

    assert told(report) == {
        "A": ("synced", None),
        "B": ("failed", "course_deleted"),
        "C": ("failed", "token_invalid"),
        "D": ("failed", "transient"),
        "E": ("failed", "transient"),
        "F": ("failed", "misconfigured"),
        "G": ("synced", None),
    }
    assert report.exit_code == 1
    assert registry.course_status(entry_of("C")).reason == (
        f"eAssessment rejected the token {entry_of('C').stored_token_id}: "
        "token-unknown: refused: token-unknown"
    )


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda there: there.answer("CS101", 503), id="503"),
        pytest.param(lambda there: there.answer("CS101", 429), id="429"),
        pytest.param(lambda there: there.answer("CS101", 200, b"junk"), id="junk"),
        pytest.param(lambda there: there.answer("CS101", 404, b"<html>"), id="404"),
        pytest.param(lambda there: there.answer("CS101", 302), id="302"),
    ],
)
def test_transient_answers_never_change_the_registry(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    entry_of: Callable[[str], Entry],
    break_it: Callable[[Any], None],
) -> None:
    link()
    before = registry.state_of(entry_of("CS101"))
    break_it(far_side)

    report = sync()

    assert report.exit_code == 1
    assert registry.state_of(entry_of("CS101")) == before
    assert entry_of("CS101").synced_at is None


def test_a_token_that_the_far_side_took_back_is_not_asked_with_again(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    token = link("CS101", make_score())
    far_side.grades("CS101", token, course_version=9)
    sync()
    far_side.regenerated("CS101", "older", version=2)

    first, second = sync(), sync()

    assert told(first) == {"CS101": ("failed", "token_invalid")}
    assert told(second) == {"CS101": ("skipped", "token_invalid")}
    assert registry.course_status(entry_of("CS101")).status is Status.TOKEN_INVALID


def test_a_late_event_about_an_older_token_changes_nothing(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    source: Source,
    now: datetime,
) -> None:
    token = link()
    far_side.grades("CS101", token, course_version=3)
    sync()

    with database.writing() as session:
        outcome = registry.apply(
            session,
            source.id,
            "CS101",
            TokenAnnounced(2, "older", now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    assert outcome is registry.ApplyResult.STALE
    assert told(sync()) == {"CS101": ("unchanged", None)}


def test_a_course_invalidated_while_the_run_is_under_way_is_skipped(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    source: Source,
    now: datetime,
) -> None:
    """A course that is heard of before its chunk begins is not asked for (F30)."""
    link("CS101")
    link("CS102")
    answer = far_side.answers["CS101"]

    def answer_while_the_webhook_comes(handler: Any) -> None:
        with database.writing() as session:
            registry.apply(
                session,
                source.id,
                "CS102",
                Deleted(4, now),
                actor=registry.Actor("webhook", "msg_1"),
                now=now,
            )
        answer(handler)

    far_side.answers["CS101"] = answer_while_the_webhook_comes

    report = sync(batch_size=1, window=1)

    assert told(report) == {"CS101": ("synced", None), "CS102": ("skipped", "course_deleted")}
    assert [asked.course_id for asked in far_side.asked] == ["CS101"]


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param(Deleted(4, NINE), id="deleted"),
        pytest.param(TokenAnnounced(4, "another", NINE), id="regenerated"),
    ],
)
def test_a_course_invalidated_in_the_midst_of_a_chunk_is_skipped(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    source: Source,
    fact: Any,
) -> None:
    """What is heard while one course is asked for holds for those behind it (F30, I4)."""
    for course_id in ("CS101", "CS102", "CS103"):
        link(course_id)
    answer = far_side.answers["CS101"]

    def answer_while_the_webhook_comes(handler: Any) -> None:
        with database.writing() as session:
            registry.apply(
                session,
                source.id,
                "CS103",
                fact,
                actor=registry.Actor("webhook", "msg_1"),
                now=NINE,
            )
        answer(handler)

    far_side.answers["CS101"] = answer_while_the_webhook_comes

    report = sync(refresh_after=timedelta(0))

    assert [asked.course_id for asked in far_side.asked] == ["CS101", "CS102"]
    assert told(report)["CS103"][0] == "skipped"
    assert report.exit_code == 0


def test_the_registry_is_read_again_by_the_clock(
    link: Callable[..., CourseToken], sync: Callable[..., RunResult]
) -> None:
    for number in range(5):
        link(f"CS{number}")
    sync()

    believing = sync(refresh_after=timedelta(hours=1)).statements
    doubting = sync(refresh_after=timedelta(0)).statements

    assert doubting - believing == 4


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        pytest.param("gone", "course_deleted", id="410"),
        pytest.param("regenerated", "token_invalid", id="401"),
    ],
)
def test_a_course_invalidated_while_it_is_asked_for_is_an_answer(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    source: Source,
    rows: Rows,
    answered: str,
    reason: str,
) -> None:
    """In flight, the answer and the webhook that came meanwhile say the same thing (F30, I3)."""
    link("CS101")
    if answered == "gone":
        far_side.gone("CS101", 4)
        heard: Any = Deleted(4, NINE)
    else:
        far_side.regenerated("CS101", "another", 4)
        heard = TokenAnnounced(4, "another", NINE)
    answer = far_side.answers["CS101"]

    def answer_while_the_webhook_comes(handler: Any) -> None:
        with database.writing() as session:
            registry.apply(
                session,
                source.id,
                "CS101",
                heard,
                actor=registry.Actor("webhook", "msg_1"),
                now=NINE,
            )
        answer(handler)

    far_side.answers["CS101"] = answer_while_the_webhook_comes

    first, then = sync(), sync()

    assert told(first) == {"CS101": ("failed", reason)}
    assert told(then) == {"CS101": ("skipped", reason)}
    assert len(far_side.asked) == 1
    (entry,) = rows(Entry)
    assert {entry.deleted_version, entry.announced_version} == {4, None}


def test_grades_that_were_in_flight_do_not_undo_a_deletion(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    source: Source,
    make_score: Callable[..., Any],
) -> None:
    """Grades answered just before the deletion was heard of are kept; the course is gone (F30)."""
    link("CS101", make_score())
    answer = far_side.answers["CS101"]

    def answer_while_the_webhook_comes(handler: Any) -> None:
        with database.writing() as session:
            registry.apply(
                session,
                source.id,
                "CS101",
                Deleted(4, NINE),
                actor=registry.Actor("webhook", "msg_1"),
                now=NINE,
            )
        answer(handler)

    far_side.answers["CS101"] = answer_while_the_webhook_comes

    first, then = sync(), sync()

    assert told(first) == {"CS101": ("synced", None)}
    assert told(then) == {"CS101": ("skipped", "course_deleted")}
    assert len(far_side.asked) == 1


def test_queries_do_not_grow_with_the_courses_of_a_chunk(
    link: Callable[..., CourseToken], sync: Callable[..., RunResult], make_score: Callable[..., Any]
) -> None:
    link("CS0", make_score())
    hour = timedelta(hours=1)
    alone = sync(refresh_after=hour).statements
    for number in range(1, 20):
        link(f"CS{number}", make_score())

    together = sync(refresh_after=hour).statements

    assert (alone, together) == (alone, alone)


def test_only_the_courses_that_are_named(
    link: Callable[..., CourseToken], sync: Callable[..., RunResult], far_side: Any
) -> None:
    link("CS101")
    link("CS102")

    report = sync(course_ids=("CS102",))

    assert list(told(report)) == ["CS102"]
    with pytest.raises(EntryUnknownError, match="not in the registry: 'NONE'"):
        sync(course_ids=("NONE",))
    assert [asked.course_id for asked in far_side.asked] == ["CS102"]
    assert sync(course_ids=("CS102",)).exit_code == 0


def test_a_plan_asks_nothing_and_leaves_nothing(
    database: Database,
    link: Callable[..., CourseToken],
    far_side: Any,
    now: datetime,
    rows: Rows,
) -> None:
    link("CS101")
    link("CS102", facts=(Deleted(4, now),))
    before = database.statements

    with database.reading() as session:
        plan = Planner(database).plan(session)

    assert [entry.course_id for entry in plan.to_fetch] == ["CS101"]
    assert [course.course_id for course in plan.skipped] == ["CS102"]
    assert database.statements - before == 1
    assert (far_side.connections, rows(Run)) == (0, [])


def test_a_second_run_is_refused_while_one_is_at_work(
    link: Callable[..., CourseToken], sync: Callable[..., RunResult], far_side: Any
) -> None:
    """The run that comes second asks nothing, says who is at work, leaves no record (F29)."""
    link()
    answer = far_side.answers["CS101"]
    refusals: list[str] = []

    def answer_while_another_begins(handler: Any) -> None:
        try:
            sync(holder="bob@elms")
        except RunInProgressError as error:
            refusals.append(str(error))
        answer(handler)

    far_side.answers["CS101"] = answer_while_another_begins

    report = sync()

    assert report.exit_code == 0
    assert "another grade sync is running: ada@elms" in refusals[0]
    assert len(far_side.asked) == 1


def test_a_run_that_was_killed_frees_itself(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    now: datetime,
) -> None:
    """The lease of a run that ended without a word ends by itself (F29)."""
    link()
    with database.writing() as session:
        lease.acquire(session, "killed@elms", timedelta(minutes=5), now=now - timedelta(days=400))

    assert sync().exit_code == 0


def test_a_run_that_lost_its_lease_writes_no_more(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    rows: Rows,
    make_score: Callable[..., Any],
) -> None:
    link("CS101", make_score())
    link("CS102", make_score())
    answer = far_side.answers["CS101"]

    def answer_while_another_takes_over(handler: Any) -> None:
        with database.writing() as session:
            session.execute(text("UPDATE sync_lease SET token = 'another'"))
        answer(handler)

    far_side.answers["CS101"] = answer_while_another_takes_over

    report = sync(batch_size=1, window=1)

    assert told(report) == {"CS101": ("failed", "lease_lost"), "CS102": ("failed", "lease_lost")}
    assert (report.exit_code, report.stopped) == (3, "another grade sync has taken over the lease")
    assert rows(StoredScore) == []
    assert len(far_side.asked) == 1


def test_a_lease_is_renewed_between_requests(
    link: Callable[..., CourseToken], sync: Callable[..., RunResult]
) -> None:
    for number in range(3):
        link(f"CS{number}")

    report = sync(lease=timedelta(milliseconds=1))

    assert report.exit_code == 0


def test_without_the_registry_no_request_is_made(
    link: Callable[..., CourseToken],
    vault: Vault,
    clients: Clients,
    far_side: Any,
    make_options: Callable[..., SyncOptions],
    tmp_path: Path,
) -> None:
    """If the registry cannot be read the run fails before it asks anybody (F31)."""
    link()
    away = Database(f"sqlite:///{tmp_path}/none/receiver.db")

    with pytest.raises(OperationalError, match="unable to open database file"):
        grade_sync.run(away, vault, clients, make_options())

    assert far_side.connections == 0


def test_a_database_that_dies_in_a_run_ends_it_cleanly(
    database: Database,
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        link(course_id)
    answer = far_side.answers["CS102"]

    def answer_while_the_database_dies(handler: Any) -> None:
        with database.writing() as session:
            session.execute(text("ALTER TABLE entries RENAME TO gone"))
        answer(handler)

    far_side.answers["CS102"] = answer_while_the_database_dies
    try:
        report = sync(batch_size=1, window=1)
    finally:
        with database.writing() as session:
            session.execute(text("ALTER TABLE gone RENAME TO entries"))

    assert told(report) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "database_unavailable"),
        "CS103": ("failed", "database_unavailable"),
    }
    assert report.exit_code == 4
    assert report.stopped
    assert [asked.course_id for asked in far_side.asked] == ["CS101", "CS102"]


def test_an_answer_that_cannot_be_stored_costs_its_course_alone(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    make_score: Callable[..., Any],
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        link(course_id, make_score(course_id))
    write = gradebook.write

    def write_all_but_one(session: Any, scores: Any) -> dict[int, ScoreCounts]:
        if any(score.user_id == "CS102" for listed in scores.values() for score in listed):
            raise ValueError("a score that no gradebook holds")
        return write(session, scores)

    monkeypatch.setattr(gradebook, "write", write_all_but_one)

    report = sync()

    assert told(report) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "unforeseen"),
        "CS103": ("synced", None),
    }
    assert {row.user_id for row in rows(StoredScore)} == {"CS101", "CS103"}


def test_a_token_sealed_with_a_lost_key_fails_its_course_alone(
    database: Database,
    link: Callable[..., CourseToken],
    clients: Clients,
    make_options: Callable[..., SyncOptions],
    far_side: Any,
) -> None:
    link()
    other = Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))

    report = grade_sync.run(database, other, clients, make_options())

    assert told(report) == {"CS101": ("failed", "token_unreadable")}
    assert "Put the key that sealed it back" in str(report.courses[0].next_step)
    assert far_side.connections == 0


def test_the_run_is_recorded(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    rows: Rows,
    far_side: Any,
    now: datetime,
) -> None:
    link("CS101")
    link("CS102", facts=(Deleted(4, now),))
    link("CS103")
    far_side.answer("CS103", 503)

    report = sync()

    (run,) = rows(Run)
    assert (run.id, run.holder, run.exit_code) == (report.run_id, "ada@elms", 1)
    assert (run.synced, run.unchanged, run.skipped, run.failed) == (1, 0, 1, 1)
    assert (run.requests, run.statements) == (report.requests, report.statements)
    assert run.ended_at >= run.started_at
    assert {row.course_id: (row.outcome, row.reason) for row in rows(RunCourse)} == told(report)


def test_each_failure_is_logged_once_with_what_to_do(
    link: Callable[..., CourseToken],
    sync: Callable[..., RunResult],
    far_side: Any,
    now: datetime,
    capsys: pytest.CaptureFixture[str],
    make_app: Callable[..., Any],
) -> None:
    make_app(log_level="WARNING")
    link("CS101", facts=(Deleted(4, now),))
    link("CS102")
    link("CS103")
    link("CS104")
    far_side.answer("CS102", 503)
    far_side.regenerated("CS103", "new")

    sync()

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["course_id"], line["level"], line["event"]) for line in lines] == [
        ("CS101", "warning", "course skipped"),
        ("CS102", "warning", "course failed"),
        ("CS103", "error", "course failed"),
    ]
    assert lines[2]["url"] == f"{far_side.url}/api/v1/courses/CS103/grades"
    assert all(line["next_step"] and line["reason"] for line in lines)

"""A run against a site on loopback: what is fetched, stored, recorded, and what stops a run."""

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
from receiver.models import Entry, Run, RunCourse, StoredScore
from receiver.registry import entries as registry
from receiver.runs import lease
from receiver.sync import run as grade_sync
from receiver.sync.planner import Planner
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import NINE, Clients, FarSide
from tests.receiver.sync.conftest import Rows, Sync, during, outcomes

AddCourse = Callable[..., CourseToken]
Receive = Callable[[str, Any], registry.ApplyResult]
HOUR = timedelta(hours=1)


def test_grades_are_fetched_and_stored(
    add_course: AddCourse, sync: Sync, make_score: Callable[..., Any], rows: Rows
) -> None:
    add_course("CS101", make_score("ada"), make_score("bob", None))
    add_course("CS102", make_score("ada", "3"))

    result = sync()

    assert outcomes(result) == {"CS101": ("synced", None), "CS102": ("synced", None)}
    assert (result.scores, result.requests, result.exit_code) == (ScoreCounts(added=3), 2, 0)
    assert len(rows(StoredScore)) == 3


def test_second_run_finds_grades_unchanged(
    add_course: AddCourse, sync: Sync, make_score: Callable[..., Any]
) -> None:
    add_course("CS101", make_score())
    sync()

    result = sync()

    assert outcomes(result) == {"CS101": ("unchanged", None)}
    assert (result.scores, result.exit_code) == (ScoreCounts(), 0)


def test_known_invalid_courses_open_no_connection(
    add_course: AddCourse, sync: Sync, far_side: FarSide, now: datetime
) -> None:
    add_course("CS101", facts=(Deleted(4, now),))
    add_course("CS102", facts=(TokenAnnounced(4, "new", now),))

    result = sync()

    assert (far_side.connections, far_side.asked, result.requests) == (0, [], 0)
    assert outcomes(result) == {
        "CS101": ("skipped", "course_deleted"),
        "CS102": ("skipped", "token_invalid"),
    }
    assert {course.since for course in result.courses} == {now}
    assert all(course.detail and course.advice for course in result.courses)
    assert result.exit_code == 0


def test_one_course_never_stops_the_others(
    add_course: AddCourse,
    sync: Sync,
    far_side: FarSide,
    make_score: Callable[..., Any],
    entry_of: Callable[[str], Entry],
) -> None:
    for course_id in "ABCDEFG":
        add_course(course_id, make_score())
    far_side.gone("B")
    far_side.refuse("C", ProblemType.TOKEN_UNKNOWN)
    far_side.answer("D", 200, b"<html>")
    far_side.answer("E", 500)
    del far_side.answers["F"]

    result = sync()

    assert outcomes(result) == {
        "A": ("synced", None),
        "B": ("failed", "course_deleted"),
        "C": ("failed", "token_invalid"),
        "D": ("failed", "transient"),
        "E": ("failed", "transient"),
        "F": ("failed", "misconfigured"),
        "G": ("synced", None),
    }
    assert result.exit_code == 1
    assert registry.course_status(entry_of("C")).status is Status.TOKEN_INVALID


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(lambda there: there.answer("CS101", 503), id="503"),
        pytest.param(lambda there: there.answer("CS101", 200, b"junk"), id="junk"),
        pytest.param(lambda there: there.answer("CS101", 404, b"<html>"), id="404"),
        pytest.param(lambda there: there.answer("CS101", 302), id="302"),
    ],
)
def test_transient_failure_leaves_the_registry_unchanged(
    add_course: AddCourse,
    sync: Sync,
    far_side: FarSide,
    entry_of: Callable[[str], Entry],
    fail: Callable[[FarSide], None],
) -> None:
    add_course()
    before = registry.state_of(entry_of("CS101"))
    fail(far_side)

    result = sync()

    assert result.exit_code == 1
    assert registry.state_of(entry_of("CS101")) == before
    assert entry_of("CS101").synced_at is None


def test_rejected_token_is_not_used_again_whatever_version_is_named(
    add_course: AddCourse, sync: Sync, far_side: FarSide
) -> None:
    token = add_course()
    far_side.grades("CS101", token, course_version=9)
    sync()
    far_side.regenerated("CS101", "older", version=2)  # restored from a backup

    first, second = sync(), sync()

    assert outcomes(first) == {"CS101": ("failed", "token_invalid")}
    assert outcomes(second) == {"CS101": ("skipped", "token_invalid")}


def test_late_event_about_an_older_token_changes_nothing(
    add_course: AddCourse, sync: Sync, far_side: FarSide, receive: Receive
) -> None:
    token = add_course()
    far_side.grades("CS101", token, course_version=3)
    sync()

    applied = receive("CS101", TokenAnnounced(2, "older", NINE))

    assert applied is registry.ApplyResult.STALE
    assert outcomes(sync()) == {"CS101": ("unchanged", None)}


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param(Deleted(4, NINE), id="deleted"),
        pytest.param(TokenAnnounced(4, "another", NINE), id="regenerated"),
    ],
)
@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"refresh_after": timedelta(0)}, id="in the same window"),
        pytest.param({"window": 2}, id="before its window"),
    ],
)
def test_course_invalidated_during_the_run_is_skipped(
    add_course: AddCourse,
    sync: Sync,
    far_side: FarSide,
    receive: Receive,
    fact: Any,
    limits: dict[str, Any],
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        add_course(course_id)
    during(far_side, "CS101", lambda: receive("CS103", fact))

    result = sync(**limits)

    assert [asked.course_id for asked in far_side.asked] == ["CS101", "CS102"]
    assert outcomes(result)["CS103"][0] == "skipped"
    assert result.exit_code == 0


def test_registry_is_read_again_only_when_the_last_reading_is_old(
    add_course: AddCourse, sync: Sync
) -> None:
    for number in range(5):
        add_course(f"CS{number}")
    sync()

    rarely = sync(refresh_after=HOUR).statements
    always = sync(refresh_after=timedelta(0)).statements

    assert always - rarely == 4


@pytest.mark.parametrize(
    ("answer", "fact", "reason"),
    [
        pytest.param(
            lambda there: there.gone("CS101", 4), Deleted(4, NINE), "course_deleted", id="410"
        ),
        pytest.param(
            lambda there: there.regenerated("CS101", "another", 4),
            TokenAnnounced(4, "another", NINE),
            "token_invalid",
            id="401",
        ),
    ],
)
def test_response_and_webhook_at_once_state_the_same(
    add_course: AddCourse,
    sync: Sync,
    far_side: FarSide,
    receive: Receive,
    rows: Rows,
    answer: Callable[[FarSide], None],
    fact: Any,
    reason: str,
) -> None:
    add_course("CS101")
    answer(far_side)
    during(far_side, "CS101", lambda: receive("CS101", fact))

    first, second = sync(), sync()

    assert outcomes(first) == {"CS101": ("failed", reason)}
    assert outcomes(second) == {"CS101": ("skipped", reason)}
    assert len(far_side.asked) == 1
    (entry,) = rows(Entry)
    assert {entry.deleted_version, entry.announced_version} == {4, None}


def test_grades_in_flight_do_not_undo_a_deletion(
    add_course: AddCourse,
    sync: Sync,
    far_side: FarSide,
    receive: Receive,
    make_score: Callable[..., Any],
) -> None:
    add_course("CS101", make_score())
    during(far_side, "CS101", lambda: receive("CS101", Deleted(4, NINE)))

    first, second = sync(), sync()

    assert outcomes(first) == {"CS101": ("synced", None)}
    assert outcomes(second) == {"CS101": ("skipped", "course_deleted")}


def test_statements_do_not_grow_with_the_courses_of_a_batch(
    add_course: AddCourse, sync: Sync, make_score: Callable[..., Any]
) -> None:
    add_course("CS0", make_score())
    one = sync(refresh_after=HOUR).statements
    for number in range(1, 20):
        add_course(f"CS{number}", make_score())

    twenty = sync(refresh_after=HOUR).statements

    assert one == twenty


def test_named_courses_only(add_course: AddCourse, sync: Sync, far_side: FarSide) -> None:
    add_course("CS101")
    add_course("CS102")

    result = sync(course_ids=("CS102",))

    assert list(outcomes(result)) == ["CS102"]
    with pytest.raises(EntryUnknownError, match="not in the registry: 'NONE'"):
        sync(course_ids=("NONE",))
    assert [asked.course_id for asked in far_side.asked] == ["CS102"]


def test_plan_is_one_query_and_leaves_no_trace(
    database: Database, add_course: AddCourse, far_side: FarSide, now: datetime, rows: Rows
) -> None:
    add_course("CS101")
    add_course("CS102", facts=(Deleted(4, now),))
    before = database.statements

    with database.reading() as session:
        plan = Planner(database).plan(session)

    assert [entry.course_id for entry in plan.to_fetch] == ["CS101"]
    assert [course.course_id for course in plan.skipped] == ["CS102"]
    assert database.statements - before == 1
    assert (far_side.connections, rows(Run)) == (0, [])


def test_second_run_is_refused_while_one_is_running(
    add_course: AddCourse, sync: Sync, far_side: FarSide
) -> None:
    add_course()
    refusals: list[str] = []

    def start_another() -> None:
        with pytest.raises(RunInProgressError) as refused:
            sync(holder="bob@elms")
        refusals.append(str(refused.value))

    during(far_side, "CS101", start_another)

    result = sync()

    assert result.exit_code == 0
    assert "another grade sync is running: ada@elms" in refusals[0]
    assert len(far_side.asked) == 1


def test_killed_runs_lease_is_taken_over(
    database: Database, add_course: AddCourse, sync: Sync, now: datetime
) -> None:
    add_course()
    with database.writing() as session:
        lease.acquire(session, "killed@elms", timedelta(minutes=5), now=now - timedelta(days=400))

    assert sync().exit_code == 0


def test_run_that_lost_its_lease_writes_nothing(
    database: Database,
    add_course: AddCourse,
    sync: Sync,
    far_side: FarSide,
    rows: Rows,
    make_score: Callable[..., Any],
) -> None:
    add_course("CS101", make_score())
    add_course("CS102", make_score())

    def take_over() -> None:
        with database.writing() as session:
            session.execute(text("UPDATE sync_lease SET token = 'another'"))

    during(far_side, "CS101", take_over)

    result = sync(batch_size=1, window=1)

    lost = ("failed", "lease_lost")
    assert outcomes(result) == {"CS101": lost, "CS102": lost}
    assert (result.exit_code, result.stopped) == (3, "another grade sync has taken over the lease")
    assert rows(StoredScore) == []
    assert len(far_side.asked) == 1


def test_no_request_is_sent_without_the_registry(
    add_course: AddCourse,
    vault: Vault,
    clients: Clients,
    far_side: FarSide,
    make_options: Callable[..., SyncOptions],
    tmp_path: Path,
) -> None:
    add_course()
    away = Database(f"sqlite:///{tmp_path}/none/receiver.db")

    with pytest.raises(OperationalError, match="unable to open database file"):
        grade_sync.run(away, vault, clients, make_options())

    assert far_side.connections == 0


def test_database_that_fails_during_the_run_ends_it(
    database: Database, add_course: AddCourse, sync: Sync, far_side: FarSide
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        add_course(course_id)

    def rename(old: str, new: str) -> None:
        with database.writing() as session:
            session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    during(far_side, "CS102", lambda: rename("entries", "gone"))
    try:
        result = sync(batch_size=1, window=1)
    finally:
        rename("gone", "entries")

    assert outcomes(result) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "database_unavailable"),
        "CS103": ("failed", "database_unavailable"),
    }
    assert result.exit_code == 4
    assert result.stopped
    assert [asked.course_id for asked in far_side.asked] == ["CS101", "CS102"]


def test_grades_that_cannot_be_stored_fail_only_their_course(
    add_course: AddCourse,
    sync: Sync,
    make_score: Callable[..., Any],
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        add_course(course_id, make_score(course_id))
    write = gradebook.write

    def write_all_but_one(session: Any, scores: Any) -> dict[int, ScoreCounts]:
        if any(score.user_id == "CS102" for listed in scores.values() for score in listed):
            raise ValueError("a score that no gradebook can store")
        return write(session, scores)

    monkeypatch.setattr(gradebook, "write", write_all_but_one)

    result = sync()

    assert outcomes(result) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "unforeseen"),
        "CS103": ("synced", None),
    }
    assert {row.user_id for row in rows(StoredScore)} == {"CS101", "CS103"}


def test_result_that_cannot_be_recorded_fails_only_its_course(
    add_course: AddCourse, sync: Sync, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        add_course(course_id)
    apply_updates = registry.apply_updates

    def apply_all_but_one(session: Any, updates: Any, **more: Any) -> None:
        if any(one.synced and one.entry_id == 2 for one in updates):
            raise ValueError("an update that cannot be applied")
        apply_updates(session, updates, **more)

    monkeypatch.setattr(registry, "apply_updates", apply_all_but_one)

    result = sync()

    expected = {
        "CS101": ("synced", None),
        "CS102": ("failed", "unforeseen"),
        "CS103": ("synced", None),
    }
    assert outcomes(result) == expected
    assert {row.course_id: (row.outcome, row.reason) for row in rows(RunCourse)} == expected


def test_token_encrypted_with_a_lost_key_fails_only_its_course(
    database: Database,
    add_course: AddCourse,
    clients: Clients,
    make_options: Callable[..., SyncOptions],
    far_side: FarSide,
) -> None:
    add_course()
    other = Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))

    result = grade_sync.run(database, other, clients, make_options())

    assert outcomes(result) == {"CS101": ("failed", "token_unreadable")}
    assert result.courses[0].advice
    assert far_side.connections == 0


def test_run_is_recorded(
    add_course: AddCourse, sync: Sync, rows: Rows, far_side: FarSide, now: datetime
) -> None:
    add_course("CS101")
    add_course("CS102", facts=(Deleted(4, now),))
    add_course("CS103")
    far_side.answer("CS103", 503)

    result = sync()

    (run,) = rows(Run)
    assert (run.id, run.holder, run.exit_code) == (result.run_id, "ada@elms", 1)
    assert (run.synced, run.unchanged, run.skipped, run.failed) == (1, 0, 1, 1)
    assert (run.requests, run.statements) == (result.requests, result.statements)
    assert run.ended_at >= run.started_at
    assert {row.course_id: (row.outcome, row.reason) for row in rows(RunCourse)} == outcomes(result)

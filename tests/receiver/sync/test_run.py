"""A run against a site on loopback: what is fetched, stored, recorded, and what stops a run."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from contract.problems import ProblemType
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
from tests.receiver.conftest import NINE, FakeSite
from tests.receiver.sync.conftest import Lab, outcomes

HOUR = timedelta(hours=1)


def test_grades_are_fetched_and_stored(lab: Lab) -> None:
    lab.add_course("CS101", lab.score("ada"), lab.score("bob", None))
    lab.add_course("CS102", lab.score("ada", "3"))

    result = lab.sync()

    assert outcomes(result) == {"CS101": ("synced", None), "CS102": ("synced", None)}
    assert (result.scores, result.requests, result.exit_code) == (ScoreCounts(added=3), 2, 0)
    assert len(lab.rows(StoredScore)) == 3


def test_second_run_finds_grades_unchanged(lab: Lab) -> None:
    lab.add_course("CS101", lab.score())
    lab.sync()

    result = lab.sync()

    assert outcomes(result) == {"CS101": ("unchanged", None)}
    assert (result.scores, result.exit_code) == (ScoreCounts(), 0)


def test_known_invalid_courses_open_no_connection(lab: Lab, now: datetime) -> None:
    lab.add_course("CS101", facts=(Deleted(4, now),))
    lab.add_course("CS102", facts=(TokenAnnounced(4, "new", now),))

    result = lab.sync()

    assert (lab.fake_site.connections, lab.fake_site.asked, result.requests) == (0, [], 0)
    assert outcomes(result) == {
        "CS101": ("skipped", "course_deleted"),
        "CS102": ("skipped", "token_invalid"),
    }
    assert {course.since for course in result.courses} == {now}
    assert all(course.detail and course.advice for course in result.courses)
    assert result.exit_code == 0


def test_one_course_never_stops_the_others(lab: Lab) -> None:
    for course_id in "ABCDEFG":
        lab.add_course(course_id, lab.score())
    lab.fake_site.gone("B")
    lab.fake_site.refuse("C", ProblemType.TOKEN_UNKNOWN)
    lab.fake_site.answer("D", 200, b"<html>")
    lab.fake_site.answer("E", 500)
    del lab.fake_site.answers["F"]

    result = lab.sync()

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
    assert registry.course_status(lab.entry("C")).status is Status.TOKEN_INVALID


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
    lab: Lab, fail: Callable[[FakeSite], None]
) -> None:
    lab.add_course()
    before = registry.state_of(lab.entry("CS101"))
    fail(lab.fake_site)

    result = lab.sync()

    assert result.exit_code == 1
    assert registry.state_of(lab.entry("CS101")) == before
    assert lab.entry("CS101").synced_at is None


def test_rejected_token_is_not_used_again_whatever_version_is_named(lab: Lab) -> None:
    token = lab.add_course()
    lab.fake_site.grades("CS101", token, course_version=9)
    lab.sync()
    lab.fake_site.regenerated("CS101", "older", version=2)  # restored from a backup

    first, second = lab.sync(), lab.sync()

    assert outcomes(first) == {"CS101": ("failed", "token_invalid")}
    assert outcomes(second) == {"CS101": ("skipped", "token_invalid")}


def test_late_event_about_an_older_token_changes_nothing(lab: Lab) -> None:
    token = lab.add_course()
    lab.fake_site.grades("CS101", token, course_version=3)
    lab.sync()

    applied = lab.receive("CS101", TokenAnnounced(2, "older", NINE))

    assert applied is registry.ApplyResult.STALE
    assert outcomes(lab.sync()) == {"CS101": ("unchanged", None)}


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
    lab: Lab, fact: Any, limits: dict[str, Any]
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.add_course(course_id)
    lab.during("CS101", lambda: lab.receive("CS103", fact))

    result = lab.sync(**limits)

    assert [asked.course_id for asked in lab.fake_site.asked] == ["CS101", "CS102"]
    assert outcomes(result)["CS103"][0] == "skipped"
    assert result.exit_code == 0


def test_registry_is_read_again_only_when_the_last_reading_is_old(lab: Lab) -> None:
    for number in range(5):
        lab.add_course(f"CS{number}")
    lab.sync()

    rarely = lab.sync(refresh_after=HOUR).statements
    always = lab.sync(refresh_after=timedelta(0)).statements

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
    lab: Lab, answer: Callable[[FakeSite], None], fact: Any, reason: str
) -> None:
    lab.add_course("CS101")
    answer(lab.fake_site)
    lab.during("CS101", lambda: lab.receive("CS101", fact))

    first, second = lab.sync(), lab.sync()

    assert outcomes(first) == {"CS101": ("failed", reason)}
    assert outcomes(second) == {"CS101": ("skipped", reason)}
    assert len(lab.fake_site.asked) == 1
    (entry,) = lab.rows(Entry)
    assert {entry.deleted_version, entry.announced_version} == {4, None}


def test_grades_in_flight_do_not_undo_a_deletion(lab: Lab) -> None:
    lab.add_course("CS101", lab.score())
    lab.during("CS101", lambda: lab.receive("CS101", Deleted(4, NINE)))

    first, second = lab.sync(), lab.sync()

    assert outcomes(first) == {"CS101": ("synced", None)}
    assert outcomes(second) == {"CS101": ("skipped", "course_deleted")}


def test_statements_do_not_grow_with_the_courses_of_a_batch(lab: Lab) -> None:
    lab.add_course("CS0", lab.score())
    one = lab.sync(refresh_after=HOUR).statements
    for number in range(1, 20):
        lab.add_course(f"CS{number}", lab.score())

    twenty = lab.sync(refresh_after=HOUR).statements

    assert one == twenty


def test_named_courses_only(lab: Lab) -> None:
    lab.add_course("CS101")
    lab.add_course("CS102")

    result = lab.sync(course_ids=("CS102",))

    assert list(outcomes(result)) == ["CS102"]
    with pytest.raises(EntryUnknownError, match="not in the registry: 'NONE'"):
        lab.sync(course_ids=("NONE",))
    assert [asked.course_id for asked in lab.fake_site.asked] == ["CS102"]


def test_plan_is_one_query_and_leaves_no_trace(lab: Lab, now: datetime) -> None:
    lab.add_course("CS101")
    lab.add_course("CS102", facts=(Deleted(4, now),))
    before = lab.database.statements

    with lab.database.reading() as session:
        plan = Planner(lab.database).plan(session)

    assert [entry.course_id for entry in plan.to_fetch] == ["CS101"]
    assert [course.course_id for course in plan.skipped] == ["CS102"]
    assert lab.database.statements - before == 1
    assert (lab.fake_site.connections, lab.rows(Run)) == (0, [])


def test_second_run_is_refused_while_one_is_running(lab: Lab) -> None:
    lab.add_course()
    refusals: list[str] = []

    def start_another() -> None:
        with pytest.raises(RunInProgressError) as refused:
            lab.sync(holder="bob@elms")
        refusals.append(str(refused.value))

    lab.during("CS101", start_another)

    result = lab.sync()

    assert result.exit_code == 0
    assert "another grade sync is running: ada@elms" in refusals[0]
    assert len(lab.fake_site.asked) == 1


def test_killed_runs_lease_is_taken_over(lab: Lab, now: datetime) -> None:
    lab.add_course()
    with lab.database.writing() as session:
        lease.acquire(session, "killed@elms", timedelta(minutes=5), now=now - timedelta(days=400))

    assert lab.sync().exit_code == 0


def test_run_that_lost_its_lease_writes_nothing(lab: Lab) -> None:
    lab.add_course("CS101", lab.score())
    lab.add_course("CS102", lab.score())

    lab.during("CS101", lambda: lab.execute("UPDATE sync_lease SET token = 'another'"))

    result = lab.sync(batch_size=1, window=1)

    lost = ("failed", "lease_lost")
    assert outcomes(result) == {"CS101": lost, "CS102": lost}
    assert (result.exit_code, result.stopped) == (3, "another grade sync has taken over the lease")
    assert lab.rows(StoredScore) == []
    assert len(lab.fake_site.asked) == 1


def test_no_request_is_sent_without_the_registry(lab: Lab, tmp_path: Path) -> None:
    lab.add_course()
    away = Database(f"sqlite:///{tmp_path}/none/receiver.db")

    with pytest.raises(OperationalError, match="unable to open database file"):
        grade_sync.run(away, lab.vault, lab.clients, lab.make_options())

    assert lab.fake_site.connections == 0


def test_database_that_fails_during_the_run_ends_it(lab: Lab) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.add_course(course_id)

    lab.during("CS102", lambda: lab.execute("ALTER TABLE entries RENAME TO gone"))
    try:
        result = lab.sync(batch_size=1, window=1)
    finally:
        lab.execute("ALTER TABLE gone RENAME TO entries")

    assert outcomes(result) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "database_unavailable"),
        "CS103": ("failed", "database_unavailable"),
    }
    assert result.exit_code == 4
    assert result.stopped
    assert [asked.course_id for asked in lab.fake_site.asked] == ["CS101", "CS102"]


def test_grades_that_cannot_be_stored_fail_only_their_course(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.add_course(course_id, lab.score(course_id))
    write = gradebook.write

    def write_all_but_one(session: Any, scores: Any) -> dict[int, ScoreCounts]:
        if any(score.user_id == "CS102" for listed in scores.values() for score in listed):
            raise ValueError("a score that no gradebook can store")
        return write(session, scores)

    monkeypatch.setattr(gradebook, "write", write_all_but_one)

    result = lab.sync()

    assert outcomes(result) == {
        "CS101": ("synced", None),
        "CS102": ("failed", "unforeseen"),
        "CS103": ("synced", None),
    }
    assert {row.user_id for row in lab.rows(StoredScore)} == {"CS101", "CS103"}


def test_result_that_cannot_be_recorded_fails_only_its_course(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.add_course(course_id)
    apply_updates = registry.apply_updates

    def apply_all_but_one(session: Any, updates: Any, **more: Any) -> None:
        if any(one.synced and one.entry_id == 2 for one in updates):
            raise ValueError("an update that cannot be applied")
        apply_updates(session, updates, **more)

    monkeypatch.setattr(registry, "apply_updates", apply_all_but_one)

    result = lab.sync()

    expected = {
        "CS101": ("synced", None),
        "CS102": ("failed", "unforeseen"),
        "CS103": ("synced", None),
    }
    assert outcomes(result) == expected
    assert {row.course_id: (row.outcome, row.reason) for row in lab.rows(RunCourse)} == expected


def test_token_encrypted_with_a_lost_key_fails_only_its_course(lab: Lab) -> None:
    lab.add_course()
    other = Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))

    result = grade_sync.run(lab.database, other, lab.clients, lab.make_options())

    assert outcomes(result) == {"CS101": ("failed", "token_unreadable")}
    assert result.courses[0].advice
    assert lab.fake_site.connections == 0


def test_run_is_recorded(lab: Lab, now: datetime) -> None:
    lab.add_course("CS101")
    lab.add_course("CS102", facts=(Deleted(4, now),))
    lab.add_course("CS103")
    lab.fake_site.answer("CS103", 503)

    result = lab.sync()

    (run,) = lab.rows(Run)
    assert (run.id, run.holder, run.exit_code) == (result.run_id, "ada@elms", 1)
    assert (run.synced, run.unchanged, run.skipped, run.failed) == (1, 0, 1, 1)
    assert (run.requests, run.statements) == (result.requests, result.statements)
    assert run.ended_at >= run.started_at
    assert {row.course_id: (row.outcome, row.reason) for row in lab.rows(RunCourse)} == outcomes(
        result
    )

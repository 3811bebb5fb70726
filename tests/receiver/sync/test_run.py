"""A run against a site on loopback: what is fetched, stored, recorded, and what stops a run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr

from contract.events import wire_time
from contract.problems import ProblemType
from contract.tokens import CourseToken
from foundation.crypto import Vault
from receiver.course_state import CourseStatus, Deleted, TokenAnnounced
from receiver.errors import EntryUnknownError, RunInProgressError
from receiver.gradebook import database as gradebook
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run, RunCourse, Source, StoredScore
from receiver.registry import entries as registry
from receiver.sync.planner import Planner
from receiver.sync.run import SyncRun
from tests.receiver.conftest import NINE, SITE, FakeSite
from tests.receiver.sync.conftest import Lab, outcomes

HOUR = timedelta(hours=1)
DELETED, REGENERATED = Deleted(4, NINE), TokenAnnounced(4, "another", NINE)


def recorded(lab: Lab) -> dict[str, tuple[str, str | None]]:
    """Return the recorded outcome and reason of each course."""
    return {row.course_id: (row.outcome, row.reason) for row in lab.rows(RunCourse)}


def test_grades_are_fetched_and_stored_once(lab: Lab) -> None:
    lab.serve_course("CS101", lab.score("ada"), lab.score("bob", None))
    lab.serve_course("CS102", lab.score("ada", "3"))

    first, second = lab.sync(), lab.sync()

    assert outcomes(first) == {"CS101": ("synced", None), "CS102": ("synced", None)}
    assert (first.scores, first.requests, first.exit_code) == (ScoreCounts(added=3), 2, 0)
    assert outcomes(second) == {"CS101": ("unchanged", None), "CS102": ("unchanged", None)}
    assert (second.scores, second.exit_code) == (ScoreCounts(), 0)
    assert len(lab.rows(StoredScore)) == 3
    assert [row.run_id for row in lab.rows(RunCourse)] == [1, 1]
    assert [run.unchanged for run in lab.rows(Run)] == [0, 2]
    entry, [source] = lab.entry("CS101"), lab.rows(Source)
    assert entry.announced_version == 1
    assert source.requested_at == entry.synced_at


def test_known_invalid_courses_open_no_connection(lab: Lab) -> None:
    lab.add_course("CS101", DELETED, source=SITE)
    lab.add_course("CS102", REGENERATED, source=SITE)

    result = lab.sync()

    assert (lab.fake_site.connections, result.requests) == (0, 0)
    assert outcomes(result) == {
        "CS101": ("skipped", "course_deleted"),
        "CS102": ("skipped", "token_invalid"),
    }
    assert {course.since for course in result.courses} == {NINE}
    assert all(course.detail and course.advice for course in result.courses)
    assert result.exit_code == 1


def test_known_deletions_are_counted_but_not_recorded(lab: Lab) -> None:
    lab.add_course("CS101", DELETED, source=SITE)
    lab.add_course("CS102", DELETED, source=SITE)
    lab.serve_course("CS103")
    lab.fake_site.gone("CS103")

    first, second = lab.sync(), lab.sync()

    assert [(run.skipped, run.deleted) for run in lab.rows(Run)] == [(3, 3), (3, 3)]
    assert [(row.run_id, row.course_id) for row in lab.rows(RunCourse)] == [(1, "CS103")]
    assert (first.deleted, first.exit_code, second.exit_code) == (3, 0, 0)


def test_one_course_never_stops_the_others(lab: Lab) -> None:
    for course_id in "ABCDEFGH":
        lab.serve_course(course_id, lab.score())
    lab.fake_site.gone("B")
    lab.fake_site.refuse("C", ProblemType.TOKEN_UNKNOWN)
    lab.fake_site.answer("D", 200, b"<html>")
    lab.fake_site.answer("E", 503)
    lab.fake_site.answer("F", 302)
    del lab.fake_site.answers["G"]
    before = {course_id: registry.state_of(lab.entry(course_id)) for course_id in "DEFG"}

    result = lab.sync()

    assert outcomes(result) == {
        "A": ("synced", None),
        "B": ("skipped", "course_deleted"),
        "C": ("failed", "token_invalid"),
        "D": ("failed", "transient"),
        "E": ("failed", "transient"),
        "F": ("failed", "misconfigured"),
        "G": ("failed", "misconfigured"),
        "H": ("synced", None),
    }
    assert result.exit_code == 1
    (run,) = lab.rows(Run)
    assert (run.id, run.holder, run.exit_code) == (result.run_id, "ada@elms", 1)
    assert (run.synced, run.skipped, run.failed) == (2, 1, 5)
    assert run.requests == result.requests
    assert (run.statements, run.started_at <= run.ended_at) == (result.statements, True)
    assert recorded(lab) == outcomes(result)
    assert registry.status_of(lab.entry("B"), now=NINE) is CourseStatus.COURSE_DELETED
    assert registry.status_of(lab.entry("C"), now=NINE) is CourseStatus.TOKEN_INVALID
    assert {course_id: registry.state_of(lab.entry(course_id)) for course_id in "DEFG"} == before
    assert lab.entry("D").synced_at is None


def test_rejected_token_is_not_used_again_whatever_version_is_named(lab: Lab) -> None:
    token = lab.serve_course()
    lab.fake_site.grades("CS101", token, course_version=9)
    lab.sync()
    lab.fake_site.regenerated("CS101", "older", version=2)  # restored from a backup

    first, second = lab.sync(), lab.sync()

    assert outcomes(first) == {"CS101": ("failed", "token_invalid")}
    assert outcomes(second) == {"CS101": ("skipped", "token_invalid")}


@pytest.mark.parametrize(
    ("fact", "limits", "exit_code"),
    [
        pytest.param(DELETED, {"refresh_after": timedelta(0)}, 0, id="in the same window"),
        pytest.param(REGENERATED, {"window": 2}, 1, id="before its window"),
    ],
)
def test_course_invalidated_during_the_run_is_skipped(
    lab: Lab, fact: Any, limits: dict[str, Any], exit_code: int
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.serve_course(course_id)
    lab.during("CS101", lambda: lab.receive("CS103", fact))

    result = lab.sync(**limits)

    assert lab.requested == ["CS101", "CS102"]
    assert outcomes(result)["CS103"][0] == "skipped"
    assert recorded(lab)["CS103"] == outcomes(result)["CS103"]
    assert result.exit_code == exit_code


@pytest.mark.parametrize(
    ("respond", "fact", "first", "reason"),
    [
        pytest.param(
            lambda site: site.gone("CS101"),
            DELETED,
            ("skipped", "course_deleted"),
            "course_deleted",
            id="410",
        ),
        pytest.param(
            lambda site: site.regenerated("CS101", "another", 4),
            REGENERATED,
            ("failed", "token_invalid"),
            "token_invalid",
            id="401",
        ),
        pytest.param(
            lambda site: None, DELETED, ("synced", None), "course_deleted", id="grades in flight"
        ),
    ],
)
def test_course_whose_webhook_overtakes_its_response_is_skipped_from_then_on(
    lab: Lab,
    respond: Callable[[FakeSite], None],
    fact: Any,
    first: tuple[str, str | None],
    reason: str,
) -> None:
    lab.serve_course("CS101", lab.score())
    respond(lab.fake_site)
    lab.during("CS101", lambda: lab.receive("CS101", fact))

    results = lab.sync(), lab.sync()

    assert [outcomes(one)["CS101"] for one in results] == [first, ("skipped", reason)]
    assert len(lab.requested) == 1


def test_course_is_synced_with_the_old_token_until_its_overlap_ends(lab: Lab) -> None:
    until = datetime.now(UTC) + HOUR
    token = lab.serve_course("CS101", lab.score())
    lab.receive("CS101", TokenAnnounced(2, "new", NINE, until))
    during = [lab.sync() for _ in range(2)]
    entry = lab.entry("CS101")
    lab.update(entry, announced_valid_until=datetime.now(UTC))

    ended = lab.sync()

    assert [outcomes(run)["CS101"] for run in during] == [("synced", None), ("unchanged", None)]
    assert entry.accepted_token_id == token.token_id
    assert outcomes(ended)["CS101"] == ("skipped", "token_invalid")
    assert lab.requested == ["CS101", "CS101"]


def test_site_without_claims_costs_one_request(lab: Lab) -> None:
    until = datetime.now(UTC) + HOUR
    for course_id in ("CS101", "CS102"):
        lab.serve_course(course_id, lab.score())
        lab.receive(course_id, TokenAnnounced(2, "new", NINE, until))

    result = lab.sync()

    assert {one[0] for one in outcomes(result).values()} == {"synced"}
    assert result.requests == 3  # a claim, and the grades of each


def test_overlap_is_learnt_from_a_response(lab: Lab) -> None:
    until = datetime.now(UTC) + HOUR
    token = CourseToken.generate()
    named = {"token_id": "new", "regenerated_at": wire_time(NINE), "valid_until": wire_time(until)}
    lab.add_course("CS101", source=SITE, token=token)
    lab.fake_site.grades("CS101", token, course_version=2, overlap=named)

    result = lab.sync()

    announced = registry.state_of(lab.entry("CS101")).announced
    assert outcomes(result)["CS101"] == ("synced", None)
    assert announced == TokenAnnounced(2, "new", NINE, until)


def test_registry_is_read_again_only_when_the_last_reading_is_old(lab: Lab) -> None:
    for number in range(5):
        lab.serve_course(f"CS{number}")
    lab.sync()

    rarely = lab.sync(refresh_after=HOUR).statements
    always = lab.sync(refresh_after=timedelta(0)).statements

    # Each reading is a query, and on PostgreSQL another one for the time of its clock.
    assert always - rarely == (4 if lab.database.is_sqlite else 8)


def test_statements_do_not_grow_with_the_courses_of_a_batch(lab: Lab) -> None:
    lab.serve_course("CS0", lab.score())
    lab.sync()
    lab.serve_course("CS1", lab.score())
    one = lab.sync(refresh_after=HOUR).statements
    for number in range(2, 10):
        lab.serve_course(f"CS{number}", lab.score())

    ten = lab.sync(refresh_after=HOUR).statements

    assert one == ten


def test_plan_of_named_courses_and_sources_is_one_query(lab: Lab) -> None:
    lab.serve_course("CS101")
    lab.add_course("CS102", DELETED, source=SITE)
    lab.serve_course("CS103")
    lab.add_course("CS101", source="two")
    planner = Planner(lab.database, course_ids=("CS101", "CS102"), sources=(SITE,))
    before = lab.database.statements

    with lab.database.reading() as session:
        plan = planner.plan(session, now=NINE)

    assert lab.database.statements - before == 1
    assert [(entry.source.name, entry.course_id) for entry in plan.to_fetch] == [(SITE, "CS101")]
    assert [course.course_id for course in plan.deleted] == ["CS102"]
    assert (lab.fake_site.connections, lab.rows(Run)) == (0, [])


def test_unknown_named_course_stops_a_run_before_it_begins(lab: Lab) -> None:
    lab.serve_course("CS101")

    with pytest.raises(EntryUnknownError, match="not in the registry: 'NONE'"):
        lab.sync(course_ids=("CS101", "NONE"))

    assert (lab.fake_site.connections, lab.rows(Run)) == (0, [])


def test_second_run_is_refused_while_one_is_running(lab: Lab) -> None:
    lab.serve_course()
    refusals: list[str] = []

    def start_another() -> None:
        with pytest.raises(RunInProgressError) as refused:
            lab.sync(holder="bob@elms")
        refusals.append(str(refused.value))

    lab.during("CS101", start_another)

    result = lab.sync()

    assert result.exit_code == 0
    assert "a grade sync is running: ada@elms" in refusals[0]
    assert len(lab.requested) == 1


def test_run_that_lost_its_lease_writes_nothing(lab: Lab) -> None:
    lab.serve_course("CS101", lab.score())
    lab.serve_course("CS102", lab.score())

    lab.during("CS101", lambda: lab.execute("UPDATE sync_lease SET token = 'another'"))

    result = lab.sync(batch_size=1, window=1)

    lost = ("failed", "lease_lost")
    assert outcomes(result) == {"CS101": lost, "CS102": lost}
    assert (result.exit_code, result.stopped) == (3, "another grade sync has taken over the lease")
    assert lab.rows(StoredScore) == []
    assert len(lab.requested) == 1


def test_database_that_fails_during_the_run_ends_it(lab: Lab) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.serve_course(course_id)

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
    assert lab.requested == ["CS101", "CS102"]


@pytest.mark.parametrize(
    ("module", "name", "refuses", "stored"),
    [
        pytest.param(gradebook, "write", lambda scores: 2 in scores, {1, 3}, id="grades"),
        pytest.param(
            registry,
            "apply_updates",
            lambda updates: any(one.synced and one.entry_id == 2 for one in updates),
            {1, 2, 3},
            id="result",
        ),
    ],
)
def test_course_that_cannot_be_stored_fails_alone(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    refuses: Callable[[Any], bool],
    stored: set[int],
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        lab.serve_course(course_id, lab.score())
    store = getattr(module, name)

    def store_all_but_one(session: Any, values: Any, **more: Any) -> Any:
        if refuses(values):
            raise ValueError("values that cannot be stored")
        return store(session, values, **more)

    monkeypatch.setattr(module, name, store_all_but_one)

    result = lab.sync()

    expected = {
        "CS101": ("synced", None),
        "CS102": ("failed", "unforeseen"),
        "CS103": ("synced", None),
    }
    assert outcomes(result) == expected
    assert recorded(lab) == expected
    assert {row.entry_id for row in lab.rows(StoredScore)} == stored


def test_token_encrypted_with_a_lost_key_fails_only_its_course(lab: Lab) -> None:
    lab.serve_course()
    other = Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))

    result = SyncRun(lab.database, other, lab.clients, lab.make_options()).execute()

    assert outcomes(result) == {"CS101": ("failed", "token_unreadable")}
    assert result.courses[0].advice
    assert lab.fake_site.connections == 0

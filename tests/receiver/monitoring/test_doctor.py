"""`receiver doctor`: what is wrong, and what to do about it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.cli.doctor import Finding
from foundation.crypto import Vault
from foundation.db.session import Database
from foundation.errors import Advice
from foundation.text import readable
from receiver.course_state import Deleted, TokenAnnounced
from receiver.models import MOODLE
from receiver.monitoring import doctor
from receiver.moodle.gradebook import NO_STUDENTS
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.runs import schedule
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources import store as sources
from receiver.sources.base import Misconfigured, SiteOutage
from receiver.sources.store import LastRefusal
from tests.receiver.conftest import NINE, Store, make_heartbeat

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

HOUR = timedelta(hours=1)
Examine = Callable[..., dict[str, Finding]]
FAILED = CourseResult("one", "CS101", CourseOutcome.FAILED, "transient")
LATE = "run 1 started 2 days ago, and there was no run of all courses since"


@pytest.fixture
def examine(database: Database, vault: Vault) -> Examine:
    """Return a function that examines ELMS and returns the findings by check."""

    def run(vault: Vault = vault, gradebook: Any = None) -> dict[str, Finding]:
        return {one.check: one for one in doctor.examine(database, vault, gradebook)}

    return run


@pytest.fixture
def moodle_source(store: Store, vault: Vault) -> None:
    """A Moodle with a site-wide token and without a secret."""
    store.add_source("moodle", kind=MOODLE)
    with store.database.writing() as session:
        source = sources.get(session, "moodle")
        sources.set_site_token(session, source, MoodleToken("f" * 32), vault=vault)


def test_empty_installation_says_how_to_begin(examine: Examine) -> None:
    found = examine()

    assert [check for check, finding in found.items() if not finding.ok] == ["sources", "last_run"]
    assert found["sources"].found == "none, so there are no webhooks and no grades"
    assert found["sources"].advice.action == "sources add"


def test_healthy_installation_passes(examine: Examine, store: Store, moodle_source: None) -> None:
    store.add_source("one", secrets=(Secret.generate(),))
    store.add_course("CS101")
    store.add_run(at=datetime.now(UTC) - timedelta(minutes=3))

    found = examine()

    assert all(finding.ok for finding in found.values())
    assert found["sources"].found == "moodle, one"
    assert found["secrets"].found == "3 encrypted, all can be decrypted"
    assert found["last_run"].found.startswith("run 1 started 3 min ago: 0 synced")


def test_source_without_secret_fails(examine: Examine, store: Store) -> None:
    store.add_source("one")

    found = examine()["sources"]

    assert (found.ok, found.found) == (False, "webhooks of one cannot be verified: no secret")


@pytest.mark.parametrize(
    ("hours", "ok", "found"),
    [
        pytest.param(
            2,
            True,
            "one: last received 2 h ago, a heartbeat every 60 min; two: none received yet",
            id="two intervals",
        ),
        pytest.param(
            3,
            False,
            "one: last received 3 h ago, although it sends a heartbeat every 60 min",
            id="silent",
        ),
    ],
)
def test_silent_source_fails(
    examine: Examine, store: Store, hours: int, ok: bool, found: str
) -> None:
    store.add_source("two")
    late = datetime.now(UTC) - timedelta(hours=hours, seconds=-5)
    store.receive("msg_1", make_heartbeat(), at=late - (not ok) * timedelta(seconds=9))

    finding = examine()["webhooks"]

    assert (finding.ok, finding.found) == (ok, found.replace("2 h ago", "119 min ago"))
    assert ok or "`notifier work` runs" in finding.advice.text


@pytest.mark.parametrize(
    ("reason", "hours", "ok", "advice"),
    [
        pytest.param("signature-mismatch", 0.5, True, "", id="within an interval"),
        pytest.param("signature-mismatch", 1.1, False, "enter the secret", id="wrong secret"),
        pytest.param("timestamp-not-current", 1.1, False, "clocks of this", id="wrong clock"),
        pytest.param("source-mismatch", 1.1, False, "Set `NOTIFIER_SOURCE`", id="wrong name"),
    ],
)
def test_refused_webhooks_fail_when_a_heartbeat_is_missing(
    examine: Examine, store: Store, reason: str, hours: float, ok: bool, advice: str
) -> None:
    store.add_source("one")
    now = datetime.now(UTC)
    store.receive("msg_1", make_heartbeat(), at=now - timedelta(hours=hours))
    with store.database.writing() as session:
        refusal = LastRefusal(401, reason, "no match", now, now)
        sources.store_refusal(session, "one", refusal, now=now)

    finding = examine()["webhooks"]

    assert finding.ok is ok
    assert finding.found.endswith(f", refused with 401 since {readable(now)}: no match")
    assert ok or advice in finding.advice.text


def test_missed_webhooks_fail(examine: Examine, store: Store) -> None:
    store.add_source("one", secrets=(Secret.generate(),))
    now = datetime.now(UTC)
    updates = [
        EntryUpdate(store.add_course(f"CS{number}").id, (Deleted(4, now),)) for number in range(3)
    ]
    with store.database.writing() as session:
        registry.apply_updates(session, updates, actor=Actor(ActorKind.SYNC, "run 1"), now=now)

    finding = examine()["missed_webhooks"]

    assert (finding.ok, finding.found) == (
        False,
        "3 deletions of one: found by the grade sync, not by a webhook, in the last 7 days",
    )
    assert "`notifier deliveries list`" in finding.advice.text


def test_lost_key_fails(examine: Examine, moodle_source: None, other_vault: Vault) -> None:
    found = examine(other_vault)["secrets"]

    assert not found.ok
    assert "Add the key that encrypted it" in found.advice.text


def test_courses_without_valid_token_are_counted(
    examine: Examine, store: Store, now: datetime
) -> None:
    store.add_course("CS101", TokenAnnounced(2, "new", now))

    found = examine()["registry"]
    store.add_course("CS102", TokenAnnounced(2, "new", now))
    both = examine()["registry"]

    assert (found.ok, found.found) == (False, "1 course: 0 deleted, 1 needs a new token")
    assert found.advice.command == "registry set-token CS101"
    assert both.advice.command == "registry set-token --from-file FILE"


@pytest.mark.parametrize(
    ("hours", "ok"), [pytest.param(25, True, id="later"), pytest.param(11, False, id="soon")]
)
def test_end_of_overlaps_is_counted_down(
    examine: Examine, store: Store, hours: int, ok: bool
) -> None:
    for course_id, left in (("CS101", 50), ("CS102", hours)):
        until = datetime.now(UTC) + timedelta(hours=left, minutes=5)
        store.add_course(course_id, TokenAnnounced(2, "new", NINE, until))

    found = examine()["tokens"]

    sentence = f"2 replaced tokens are still in use; that of CS102 ends in {hours} h"
    assert (found.ok, found.found) == (ok, sentence)
    assert found.advice.command == "registry set-token CS102"


def test_failed_claim_is_named(examine: Examine, store: Store) -> None:
    until = datetime.now(UTC) + timedelta(hours=2, minutes=5)
    store.fail_claim(store.add_course("CS101", TokenAnnounced(2, "new", NINE, until)), "no")

    found = examine()["tokens"]

    assert found.found.endswith(
        f"that of CS101 ends in 2 h; the new one was not claimed at {readable(NINE)}: no"
    )
    assert found.advice.command == "registry set-token CS101"


@pytest.mark.parametrize(
    ("claimed_from", "minutes", "ok"),
    [
        pytest.param("one", 90, True, id="claimed before"),
        pytest.param("one", 50, False, id="ends soon"),
        pytest.param("two", 90, False, id="another source"),
    ],
)
def test_token_that_the_next_run_claims_is_fine(
    examine: Examine, store: Store, claimed_from: str, minutes: int, ok: bool
) -> None:
    until = datetime.now(UTC) + timedelta(minutes=minutes, seconds=30)
    store.add_course("CS101", TokenAnnounced(2, "new", NINE, until))
    store.claim_from(claimed_from)

    found = examine()["tokens"]

    sentence = f"1 replaced token is still in use; that of CS101 ends in {minutes} min"
    assert (found.ok, found.found) == (ok, sentence)
    assert (found.advice.command is None) == ok
    assert found.advice.text.startswith("No action needed") == ok


def test_token_that_a_person_has_to_enter_is_more_urgent(examine: Examine, store: Store) -> None:
    store.claim_from("one")
    for course_id, hours in (("CS101", 2), ("CS102", 5)):
        until = datetime.now(UTC) + timedelta(hours=hours, minutes=5)
        entry = store.add_course(course_id, TokenAnnounced(2, "new", NINE, until))
    store.fail_claim(entry, "no")

    assert "CS102 ends in 5 h; the new one was not claimed" in examine()["tokens"].found


@pytest.mark.parametrize(
    ("ago", "run", "ok", "words"),
    [
        pytest.param(timedelta(days=2), {}, False, LATE, id="long ago"),
        pytest.param(timedelta(0), {"not_recorded": (FAILED,)}, False, "1 failed", id="failed"),
        pytest.param(timedelta(0), {"stopped": "SIGTERM"}, False, "0 failed", id="stopped"),
        pytest.param(timedelta(0), {"exit_code": 1}, True, "0 failed", id="token invalid"),
        pytest.param(timedelta(0), {"ended": False}, True, "is not completed", id="not ended"),
    ],
)
def test_last_run_is_checked(
    examine: Examine, store: Store, ago: timedelta, run: dict[str, Any], ok: bool, words: str
) -> None:
    store.add_run(at=datetime.now(UTC) - ago, **run)

    found = examine()["last_run"]

    assert (found.ok, words in found.found) == (ok, True)
    assert found.ok or found.advice


@pytest.mark.parametrize(("days", "ok"), [(0, True), (2, False)], ids=["lately", "long ago"])
def test_pause_is_named(examine: Examine, store: Store, days: int, ok: bool) -> None:
    store.add_run(at=datetime.now(UTC) - timedelta(days=3))
    with store.database.writing() as session:
        schedule.pause(session, "Ada", now=datetime.now(UTC) - timedelta(days=days))

    found = examine()["last_run"]

    assert (found.ok, "by Ada" in found.found) == (ok, True)
    assert found.advice
    assert found.advice.command == "runs resume"


def test_partial_run_does_not_hide_a_late_schedule(examine: Examine, store: Store) -> None:
    store.add_run(at=datetime.now(UTC) - timedelta(days=2))
    store.add_run(at=datetime.now(UTC), partial=True)

    found = examine()["last_run"]

    assert (found.ok, found.found) == (False, LATE)


@dataclass(frozen=True)
class StubGradebook:
    """A gradebook with this outage, or none."""

    outage: SiteOutage | None = None
    failure: Misconfigured | None = None

    def check(self) -> SiteOutage | None:
        """Return the outage."""
        return self.outage

    def check_course(self, course: str, activity: str) -> Misconfigured | None:
        """Return the failure of a course."""
        assert activity == "12"
        return self.failure if course == "12" else Misconfigured("no students", NO_STUDENTS)


@pytest.mark.parametrize(
    ("gradebook", "activity", "ok", "found"),
    [
        pytest.param(
            StubGradebook(),
            "12",
            True,
            "ELMS's own Moodle accepts grades, tried with CS101",
            id="ok",
        ),
        pytest.param(
            StubGradebook(outage=SiteOutage("invalidtoken", Advice("Enter it."))),
            "12",
            False,
            "invalidtoken",
            id="outage",
        ),
        pytest.param(
            StubGradebook(failure=Misconfigured("no activities are shown", Advice("Show them."))),
            "12",
            False,
            "no activities are shown",
            id="course",
        ),
        pytest.param(
            StubGradebook(), None, False, "1 course has no gradebook activity", id="no activity"
        ),
    ],
)
def test_gradebook_is_checked(
    examine: Examine,
    store: Store,
    gradebook: StubGradebook,
    activity: str | None,
    ok: bool,
    found: str,
) -> None:
    entry = store.add_course("CS101")
    store.update(entry, gradebook_course=activity, gradebook_activity=activity)

    finding = examine(gradebook=gradebook)["gradebook"]

    assert (finding.ok, finding.found) == (ok, found)


@pytest.mark.parametrize(
    ("courses", "ok", "found"),
    [
        pytest.param(["1", "12"], True, "accepts grades, tried with CS1", id="another course"),
        pytest.param(["1", "2"], False, "no students", id="no course"),
    ],
)
def test_course_without_students_tells_nothing(
    examine: Examine, store: Store, courses: list[str], ok: bool, found: str
) -> None:
    for number, course in enumerate(courses):
        entry = store.add_course(f"CS{number}")
        store.update(entry, gradebook_course=course, gradebook_activity="12")

    finding = examine(gradebook=StubGradebook())["gradebook"]

    assert (finding.ok, found in finding.found) == (ok, True)


def test_without_a_schema_nothing_else_is_examined(database: Database, examine: Examine) -> None:
    with database.writing() as session:
        session.execute(text("DROP TABLE alembic_version"))

    found = examine()

    assert {check: finding.ok for check, finding in found.items()} == {
        "database": True,
        "clock": True,
        "schema": False,
    }

"""A run in which every kind of failure happens at once still syncs every healthy course."""

import json
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr
from sqlalchemy import make_url, select

from contract.grades import Score
from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from receiver.cli import main
from receiver.course_state import Deleted, TokenAnnounced
from receiver.models import API, MOODLE, SCHEMA, HistoryEntry, Run, RunCourse
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.source import COURSES
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.runs.store import CourseOutcome
from receiver.sources import store as sources
from tests.integration.story.conftest import KEY, EAssessment
from tests.receiver.conftest import FakeSite, fake_site  # noqa: F401 - a fixture
from tests.receiver.moodle.fake import FakeMoodle, Form, serving
from tests.receiver.moodle.recordings import RECORDED, Recorded, failure

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
LOST_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
VAULT, LOST = Vault(SecretStr(KEY)), Vault(SecretStr(LOST_KEY))
ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
SCORE = Score(user_id="ada", score_given=Decimal(7), score_maximum=Decimal(10), timestamp=NINE)

SYNCED = ("synced", None)
TRANSIENT = ("failed", "transient")
MISCONFIGURED = ("failed", "misconfigured")
DELETED = ("skipped", "course_deleted")
INVALID = ("failed", "token_invalid")

# The result of each course of each source in the first run.
FIRST: dict[str, dict[str, tuple[str, str | None]]] = {
    "eassessment": {
        "WELL1": SYNCED,
        "WELL2": SYNCED,
        "DELETED": DELETED,
        "DELETED-ANNOUNCED": ("skipped", "course_deleted"),
        "OLD-TOKEN": INVALID,
        "OLD-TOKEN-ANNOUNCED": ("skipped", "token_invalid"),
        "TOKEN-OF-ANOTHER": INVALID,
        "UNKNOWN": MISCONFIGURED,
        "LOST-KEY": ("failed", "token_unreadable"),
    },
    "away": {"AWAY1": TRANSIENT, "AWAY2": TRANSIENT},
    "failing": {
        "CUT": TRANSIENT,
        "ERROR": TRANSIENT,
        "GONE": DELETED,
        "REDIRECT": MISCONFIGURED,
        "SILENT": TRANSIENT,
        "WELL3": SYNCED,
    },
    "moodle": {"2": SYNCED, "3": DELETED, "4": INVALID, "5": MISCONFIGURED, "6": TRANSIENT},
    "suspended": {"7": ("failed", "site_trouble")},
}


def cut(handler: Any) -> None:
    """Respond with less than is announced."""
    handler.send_response(200)
    handler.send_header("Content-Length", "4096")
    handler.end_headers()
    handler.wfile.write(b'{"course_id": ')
    handler.close_connection = True


def by_course(form: Form) -> Recorded:
    """Respond as a Moodle in which each course has a problem of its own."""
    return {
        "2": RECORDED["grades"],
        "3": RECORDED["course_deleted_own_token"],
        "4": RECORDED["token_invalid"],
        "5": RECORDED["token_of_another_course"],
        "6": Recorded(200, "application/json", failure(exception="Error", message="crashed")),
    }[form["courseid"]]


@dataclass
class Everything:
    """ELMS, all its sources, and every secret that it holds."""

    elms: Database
    eassessment: EAssessment
    site: FakeSite
    moodles: dict[str, FakeMoodle]
    secrets: set[str] = field(default_factory=set)
    over: Event = field(default_factory=Event)

    def add_source(self, name: str, url: str, tokens: dict[str, CourseToken | MoodleToken]) -> None:
        """Add a source with the courses of the table, and what is announced of them."""
        is_moodle = name in self.moodles
        with self.elms.writing() as session:
            source = sources.add(session, name, url, MOODLE if is_moodle else API, now=NINE)
            if is_moodle:
                sources.set_site_token(session, source, self._moodle_token(), vault=VAULT)
            for course_id in FIRST[name]:
                token = tokens.get(course_id) or (
                    self._moodle_token() if is_moodle else CourseToken.generate()
                )
                self.secrets.add(token.secret if isinstance(token, CourseToken) else token.reveal())
                vault = LOST if course_id == "LOST-KEY" else VAULT
                registry.add(session, source, course_id, token, vault=vault, actor=ADA, now=NINE)

    def _moodle_token(self) -> MoodleToken:
        token = MoodleToken(secrets.token_hex(16))
        self.secrets.add(token.reveal())
        return token

    def requests(self) -> Counter[str]:
        """Return the number of requests for each course so far."""
        requested = Counter(one.course_id for one in self.site.requests)
        requested.update(self.eassessment.requested)
        for moodle in self.moodles.values():
            calls = (call for call in moodle.called if call.function == FUNCTION)
            requested.update(call.form["courseid"] for call in calls)
        return requested


def add_eassessment(made: Everything) -> None:
    """Add eAssessment, and let ELMS know half of the changes."""
    with made.eassessment.database.writing() as session:
        ids = [one for one in FIRST["eassessment"] if one != "UNKNOWN"]
        tokens = {one: courses.add_course(session, one, one, now=NINE) for one in ids}
        grades.load(session, {one: [SCORE] for one in ids}, now=NINE)
        tokens["UNKNOWN"], tokens["TOKEN-OF-ANOTHER"] = tokens["WELL1"], tokens["WELL2"]
        for course_id in ("DELETED", "DELETED-ANNOUNCED"):
            courses.delete_course(session, course_id, now=NINE)
        for course_id in ("OLD-TOKEN", "OLD-TOKEN-ANNOUNCED"):
            courses.regenerate_token(session, course_id, now=NINE)
    made.add_source("eassessment", made.eassessment.url, {**tokens})
    facts: dict[str, registry.Fact] = {
        "DELETED-ANNOUNCED": Deleted(2, NINE),
        "OLD-TOKEN-ANNOUNCED": TokenAnnounced(2, "another1", NINE),
    }
    with made.elms.writing() as session:
        source_id = sources.get(session, "eassessment").id
        actor = Actor(ActorKind.WEBHOOK, "msg_1")
        for course_id, fact in facts.items():
            registry.apply(session, source_id, course_id, fact, actor=actor, now=NINE)


def add_failing(made: Everything) -> None:
    """Add a site that does not exist, and one that fails in every way."""
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        made.add_source("away", f"http://127.0.0.1:{closed.getsockname()[1]}", {})
    token, site = CourseToken.generate(), made.site
    site.grades("WELL3", token, SCORE.model_dump(mode="json", by_alias=True))
    site.gone("GONE")
    site.answer("ERROR", 500, b"oops")
    site.answer("REDIRECT", 302, Location="/elsewhere")
    site.answers["CUT"] = cut
    site.answers["SILENT"] = lambda _: made.over.wait(60) and None
    made.add_source("failing", site.url, {"WELL3": token})


@pytest.fixture
def everything(
    eassessment: EAssessment,
    fake_site: FakeSite,  # noqa: F811
    make_database: Callable[[Schema], Database],
) -> Iterator[Everything]:
    """ELMS with every source."""
    with serving() as moodle, serving() as suspended:
        moodles = {"moodle": moodle, "suspended": suspended}
        made = Everything(make_database(SCHEMA), eassessment, fake_site, moodles)
        add_eassessment(made)
        add_failing(made)
        for name, one in moodles.items():
            one.says(COURSES, "get_courses_omits_missing")
            one.says(FUNCTION, "user_suspended")
            made.add_source(name, one.url, {})
        moodle.answers[FUNCTION] = by_course
        yield made
        made.over.set()


@pytest.fixture
def sync(
    everything: Everything, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], Result]:
    """Return a function that runs the command, with short time-outs."""
    url = make_url(everything.elms.engine.url)
    url = url.set(drivername=url.get_backend_name())
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ENCRYPTION_KEYS": KEY,
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        # Long enough for the healthy ones, however busy the machine is.
        "READ_TIMEOUT": "2",
        "REQUEST_DEADLINE": "4",
        "SYNC_RETRIES": "1",
    }.items():
        monkeypatch.setenv(f"RECEIVER_{name}", value)
    return lambda: CliRunner().invoke(main, ["sync-grades", "--json"], prog_name="receiver")


def assert_results(run: Result, expected: dict[str, dict[str, tuple[str, str | None]]]) -> None:
    """Check what a run reported: each course that needs attention, and the number of the others."""
    report = json.loads(run.stdout)
    outcomes = Counter(outcome for results in expected.values() for outcome, _ in results.values())
    reasons = Counter(reason for results in expected.values() for _, reason in results.values())
    found: dict[str, dict[str, tuple[str, str | None]]] = {name: {} for name in FIRST}
    for one in report["courses"]:
        found[one["source"]][one["course_id"]] = one["outcome"], one["reason"]
        assert one["detail"]
        assert one["next_step"]
    assert found == {
        name: {
            course_id: (outcome, reason)
            for course_id, (outcome, reason) in results.items()
            if reason not in {None, "course_deleted"}
        }
        for name, results in expected.items()
    }
    assert {name: report[name] for name in CourseOutcome if report[name]} == outcomes
    assert report["deleted"] == reasons["course_deleted"]


def in_second_run(first: tuple[str, str | None]) -> tuple[str, str | None]:
    """Return the result in the second run of a course that had this result in the first one."""
    if first == SYNCED:
        return "unchanged", None
    return ("skipped", first[1]) if first in {DELETED, INVALID} else first


@pytest.mark.timeout(300)
def test_all_failures_at_once_cost_no_healthy_course(
    everything: Everything, sync: Callable[[], Result]
) -> None:
    first = sync()
    before_second = everything.requests()
    second = sync()

    assert_results(first, FIRST)
    assert_results(
        second,
        {
            site: {course_id: in_second_run(result) for course_id, result in results.items()}
            for site, results in FIRST.items()
        },
    )
    assert first.exit_code == second.exit_code == 1
    known = {
        course_id
        for results in FIRST.values()
        for course_id, (_, reason) in results.items()
        if reason in {"course_deleted", "token_invalid"}
    }
    assert known.isdisjoint(everything.requests() - before_second)
    with everything.elms.reading() as session:
        rows = [
            str(tuple(row))
            for table in (Run.__table__, RunCourse.__table__, HistoryEntry.__table__)
            for row in session.execute(select(table))
        ]
    shown = "".join(rows) + "".join(run.stdout + run.stderr for run in (first, second))
    assert [secret for secret in everything.secrets if secret in shown] == []

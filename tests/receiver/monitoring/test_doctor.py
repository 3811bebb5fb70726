"""`receiver doctor`: what is not well, and what to do about it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.cli.doctor import Finding
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import TokenAnnounced
from receiver.gradebook.base import ScoreCounts
from receiver.models import MOODLE, Entry, Run, Source
from receiver.monitoring import doctor
from receiver.runs import store as runs
from receiver.runs.store import RunResult
from receiver.sources import store as sources

OTHER = Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))


@pytest.fixture
def examine(database: Database, vault: Vault) -> Callable[..., dict[str, Finding]]:
    """Return what examines ELMS, by check."""

    def look(opens: Vault = vault) -> dict[str, Finding]:
        return {finding.check: finding for finding in doctor.examine(database, opens)}

    return look


@pytest.fixture
def have_run(database: Database) -> Callable[..., None]:
    """Return what records a run that began so long ago."""

    def record(ago: timedelta, exit_code: int | None) -> None:
        began = datetime.now(UTC) - ago
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", now=began)
            if exit_code is not None:
                report = RunResult(run_id, (), ScoreCounts(), 0, 0, 0.0, exit_code)
                runs.end(session, report, now=began)

    return record


def test_empty_installation_says_how_to_begin(examine: Callable[..., dict[str, Finding]]) -> None:
    found = examine()

    assert [check for check, finding in found.items() if not finding.ok] == [
        "sources",
        "last run",
    ]
    assert found["sources"].found == "none, so there are no webhooks and no grades"
    assert found["sources"].advice.action == "sources add"


def test_healthy_installation_passes(
    examine: Callable[..., dict[str, Finding]],
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    have_run: Callable[..., None],
) -> None:
    make_entry(make_source("one", secrets=(Secret.generate(),)))
    have_run(timedelta(minutes=3), 0)

    found = examine()

    assert all(finding.ok for finding in found.values())
    assert found["secrets"].found == "2 encrypted, all can be decrypted"
    assert found["last run"].found.startswith("run 1 started 3 min ago: 0 synced")


def test_source_without_secret_fails(
    examine: Callable[..., dict[str, Finding]], make_source: Callable[..., Source]
) -> None:
    make_source("deaf")

    found = examine()["sources"]

    assert (found.ok, found.found) == (False, "webhooks of deaf cannot be verified: no secret")


def test_moodle_needs_no_secret(
    examine: Callable[..., dict[str, Finding]], database: Database
) -> None:
    with database.writing() as session:
        sources.add(session, "moodle", "https://m.example", MOODLE, now=datetime.now(UTC))

    found = examine()["sources"]

    assert (found.ok, found.found) == (True, "moodle")


def test_lost_key_fails(
    examine: Callable[..., dict[str, Finding]],
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
) -> None:
    make_entry(make_source())

    found = examine(OTHER)["secrets"]

    assert not found.ok
    assert "Add the key that encrypted it" in found.advice.text


def test_undecryptable_site_token_fails(
    database: Database, vault: Vault, examine: Callable[..., dict[str, Finding]]
) -> None:
    with database.writing() as session:
        source = sources.add(session, "m", "https://m.example", MOODLE, now=datetime.now(UTC))
        sources.set_site_token(session, source, MoodleToken("f" * 32), vault=vault)

    ok, lost = examine()["secrets"], examine(OTHER)["secrets"]

    assert (ok.ok, ok.found) == (True, "1 encrypted, all can be decrypted")
    assert not lost.ok


def test_courses_without_valid_token_are_counted(
    examine: Callable[..., dict[str, Finding]],
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    make_entry(make_source(), facts=(TokenAnnounced(2, "new", now),))

    found = examine()["registry"]

    assert (found.ok, found.found) == (False, "1 course: 0 deleted, 1 needs a new token")
    assert found.advice.command == "registry set-token CS101"


@pytest.mark.parametrize(
    ("ago", "exit_code", "ok", "words"),
    [
        pytest.param(
            timedelta(days=2),
            0,
            False,
            "started 2 days ago, and there was no run of all courses since",
            id="long ago",
        ),
        pytest.param(timedelta(0), 1, False, "0 failed", id="courses failed"),
        pytest.param(timedelta(0), None, True, "is not completed", id="running, or killed"),
    ],
)
def test_last_run_is_checked(
    examine: Callable[..., dict[str, Finding]],
    have_run: Callable[..., None],
    ago: timedelta,
    exit_code: int | None,
    ok: bool,
    words: str,
) -> None:
    have_run(ago, exit_code)

    found = examine()["last run"]

    assert (found.ok, words in found.found) == (ok, True)
    assert found.advice


def test_a_run_of_some_courses_does_not_hide_a_late_schedule(
    examine: Callable[..., dict[str, Finding]],
    have_run: Callable[..., None],
    database: Database,
) -> None:
    have_run(timedelta(days=2), 0)
    with database.writing() as session:
        part = runs.begin(session, "ada@elms", now=datetime.now(UTC))
        session.get_one(Run, part).partial = True

    found = examine()["last run"]

    late = "run 1 started 2 days ago, and there was no run of all courses since"
    assert (found.ok, found.found) == (False, late)


def test_without_its_database_nothing_more_is_looked_at(tmp_path: Path, vault: Any) -> None:
    away = Database(f"sqlite:///{tmp_path}/none/receiver.db")

    found = doctor.examine(away, vault)

    assert [(finding.check, finding.ok) for finding in found] == [("database", False)]

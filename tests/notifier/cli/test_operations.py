"""`notifier db …`, `notifier doctor`, and commands without a usable database."""

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import make_url

from foundation.db.session import Database
from notifier.courses import moodle_events
from notifier.courses.moodle_events import CourseDeletion
from notifier.models import SCHEMA

Notifier = Callable[..., Result]
Told = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]


def test_upgrade_of_an_empty_database(blank_url: str, command: Notifier) -> None:
    first, second = command("db", "upgrade"), command("db", "upgrade")

    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == f"the schema is now at {SCHEMA.head} (before: new database)\n"
    assert (second.exit_code, second.stderr) == (0, "")
    assert second.stdout == f"the schema is already at {SCHEMA.head}\n"


def test_check_of_a_current_schema(notifier: Notifier, told: Told) -> None:
    result = notifier("db", "check")

    assert (result.exit_code, result.stdout) == (
        0,
        f"OK: the schema is at {SCHEMA.head}\n",
    )
    assert told("db", "check") == {"ok": True, "schema": SCHEMA.head}


COMMANDS = [
    pytest.param(("db", "check"), id="db check"),
    pytest.param(("courses", "list"), id="courses list"),
    pytest.param(("courses", "delete", "CS101"), id="courses delete"),
    pytest.param(("work", "--once"), id="work"),
    pytest.param(("serve",), id="serve"),
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_empty_database_exits_with_4(
    blank_url: str, command: Notifier, arguments: tuple[str, ...]
) -> None:
    result = command(*arguments)

    assert (result.exit_code, result.stdout) == (4, "")
    first, *place, last = result.stderr.splitlines()
    assert first == f"error: the database is at schema none, this program needs {SCHEMA.head}"
    assert last == " next: Upgrade the database, then start again. Run `notifier db upgrade`."
    file = make_url(blank_url).database if blank_url.startswith("sqlite") else None
    assert place == ([f"       there is no file {file}"] if file else [])


@pytest.mark.parametrize("arguments", [*COMMANDS, pytest.param(("db", "upgrade"), id="upgrade")])
def test_unknown_schema_exits_with_4(
    command: Notifier, sql: Callable[..., None], arguments: tuple[str, ...]
) -> None:
    sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('r0001')",
    )

    result = command(*arguments)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == (
        "error: the database is at schema r0001, which this version of notifier does not know\n"
        " next: Set the database URL to the database of this service, "
        "or install the release that made this schema.\n"
    )


def test_upgrade_refuses_a_database_with_tables_of_others(
    command: Notifier, sql: Callable[..., None]
) -> None:
    sql("CREATE TABLE grades (id INTEGER)")

    result = command("db", "upgrade")
    check = command("db", "check", "--json")

    assert (result.exit_code, result.stdout) == (4, "")
    said = "the database has no schema version, but it has tables: grades"
    assert result.stderr.startswith(f"error: {said}\n")
    assert (check.exit_code, json.loads(check.stdout)["detail"]) == (4, said)
    sql("CREATE TABLE courses (id INTEGER)")


def test_rotate_key_reencrypts_with_the_first_key(
    notifier: Notifier, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (
        os.environ["NOTIFIER_ENCRYPTION_KEYS"],
        "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=",
    )
    told("endpoints", "add", "https://elms.example/webhooks")

    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", f"{new},{old}")
    reencrypted = notifier("db", "rotate-key")
    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", new)

    assert reencrypted.stdout == "re-encrypted 1 secret; older keys can be removed\n"
    assert notifier("doctor").exit_code == 0


def test_prune_deletes_old_moodle_event_ids(notifier: Notifier, database: Database) -> None:
    told = CourseDeletion(objectid="7", timecreated="1795336477")
    for days in (10, 50):
        with database.writing() as session:
            at = datetime.now(UTC) - timedelta(days=days)
            named = told.model_copy(update={"host": f"moodle{days}.example"})
            moodle_events.accept(session, named, now=at)

    result = notifier("db", "prune", "--older-than", "30d")
    refused = notifier("db", "prune", "--older-than", "29d")

    assert result.stdout == "deleted 1 Moodle event id\n"
    assert refused.exit_code == 2
    assert "'29d' is too short; write 30d or more" in refused.stderr


def away_urls(tmp_path: Path) -> dict[str, str]:
    """Return URLs of databases that cannot be used."""
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    (tmp_path / "damaged.db").write_bytes(b"once this was a database" * 100)
    return {
        "nobody listens": f"postgresql://planted:planted@127.0.0.1:{port}/notifier",
        "no such folder": f"sqlite:///{tmp_path}/none/notifier.db",
        "damaged": f"sqlite:///{tmp_path}/damaged.db",
    }


@pytest.mark.parametrize("arguments", [*COMMANDS, pytest.param(("db", "upgrade"), id="upgrade")])
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        pytest.param("nobody listens", "failed", id="nobody listens"),
        pytest.param("no such folder", "unable to open database file", id="no such folder"),
        pytest.param("damaged", "file is not a database", id="damaged"),
    ],
)
def test_unavailable_database_exits_with_4(
    command: Notifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    kind: str,
    cause: str,
) -> None:
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", away_urls(tmp_path)[kind])

    result = command(*arguments)

    first, second = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (4, "")
    assert first.startswith("error: the database cannot be used: ")
    assert cause in first
    assert second == " next: Check the database URL and that the database is running."
    assert "planted" not in result.stderr


FULL_DISK = {
    "sqlite": [
        "CREATE TRIGGER full_disk BEFORE INSERT ON events WHEN NEW.course_id = 'CS102' "
        "BEGIN SELECT abs(-9223372036854775807 - 1); END"
    ],
    "postgresql": [
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON events FOR EACH ROW "
        "WHEN (NEW.course_id = 'CS102') EXECUTE FUNCTION fail()",
    ],
}
"""What makes a database fail at the event of one course, as a full disk would."""


def test_failure_midway_reports_what_was_deleted(
    command: Notifier, sql: Callable[..., None], database_kind: str
) -> None:
    command("db", "upgrade")
    for course_id in ("CS101", "CS102", "CS103"):
        command("courses", "add", course_id, "--title", "x")
    sql(*FULL_DISK[database_kind])

    result = command("courses", "delete", "CS101", "CS102", "CS103")

    deleted = json.loads(command("courses", "list", "--deleted", "--json").stdout)
    assert result.exit_code == 4
    assert (
        result.stdout == "CS101: deleted; deliveries: none, because no endpoint gets this event\n"
    )
    assert result.stderr.startswith("error: the database cannot be used: ")
    assert [one["course_id"] for one in deleted] == ["CS101"]


def test_doctor_passes(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", "https://elms.example/webhooks")

    result = notifier("doctor")
    document = told("doctor")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("All checks passed.\n")
    assert "FAIL" not in result.stdout
    assert document["ok"] is True
    assert [finding["check"] for finding in document["findings"]] == [
        "database",
        "clock",
        "schema",
        "secrets",
        "endpoints",
        "backlog",
        "dead letters",
    ]


def test_doctor_reports_a_failed_check_with_its_next_step(notifier: Notifier) -> None:
    result = notifier("doctor")
    document = json.loads(notifier("doctor", "--json").stdout)

    failed = [finding for finding in document["findings"] if not finding["ok"]]
    assert result.exit_code == 1
    assert "FAIL" in result.stdout
    assert result.stdout.endswith("Action needed: see above.\n")
    assert [one["check"] for one in failed] == ["endpoints"]
    assert failed[0]["next_step"]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind) for kind in ("nobody listens", "no such folder", "damaged")],
)
def test_doctor_reports_an_unavailable_database(
    command: Notifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", away_urls(tmp_path)[kind])

    result = command("doctor", "--json")

    (finding,) = json.loads(result.stdout)["findings"]
    assert result.exit_code == 1
    assert (finding["check"], finding["ok"]) == ("database", False)
    assert finding["next_step"]
    assert "planted" not in result.output


def test_doctor_reports_a_missing_schema(blank_url: str, command: Notifier) -> None:
    result = command("doctor", "--json")

    wrong = [one for one in json.loads(result.stdout)["findings"] if not one["ok"]]
    assert result.exit_code == 1
    assert [(one["check"], one["action"]) for one in wrong] == [("schema", "db upgrade")]


def test_delete_asks_for_confirmation_on_a_terminal(command: Notifier, tmp_path: Path) -> None:
    command("db", "upgrade")
    command("courses", "add", "CS101", "--title", "x")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from notifier.cli import main; main()",
            "courses",
            "delete",
            "CS101",
        ],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    os.write(ours, b"n\n")
    out, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)

    assert process.returncode == 1
    assert out + err == "Delete 1 course permanently? [y/N]: Aborted!\n"
    assert json.loads(command("courses", "list", "--deleted", "--json").stdout) == []

"""`notifier db …`, `notifier doctor`, and commands without a usable database.

`tests/faults/database` tries every command on databases that fail.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from foundation.cli import batches
from foundation.crypto import Vault
from foundation.db import audit
from foundation.db.audit import Actor, AuditEntry, Channel
from notifier.cli import operations
from notifier.courses import moodle_events
from notifier.courses import service as courses
from notifier.courses.moodle_events import CourseDeletion
from notifier.models import SCHEMA, Delivery, DeliveryStatus, Event, Grade, IssuedToken
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import Store, make_score


@pytest.fixture
def run_blank(run_without_database: Run, environment: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command on a database without any table."""
    environment.setenv("NOTIFIER_DATABASE_URL", "sqlite:///blank.db")
    return run_without_database


def test_upgrade_of_an_empty_database(run_blank: Run) -> None:
    first, second = run_blank("db", "upgrade"), run_blank("db", "upgrade")

    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == f"the schema is now at {SCHEMA.head} (before: new database)\n"
    assert (second.exit_code, second.stderr) == (0, "")
    assert second.stdout == f"the schema is already at {SCHEMA.head}\n"


def test_check_of_a_current_schema(run: Run, read_json: ReadJson) -> None:
    result = run("db", "check")

    assert (result.exit_code, result.stdout) == (0, f"OK: the schema is at {SCHEMA.head}\n")
    assert read_json("db", "check") == {
        "revision": SCHEMA.head,
        "previous_revision": SCHEMA.head,
    }


@pytest.mark.parametrize("words", ["db check", "courses list", "work --once", "serve"])
def test_empty_database_exits_with_4(run_blank: Run, words: str) -> None:
    result = run_blank(*words.split())

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == (
        f"error: the database is at schema none, this program needs {SCHEMA.head}\n"
        f"       there is no file {Path('blank.db').absolute()}\n"
        " next: Upgrade the database, then start again. Run `notifier db upgrade`.\n"
    )


def test_backup_writes_a_new_file_only(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"

    first, second = run("db", "backup", file), run("db", "backup", file)

    assert first.stdout == f"backed up to {file} ({file.stat().st_size:,} bytes)\n"
    assert (second.exit_code, second.stdout) == (1, "")
    assert second.stderr.startswith(f"error: there is a file {file}\n next: ")


def test_rotate_key_reencrypts_with_the_first_key(
    store: Store, run: Run, environment: pytest.MonkeyPatch
) -> None:
    old, new = (
        os.environ["NOTIFIER_ENCRYPTION_KEYS"],
        "YW5vdGhlciBrZXkgb2YgMzIgYnl0ZXMgISEhISEhISE=",
    )
    vault = Vault(SecretStr(old))
    store.add_endpoint(vault=vault, may_claim_tokens=True)
    store.add_course("CS101")
    day = timedelta(days=1)
    token = store.write(
        courses.regenerate_token, "CS101", overlap=day, vault=vault, now=datetime.now(UTC)
    )

    environment.setenv("NOTIFIER_ENCRYPTION_KEYS", f"{new},{old}")
    reencrypted = run("db", "rotate-key")
    environment.setenv("NOTIFIER_ENCRYPTION_KEYS", new)

    assert reencrypted.stdout == "re-encrypted 1 secret and 1 token; older keys can be removed\n"
    assert run("doctor").exit_code == 0
    (_, kept) = store.all(IssuedToken)
    assert Vault(SecretStr(new)).decrypt(kept.encrypted_token) == token.reveal()


def days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def set_occurred_at(session: Session, event_id: str, *, now: datetime) -> None:
    session.get_one(Event, event_id).occurred_at = now


def test_prune_deletes_what_is_old(store: Store, run: Run, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(operations, "_PRUNED_AT_ONCE", 2)
    environment.setattr(operations, "_COURSES_AT_ONCE", 1)
    endpoint_id = store.add_endpoint().id
    for days, number in ((10, 2), (50, 5)):
        settled = {"status": DeliveryStatus.DELIVERED, "settled_at": days_ago(days)}
        for delivery_id in store.add_deliveries(endpoint_id, number, **settled):
            store.add_attempt(delivery_id)
            row = store.delivery(delivery_id)
            store.write(set_occurred_at, row.event_id, now=days_ago(days))
        deletion = CourseDeletion(objectid="7", timecreated="1795336477", host=f"moodle{days}")
        store.write(moodle_events.accept, deletion, now=days_ago(days))
    for days in (10, 50, 70):
        course_id = f"CS{days}"
        store.add_course(course_id)
        store.load({course_id: [make_score(user_id="ada"), make_score(user_id="eve")]})
        store.write(courses.delete_course, course_id, now=days_ago(days))

    first = run("db", "prune", "--older-than", "30d")
    environment.setenv("NOTIFIER_FORGET_GRADES_AFTER_DAYS", "30")
    second = run("db", "prune", "--older-than", "30d")

    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == (
        "deleted 5 deliveries, 5 attempts, 5 events, 1 Moodle event id, "
        "0 expired secrets, 0 grades of deleted courses, 0 audit entries\n"
    )
    assert second.stdout.endswith(", 4 grades of deleted courses, 0 audit entries\n")
    assert {row.course_pk for row in store.all(Grade)} == {store.course("CS10").id}


def test_prune_keeps_that_a_moodle_deleted_a_course_while_it_could_be_restored(
    store: Store, run: Run, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("NOTIFIER_RESTORE_DAYS", "60")
    for number, days in (("7", 40), ("8", 70)):
        deletion = CourseDeletion(objectid=number, timecreated="1795336477")
        store.write(moodle_events.accept, deletion, now=days_ago(days))

    pruned = run("db", "prune", "--older-than", "30d")
    restored = run("courses", "restore", "7", "8")

    assert "1 Moodle event id," in pruned.stdout
    assert "7: refused: the course '7' was deleted in its Moodle." in restored.stdout
    assert "8: refused: the deletion of the course '8' at" in restored.stdout


def test_prune_that_is_interrupted_says_what_was_done(
    store: Store, run: Run, environment: pytest.MonkeyPatch
) -> None:
    settled = {"status": DeliveryStatus.DELIVERED, "settled_at": days_ago(50)}
    store.add_deliveries(store.add_endpoint().id, 5, **settled)
    environment.setattr(operations, "_PRUNED_AT_ONCE", 2)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    environment.setattr(batches.time, "sleep", interrupt)
    result = run("db", "prune", "--older-than", "30d")

    assert result.exit_code == 1
    assert result.stdout.startswith("deleted 2 deliveries, 0 attempts, 0 events, ")
    assert len(store.all(Delivery)) == 3


def test_audit_entries_are_pruned_only_when_asked(store: Store, run: Run) -> None:
    ada = Actor("Ada", Channel.PAGE)
    for days in (50, 400):
        store.write(audit.record, ada, "course.add", f"CS{days}", now=days_ago(days))

    run("db", "prune", "--older-than", "30d")
    kept = {entry.object_id for entry in store.all(AuditEntry)}
    result = run("db", "prune", "--older-than", "30d", "--audit-older-than", "365d")

    assert kept >= {"CS50", "CS400"}
    assert result.stdout.endswith(", 1 audit entry\n")
    assert "CS400" not in {entry.object_id for entry in store.all(AuditEntry)}
    assert "CS50" in {entry.object_id for entry in store.all(AuditEntry)}


@pytest.mark.parametrize("words", ["courses list", "db upgrade", "serve"])
def test_unavailable_database_exits_with_4(
    run_without_database: Run, environment: pytest.MonkeyPatch, words: str
) -> None:
    environment.setenv("NOTIFIER_DATABASE_URL", "postgresql://planted:planted@127.0.0.1:9/notifier")

    result = run_without_database(*words.split())

    first, second = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (4, "")
    assert first.startswith("error: the database cannot be used: ")
    assert second == " next: Check the database URL, and that the database runs and takes writes."
    assert "planted" not in result.stderr


def test_doctor_passes(store: Store, run: Run, read_json: ReadJson) -> None:
    store.add_endpoint()

    result = run("doctor")
    document = read_json("doctor")

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
        "dead_deliveries",
        "settings",
        "env_file",
    ]


def test_doctor_reports_a_failed_check_with_its_next_step(run: Run) -> None:
    result = run("doctor")
    document = json.loads(run("doctor", "--json").stdout)

    (failed,) = (finding for finding in document["findings"] if not finding["ok"])
    assert result.exit_code == 1
    assert "FAIL" in result.stdout
    assert result.stdout.endswith(f"Action needed: endpoints: {failed['detail']}\n")
    assert failed["check"] == "endpoints"
    assert failed["next_step"]


def test_commands_that_keep_running_name_unknown_variables(
    run: Run, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("NOTIFIER_PROT", "8001")

    doctor, work = run("doctor", "--json"), run("work", "--once")

    assert "NOTIFIER_PROT is not a setting, but NOTIFIER_PORT is" in doctor.stdout
    assert (work.exit_code, work.stderr.count("NOTIFIER_PROT")) == (0, 1)

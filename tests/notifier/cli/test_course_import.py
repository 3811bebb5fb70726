"""`notifier courses import`."""

import csv
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from contract.tokens import CourseToken
from foundation.db.audit import AuditEntry
from notifier.courses import course_import as core
from notifier.courses import service as courses
from notifier.models import Course
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import NINE, Store

FILE, TOKENS = Path("courses.csv"), Path("tokens.csv")


def tokens() -> dict[str, str]:
    """Return the public ids of the tokens in the file, by course id."""
    with TOKENS.open(newline="") as file:
        return {
            row["course_id"]: CourseToken.parse(row["token"]).token_id
            for row in csv.DictReader(file)
        }


def stored_tokens(store: Store) -> dict[str, str | None]:
    """Return the public id of each course's current token."""
    return {row.course_id: store.read(courses.current_token, row) for row in store.all(Course)}


def test_import_writes_new_tokens_to_a_private_file(
    store: Store, run: Run, read_json: ReadJson
) -> None:
    FILE.write_text("course_id,title\nCS101,Algorithms\n2026/Économie 1,x\n")

    result = run("courses", "import", FILE, "--tokens-to", TOKENS)
    FILE.write_text("course_id,title\nCS101,Databases\n2026/Économie 1,x\n")
    again = read_json("courses", "import", FILE, "--tokens-to", TOKENS)

    first, *_ = result.stdout.splitlines()
    assert (result.exit_code, first) == (0, "Imported 2 courses: 2 new, 0 changed, 0 unchanged")
    assert "receiver registry import" in result.stdout
    assert "eas_" not in result.output
    assert tokens() == stored_tokens(store)
    changes = [(entry.action, entry.object_id, entry.detail) for entry in store.all(AuditEntry)]
    assert changes == [
        ("course.add", "2026/Économie 1", "imported"),
        ("course.add", "CS101", "imported"),
        ("course.set-title", "CS101", "Databases"),
    ]
    assert stat.S_IMODE(TOKENS.stat().st_mode) == 0o600
    assert again == {
        "added": 0,
        "changed": 1,
        "unchanged": 1,
        "deleted_course_ids": [],
        "tokens_file": "tokens.csv",
    }


def test_deleted_course_is_listed_and_the_others_are_imported(store: Store, run: Run) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=NINE)
    FILE.write_text("course_id,title\nCS101,Algorithms\nCS102,Law\n")

    result = run("courses", "import", FILE, "--tokens-to", TOKENS)

    assert result.exit_code == 1
    assert "1 course is deleted, and the ids cannot be used again: CS101" in result.stdout
    assert list(tokens()) == ["CS102"]


def test_interrupted_import_is_resumed(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "AT_ONCE", 2)
    FILE.write_text("course_id,title\n" + "".join(f"CS{n},x\n" for n in range(5)))
    syncs = iter([None, OSError(errno.ENOSPC, "No space left on device")])

    def sync(_: int) -> None:
        if fault := next(syncs, None):
            raise fault

    monkeypatch.setattr(os, "fsync", sync)

    failed = run("courses", "import", FILE, "--tokens-to", TOKENS)
    kept = tokens()
    stored = stored_tokens(store)
    resumed = run("courses", "import", FILE, "--tokens-to", TOKENS, "--json")

    assert failed.exit_code == 1
    assert "No space left on device" in failed.stderr
    assert "Imported 2 of 5 courses" in failed.stdout
    assert list(kept) == ["CS0", "CS1"]
    assert kept == stored
    assert json.loads(resumed.stdout)["added"] == 3
    assert tokens() == stored_tokens(store)


def test_other_file_is_not_overwritten(store: Store, run: Run) -> None:
    FILE.write_text("course_id,title\nCS101,Algorithms\n")
    before = store.rows()

    result = run("courses", "import", FILE, "--tokens-to", FILE)

    assert result.exit_code == 2
    assert "does not begin with course_id,token" in result.stderr
    assert FILE.read_text() == "course_id,title\nCS101,Algorithms\n"
    assert store.rows() == before

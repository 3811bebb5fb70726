"""`notifier courses regenerate-token` for several courses."""

import csv
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from contract.tokens import CourseToken
from foundation.db.audit import AuditEntry
from notifier.courses import service as courses
from notifier.models import Course, IssuedToken
from tests.notifier.cli.conftest import Run
from tests.notifier.conftest import NINE, Store

TOKENS = Path("new.csv")
TO_FILE = ("--tokens-to", TOKENS)


def written() -> dict[str, str]:
    """Return the public ids of the tokens in the file, by course id."""
    with TOKENS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ids = {row["course_id"]: CourseToken.parse(row["token"]).token_id for row in rows}
    assert len(ids) == len(rows)
    return ids


def current(store: Store) -> dict[str, str | None]:
    return {row.course_id: store.read(courses.current_token, row) for row in store.all(Course)}


def test_new_tokens_are_written_to_a_private_file(store: Store, run: Run) -> None:
    store.add_endpoint()
    store.add_courses([f"CS{number}" for number in range(30)])

    result = run("courses", "regenerate-token", "--matching", "cs", "--yes", "--overlap", "7d",
                 *TO_FILE)  # fmt: skip

    assert result.exit_code == 0
    total, until, file, command = result.stdout.splitlines()
    assert total == "Regenerated the tokens of 30 of 30 courses; deliveries: 30 pending"
    assert until.startswith("The old tokens are good until ")
    assert file == "Their tokens are in new.csv; send it to the ELMS administrator"
    assert "`receiver registry set-token --from-file`" in command
    assert "eas_" not in result.output
    assert stat.S_IMODE(TOKENS.stat().st_mode) == 0o600
    assert written() == current(store)
    whole, *parts = store.all(AuditEntry)
    assert whole.objects == "30 courses"
    assert {row.object_id: row.detail.partition(";")[0] for row in parts} == written()


def test_refused_courses_are_named_and_the_others_changed(store: Store, run: Run) -> None:
    store.add_courses(["CS101", "CS102"])
    store.write(courses.delete_course, "CS102", now=NINE)
    store.write(courses.ensure_course, "7", "In a Moodle", now=NINE)

    ids = "CS101\nCS102\n7\nNONE\n"
    result = run("courses", "regenerate-token", "--from-file", "-", "--now", *TO_FILE, stdin=ids)

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0].startswith("CS101: regenerated; deliveries: none")
    assert lines[1].startswith("CS102: refused: the course 'CS102' was deleted at")
    assert lines[2].startswith("7: refused: the tokens of the course '7' are issued by its Moodle")
    assert lines[3].startswith("NONE: refused: there is no course 'NONE'")
    assert lines[4] == (
        "Regenerated the tokens of 1 of 4 courses; 1 already deleted; 1 issued by moodle; 1 unknown"
    )
    assert list(written()) == ["CS101"]


def test_tokens_that_elms_claims_are_not_shown(store: Store, run: Run) -> None:
    store.add_courses(["CS101", "CS102"])
    arguments = ("courses", "regenerate-token", "CS101", "CS102", "--no-tokens", "--overlap", "1d")

    refused = run(*arguments)
    unchanged = [row.version for row in store.all(Course)]
    store.add_endpoint(may_claim_tokens=True)
    result = run(*arguments)

    assert refused.exit_code == 1
    assert "no endpoint may claim tokens" in refused.stderr
    assert "notifier endpoints set-token-claims ENDPOINT_ID on" in refused.stderr
    assert unchanged == [1, 1]
    assert result.exit_code == 0
    assert "and ELMS can claim the new ones." in result.stdout
    assert "eas_" not in result.output
    kept = [row for row in store.all(IssuedToken) if row.encrypted_token]
    assert len(kept) == 2


def test_interrupted_regeneration_is_resumed(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courses, "CHANGED_AT_ONCE", 2)
    ids = [f"CS{number}" for number in range(5)]
    store.add_courses(ids)
    syncs = iter([None, OSError(errno.ENOSPC, "No space left on device")])

    def sync(_: int) -> None:
        if fault := next(syncs, None):
            raise fault

    monkeypatch.setattr(os, "fsync", sync)
    arguments = ("courses", "regenerate-token", *ids, "--overlap", "1d", *TO_FILE)

    failed = run(*arguments)
    first = written()
    # As if the process had been killed before a commit: a token that was never stored.
    with TOKENS.open("a") as file:
        file.write(f"CS4,{CourseToken.generate().reveal()}\n")
    refused = run(*arguments)
    resumed = run(*arguments, "--resume", "--json")
    again = run(*arguments, "--resume")

    assert failed.exit_code == 1
    assert "Not reached: 3. Run the command again with --resume." in failed.stdout
    assert list(first) == ["CS0", "CS1"]
    assert refused.exit_code == 2
    assert "new.csv: the file exists" in refused.stderr
    outcomes = [one["outcome"] for one in json.loads(resumed.stdout)["courses"]]
    assert outcomes == ["already_regenerated"] * 2 + ["regenerated"] * 3
    assert written() == current(store)
    assert [row.version for row in store.all(Course)] == [2] * 5
    assert again.exit_code == 0
    assert "CS4: already regenerated: its token is in new.csv" in again.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param((), "give one COURSE_ID to print its new token, or", id="no file"),
        pytest.param(TO_FILE, "give --overlap, for how long", id="no overlap"),
        pytest.param(("--no-tokens", "--now"), "give --overlap, for how long", id="no claims"),
        pytest.param((*TO_FILE, "--no-tokens"), "either --tokens-to or --no-tokens", id="both"),
        pytest.param(
            ("--no-tokens", "--overlap", "1d", "--resume"), "--resume needs", id="no file to resume"
        ),
    ],
)
def test_incomplete_options_are_refused(
    store: Store, run: Run, options: tuple[object, ...], message: str
) -> None:
    store.add_courses(["CS101", "CS102"])

    refused = run("courses", "regenerate-token", "CS101", "CS102", *options)

    assert (refused.exit_code, message in refused.stderr) == (2, True)
    assert [row.version for row in store.all(Course)] == [1, 1]
    assert not TOKENS.exists()


def test_search_is_confirmed_with_the_overlap(store: Store, run: Run) -> None:
    store.add_courses(["CS101", "CS102"])

    result = run("courses", "regenerate-token", "--matching", "cs", "--now", *TO_FILE)

    nothing = run("courses", "regenerate-token", "--matching", "zzz", "--now", "--yes", *TO_FILE)

    assert nothing.stdout == "No active courses match.\n"
    question = "Regenerate the tokens of 2 courses (CS101, CS102)? The old ones end at once."
    assert (result.exit_code, question in result.stderr) == (2, True)
    assert not TOKENS.exists()

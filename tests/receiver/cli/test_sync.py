"""`receiver sync-grades`."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.signatures import Secret
from contract.tokens import CourseToken, MoodleToken
from foundation.cli import output
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Deleted, TokenAnnounced
from receiver.models import MOODLE, Run
from receiver.runs import lease
from receiver.sources import store as sources
from tests.receiver.cli.conftest import Receiver
from tests.receiver.cli.test_sync_stops import COMMAND
from tests.receiver.conftest import NINE, FakeSite, Store


@pytest.fixture
def courses(store: Store, site: FakeSite, make_score: Callable[..., Any]) -> None:
    """A healthy course, a deleted one, and one that fails."""
    token = CourseToken.generate()
    store.add_course("CS101", token=token)
    site.grades("CS101", token, make_score())
    store.add_course("CS102", Deleted(4, NINE))
    store.add_course("CS103")
    site.answer("CS103", 503)


def test_run_prints_each_reason_and_last_the_summary(courses: None, receiver: Receiver) -> None:
    result = receiver("sync-grades")

    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert lines[:6] == [
        "1 course needs attention",
        "",
        "1 course of one: temporary failure",
        "courses    CS103",
        "why        responded 503",
        "next step  No action needed yet: the next run tries again. If this persists, check "
        "eAssessment.",
    ]
    assert lines[7:13] == [
        "Grade sync 1: 3 courses",
        "... fetched grades: 1 course, 1 score added, 0 changed, 0 unchanged",
        "... unchanged since the last fetch: 0 courses",
        "... 1 skipped: course deleted; no action needed",
        "... failed: 1 course",
        "... used 3 requests to eAssessment",
    ]
    assert lines[-1] == "Grade sync complete, with errors."
    assert "CS102" not in result.output


def test_many_courses_of_one_reason_are_listed_by_a_command(
    store: Store, site: FakeSite, receiver: Receiver
) -> None:
    ids = [f"CS10{number}" for number in range(7)]
    for course_id in ids:
        store.add_course(course_id, TokenAnnounced(4, "other", NINE))

    result = receiver("sync-grades")
    listed = receiver("runs", "show", "--reason", "token_invalid", "--source", "one")

    assert result.exit_code == 1
    assert "courses    CS100, CS101, CS102, CS103, CS104 and 2 more " in result.stdout
    assert "enter it. Run `receiver registry set-token --from-file FILE`." in result.stdout
    assert "list all   receiver runs show 1 --reason token_invalid --source one " in result.stdout
    assert result.stdout.endswith("Grade sync complete; action is needed.\n")
    assert [course_id for course_id in ids if course_id not in listed.stdout] == []


def test_deleted_courses_are_a_success(courses: None, receiver: Receiver) -> None:
    result = receiver("sync-grades", "--course", "CS102")

    assert result.exit_code == 0
    assert result.stdout.startswith("Grade sync 1: 1 course\n")
    assert result.stdout.endswith("Grade sync complete.\n")


def test_run_names_unknown_variables(receiver: Receiver, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RECEIVER_PROT", "8002")

    result = receiver("sync-grades")

    assert (result.exit_code, result.stderr.count("RECEIVER_PROT")) == (0, 1)


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_empty_run_says_what_to_do_first(
    store: Store, receiver: Receiver, options: tuple[str, ...]
) -> None:
    without_source = receiver("sync-grades", *options)
    store.add_source("one")
    without_course = receiver("sync-grades", *options)

    assert (without_source.exit_code, without_course.exit_code) == (0, 0)
    assert without_source.stderr.endswith(
        "nothing to sync: there are no sources\n"
        " next: Add eAssessment as a source. Run `receiver sources add NAME --url URL`.\n"
    )
    assert without_course.stderr.endswith(
        "nothing to sync: the registry has no courses\n"
        " next: Add a course. Run `receiver registry add COURSE_ID`.\n"
    )


def test_run_as_json(courses: None, receiver: Receiver) -> None:
    result = receiver("sync-grades", "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == report["exit_code"] == 1
    assert {
        "synced": 1,
        "unchanged": 0,
        "skipped": 1,
        "failed": 1,
    }.items() <= report.items()
    assert report["scores"] == {"added": 1, "changed": 0, "unchanged": 0}
    assert report["deleted"] == 1
    assert [course["course_id"] for course in report["courses"]] == ["CS103"]
    [group] = report["groups"]
    assert (group["reason"], group["course_count"], group["course_ids"]) == (
        "transient",
        1,
        ["CS103"],
    )
    assert group["needs_attention"] is True


def test_dry_run_sends_no_request(
    courses: None, receiver: Receiver, site: FakeSite, store: Store
) -> None:
    text = receiver("sync-grades", "--dry-run")
    document = json.loads(receiver("sync-grades", "--dry-run", "--json").stdout)

    assert text.exit_code == 0
    assert text.stdout.endswith(
        "Dry run: 2 courses would be fetched, 1 skipped.\n"
        "... 1 skipped: course deleted; no action needed\n"
    )
    assert [each["course_id"] for each in document["would_fetch"]] == ["CS101", "CS103"]
    assert (document["deleted"], document["would_skip"]) == (1, [])
    assert (site.connections, store.rows(Run)) == (0, [])


def test_paused_sync_requests_nothing(
    courses: None, receiver: Receiver, site: FakeSite, store: Store
) -> None:
    paused = receiver("runs", "pause")
    text, document = receiver("sync-grades"), receiver("sync-grades", "--json")
    before = site.connections, store.rows(Run)
    once = receiver("sync-grades", "--even-if-paused", "--course", "CS101")
    resumed = receiver("runs", "resume")
    after = receiver("sync-grades", "--course", "CS101")

    assert (paused.exit_code, text.exit_code, document.exit_code, before) == (0, 0, 0, (0, []))
    assert text.stdout.startswith("the grade sync is paused since ")
    assert "nothing was requested\n next: Resume it when" in text.stdout
    assert "`receiver runs resume`" in text.stdout
    assert json.loads(document.stdout)["paused"] is True
    assert (once.exit_code, resumed.exit_code, after.exit_code) == (0, 0, 0)
    assert len(store.rows(Run)) == 2


def test_run_without_a_terminal_is_scheduled(
    courses: None, receiver: Receiver, store: Store
) -> None:
    receiver("sync-grades")
    receiver("sync-grades", "--course", "CS101")
    receiver("sync-grades", "--requested-by", "Ada")

    assert [(run.holder == "Ada", run.unattended) for run in store.rows(Run)] == [
        (False, True),
        (False, False),
        (True, False),
    ]


def test_concurrent_run_exits_with_3(  # F29
    courses: None, receiver: Receiver, database: Database, site: FakeSite
) -> None:
    with database.writing() as session:
        lease.acquire(session, "ada@elms", timedelta(minutes=5), now=datetime.now(UTC))

    result = receiver("sync-grades")

    assert (result.exit_code, site.connections) == (3, 0)
    assert "error: a grade sync is running: ada@elms" in result.stderr
    assert "its lease lasts until " in result.stderr
    assert " next: Wait until it ends. If it was killed, its lease expires" in result.stderr


def test_unknown_course_exits_with_1(courses: None, receiver: Receiver) -> None:
    result = receiver("sync-grades", "--course", "NONE", "--source", "one")

    assert (result.exit_code, "not in the registry: 'NONE'" in result.stderr) == (1, True)


def test_secrets_are_shown_nowhere(
    receiver: Receiver, store: Store, fake_site: FakeSite, make_score: Callable[..., Any]
) -> None:
    secret, token = Secret.generate(), CourseToken.generate()
    refusal = {
        "type": "urn:problem-type:token-unknown",
        "detail": f"no course has {token.reveal()} (Bearer {token.secret})",
    }
    fake_site.grades("CS101", token, make_score())
    fake_site.answer("CS102", 401, refusal)

    results = [
        receiver("sources", "add", "one", "--url", fake_site.url, stdin=secret.reveal()),
        receiver("registry", "add", "CS101", stdin=token.reveal()),
        receiver("registry", "add", "CS102", stdin=token.reveal()),
        receiver("sync-grades"),
        receiver("sync-grades", "--json"),
        receiver("registry", "list", "--json"),
        receiver("registry", "show", "CS102"),
        receiver("doctor"),
    ]

    seen = store.everything() + "".join(result.output for result in results)
    assert "token-unknown" in seen
    assert token.secret not in seen
    assert secret.reveal().removeprefix("whsec_") not in seen


def test_undecryptable_site_token_fails_only_its_site(
    courses: None, receiver: Receiver, store: Store, other_vault: Vault
) -> None:
    store.add_source("two", kind=MOODLE)
    with store.database.writing() as session:
        moodle = sources.get(session, "two")
        sources.set_site_token(session, moodle, MoodleToken("f" * 32), vault=other_vault)
    store.add_course("7", source="two")

    result = receiver("sync-grades", "--json")

    report = json.loads(result.stdout)
    by_id = {course["course_id"]: course for course in report["courses"]}
    assert (result.exit_code, report["synced"]) == (1, 1)
    assert (by_id["7"]["outcome"], by_id["7"]["reason"]) == ("failed", "site_trouble")
    assert "Add the key that encrypted it" in by_id["7"]["next_step"]


def test_progress_is_logged_now_and_then(
    courses: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = receiver("sync-grades")
    monkeypatch.setattr(output, "LINE_SECONDS", 0.0)

    logged = receiver("sync-grades")

    assert "in progress" not in silent.stderr
    [line] = [one for one in map(json.loads, logged.stderr.splitlines()) if "done" in one]
    assert (line["event"], line["done"], line["courses"]) == ("grade sync in progress", 2, 2)


def test_log_does_not_run_through_the_progress_bar(
    courses: None, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TERM", "xterm")
    ours, terminal = pty.openpty()
    written = bytearray()

    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        while chunk := read_terminal(ours):
            written += chunk
        printed = process.communicate()[0]
    os.close(ours)

    pieces = re.split(rb"[\r\n]", written)
    assert any(b"\xe2\x94\x81" in piece for piece in pieces)  # the bar
    [logged] = [piece for piece in pieces if b"courses_to_fetch" in piece]
    assert b"\xe2\x94\x81" not in logged
    assert b"attention" not in written
    assert b"1 course needs attention" in printed


def read_terminal(file: int) -> bytes:
    """Return what was written to a terminal, or nothing once its other end is closed."""
    try:
        return os.read(file, 65536)
    except OSError:
        return b""

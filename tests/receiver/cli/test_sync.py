"""`receiver sync-grades`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from pydantic import SecretStr

from contract.signatures import Secret
from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Deleted
from receiver.models import MOODLE, Entry, Run, Source
from receiver.runs import lease
from receiver.sources import store as sources


@pytest.fixture
def source(make_source: Callable[..., Source], fake_site: Any) -> Source:
    """The far side, as ELMS knows it."""
    return make_source("one", fake_site.url)


@pytest.fixture
def courses(
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    make_score: Callable[..., Any],
    now: datetime,
) -> None:
    """A healthy course, a deleted one, and one whose eAssessment is in trouble."""
    token = CourseToken.generate()
    make_entry(source, "CS101", token=token)
    fake_site.grades("CS101", token, make_score())
    make_entry(source, "CS102", facts=(Deleted(4, now),))
    make_entry(source, "CS103")
    fake_site.answer("CS103", 503)


def test_run_prints_summary_and_table(courses: None, receiver: Callable[..., Result]) -> None:
    result = receiver("sync-grades")

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[:5] == [
        "Grade sync 1: 3 courses, 1 of them skipped before any request.",
        "... fetched grades: 1 course, 1 score added, 0 changed, 0 unchanged",
        "... unchanged since the last fetch: 0 courses",
        "... failed: 1 course",
        "... used 3 requests to eAssessment",
    ]
    assert lines[7] == "Grade sync complete, with errors; see each failed course."
    table = "\n".join(lines[8:])
    assert "CS102   one     skipped  the course was deleted in eAssessment" in table
    assert "CS103   one     failed   responded 503" in table
    assert "the next run tries again" in table
    assert "CS101" not in table


def test_skipped_courses_are_a_success(
    source: Source, make_entry: Callable[..., Entry], now: datetime, receiver: Callable[..., Result]
) -> None:
    make_entry(source, facts=(Deleted(4, now),))

    result = receiver("sync-grades")

    assert result.exit_code == 0
    assert "Grade sync complete.\n" in result.stdout


@pytest.mark.parametrize("how", [(), ("--json",), ("--dry-run",)], ids=["run", "json", "dry run"])
def test_empty_run_says_what_to_do_first(
    database: Database,
    make_source: Callable[..., Source],
    receiver: Callable[..., Result],
    how: tuple[str, ...],
) -> None:
    bare = receiver("sync-grades", *how)
    make_source("one")
    unlinked = receiver("sync-grades", *how)

    assert (bare.exit_code, unlinked.exit_code) == (0, 0)
    assert bare.stderr.endswith(
        "nothing to sync: there are no sources\n"
        " next: Add eAssessment as a source. Run `receiver sources add NAME --url URL`.\n"
    )
    assert unlinked.stderr.endswith(
        "nothing to sync: the registry has no courses\n"
        " next: Add a course. Run `receiver registry add COURSE_ID`.\n"
    )


def test_run_as_json(courses: None, receiver: Callable[..., Result]) -> None:
    result = receiver("sync-grades", "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == report["exit_code"] == 1
    assert report["counts"] == {"synced": 1, "unchanged": 0, "skipped": 1, "failed": 1}
    assert report["scores"] == {"added": 1, "changed": 0, "unchanged": 0}
    assert {course["course_id"]: course["reason"] for course in report["courses"]} == {
        "CS101": None,
        "CS102": "course_deleted",
        "CS103": "transient",
    }


def test_dry_run_sends_no_request(
    courses: None,
    receiver: Callable[..., Result],
    fake_site: Any,
    rows: Callable[[type[Any]], list[Any]],
) -> None:
    told, document = (
        receiver("sync-grades", "--dry-run"),
        receiver("sync-grades", "--dry-run", "--json", "--course", "CS102"),
    )

    assert (told.exit_code, document.exit_code) == (0, 0)
    assert "Dry run: 2 courses would be fetched, 1 skipped." in told.stdout
    assert "CS103" in told.stdout
    assert json.loads(document.stdout)["would_fetch"] == []
    assert json.loads(document.stdout)["would_skip"][0]["course_id"] == "CS102"
    assert (fake_site.connections, rows(Run)) == (0, [])


def test_concurrent_run_exits_with_3(
    courses: None, receiver: Callable[..., Result], database: Database, fake_site: Any
) -> None:
    """The second run says who is at work, and asks nobody (F29)."""
    with database.writing() as session:
        lease.acquire(session, "ada@elms", timedelta(minutes=5), now=datetime.now(UTC))

    result = receiver("sync-grades")

    assert (result.exit_code, fake_site.connections) == (3, 0)
    assert "error: another grade sync is running: ada@elms" in result.stderr


def test_unknown_course_exits_with_1(courses: None, receiver: Callable[..., Result]) -> None:
    result = receiver("sync-grades", "--course", "NONE")

    assert (result.exit_code, "not in the registry: 'NONE'" in result.stderr) == (1, True)


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_course_of_another_source_exits_with_1(
    courses: None,
    make_source: Callable[..., Source],
    receiver: Callable[..., Result],
    dry: tuple[str, ...],
) -> None:
    make_source("other")

    result = receiver("sync-grades", "--course", "CS101", "--source", "other", *dry)

    assert (result.exit_code, "not in the registry: 'CS101'" in result.stderr) == (1, True)


@pytest.mark.parametrize("words", [["sync-grades"], ["registry", "list"], ["db", "check"]])
def test_unavailable_database_exits_with_4(
    receiver: Callable[..., Result],
    environment: pytest.MonkeyPatch,
    courses: None,
    fake_site: Any,
    words: list[str],
) -> None:
    """Without its registry a command says so, asks nobody, and shows no trace (F31)."""
    environment.setenv("RECEIVER_DATABASE_URL", "sqlite:///none/receiver.db")

    result = receiver(*words)

    assert (result.exit_code, fake_site.connections) == (4, 0)
    assert "error: the database cannot be used: unable to open database file" in result.stderr
    assert "Traceback" not in result.output


def test_missing_settings_exit_with_2(
    receiver: Callable[..., Result], environment: pytest.MonkeyPatch
) -> None:
    """What is missing is named, on any command (F23)."""
    environment.delenv("RECEIVER_ENCRYPTION_KEYS")

    result = receiver("sync-grades")

    assert result.exit_code == 2
    assert "RECEIVER_ENCRYPTION_KEYS: is missing" in result.stderr


def test_secrets_are_shown_nowhere(
    receiver: Callable[..., Result],
    fake_site: Any,
    everything: Callable[[], str],
    make_score: Callable[..., Any],
) -> None:
    secret, token = Secret.generate(), CourseToken.generate()
    bare = secret.reveal().removeprefix("whsec_")
    results = [
        receiver("sources", "add", "one", "--url", fake_site.url, stdin=secret.reveal()),
        receiver("registry", "add", "CS101", stdin=token.reveal()),
        receiver("registry", "add", "CS102", stdin=token.reveal()),
    ]
    fake_site.grades("CS101", token, make_score())
    fake_site.answer(
        "CS102",
        401,
        {
            "type": "urn:problem-type:token-unknown",
            "detail": f"no course has {token.reveal()} (Bearer {token.secret})",
        },
    )

    results += [
        receiver("sync-grades"),
        receiver("sync-grades", "--json"),
        receiver("registry", "list", "--json"),
        receiver("registry", "show", "CS102"),
        receiver("doctor"),
    ]

    seen = everything() + "".join(result.output for result in results)
    assert "token-unknown" in seen
    assert token.secret not in seen
    assert bare not in seen


def test_undecryptable_site_token_fails_its_site_only(
    courses: None,
    receiver: Callable[..., Result],
    database: Database,
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    other = Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))
    with database.writing() as session:
        there = sources.add(session, "two", "http://127.0.0.1:9", MOODLE, now=now)
        sources.set_site_token(session, there, MoodleToken("f" * 32), vault=other)
        session.flush()
        session.expunge_all()
    for course_id in ("7", "8"):
        make_entry(there, course_id)

    result = receiver("sync-grades", "--json")

    report = json.loads(result.stdout)
    told = {course["course_id"]: course for course in report["courses"]}
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert (result.exit_code, told["CS101"]["outcome"]) == (1, "synced")
    assert {(told[one]["outcome"], told[one]["reason"]) for one in ("7", "8")} == {
        ("failed", "site_trouble")
    }
    assert "Add the key that encrypted it" in told["7"]["next_step"]
    assert [
        (line["source"], line["courses"])
        for line in lines
        if line["event"] == "site cannot be used"
    ] == [("two", 2)]
    assert [line for line in lines if line.get("course_id") in {"7", "8"}] == []

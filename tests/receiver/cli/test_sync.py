"""`receiver sync-grades`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.signatures import Secret
from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Deleted
from receiver.models import MOODLE, Run
from receiver.runs import lease
from receiver.sources import store as sources
from tests.receiver.cli.conftest import Receiver
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


def test_run_prints_summary_and_table(courses: None, receiver: Receiver) -> None:
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


def test_skipped_courses_are_a_success(courses: None, receiver: Receiver) -> None:
    result = receiver("sync-grades", "--course", "CS102")

    assert result.exit_code == 0
    assert "Grade sync complete.\n" in result.stdout


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
    assert report["counts"] == {"synced": 1, "unchanged": 0, "skipped": 1, "failed": 1}
    assert report["scores"] == {"added": 1, "changed": 0, "unchanged": 0}
    assert {course["course_id"]: course["reason"] for course in report["courses"]} == {
        "CS101": None,
        "CS102": "course_deleted",
        "CS103": "transient",
    }


def test_dry_run_sends_no_request(
    courses: None, receiver: Receiver, site: FakeSite, store: Store
) -> None:
    text = receiver("sync-grades", "--dry-run")
    document = json.loads(receiver("sync-grades", "--dry-run", "--json").stdout)

    assert text.exit_code == 0
    assert "Dry run: 2 courses would be fetched, 1 skipped." in text.stdout
    assert [each["course_id"] for each in document["would_fetch"]] == ["CS101", "CS103"]
    assert [each["course_id"] for each in document["would_skip"]] == ["CS102"]
    assert (site.connections, store.rows(Run)) == (0, [])


def test_concurrent_run_exits_with_3(  # F29
    courses: None, receiver: Receiver, database: Database, site: FakeSite
) -> None:
    with database.writing() as session:
        lease.acquire(session, "ada@elms", timedelta(minutes=5), now=datetime.now(UTC))

    result = receiver("sync-grades")

    assert (result.exit_code, site.connections) == (3, 0)
    assert "error: another grade sync is running: ada@elms" in result.stderr
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
    events = [json.loads(line)["event"] for line in result.stderr.splitlines()]
    assert (result.exit_code, by_id["CS101"]["outcome"]) == (1, "synced")
    assert (by_id["7"]["outcome"], by_id["7"]["reason"]) == ("failed", "site_trouble")
    assert "Add the key that encrypted it" in by_id["7"]["next_step"]
    assert events.count("site cannot be used") == 1

"""`receiver registry add`, `list`, `show`, `remove` and `set-token`."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from contract.events import wire_time
from contract.problems import ProblemType
from contract.tokens import CourseToken, MoodleToken
from receiver.course_state import Deleted, TokenAnnounced, TokenRejected
from receiver.models import MOODLE
from tests.receiver.cli.conftest import Receiver, new_token
from tests.receiver.conftest import NINE, FakeSite, Store

TOKEN = CourseToken.generate()
DELETED, REGENERATED = Deleted(4, NINE), TokenAnnounced(4, "new", NINE)


def test_add_stores_the_token(receiver: Receiver, store: Store) -> None:
    store.add_source("one")

    result = receiver("registry", "add", "CS101", stdin=TOKEN.reveal())

    assert (result.exit_code, result.stdout) == (
        0,
        f"CS101 of one is added, with the token {TOKEN.token_id}\n"
        "CS101 is active: the next sync fetches its grades\n",
    )
    assert store.entry("CS101").stored_token_id == TOKEN.token_id


def test_add_of_a_deleted_course_exits_with_1(receiver: Receiver, store: Store) -> None:
    store.apply("CS101", DELETED)

    result = receiver("registry", "add", "CS101", stdin=new_token())

    assert result.exit_code == 1
    assert "CS101 cannot be synced: the course was deleted in eAssessment" in result.stderr


def test_moodle_has_its_own_tokens_and_course_ids(receiver: Receiver, store: Store) -> None:
    token = MoodleToken("0123456789abcdef" * 2)
    store.add_source("moodle", kind=MOODLE)

    course_token = receiver("registry", "add", "7", stdin=new_token())
    course_id = receiver("registry", "add", "CS101", stdin=token.text)
    added = receiver("registry", "add", "7", stdin=token.text)

    assert (course_token.exit_code, course_id.exit_code, added.exit_code) == (1, 1, 0)
    assert "'CS101': in a Moodle the id of a course is a number" in course_id.stderr
    assert token.token_id in added.stdout


def test_source_is_optional_for_a_course_of_one_source(receiver: Receiver, store: Store) -> None:
    store.add_source("one")
    store.add_source("two")

    unclear = receiver("registry", "add", "CS101", stdin=new_token())
    added = receiver("registry", "add", "CS101", "--source", "two", stdin=new_token())
    shown = receiver("registry", "show", "CS101")

    assert (unclear.exit_code, added.exit_code, shown.exit_code) == (1, 0, 0)
    assert "there are 2 sources, and none was given" in unclear.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["add", "CS101"], "cut off or mistyped", id="token"),
        pytest.param(["show", "NONE"], "'NONE' of one is not in the registry", id="course"),
        pytest.param(["list", "--source", "x"], "there is no source 'x'", id="source"),
    ],
)
def test_invalid_argument_exits_with_1(
    receiver: Receiver, store: Store, words: list[str], message: str
) -> None:
    store.add_source("one")

    result = receiver("registry", *words, stdin="junk")

    assert (result.exit_code, message in result.stderr) == (1, True)
    assert "Traceback" not in result.output


def test_list_has_filters_pages_and_csv(receiver: Receiver, store: Store) -> None:
    for course_id in ("CS101", "CS102", "BIO1"):
        store.add_course(course_id, DELETED)
    store.add_course("CS103")
    words = ("registry", "list", "--matching", "cs", "--since", "2026-11-22", "--sort", "-course")

    first = receiver(*words, "--limit", "1")
    entry_id = store.entry("CS102").id
    second = receiver(*words, "--after", str(entry_id), "--json")
    exported = receiver(*words, "--csv")
    wrong = receiver(*words, "--after", "99")

    assert first.stdout.endswith(f"1 of 2 courses. More: add --after {entry_id}\n")
    assert [course["course_id"] for course in json.loads(second.stdout)["courses"]] == ["CS101"]
    assert [row.split(",")[1] for row in exported.stdout.splitlines()] == [
        *("course_id", "CS102", "CS101")
    ]
    assert (wrong.exit_code, "there is no entry 99" in wrong.stderr) == (2, True)


def test_list_shows_status_of_each_course(receiver: Receiver, store: Store) -> None:
    empty = receiver("registry", "list")
    store.add_course("CS101")
    store.add_course("CS102", DELETED)
    store.add_course("CS103", REGENERATED)
    receiver("sync-grades", "--course", "CS101")

    table = receiver("registry", "list").stdout
    [active, _, invalid] = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    filtered = receiver("registry", "list", "--status", "token_invalid", "--json")
    exported = list(csv.DictReader(receiver("registry", "list", "--csv").stdout.splitlines()))

    assert empty.stdout.startswith("No courses match. Add one with")
    for words in ("failing", "grade sync fails", "course_deleted", "2026-11-22 09:00:00 UTC"):
        assert words in table
    assert (active["status"], active["failing"], active["synced_at"]) == ("active", True, None)
    assert (invalid["course_id"], invalid["status"]) == ("CS103", "token_invalid")
    assert (invalid["since"], invalid["failing"]) == (wire_time(NINE), False)
    assert invalid["action"] == "registry set-token CS103"
    assert json.loads(filtered.stdout)["courses"] == [invalid]
    assert [row["failing"] for row in exported] == ["yes", "no", "no"]


def test_list_and_show_say_until_when_a_replaced_token_is_good(
    receiver: Receiver, store: Store
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    store.add_course("CS101", TokenAnnounced(4, "new", NINE, until))

    [listed] = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    shown = json.loads(receiver("registry", "show", "CS101", "--json").stdout)

    exported = receiver("registry", "list", "--csv").stdout
    [row] = csv.DictReader(exported.splitlines())

    assert row["token_valid_until"] == wire_time(until)
    for course in (listed, shown):
        assert (course["status"], course["token_valid_until"]) == ("active", wire_time(until))
        assert course["action"] == "registry set-token CS101"


def test_list_and_show_say_that_the_next_run_claims_a_token(
    receiver: Receiver, store: Store
) -> None:
    until = datetime.now(UTC) + timedelta(hours=2)
    store.add_course("CS101", TokenAnnounced(4, "new", NINE, until))
    store.claim_from("one")

    [listed] = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    shown = json.loads(receiver("registry", "show", "CS101", "--json").stdout)

    for course in (listed, shown):
        assert course["action"] is None
        assert course["next_step"].startswith("No action needed: the next run")


def test_show_prints_state_and_history(receiver: Receiver, store: Store) -> None:
    store.add_course("CS101", TokenRejected("other", "unknown", NINE), REGENERATED)

    text = receiver("registry", "show", "CS101").stdout
    known = json.loads(receiver("registry", "show", "CS101", "--limit", "1", "--json").stdout)

    assert "the token was regenerated: current new" in text
    history = text.split("History, newest first")[1]
    assert history.index("token.regenerated") < history.index("token.rejected")
    assert (known["course_version"], known["announced_token_id"]) == (4, "new")
    assert known["rejected_reason"] == "unknown"
    assert known["history"] == [
        {
            "recorded_at": wire_time(NINE),
            "actor": "webhook",
            "actor_name": "msg_1",
            "event": "token.regenerated",
            "detail": "version 4, current token new",
            "status": "token_invalid",
        }
    ]


def test_show_prints_a_course_that_is_not_in_the_registry(receiver: Receiver, store: Store) -> None:
    store.apply("CS101", DELETED)

    result = receiver("registry", "show", "CS101")

    assert result.exit_code == 0
    assert result.stdout.startswith("Not in the registry. Its stored state is used")
    assert "course.deleted" in result.stdout


@pytest.mark.parametrize(
    ("announced", "requests", "message"),
    [
        pytest.param(TOKEN.token_id, 0, "is stored for CS101\nCS101 is active", id="announced"),
        pytest.param("other", 1, "with eAssessment …\nthe token", id="verified"),
    ],
)
def test_token_is_set(
    receiver: Receiver, store: Store, site: FakeSite, announced: str, requests: int, message: str
) -> None:
    store.add_course("CS101", TokenAnnounced(4, announced, NINE))
    site.grades("CS101", TOKEN, course_version=6)

    result = receiver("registry", "set-token", "CS101", stdin=TOKEN.reveal())

    assert (result.exit_code, len(site.requests)) == (0, requests)
    assert message in result.stdout


@pytest.mark.parametrize(
    ("announced", "answer", "message"),
    [
        pytest.param(
            "other",
            lambda site: site.refuse("CS101", ProblemType.TOKEN_UNKNOWN),
            "CS101 cannot be synced: the token was regenerated",
            id="rejected",
        ),
        pytest.param(
            "other",
            lambda site: site.answer("CS101", 503),
            "the token could not be verified: responded 503\n next: The token is stored.",
            id="not verified",
        ),
        pytest.param(
            "stored",
            lambda site: site.answer("CS101", 503),
            "was not entered: it could not be checked: responded 503; "
            "stored, which is known to be valid, is still in use\n"
            " next: No action needed if the course is synced.",
            id="not entered",
        ),
    ],
)
def test_token_that_is_not_accepted_exits_with_1(
    receiver: Receiver,
    store: Store,
    site: FakeSite,
    announced: str,
    answer: Callable[[FakeSite], None],
    message: str,
) -> None:
    stored = CourseToken("stored", "s" * 24)
    store.add_course("CS101", TokenAnnounced(4, announced, NINE), token=stored)
    answer(site)

    result = receiver("registry", "set-token", "CS101", stdin=new_token())

    assert (result.exit_code, message in result.stderr) == (1, True)


def test_removed_course_can_be_added_again(receiver: Receiver, store: Store) -> None:
    store.add_course("CS101")

    removed = receiver("registry", "remove", "CS101")
    token = store.entry("CS101").encrypted_token
    repeated = receiver("registry", "remove", "CS101")
    added = receiver("registry", "add", "CS101", stdin=new_token())

    assert removed.stdout == "CS101 of one is removed from the grade sync\n"
    assert (removed.exit_code, repeated.exit_code, added.exit_code) == (0, 1, 0)
    assert token is None

"""`receiver registry add`, `list`, `show`, `remove` and `set-token`."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from contract.problems import ProblemType
from contract.tokens import CourseToken, MoodleToken
from foundation.db.session import Database
from receiver.course_state import Deleted, TokenAnnounced, TokenRejected
from receiver.models import MOODLE, Entry, Source
from receiver.registry import entries as registry
from tests.receiver.cli.conftest import Receiver, new_token


@pytest.fixture
def deleted_course(source: Source, database: Database, now: datetime) -> None:
    """CS101 is not in the registry, but a webhook said that it was deleted."""
    actor = registry.Actor("webhook", "msg_1")
    with database.writing() as session:
        registry.apply(session, source.id, "CS101", Deleted(4, now), actor=actor, now=now)


def test_add_stores_the_token(
    receiver: Receiver, source: Source, entry_of: Callable[[str], Entry]
) -> None:
    token = CourseToken.generate()

    result = receiver("registry", "add", "CS101", stdin=token.reveal())

    assert (result.exit_code, result.stdout) == (
        0,
        f"CS101 of one is added, with the token {token.token_id}\n"
        "CS101 is active: the next sync fetches its grades\n",
    )
    assert entry_of("CS101").stored_token_id == token.token_id


def test_add_of_a_deleted_course_exits_with_1(receiver: Receiver, deleted_course: None) -> None:
    result = receiver("registry", "add", "CS101", stdin=new_token())

    assert result.exit_code == 1
    assert "CS101 cannot be synced: the course was deleted in eAssessment" in result.stderr


def test_moodle_has_its_own_tokens_and_numbers(
    receiver: Receiver, source: Source, database: Database
) -> None:
    token = MoodleToken("0123456789abcdef" * 2)
    with database.writing() as session:
        session.get_one(Source, source.id).kind = MOODLE

    course_token = receiver("registry", "add", "7", stdin=new_token())
    course_id = receiver("registry", "add", "CS101", stdin=token.text)
    added = receiver("registry", "add", "7", stdin=token.text)

    assert (course_token.exit_code, course_id.exit_code, added.exit_code) == (1, 1, 0)
    assert "'CS101': in a Moodle the id of a course is a number" in course_id.stderr
    assert token.token_id in added.stdout


def test_source_is_optional_for_a_course_of_one_source(
    receiver: Receiver, source: Source, make_source: Callable[..., Source]
) -> None:
    make_source("two")

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
    receiver: Receiver, source: Source, words: list[str], message: str
) -> None:
    result = receiver("registry", *words, stdin="junk")

    assert (result.exit_code, message in result.stderr) == (1, True)
    assert "Traceback" not in result.output


def test_list_shows_status_and_last_result_of_each_course(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    empty = receiver("registry", "list")
    make_entry(source, "CS101")
    make_entry(source, "CS102", facts=(Deleted(4, now),))
    make_entry(source, "CS103", facts=(TokenAnnounced(4, "new", now),))
    receiver("sync-grades", "--course", "CS101")

    table = receiver("registry", "list").stdout
    [active, _, invalid] = json.loads(receiver("registry", "list", "--json").stdout)
    filtered = receiver("registry", "list", "--status", "token_invalid", "--json")

    assert empty.stdout.startswith("No courses match. Add one with")
    for words in ("active", "failed", "course_deleted", "2026-11-22 09:00:00Z"):
        assert words in table
    assert (active["status"], active["last_outcome"]) == ("active", "failed")
    assert active["last_outcome_at"].startswith("20")
    assert (invalid["course_id"], invalid["status"]) == ("CS103", "token_invalid")
    assert (invalid["since"], invalid["last_outcome"]) == (now.isoformat(), None)
    assert invalid["action"] == "registry set-token CS103"
    assert json.loads(filtered.stdout) == [invalid]


def test_show_prints_state_and_history(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    facts = (TokenRejected("other", "unknown", now), TokenAnnounced(4, "new", now))
    make_entry(source, facts=facts)

    text = receiver("registry", "show", "CS101").stdout
    known = json.loads(receiver("registry", "show", "CS101", "--limit", "1", "--json").stdout)

    assert "the token was regenerated: current new" in text
    history = text.split("History, newest first")[1]
    assert history.index("token.regenerated") < history.index("token rejected")
    assert (known["course_version"], known["announced_token_id"]) == (4, "new")
    assert known["rejected_reason"] == "unknown"
    assert known["history"] == [
        {
            "at": now.isoformat(),
            "actor": "webhook",
            "actor_name": "msg_1",
            "event": "token.regenerated",
            "detail": "version 4, current token new",
            "status": "token_invalid",
        }
    ]


def test_show_prints_a_course_that_is_not_in_the_registry(
    receiver: Receiver, deleted_course: None
) -> None:
    result = receiver("registry", "show", "CS101")

    assert result.exit_code == 0
    assert result.stdout.startswith("Not in the registry. Its stored state is used")
    assert "course.deleted" in result.stdout


def test_announced_token_is_set_without_a_request(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
) -> None:
    new = CourseToken.generate()
    make_entry(source, facts=(TokenAnnounced(4, new.token_id, now),))

    result = receiver("registry", "set-token", "CS101", stdin=new.reveal())

    assert (result.exit_code, fake_site.connections) == (0, 0)
    assert "CS101 is active" in result.stdout


def test_other_token_is_verified_with_one_request(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
) -> None:
    new = CourseToken.generate()
    make_entry(source, facts=(TokenAnnounced(4, "lost", now),))
    fake_site.grades("CS101", new, course_version=6)

    result = receiver("registry", "set-token", "CS101", stdin=new.reveal())

    assert (result.exit_code, len(fake_site.asked)) == (0, 1)
    assert "verifying it with eAssessment …\nCS101 is active" in result.stdout


@pytest.mark.parametrize(
    ("announced", "answer", "message"),
    [
        pytest.param(
            "lost",
            lambda site: site.refuse("CS101", ProblemType.TOKEN_UNKNOWN),
            "CS101 cannot be synced: the token was regenerated",
            id="rejected",
        ),
        pytest.param(
            "lost",
            lambda site: site.answer("CS101", 503),
            "the token could not be verified: responded 503\n next: The token is stored.",
            id="not verified",
        ),
        pytest.param(
            "held",
            lambda site: site.answer("CS101", 503),
            "was not entered: it could not be checked: responded 503; "
            "held, which is known to be valid, is still in use\n"
            " next: No action needed if the course is synced.",
            id="not entered",
        ),
    ],
)
def test_token_that_is_not_accepted_exits_with_1(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
    announced: str,
    answer: Callable[[Any], None],
    message: str,
) -> None:
    held = CourseToken("held", "s" * 24)
    make_entry(source, token=held, facts=(TokenAnnounced(4, announced, now),))
    answer(fake_site)

    result = receiver("registry", "set-token", "CS101", stdin=new_token())

    assert (result.exit_code, message in result.stderr) == (1, True)


def test_removed_course_can_be_added_again(
    receiver: Receiver, source: Source, entry_of: Callable[[str], Entry]
) -> None:
    receiver("registry", "add", "CS101", stdin=new_token())

    removed = receiver("registry", "remove", "CS101")
    token = entry_of("CS101").encrypted_token
    repeated = receiver("registry", "remove", "CS101")
    added = receiver("registry", "add", "CS101", stdin=new_token())

    assert removed.stdout == "CS101 of one is removed from the grade sync\n"
    assert (removed.exit_code, repeated.exit_code, added.exit_code) == (0, 1, 0)
    assert token is None

"""`receiver registry add`, `list`, `show`, `remove` and `set-token`."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from click.testing import Result

from contract.problems import ProblemType
from contract.tokens import CourseToken
from foundation.db.session import Database
from receiver.course_state import Deleted, Status, TokenAnnounced, TokenRejected
from receiver.models import Entry, Source
from receiver.registry import entries as registry


@pytest.fixture
def source(make_source: Callable[..., Source], fake_site: Any) -> Source:
    """The far side, as ELMS knows it."""
    return make_source("one", fake_site.url)


def test_add_stores_the_token(
    receiver: Callable[..., Result], source: Source, entry_of: Callable[[str], Entry]
) -> None:
    token = CourseToken.generate()

    result = receiver("registry", "add", "CS101", stdin=token.reveal())

    assert (result.exit_code, result.stdout) == (
        0,
        f"CS101 of one is added, with the token {token.token_id}\n"
        "CS101 is active: the next sync fetches its grades\n",
    )
    assert entry_of("CS101").stored_token_id == token.token_id


def test_add_of_a_deleted_course_says_so(
    receiver: Callable[..., Result], source: Source, database: Database, now: datetime
) -> None:
    with database.writing() as session:
        registry.apply(
            session,
            source.id,
            "CS101",
            Deleted(4, now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    result = receiver("registry", "add", "CS101", stdin=CourseToken.generate().reveal())

    assert result.exit_code == 1
    assert "CS101 cannot be synced: the course was deleted in eAssessment" in result.stderr


def test_source_is_required_if_there_are_several(
    receiver: Callable[..., Result], source: Source, make_source: Callable[..., Source]
) -> None:
    make_source("two")
    token = CourseToken.generate().reveal()

    unclear = receiver("registry", "add", "CS101", stdin=token)
    clear = receiver("registry", "add", "CS101", "--source", "two", stdin=token)

    assert (unclear.exit_code, clear.exit_code) == (1, 0)
    assert "there are 2 sources, and none was given" in unclear.stderr


def test_source_is_optional_for_a_course_of_one_source(
    receiver: Callable[..., Result], source: Source, make_source: Callable[..., Source]
) -> None:
    make_source("two")
    for course_id, where in (("CS101", "one"), ("CS102", "one"), ("CS102", "two")):
        token = CourseToken.generate().reveal()
        receiver("registry", "add", course_id, "--source", where, stdin=token)

    shown = receiver("registry", "show", "CS101")
    renewed = receiver("registry", "set-token", "CS101", stdin=CourseToken.generate().reveal())
    unclear = receiver("registry", "remove", "CS102")
    removed = receiver("registry", "remove", "CS101")

    assert [one.exit_code for one in (shown, renewed, removed)] == [0, 0, 0]
    assert unclear.exit_code == 1
    assert "there are 2 sources, and none was given" in unclear.stderr


@pytest.mark.parametrize(
    ("words", "stdin", "exit_code", "message"),
    [
        pytest.param(["add", "CS101"], "junk", 1, "cut off or mistyped", id="no token"),
        pytest.param(["add", "CS101"], "", 2, "nothing on standard input", id="nothing"),
        pytest.param(["add", " "], "", 2, "must not begin or end with a space", id="no course id"),
        pytest.param(["show", "NONE"], "", 1, "'NONE' of one is not in the registry", id="show"),
        pytest.param(["list", "--status", "x"], "", 2, "Invalid value for '--status'", id="status"),
        pytest.param(["list", "--source", "x"], "", 1, "there is no source 'x'", id="source"),
    ],
)
def test_wrong_usage_exits_with_2(
    receiver: Callable[..., Result],
    source: Source,
    words: list[str],
    stdin: str,
    exit_code: int,
    message: str,
) -> None:
    result = receiver("registry", *words, stdin=stdin)

    assert (result.exit_code, message in result.stderr) == (exit_code, True)
    assert "Traceback" not in result.output


def test_list_shows_the_status_of_each_course(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    empty = receiver("registry", "list")
    make_entry(source, "CS101")
    make_entry(source, "CS102", facts=(Deleted(4, now),))
    make_entry(source, "CS103", facts=(TokenAnnounced(4, "new", now),))

    table = receiver("registry", "list").stdout
    invalid = receiver("registry", "list", "--status", "token_invalid", "--json")

    assert empty.stdout.startswith("No courses match. Add one with")
    assert all(words in table for words in ("active", "course_deleted", "2026-11-22 09:00:00Z"))
    (course,) = json.loads(invalid.stdout)
    assert (course["course_id"], course["status"]) == ("CS103", "token_invalid")
    assert course["since"] == now.isoformat()
    assert course["action"] == "registry set-token CS103"


def test_show_prints_the_stored_state(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    make_entry(
        source, facts=(TokenAnnounced(4, "new", now), TokenRejected("other", "unknown", now))
    )

    shown = receiver("registry", "show", "CS101").stdout
    known = json.loads(receiver("registry", "show", "CS101", "--json").stdout)

    assert "the token was regenerated: current new" in shown
    assert (known["course_version"], known["announced_token_id"]) == (4, "new")
    assert known["rejected_reason"] == "unknown"


def test_show_prints_the_history(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    make_entry(source, facts=(TokenAnnounced(4, "new", now), Deleted(5, now)))

    shown = receiver("registry", "show", "CS101").stdout
    known = json.loads(receiver("registry", "show", "CS101", "--limit", "1", "--json").stdout)

    history = shown.split("History, newest first")[1]
    assert history.index("course.deleted") < history.index("token.regenerated")
    assert known["history"] == [
        {
            "at": now.isoformat(),
            "actor": "webhook",
            "actor_name": "msg_1",
            "event": "course.deleted",
            "detail": "version 5, deleted at 2026-11-22T09:00:00.123456Z",
            "status": "course_deleted",
        }
    ]


def test_show_prints_a_course_that_is_not_in_the_registry(
    receiver: Callable[..., Result], source: Source, database: Database, now: datetime
) -> None:
    with database.writing() as session:
        registry.apply(
            session,
            source.id,
            "CS101",
            Deleted(4, now),
            actor=registry.Actor("webhook", "msg_1"),
            now=now,
        )

    shown = receiver("registry", "show", "CS101")

    assert shown.exit_code == 0
    assert shown.stdout.startswith("Not in the registry. Its stored state is used")
    assert "course.deleted" in shown.stdout


def test_announced_token_is_accepted_without_a_request(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
) -> None:
    new = CourseToken.generate()
    make_entry(source, facts=(TokenAnnounced(4, new.token_id, now),))

    result = receiver("registry", "set-token", "CS101", stdin=new.reveal())

    assert result.exit_code == 0
    assert "CS101 is active" in result.stdout
    assert fake_site.connections == 0


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(lambda new, now: (TokenAnnounced(4, "lost", now),), id="another was named"),
        pytest.param(
            lambda new, now: (TokenRejected(new.token_id, "unknown", now),),
            id="it was refused once",
        ),
    ],
)
def test_unannounced_token_is_verified_with_one_request(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    entry_of: Callable[[str], Entry],
    now: datetime,
    facts: Callable[..., Any],
) -> None:
    new = CourseToken.generate()
    make_entry(source, facts=facts(new, now))
    fake_site.grades("CS101", new, course_version=6)

    result = receiver("registry", "set-token", "CS101", stdin=new.reveal())

    assert (result.exit_code, len(fake_site.asked)) == (0, 1)
    assert "verifying it with eAssessment …\nCS101 is active" in result.stdout
    assert registry.course_status(entry_of("CS101")).status is Status.ACTIVE


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(
            lambda there: there.refuse("CS101", ProblemType.TOKEN_UNKNOWN),
            "cannot be synced: the token was regenerated",
            id="unknown",
        ),
        pytest.param(
            lambda there: there.gone("CS101"),
            "cannot be synced: the course was deleted",
            id="deleted",
        ),
        pytest.param(
            lambda there: there.answer("CS101", 503),
            "the token could not be verified: responded 503\n next: The token is stored.",
            id="away",
        ),
        pytest.param(
            lambda there: there.answer("CS101", 302),
            "the token could not be verified: responded 302",
            id="redirect",
        ),
    ],
)
def test_unverified_token_says_why(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    entry_of: Callable[[str], Entry],
    now: datetime,
    answer: Callable[[Any], None],
    message: str,
) -> None:
    new = CourseToken.generate()
    make_entry(source, facts=(TokenAnnounced(4, "lost", now),))
    answer(fake_site)

    result = receiver("registry", "set-token", "CS101", stdin=new.reveal())

    assert (result.exit_code, message in result.stderr) == (1, True)
    assert entry_of("CS101").stored_token_id == new.token_id
    assert registry.course_status(entry_of("CS101")).status is not Status.ACTIVE


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(
            lambda there, held: there.regenerated("CS101", held, 4),
            "was not entered: it was regenerated, and the current token is {held}; {held}, which",
            id="regenerated",
        ),
        pytest.param(
            lambda there, held: there.refuse("CS101", ProblemType.TOKEN_UNKNOWN),
            "was not entered: eAssessment rejected it: token-unknown: refused",
            id="unknown",
        ),
        pytest.param(
            lambda there, held: there.answer("CS101", 503),
            "was not entered: it could not be checked: responded 503",
            id="away",
        ),
    ],
)
def test_working_token_is_not_replaced_by_an_unverified_one(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    entry_of: Callable[[str], Entry],
    now: datetime,
    answer: Callable[[Any, str], None],
    message: str,
) -> None:
    held, old = CourseToken.generate(), CourseToken.generate()
    make_entry(source, token=held, facts=(TokenAnnounced(4, held.token_id, now),))
    answer(fake_site, held.token_id)

    result = receiver("registry", "set-token", "CS101", stdin=old.reveal())

    assert result.exit_code == 1
    assert f"{old.token_id} {message.format(held=held.token_id)}" in result.stderr
    assert " next: No action needed if the course is synced." in result.stderr
    assert entry_of("CS101").stored_token_id == held.token_id
    assert registry.course_status(entry_of("CS101")).status is Status.ACTIVE


def test_newer_token_replaces_a_working_one(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    held, new = CourseToken.generate(), CourseToken.generate()
    make_entry(source, token=held, facts=(TokenAnnounced(4, held.token_id, now),))
    fake_site.grades("CS101", new, course_version=5)

    result = receiver("registry", "set-token", "CS101", stdin=new.reveal())

    assert (result.exit_code, len(fake_site.asked)) == (0, 1)
    assert entry_of("CS101").stored_token_id == new.token_id
    assert registry.course_status(entry_of("CS101")).status is Status.ACTIVE


def test_removed_course_can_be_added_again(
    receiver: Callable[..., Result], source: Source, entry_of: Callable[[str], Entry]
) -> None:
    receiver("registry", "add", "CS101", stdin=CourseToken.generate().reveal())

    result = receiver("registry", "remove", "CS101")

    again = receiver("registry", "remove", "CS101")
    assert (result.exit_code, result.stdout) == (0, "CS101 of one is removed from the grade sync\n")
    assert entry_of("CS101").encrypted_token is None
    assert again.exit_code == 1
    added = receiver("registry", "add", "CS101", stdin=CourseToken.generate().reveal())
    assert added.exit_code == 0


def test_list_shows_the_last_result_of_each_course(
    receiver: Callable[..., Result],
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
) -> None:
    make_entry(make_source("one"))
    before = json.loads(receiver("registry", "list", "--json").stdout)

    receiver("sync-grades")

    after = json.loads(receiver("registry", "list", "--json").stdout)
    assert (before[0]["last_outcome"], before[0]["last_outcome_at"]) == (None, None)
    assert after[0]["last_outcome"] == "failed"
    assert after[0]["last_outcome_at"].startswith("20")
    assert "failed" in receiver("registry", "list").stdout

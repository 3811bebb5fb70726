"""`notifier courses …`: add, list, show, delete, regenerate-token."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from contract.tokens import CourseToken, MoodleToken
from foundation.db.session import Database
from notifier.courses import service as courses

Notifier = Callable[..., Result]
Told = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]

OVERRIDE, BELL, ESCAPE = "\u202e", "\x07", "\x1b"


def test_adding_a_course_prints_its_token(notifier: Notifier) -> None:
    result = notifier("courses", "add", "CS101", "--title", "Algorithms")

    sentence, token = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert sentence == "the course CS101 is added; its token, shown this once:"
    assert CourseToken.parse(token).reveal() == token


def test_adding_a_course_as_json(told: Told) -> None:
    added = told("courses", "add", "2026/Économie 1", "--title", "x")

    assert added["course_id"] == "2026/Économie 1"
    assert CourseToken.parse(added["token"]).token_id == added["token_id"]


def test_a_taken_course_id_is_refused(notifier: Notifier, rows: Rows) -> None:
    notifier("courses", "add", "CS101", "--title", "Algorithms")
    before = rows()

    result = notifier("courses", "add", "CS101", "--title", "Again")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: the course id 'CS101' is taken\n"
        " next: Choose another course id; a deleted course's id stays taken, "
        "so that nobody mistakes one for the other. If you added it just now and did not hear its "
        "token, make a new one with `notifier courses regenerate-token`.\n"
    )
    assert before == rows()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(("add", "CS101"), "Missing option '--title'", id="no title"),
        pytest.param(
            ("add", "CS101", "--title", ""), "0 characters, where 1 to 10000", id="empty title"
        ),
        pytest.param(
            ("add", "CS101", "--title", "\udce9"), "the text is not UTF-8", id="title in Latin-1"
        ),
        pytest.param(("add", "..", "--title", "x"), "is not a dot", id="dots"),
        pytest.param(("add", "a\nb", "--title", "x"), "'a\\nb': a course id holds", id="break"),
        pytest.param(
            ("add", "\udce9", "--title", "x"), "the course id is not UTF-8", id="id in Latin-1"
        ),
        pytest.param(("add", "", "--title", "x"), "at least 1 character", id="empty id"),
        pytest.param(("add", "x" * 256, "--title", "x"), "at most 255 characters", id="long id"),
        pytest.param(("add", "A", "B", "--title", "x"), "unexpected extra argument", id="two"),
        pytest.param(("show",), "Missing argument 'COURSE_ID'", id="show what"),
        pytest.param(("delete",), "name at least one COURSE_ID", id="delete what"),
        pytest.param(("delete", "--from-file", "none"), "'none': No such file", id="no file"),
        pytest.param(("list", "--limit", "0"), "0 is not in the range", id="limit zero"),
        pytest.param(("list", "--limit", "x"), "'x' is not a valid integer", id="limit"),
        pytest.param(("list", "--after", "\udce9"), "the text is not UTF-8", id="after"),
        pytest.param(("remove", "CS101"), "No such command 'remove'", id="unknown command"),
        pytest.param(("list", "--titel"), "No such option '--titel'", id="unknown option"),
    ],
)
def test_wrong_use_is_a_sentence(away: Notifier, arguments: tuple[str, ...], sentence: str) -> None:
    result = away("courses", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "Usage: notifier courses" in result.stderr


def test_courses_are_listed(notifier: Notifier) -> None:
    notifier("courses", "add", "CS102", "--title", "Größe und Maß")
    notifier("courses", "add", "CS101", "--title", "تاريخ")

    result = notifier("courses", "list", "--limit", "1")
    rest = notifier("courses", "list", "--after", "CS101")

    assert "تاريخ" in result.stdout
    assert "CS102" not in result.stdout
    assert "there may be more: --after CS101\n" in result.stdout
    assert "Größe und Maß" in rest.stdout
    assert "CS101" not in rest.stdout


def test_an_empty_list_says_how_to_fill_it(notifier: Notifier, told: Told) -> None:
    result = notifier("courses", "list")

    assert result.stdout == (
        "no courses; add one with `notifier courses add COURSE_ID --title …`\n"
    )
    assert told("courses", "list") == []


def test_deleted_courses_are_told_from_the_others(told: Told) -> None:
    told("courses", "add", "CS102", "--title", "Logic")
    told("courses", "add", "CS101", "--title", "Algorithms")
    told("courses", "delete", "CS101")

    listed = {
        flag: [one["course_id"] for one in told("courses", "list", *flag)]
        for flag in [(), ("--deleted",), ("--not-deleted",)]
    }

    assert listed == {
        (): ["CS101", "CS102"],
        ("--deleted",): ["CS101"],
        ("--not-deleted",): ["CS102"],
    }


def test_control_and_direction_characters_are_spelled_out(notifier: Notifier, told: Told) -> None:
    title = f"{OVERRIDE}gnp.exe{BELL}{ESCAPE}[31m\r\nred"
    told("courses", "add", "CS101", "--title", title)

    shown = [
        notifier("courses", *arguments).stdout
        for arguments in (
            ("list",),
            ("list", "--json"),
            ("show", "CS101"),
            ("show", "CS101", "--json"),
        )
    ]

    for text in shown:
        assert not {OVERRIDE, BELL, ESCAPE, "\r"} & set(text)
    assert "\\u202egnp.exe\\x07\\x1b[31m\\r\\nred" in shown[0]
    assert "\\u202egnp.exe\\x07\\x1b[31m\\r\\nred" in shown[2]
    assert json.loads(shown[3])["title"] == title


def test_a_course_shows_its_tokens_and_who_was_told(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", "https://elms.example/webhooks")
    old = told("courses", "add", "CS101", "--title", "Algorithms")
    new = told("courses", "regenerate-token", "CS101")

    shown = told("courses", "show", "CS101")
    text = notifier("courses", "show", "CS101").stdout

    assert [one["token_id"] for one in shown["tokens"]] == [old["token_id"], new["token_id"]]
    assert [one["superseded_at"] is None for one in shown["tokens"]] == [False, True]
    assert [(one["event_type"], one["status"]) for one in shown["deliveries"]] == [
        ("token.regenerated", "pending")
    ]
    assert shown["course_version"] == 2
    for word in (old["token_id"], new["token_id"], "token.regenerated", "pending"):
        assert word in text
    for secret in (old["token"], new["token"]):
        assert secret not in text + json.dumps(shown)


def test_a_course_of_which_nothing_was_told_says_so(notifier: Notifier) -> None:
    notifier("courses", "add", "CS101", "--title", "Algorithms")

    result = notifier("courses", "show", "CS101")

    assert "nothing was told of this course yet" in result.stdout


@pytest.mark.parametrize(
    "verb",
    [pytest.param("show", id="show"), pytest.param("regenerate-token", id="regenerate-token")],
)
def test_an_unknown_course_is_refused(notifier: Notifier, verb: str) -> None:
    result = notifier("courses", verb, "NONE")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: there is no course 'NONE'\n"
        " next: Check the course id; `notifier courses list` names those that exist.\n"
    )


def test_regenerating_prints_the_new_token(notifier: Notifier, told: Told) -> None:
    told("courses", "add", "CS101", "--title", "Algorithms")

    result = notifier("courses", "regenerate-token", "CS101")

    sentence, token = result.stdout.splitlines()
    assert sentence == "the course CS101 has a new token, shown this once:"
    assert told("courses", "show", "CS101")["tokens"][-1]["token_id"] == (
        CourseToken.parse(token).token_id
    )


def test_a_deleted_course_gets_no_token(notifier: Notifier, told: Told, rows: Rows) -> None:
    told("courses", "add", "CS101", "--title", "Algorithms")
    told("courses", "delete", "CS101")
    before = rows()

    result = notifier("courses", "regenerate-token", "CS101")

    assert result.exit_code == 1
    assert result.stderr.startswith("error: the course 'CS101' was deleted at 20")
    assert "if the course is held again, add it under a new id" in result.stderr
    assert before == rows()


def test_several_courses_are_deleted_each_on_its_own(
    notifier: Notifier, told: Told, tmp_path: Path
) -> None:
    told("endpoints", "add", "https://elms.example/webhooks")
    for course_id in ("CS101", "CS102", "Économie"):
        told("courses", "add", course_id, "--title", "x")
    listed = tmp_path / "old.txt"
    listed.write_text("\ufeffÉconomie\r\n\r\n  CS102  \nCS101\n", encoding="utf-8")

    result = notifier("courses", "delete", "CS101", "NONE", "--from-file", listed)

    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "CS101: deleted; deliveries: 1 pending\n"
        "NONE: refused: there is no course 'NONE'. Check the course id; "
        "`notifier courses list` names those that exist.\n"
        "Économie: deleted; deliveries: 1 pending\n"
        "CS102: deleted; deliveries: 1 pending\n"
    )
    assert len(told("courses", "list", "--deleted")) == 3


def test_courses_to_delete_come_from_standard_input_too(notifier: Notifier, told: Told) -> None:
    for course_id in ("CS101", "CS102"):
        told("courses", "add", course_id, "--title", "x")

    result = notifier("courses", "delete", "--from-file", "-", stdin="CS101\nCS102\n")

    assert (result.exit_code, result.stdout.count(": deleted")) == (0, 2)


def test_what_was_deleted_and_what_not_comes_as_json(notifier: Notifier, told: Told) -> None:
    told("courses", "add", "CS101", "--title", "x")

    result = notifier("courses", "delete", "CS101", "NONE", "--json")

    assert result.exit_code == 1
    assert [(one["course_id"], one["deleted"]) for one in json.loads(result.stdout)] == [
        ("CS101", True),
        ("NONE", False),
    ]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        pytest.param(b"CS101\n..\n", "line 2 of the file: '..': a course id has", id="a bad id"),
        pytest.param(b"CS101\n\xff\xfe\n", "the file is not UTF-8", id="not UTF-8"),
        pytest.param(b"\n \n", "name at least one COURSE_ID", id="nothing in it"),
    ],
)
def test_a_file_that_cannot_be_read_deletes_nothing(
    notifier: Notifier, told: Told, tmp_path: Path, raw: bytes, sentence: str
) -> None:
    told("courses", "add", "CS101", "--title", "x")
    (tmp_path / "old.txt").write_bytes(raw)

    result = notifier("courses", "delete", "--from-file", "old.txt")

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert told("courses", "list", "--deleted") == []


MOODLE_TOKEN = "0123456789abcdef0123456789abcdef"
MOODLE_TOKEN_ID = MoodleToken(MOODLE_TOKEN).token_id


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        pytest.param((), f"{MOODLE_TOKEN}\n", id="from standard input"),
        pytest.param(("--token-id", MOODLE_TOKEN_ID), None, id="by its id"),
    ],
)
def test_a_moodle_s_new_token_is_told(
    notifier: Notifier, rows: Rows, arguments: tuple[str, ...], stdin: str | None
) -> None:
    result = notifier("courses", "announce-token", "7", *arguments, stdin=stdin)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"the course 7 has a new token, which is told: {MOODLE_TOKEN_ID}\n"
    stored = rows()
    assert MOODLE_TOKEN_ID in str(stored["events"])
    assert MOODLE_TOKEN not in f"{stored}"


def test_a_new_token_that_nobody_knows_is_told(notifier: Notifier, told: Told) -> None:
    document = told("courses", "announce-token", "7", "--unknown")
    again = notifier("courses", "announce-token", "7", "--unknown")

    assert (document["course_id"], document["course_version"]) == ("7", 2)
    assert again.stdout == "the course 7 has a new token, which is told: not known here\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "sentence"),
    [
        pytest.param((), "", 2, "New Moodle token: nothing on standard input", id="nothing"),
        pytest.param((), "eas_planted\n", 1, "a Moodle token is 32 letters and digits", id="ours"),
        pytest.param(
            ("--token-id", MOODLE_TOKEN),
            None,
            2,
            "the id of a Moodle token is m and 16 hexadecimal digits",
            id="a token in place of its id",
        ),
        pytest.param(
            ("--unknown", "--token-id", MOODLE_TOKEN_ID),
            None,
            2,
            "give either --token-id or --unknown",
            id="both",
        ),
    ],
)
def test_what_is_no_moodle_token_is_not_told(
    notifier: Notifier,
    rows: Rows,
    arguments: tuple[str, ...],
    stdin: str | None,
    code: int,
    sentence: str,
) -> None:
    before = rows()

    result = notifier("courses", "announce-token", "7", *arguments, stdin=stdin)

    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert MOODLE_TOKEN not in result.stderr
    assert "planted" not in result.stderr
    assert before == rows()


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("CS1O1", id="a letter for a digit"),
        pytest.param("07", id="a nought before it"),
        pytest.param("\N{ARABIC-INDIC DIGIT SEVEN}", id="another script's digit"),
    ],
)
def test_a_mistyped_course_is_not_told(notifier: Notifier, rows: Rows, course_id: str) -> None:
    before = rows()

    result = notifier("courses", "announce-token", course_id, "--unknown")

    assert result.exit_code == 1
    assert f"there is no course '{course_id}' here, and a Moodle's is a whole number" in (
        result.stderr
    )
    assert "course/view.php?id=" in result.stderr
    assert before == rows()


def test_a_course_that_is_known_here_is_told_by_whatever_name(
    notifier: Notifier, database: Database, told: Told
) -> None:
    with database.writing() as session:
        courses.ensure_course(session, "2026/7", "Algorithms", now=datetime.now(UTC))

    document = told("courses", "announce-token", "2026/7", "--unknown")

    assert document["course_version"] == 2


def test_a_moodle_s_course_is_shown_and_deleted(notifier: Notifier, told: Told) -> None:
    notifier("courses", "announce-token", "7", "--unknown")

    shown = told("courses", "show", "7")
    refused = notifier("courses", "regenerate-token", "7")
    deleted = notifier("courses", "delete", "7")

    assert shown["tokens"] == []
    assert refused.exit_code == 1
    assert "the tokens of the course '7' are issued by its Moodle" in refused.stderr
    assert (deleted.exit_code, deleted.stdout.partition(";")[0]) == (0, "7: deleted")

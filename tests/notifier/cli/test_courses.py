"""`notifier courses …`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from contract.tokens import CourseToken, MoodleToken
from foundation.db import session as db
from foundation.db.session import Database
from notifier.courses import service as courses

Notifier = Callable[..., Result]
ReadJson = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]

MOODLE_TOKEN = "0123456789abcdef" * 2


def test_add_prints_the_token_once(notifier: Notifier, told: ReadJson) -> None:
    result = notifier("courses", "add", "CS101", "--title", "Algorithms")
    as_json = told("courses", "add", "2026/Économie 1", "--title", "x")

    message, token = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert message == "The course CS101 is added. Its token, shown only once:"
    assert CourseToken.parse(token).reveal() == token
    assert CourseToken.parse(as_json["token"]).token_id == as_json["token_id"]


def test_add_refuses_a_taken_id(notifier: Notifier, rows: Rows) -> None:
    notifier("courses", "add", "CS101", "--title", "Algorithms")
    before = rows()

    result = notifier("courses", "add", "CS101", "--title", "Again")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: the course id 'CS101' is taken\n next: ")
    assert before == rows()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("add", "..", "--title", "x"), "a course id must not", id="course id"),
        pytest.param(("add", "\udce9", "--title", "x"), "is not UTF-8", id="id in Latin-1"),
        pytest.param(("add", "CS101", "--title", ""), "0 characters; expected 1", id="no title"),
        pytest.param(("add", "CS101", "--title", "\udce9"), "is not UTF-8", id="title in Latin-1"),
        pytest.param(("delete",), "give at least one COURSE_ID", id="no course"),
        pytest.param(("list", "--limit", "0"), "0 is not in the range", id="limit"),
        pytest.param(
            ("announce-token", "7", "--unknown", "--token-id", "m" + "0" * 16),
            "give either",
            id="both",
        ),
    ],
)
def test_wrong_usage_exits_with_2(away: Notifier, arguments: tuple[str, ...], message: str) -> None:
    result = away("courses", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_list_pages_by_id(notifier: Notifier, told: ReadJson) -> None:
    empty = notifier("courses", "list")
    notifier("courses", "add", "CS102", "--title", "Größe und Maß")
    notifier("courses", "add", "CS101", "--title", "تاريخ")

    first = notifier("courses", "list", "--limit", "1")
    rest = told("courses", "list", "--after", "CS101")

    assert empty.stdout.startswith("No courses. Add one with `notifier courses add")
    assert "تاريخ" in first.stdout
    assert "More: add --after CS101\n" in first.stdout
    assert [one["course_id"] for one in rest] == ["CS102"]


def test_list_filters_deleted_courses(told: ReadJson) -> None:
    told("courses", "add", "CS102", "--title", "Logic")
    told("courses", "add", "CS101", "--title", "Algorithms")
    told("courses", "delete", "CS101")

    deleted, others = told("courses", "list", "--deleted"), told("courses", "list", "--not-deleted")

    assert [one["course_id"] for one in deleted] == ["CS101"]
    assert [one["course_id"] for one in others] == ["CS102"]


def test_control_characters_of_a_title_are_escaped(notifier: Notifier, told: ReadJson) -> None:
    title = "\u202egnp.exe\x07\x1b[31m\r\nred"
    told("courses", "add", "CS101", "--title", title)

    shown = [
        notifier("courses", *arguments).stdout
        for arguments in (("list",), ("list", "--json"), ("show", "CS101"))
    ]

    for text in shown:
        assert not {"\u202e", "\x07", "\x1b", "\r"} & set(text)
        assert "gnp.exe" in text
    assert json.loads(shown[1])[0]["title"] == title


def test_show_lists_tokens_and_deliveries(notifier: Notifier, told: ReadJson) -> None:
    told("endpoints", "add", "https://elms.example/webhooks")
    first = told("courses", "add", "CS101", "--title", "Algorithms")["token_id"]
    second = told("courses", "regenerate-token", "CS101")["token_id"]

    text = notifier("courses", "show", "CS101").stdout
    shown = told("courses", "show", "CS101")

    assert [one["token_id"] for one in shown["tokens"]] == [first, second]
    assert [(one["event_type"], one["status"]) for one in shown["deliveries"]] == [
        ("token.regenerated", "pending")
    ]
    for words in (first, second, "token.regenerated", "pending", "Algorithms"):
        assert words in text


def test_show_refuses_an_unknown_course(notifier: Notifier) -> None:
    result = notifier("courses", "show", "CS101")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no course 'CS101'\n next: ")


def test_regenerate_token_prints_the_new_one(notifier: Notifier) -> None:
    old = notifier("courses", "add", "CS101", "--title", "x").stdout.splitlines()[1]

    message, new = notifier("courses", "regenerate-token", "CS101").stdout.splitlines()

    assert message == "The course CS101 has a new token, shown only once:"
    assert CourseToken.parse(new).token_id != CourseToken.parse(old).token_id


def test_regenerate_token_refuses_a_deleted_course(notifier: Notifier) -> None:
    notifier("courses", "add", "CS101", "--title", "x")
    notifier("courses", "delete", "CS101")

    result = notifier("courses", "regenerate-token", "CS101")

    assert result.exit_code == 1
    assert "the course 'CS101' was deleted at" in result.stderr


def test_delete_reports_each_course(notifier: Notifier, told: ReadJson) -> None:
    told("endpoints", "add", "https://elms.example/webhooks")
    for course_id in ("CS101", "CS102", "CS103"):
        told("courses", "add", course_id, "--title", "x")

    result = notifier("courses", "delete", "CS101", "NONE", "CS101", "CS102")
    as_json = notifier(
        "courses", "delete", "--from-file", "-", "--json", stdin="CS103\r\n\nCS103\n"
    )

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0] == "CS101: deleted; deliveries: 1 pending"
    assert lines[1].startswith("NONE: refused: there is no course 'NONE'")
    assert len(lines) == 3
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout) == [
        {"course_id": "CS103", "deleted": True, "result": "deleted; deliveries: 1 pending"}
    ]


def test_delete_reads_the_whole_file_first(notifier: Notifier, rows: Rows) -> None:
    notifier("courses", "add", "CS101", "--title", "x")
    Path("ids.txt").write_text("CS101\n ..\n")
    Path("latin.txt").write_bytes(b"CS101\n\xe9\n")
    before = rows()

    results = [
        notifier("courses", "delete", "--from-file", file) for file in ("ids.txt", "latin.txt")
    ]

    assert [one.exit_code for one in results] == [2, 2]
    assert "line 2 of the file: " in results[0].stderr
    assert "the file is not UTF-8" in results[1].stderr
    assert before == rows()


@pytest.mark.parametrize(
    ("options", "stdin", "token_id"),
    [
        pytest.param((), f"{MOODLE_TOKEN}\n", MoodleToken(MOODLE_TOKEN).token_id, id="token"),
        pytest.param(("--token-id", "m" + "0" * 16), None, "m" + "0" * 16, id="token id"),
        pytest.param(("--unknown",), None, None, id="unknown"),
    ],
)
def test_announce_token_sends_only_the_public_id(
    notifier: Notifier,
    told: ReadJson,
    rows: Rows,
    options: tuple[str, ...],
    stdin: str | None,
    token_id: str | None,
) -> None:
    told("endpoints", "add", "https://elms.example/webhooks")

    result = notifier("courses", "announce-token", "7", *options, stdin=stdin)

    (delivery,) = told("deliveries", "list")
    assert result.exit_code == 0
    assert result.stdout.endswith(f"new token of 7: {token_id or 'not known'}\n")
    assert (delivery["event_type"], delivery["course_id"]) == ("token.regenerated", "7")
    assert MOODLE_TOKEN not in str(rows()) + result.output


@pytest.mark.parametrize(
    ("course_id", "stdin", "message"),
    [
        pytest.param("7", "eas_nothing\n", "Copy the whole token again", id="token"),
        pytest.param("BIO 101", f"{MOODLE_TOKEN}\n", "no course 'BIO 101' here", id="course"),
    ],
)
def test_announce_token_refuses_what_is_mistyped(
    notifier: Notifier, rows: Rows, course_id: str, stdin: str, message: str
) -> None:
    before = rows()

    result = notifier("courses", "announce-token", course_id, stdin=stdin)

    assert result.exit_code == 1
    assert message in result.stderr
    assert before == rows()


def test_announce_token_accepts_a_known_course_of_any_name(
    told: ReadJson, database: Database
) -> None:
    with database.writing() as session:
        courses.ensure_course(session, "BIO 101", "Biology", now=db.now(session))

    announced = told("courses", "announce-token", "BIO 101", stdin=f"{MOODLE_TOKEN}\n")

    assert announced["token_id"] == MoodleToken(MOODLE_TOKEN).token_id

"""Output on a terminal: tables, facts, JSON; and secrets from standard input."""

import io
import json
import os
import pty
import re
from datetime import UTC, datetime
from decimal import Decimal

import click
import pytest

from foundation.cli import output
from foundation.errors import DecryptionError
from foundation.responses import Response, Timestamp

HOSTILE = "[bold]x[/] \x1b[31mred\x07\u202e\x9b\r\nCS102  deleted"
ESCAPED = "[bold]x[/] \\x1b[31mred\\x07\\u202e\\x9b\\r\\nCS102  deleted"
Capture = pytest.CaptureFixture[str]


def test_row_is_a_line(capsys: Capture) -> None:
    output.print_table(("course", "at"), [("CS101", None), ("CS102", 4)], empty="none")

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["course", "at"], ["CS101", "-"], ["CS102", "4"]]


def test_empty_table_is_a_sentence(capsys: Capture) -> None:
    output.print_table(("course",), (row for row in ()), empty="no courses yet")

    assert capsys.readouterr().out == "no courses yet\n"


@pytest.mark.parametrize(
    ("shown", "total", "more", "line"),
    [
        pytest.param(0, 0, "", "", id="empty"),
        pytest.param(3, 3, "", "3 courses\n", id="all"),
        pytest.param(
            100, 5003, "--after A", "100 of 5,003 courses. More: add --after A\n", id="first page"
        ),
        pytest.param(
            100,
            10_001,
            "--after A",
            "100 of more than 10,000 courses. More: add --after A\n",
            id="uncounted",
        ),
    ],
)
def test_total_says_how_many_are_shown(
    capsys: Capture, shown: int, total: int, more: str, line: str
) -> None:
    output.print_total(shown, total, "course", more=more)

    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("title", "printed"),
    [
        pytest.param(HOSTILE, ESCAPED, id="control characters"),
        *((title, title) for title in ("[/]", "[link=https://x]y[/link]", ":smile:", "\\[x]")),
    ],
)
def test_title_is_printed_literally(capsys: Capture, title: str, printed: str) -> None:
    output.print_table(("title",), [(title,)], empty="none")
    output.print_facts([("full_title", title)])

    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == ["title", printed, f"full title  {printed}"]


def test_long_value_is_wrapped_and_not_cut(capsys: Capture) -> None:
    output.print_table(("title",), [("x" * 1000,)], empty="none")

    assert capsys.readouterr().out.count("x") == 1000


class Sample(Response):
    at: Timestamp = datetime(2026, 11, 22, 9, tzinfo=UTC)
    number: Decimal = Decimal("7.50")
    title: str = ""


def test_json_has_times_and_decimals_as_text(capsys: Capture) -> None:
    output.print_json(Sample())

    document = json.loads(capsys.readouterr().out)
    assert document == {"at": "2026-11-22T09:00:00.000000Z", "number": "7.50", "title": ""}


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        pytest.param(
            DecryptionError("no key", sealed_at=datetime(2026, 11, 22, 9, tzinfo=UTC)),
            1,
            {
                "type": "urn:problem-type:internal-error",
                "detail": "no key",
                "next_step": DecryptionError.advice.text,
                "action": None,
                "sealed_at": "2026-11-22T09:00:00.000000Z",
                "exit_code": 1,
            },
            id="refusal",
        ),
        pytest.param(
            click.Abort(),
            1,
            {
                "type": "about:blank",
                "detail": "the command was interrupted",
                "next_step": "Run the command again.",
                "action": None,
                "exit_code": 1,
            },
            id="interrupted",
        ),
        pytest.param(ValueError(), None, None, id="unexpected"),
    ],
)
def test_error_as_json_is_one_line(
    capsys: Capture, error: Exception, code: int | None, expected: object
) -> None:
    assert output.report_error(error, "notifier", as_json=True) == code

    printed = capsys.readouterr().err
    assert [json.loads(line) for line in printed.splitlines()] == ([expected] if code else [])


@pytest.mark.parametrize(
    ("title", "is_unescaped"),
    [
        pytest.param("Übung 😀 日本語", True, id="letters"),
        pytest.param(HOSTILE, False, id="control characters"),
        pytest.param("\U000e0041\ud800", False, id="invisible"),
    ],
)
def test_json_escapes_only_control_characters(
    capsys: Capture, title: str, is_unescaped: bool
) -> None:
    output.print_json(Sample(title=title))

    printed = capsys.readouterr().out
    assert json.loads(printed)["title"] == title
    assert all(char.isprintable() or char == "\n" for char in printed)
    assert (title in printed) is is_unescaped


def test_secret_is_the_first_line_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("  hunter2 \nmore\n"))

    assert output.read_secret("Token") == "hunter2"


@pytest.mark.parametrize("given", ["", "   \nhunter2\n"])
def test_empty_secret_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))

    with pytest.raises(click.UsageError, match=r"^Token: nothing on standard input$"):
        output.read_secret("Token")


@pytest.mark.parametrize("hidden", [False, True])
def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, hidden: bool) -> None:
    ours, theirs = pty.openpty()

    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with output.progress_bar(2, "Reading", hidden=hidden) as advance:
            advance(1)
            advance(1)
        print("end", file=terminal, flush=True)
        shown = ""
        while "end" not in shown:  # a terminal passes on what it has so far
            shown += os.read(ours, 4096).decode()

    os.close(ours)
    bars = re.findall(r"Reading  \[(#*)", shown)
    assert [len(bar) for bar in bars] == ([] if hidden else [0, 18, 36])


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [
        pytest.param(0.0, "Reading: 33 %\nReading: 100 %\n", id="long"),
        pytest.param(3600.0, "", id="short"),
    ],
)
def test_progress_is_a_line_now_and_then_on_a_pipe(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, seconds: float, lines: str
) -> None:
    monkeypatch.setattr(output, "LINE_SECONDS", seconds)

    with output.progress_bar(3, "Reading") as advance:
        advance(1)
        advance(2)

    assert capsys.readouterr() == ("", lines)


def test_user_is_the_person_and_the_machine() -> None:
    person, _, machine = output.current_user().partition("@")

    assert person
    assert machine

"""What people see on a terminal: tables, JSON, sentences for refusals, exit codes."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import click
import pytest

from foundation.cli import output
from foundation.errors import Advice, Refusal
from foundation.text import printable, readable

HOSTILE = "\x1b[31mred\x07\u202e\x9b\r"
ACTING = {"\x1b", "\x07", "\u202e", "\x9b", "\r"}


class CourseUnknownError(Refusal):
    """The tests' own refusal."""

    advice = Advice("List the courses.")


class TestPrintable:
    """Text of strangers, made harmless."""

    @pytest.mark.parametrize(
        ("text", "printed"),
        [
            pytest.param("", "", id="nothing"),
            pytest.param("Übung, 日本語 😀 e\u0301", "Übung, 日本語 😀 e\u0301", id="any script"),
            pytest.param("[bold]x[/]", "[bold]x[/]", id="markup"),
            pytest.param("\x1b[31m", "\\x1b[31m", id="a colour"),
            pytest.param("\x9b31m", "\\x9b31m", id="a colour in one byte"),
            pytest.param("a\nb\rc\td", "a\\nb\\rc\\td", id="line breaks and tabs"),
            pytest.param("a\x00b\x7f", "a\\x00b\\x7f", id="NUL and delete"),
            pytest.param("\u202egnp.exe", "\\u202egnp.exe", id="right-to-left override"),
            pytest.param("\u2066a\u2069", "\\u2066a\\u2069", id="isolates"),
            pytest.param("a\u200bb\ufeff", "a\\u200bb\\ufeff", id="what has no width"),
            pytest.param("a\u2028b", "a\\u2028b", id="a line separator"),
            pytest.param("\ud800", "\\ud800", id="a lone surrogate"),
            pytest.param("\U000e0041", "\\U000e0041", id="a tag"),
        ],
    )
    def test_what_acts_is_spelled_out(self, text: str, printed: str) -> None:
        assert printable(text) == printed


class TestCell:
    """A value, as a person reads it."""

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            pytest.param(None, "-", id="nothing"),
            pytest.param("", "-", id="no text"),
            pytest.param(0, "0", id="nought"),
            pytest.param(False, "no", id="no"),
            pytest.param(True, "yes", id="yes"),
            pytest.param(Decimal("7.50"), "7.50", id="points"),
            pytest.param("a\nb", "a\\nb", id="a line break"),
            pytest.param(
                datetime(2026, 11, 22, 14, 30, 1, 5, tzinfo=timezone(timedelta(hours=5.5))),
                "2026-11-22 09:00:01Z",
                id="a moment in another zone",
            ),
        ],
    )
    def test_it_has_one_look(self, value: object, shown: str) -> None:
        assert readable(value) == shown


class TestTables:
    """Rows under their headings."""

    def test_a_row_is_a_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(("course", "at"), [("CS101", None), ("CS102", 4)], empty="none")

        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines == [["course", "at"], ["CS101", "-"], ["CS102", "4"]]

    def test_an_empty_list_is_a_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(("course",), (row for row in ()), empty="no courses yet")

        assert capsys.readouterr().out == "no courses yet\n"

    @pytest.mark.parametrize(
        "title",
        ["[bold]x[/]", "[/]", "[red]", "[link=https://x]y[/link]", ":smile:", "\\[x]", "'; DROP"],
    )
    def test_what_looks_like_markup_is_carried_literally(
        self, capsys: pytest.CaptureFixture[str], title: str
    ) -> None:
        output.print_table(("title",), [(title,)], empty="none")
        output.print_facts([("title", title)])

        printed = capsys.readouterr().out.splitlines()
        assert [line.strip() for line in printed] == ["title", title, f"title  {title}"]

    def test_a_hostile_title_acts_neither_in_a_table_nor_in_facts(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output.print_table(("title",), [(HOSTILE,)], empty="none")
        output.print_facts([("title", HOSTILE)])

        printed = capsys.readouterr().out
        assert not ACTING & set(printed)
        assert printed.count("\\x1b[31mred\\x07\\u202e\\x9b\\r") == 2

    def test_a_line_break_makes_no_row(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(("title",), [("a\nCS102  deleted",)], empty="none")

        assert len(capsys.readouterr().out.splitlines()) == 2

    def test_a_long_value_is_folded_and_not_cut(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(("title",), [("x" * 1000,)], empty="none")

        assert capsys.readouterr().out.count("x") == 1000


class TestJson:
    """What programs read."""

    def test_values_that_json_has_no_word_for_are_text(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output.print_json({"at": datetime(2026, 11, 22, 9, tzinfo=UTC), "n": Decimal("7.50")})

        assert json.loads(capsys.readouterr().out) == {
            "at": "2026-11-22T09:00:00+00:00",
            "n": "7.50",
        }

    @pytest.mark.parametrize("title", ["Übung 😀 日本語", HOSTILE, "\U000e0041\ud800", 'a"\\b\n'])
    def test_every_text_is_read_back_alike_and_acts_not(
        self, capsys: pytest.CaptureFixture[str], title: str
    ) -> None:
        output.print_json([title])

        printed = capsys.readouterr().out
        assert json.loads(printed) == [title]
        assert all(char.isprintable() or char == "\n" for char in printed)

    def test_letters_stay_letters(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_json(["Übung 😀"])

        assert "Übung 😀" in capsys.readouterr().out


Raise = Callable[[], None]


class TestReadSecret:
    """A secret, never on the command line."""

    def test_it_is_the_first_line_of_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("  hunter2 \nmore\n"))

        assert output.read_secret("Token") == "hunter2"

    @pytest.mark.parametrize("given", ["", "\n", "   \nhunter2\n"])
    def test_nothing_is_refused(self, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))

        with pytest.raises(click.UsageError, match=r"^Token: nothing on standard input$"):
            output.read_secret("Token")


def test_who_names_the_person_and_the_machine() -> None:
    person, _, machine = output.current_user().partition("@")

    assert person
    assert machine

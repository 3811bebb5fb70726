"""What people see on a terminal: tables, JSON, sentences for refusals, exit codes."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import BinaryIO

import click
import pytest
from flask import Flask
from sqlalchemy import text

from foundation.cli import output
from foundation.cli.output import Commands
from foundation.db.session import Database
from foundation.errors import ConfigurationError, Refusal, SchemaError
from foundation.text import printable

HOSTILE = "\x1b[31mred\x07\u202e\x9b\r"
ACTING = {"\x1b", "\x07", "\u202e", "\x9b", "\r"}


class CourseUnknownError(Refusal):
    """The tests' own refusal."""

    next_step = "List the courses."


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
        assert output.cell(value) == shown


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


def run(cause: Raise, *arguments: str) -> tuple[int, str, str]:
    """Run a command that does this, in a group in a group; return exit code, stdout, stderr."""
    app = Flask("ground")
    outer, inner = Commands("ground"), Commands("courses")

    @inner.command("delete")
    @output.json_option
    def delete(as_json: bool) -> None:
        click.echo(f"json: {as_json}")
        cause()

    outer.add_command(inner)
    done = app.test_cli_runner().invoke(outer, ["courses", "delete", *arguments])
    return done.exit_code, done.stdout, done.stderr


def refuse_with(error: Exception) -> Raise:
    """Return what raises the error."""

    def fail() -> None:
        raise error

    return fail


class TestCommands:
    """Refusals are sentences and exit codes, never traces."""

    def test_a_command_that_does_its_work_exits_with_0(self) -> None:
        assert run(lambda: None) == (0, "json: False\n", "")

    def test_json_is_an_option_of_a_command(self) -> None:
        assert run(lambda: None, "--json") == (0, "json: True\n", "")

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            pytest.param(
                CourseUnknownError("there is no course CS101"),
                1,
                "error: there is no course CS101\n next: List the courses.\n",
                id="a refusal",
            ),
            pytest.param(
                CourseUnknownError("there is no course CS101", next_step="Look again."),
                1,
                "error: there is no course CS101\n next: Look again.\n",
                id="a refusal with its own advice",
            ),
            pytest.param(
                ConfigurationError("GROUND_PORT: is missing"),
                2,
                "error: GROUND_PORT: is missing\n next: Set what is named in the environment "
                "or in .env; .env.example explains each one.\n",
                id="settings",
            ),
            pytest.param(
                SchemaError("the schema is old", next_step="Run `ground db upgrade`."),
                4,
                "error: the schema is old\n next: Run `ground db upgrade`.\n",
                id="a schema",
            ),
        ],
    )
    def test_a_refusal_is_a_sentence_and_a_code(
        self, error: Exception, code: int, said: str
    ) -> None:
        assert run(refuse_with(error)) == (code, "json: False\n", said)

    def test_a_database_that_cannot_be_used_is_a_sentence(self, new_sqlite: Database) -> None:
        def ask() -> None:
            with new_sqlite.reading() as session:
                session.execute(text("SELECT * FROM nowhere"))

        code, _, said = run(ask)

        assert code == 4
        assert said == (
            "error: the database cannot be used: no such table: nowhere\n"
            " next: Check the database URL and that the database runs, then try again.\n"
        )

    def test_a_refusal_cannot_act_on_the_terminal(self) -> None:
        code, _, said = run(refuse_with(CourseUnknownError(f"no {HOSTILE}\n next: rm -rf")))

        assert code == 1
        assert not ACTING & set(said)
        assert said.splitlines()[1] == "        next: rm -rf"
        assert said.splitlines()[2] == " next: List the courses."

    def test_a_wrong_option_exits_with_2(self) -> None:
        code, done, said = run(lambda: None, "--nonsense")

        assert (code, done) == (2, "")
        assert "No such option" in said

    def test_what_nobody_foresaw_is_not_swallowed(self) -> None:
        code, _, said = run(refuse_with(KeyError("ours")))

        assert code == 1
        assert "error:" not in said


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
    person, _, machine = output.who().partition("@")

    assert person
    assert machine


def test_a_list_of_commands_cuts_no_sentence() -> None:
    group = Commands("things")
    sentence = "Look at everything that there is, near and far, and say of each what it is good for"
    group.add_command(click.Command("look", help=f"{sentence}."))

    shown = group.get_help(click.Context(group, terminal_width=60))

    assert sentence in " ".join(shown.split())
    assert "..." not in shown.partition("Commands:")[2]


def test_an_input_that_is_closed_is_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.group(cls=Commands)
    def main() -> None:
        """Be a program."""

    @main.command(with_appcontext=False)
    @click.argument("file", type=click.File("rb"))
    def read(file: BinaryIO) -> None:
        click.echo(f"{file.read()!r} {sys.stdin.isatty()}")

    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit) as ended:
        main(["read", "-"])

    sys.stdin.close()
    assert (ended.value.code, capsys.readouterr().out) == (0, "b'' False\n")


def test_a_letter_that_a_terminal_has_not_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.group(cls=Commands)
    def main() -> None:
        """Be a program."""

    @main.command(with_appcontext=False)
    def show() -> None:
        click.echo("Übung …")
        output.print_table(("title",), [("αβ",)], empty="nothing")

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    with pytest.raises(SystemExit) as ended:
        main(["show"])

    assert ended.value.code == 0
    assert raw.getvalue().decode("latin-1").split() == [
        "Übung",
        "\\u2026",
        "title",
        "\\u03b1\\u03b2",
    ]

"""Lazy command groups: no import before a command runs, refusals as exit codes."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from sqlalchemy import text

from foundation.cli import output
from foundation.cli.lazy import Lazy, LazyGroup
from foundation.db.session import Database
from foundation.errors import Advice, ConfigurationError, Refusal, SchemaError

SENTENCE = "Look at everything that there is, near and far, and say of each what it is good for."


class CourseUnknownError(Refusal):
    advice = Advice("List the courses.")


@click.command()
def look() -> None:
    """Look at everything that there is, near and far, and say of each what it is good for."""
    click.echo("looked")


def group_of(run: Callable[[], object]) -> LazyGroup:
    @click.command("delete")
    @output.json_option
    def delete(as_json: bool) -> None:
        click.echo(f"json: {as_json}")
        run()

    return LazyGroup("main", {"courses": LazyGroup("courses", {"delete": delete})})


def run(cause: Callable[[], object], *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(group_of(cause), ["courses", "delete", *arguments])
    return done.exit_code, done.stdout, done.stderr


def refuse_with(error: Exception) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


def test_lazy_command_is_imported_when_it_runs() -> None:
    group = LazyGroup("main", {"look": Lazy(f"{__name__}:look")})

    done = CliRunner().invoke(group, ["look"])

    assert (done.exit_code, done.stdout) == (0, "looked\n")


def test_help_and_completion_list_lazy_commands_without_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unimportable.py").write_text(f'def look():\n    """{SENTENCE}"""\n\n\n1 / 0\n')
    monkeypatch.syspath_prepend(tmp_path)
    group = LazyGroup("main", {"look": Lazy("unimportable:look")})

    shown = group.get_help(click.Context(group, terminal_width=60))
    completed = ShellComplete(group, {}, "main", "_MAIN_COMPLETE").get_completions([], "lo")

    assert SENTENCE in " ".join(shown.split())
    assert [(one.value, one.help) for one in completed] == [("look", SENTENCE)]


def test_mistyped_command_gets_a_suggestion() -> None:
    group = LazyGroup("main", {"look": Lazy("nowhere:look")})

    done = CliRunner().invoke(group, ["loook"])

    assert done.exit_code == 2
    assert "look" in done.stderr.partition("Error:")[2]


def test_command_that_succeeds_exits_with_0() -> None:
    assert run(lambda: None, "--json") == (0, "json: True\n", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(
            CourseUnknownError("there is no course CS101"),
            1,
            "error: there is no course CS101\n next: List the courses.\n",
            id="refusal",
        ),
        pytest.param(
            ConfigurationError("GROUND_PORT: is missing"),
            2,
            "error: GROUND_PORT: is missing\n next: Set what is named in the environment "
            "or in .env; .env.example explains each one.\n",
            id="settings",
        ),
        pytest.param(
            SchemaError("the schema is old", advice=Advice("Upgrade it.", "db upgrade")),
            4,
            "error: the schema is old\n next: Upgrade it. Run `main db upgrade`.\n",
            id="schema",
        ),
        pytest.param(
            PermissionError(13, "Permission denied", "grades.csv"),
            1,
            "error: cannot read or write: Permission denied: grades.csv\n next: Free disk space, "
            "fix the permissions, or write elsewhere; then try again.\n",
            id="operating system",
        ),
    ],
)
def test_refusal_is_a_message_and_an_exit_code(error: Exception, code: int, said: str) -> None:
    assert run(refuse_with(error)) == (code, "json: False\n", said)


def test_unusable_database_is_a_message_and_exit_code_4(new_sqlite: Database) -> None:
    def query() -> None:
        with new_sqlite.reading() as session:
            session.execute(text("SELECT * FROM nowhere"))

    code, _, said = run(query)

    assert code == 4
    assert said == (
        "error: the database cannot be used: no such table: nowhere\n"
        " next: Check the database URL and that the database is running.\n"
    )


def test_refusal_cannot_control_the_terminal() -> None:
    code, _, said = run(refuse_with(CourseUnknownError("no \x1b[31m\u202e\n next: rm -rf")))

    assert code == 1
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert said.splitlines()[1] == "        next: rm -rf"
    assert said.splitlines()[2] == " next: List the courses."


def test_unexpected_error_is_not_swallowed() -> None:
    done = CliRunner().invoke(group_of(refuse_with(KeyError("ours"))), ["courses", "delete"])

    assert isinstance(done.exception, KeyError)


def test_closed_stdin_is_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @click.argument("file", type=click.File("rb"))
    def read(file: BinaryIO) -> None:
        click.echo(f"{file.read()!r} {sys.stdin.isatty()}")

    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit) as ended:
        LazyGroup("main", {"read": read})(["read", "-"])

    sys.stdin.close()
    assert (ended.value.code, capsys.readouterr().out) == (0, "b'' False\n")


def test_character_that_the_terminal_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def show() -> None:
        click.echo("Übung …")

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    with pytest.raises(SystemExit) as ended:
        LazyGroup("main", {"show": show})(["show"])

    assert ended.value.code == 0
    assert raw.getvalue().decode("latin-1").split() == ["Übung", "\\u2026"]

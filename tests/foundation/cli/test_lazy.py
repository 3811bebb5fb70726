"""Lazy command groups: no import before a command runs, refusals as exit codes."""

import io
import sys
from pathlib import Path
from typing import BinaryIO

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from sqlalchemy.exc import OperationalError

from foundation.cli.lazy import Lazy, LazyGroup
from foundation.errors import Advice, ConfigurationError, DatabaseSetupError, Refusal

SENTENCE = "Look at everything that there is, near and far, and say of each what it is good for."


class CourseUnknownError(Refusal):
    advice = Advice("List the courses.")


@click.command()
def look() -> None:
    click.echo("looked")


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


def test_lazy_command_is_imported_when_it_runs_and_suggested() -> None:
    group = LazyGroup("main", {"look": Lazy(f"{__name__}:look")})

    run, mistyped = (CliRunner().invoke(group, [word]) for word in ("look", "loook"))

    assert (run.exit_code, run.stdout) == (0, "looked\n")
    assert mistyped.exit_code == 2
    assert "look" in mistyped.stderr.partition("Error:")[2]


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
            ConfigurationError("SAMPLE_PORT: is missing"),
            2,
            "error: SAMPLE_PORT: is missing\n next: Set what is named in the environment "
            "or in .env; .env.example explains each one.\n",
            id="settings",
        ),
        pytest.param(
            DatabaseSetupError(
                "old", advice=Advice("Upgrade it.", "db upgrade"), file=Path("/none.db")
            ),
            4,
            "error: old\n       there is no file /none.db\n"
            " next: Upgrade it. Run `main db upgrade`.\n",
            id="schema",
        ),
        pytest.param(
            DatabaseSetupError("read-only", advice=Advice("Wait.")),
            4,
            "error: read-only\n next: Wait.\n",
            id="database of a server",
        ),
        pytest.param(
            PermissionError(13, "Permission denied", "grades.csv"),
            1,
            "error: cannot read or write: Permission denied: grades.csv\n next: Free disk space, "
            "fix the permissions, or write elsewhere; then try again.\n",
            id="operating system",
        ),
        pytest.param(
            OperationalError("SELECT 1", None, Exception("no such table: nowhere")),
            4,
            "error: the database cannot be used: no such table: nowhere\n"
            " next: Check the database URL, and that the database runs and takes writes.\n",
            id="database",
        ),
        pytest.param(
            CourseUnknownError("no \x1b[31m\u202e\n next: rm -rf"),
            1,
            "error: no \\x1b[31m\\u202e\n        next: rm -rf\n next: List the courses.\n",
            id="control characters",
        ),
    ],
)
def test_refusal_is_a_message_and_an_exit_code(error: Exception, code: int, said: str) -> None:
    def fail() -> None:
        raise error

    group = LazyGroup("courses", {"delete": click.Command("delete", callback=fail)})

    done = CliRunner().invoke(LazyGroup("main", {"courses": group}), ["courses", "delete"])

    assert (done.exit_code, done.stderr) == (code, said)


def test_unexpected_error_is_raised() -> None:
    group = LazyGroup("main", {"fail": click.Command("fail", callback=lambda: [][0])})

    assert isinstance(CliRunner().invoke(group, ["fail"]).exception, IndexError)


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

"""Terminal output: tables, JSON, error messages, exit codes."""

import getpass
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.events import wire_time
from contract.problems import ProblemType
from foundation import csv_writer
from foundation.db import session as db
from foundation.db.pagination import COUNTED
from foundation.errors import (
    Advice,
    ConfigurationError,
    DatabaseSetupError,
    Refusal,
    fields_of,
)
from foundation.responses import Response
from foundation.text import count, escaped, printable, readable

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_DATABASE = 4

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PLAIN_WIDTH = 200
# Between two lines about the progress of a command.
LINE_SECONDS = 10.0


def report_error(
    error: Exception, program: str | None = None, *, as_json: bool = False
) -> int | None:
    """Print a message for an expected error and return its exit code; None for any other."""
    if isinstance(error, DatabaseSetupError):
        hint = ""
        if error.file is not None:
            is_there = "the file is" if error.file.exists() else "there is no file"
            hint = f"\n{is_there} {error.file}"
        message, code = ErrorMessage(f"{error}{hint}", error.advice), EXIT_DATABASE
    elif isinstance(error, Refusal):
        message = ErrorMessage.of(error)
        code = EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_REFUSED
    elif isinstance(error, db.UNUSABLE):
        message, code = ErrorMessage.of_database(error), EXIT_DATABASE
    elif isinstance(error, OSError):
        where = "" if error.filename is None else f": {error.filename}"
        message = ErrorMessage(
            f"cannot read or write: {error.strerror or error}{where}",
            Advice("Free disk space, fix the permissions, or write elsewhere; then try again."),
        )
        code = EXIT_REFUSED
    elif isinstance(error, click.ClickException):
        message, code = _of_click(error), error.exit_code
    elif isinstance(error, click.Abort):
        message = ErrorMessage("the command was interrupted", Advice("Run the command again."))
        code = EXIT_REFUSED
    else:
        return None
    with suppress(OSError):
        print_error(message, program, exit_code=code, as_json=as_json)
    return code


@dataclass(frozen=True)
class ErrorMessage:
    """Why a command failed, and what to do; `problem` and `facts` are for programs."""

    detail: str
    advice: Advice
    problem: ProblemType | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, refusal: Refusal) -> Self:
        """Return the message of a refusal."""
        return cls(str(refusal), refusal.advice, refusal.problem, refusal.facts)

    @classmethod
    def of_database(cls, error: Exception) -> Self:
        """Return the message of a database error."""
        return cls(
            f"the database cannot be used: {db.cause(error)}",
            Advice("Check the database URL, and that the database runs and takes writes."),
            ProblemType.DATABASE_UNAVAILABLE,
        )


def _of_click(error: click.ClickException) -> ErrorMessage:
    advice = Advice("Fix what the message names, then try again.")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        words = error.ctx.command_path.split()[1:]
        advice = Advice("See the options of the command.", " ".join([*words, "--help"]))
    return ErrorMessage(error.format_message(), advice, ProblemType.REQUEST_INVALID)


def print_error(
    error: ErrorMessage, program: str | None = None, *, exit_code: int, as_json: bool = False
) -> None:
    """Print an error and the next step to stderr; as JSON it is one line."""
    if as_json:
        document = {
            "type": error.problem.uri if error.problem else "about:blank",
            "detail": error.detail,
            **fields_of(error.advice),
            **error.facts,
            "exit_code": exit_code,
        }
        line = json.dumps(document, ensure_ascii=False, default=_json_fact)
        click.echo(escaped(line), err=True)
        return
    message = "\n       ".join(printable(line) for line in error.detail.split("\n"))
    step = printable(next_step(error.advice, program))
    click.echo(f"error: {message}\n next: {step}", err=True)


def print_warning(what: str, advice: Advice | None) -> None:
    """Print to stderr what a command that succeeded has noticed, and the next step."""
    click.echo(f"warning: {printable(what)}", err=True)
    if advice is not None:
        click.echo(f"   next: {printable(next_step(advice))}", err=True)


def next_step(advice: Advice | None, program: str | None = None) -> str:
    """Return an advice as a terminal shows it: the sentence, then the command to run."""
    if advice is None or advice.command is None:
        return advice.text if advice else ""
    return f"{advice.text} Run `{program or _program()} {advice.command}`."


def with_program(command: str) -> str:
    """Return a command with the name of its program."""
    return f"{_program()} {command}"


def _program() -> str:
    return str(click.get_current_context().find_root().command.name)


def json_option(command: _Command) -> _Command:
    """Add the option `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(response: Response) -> None:
    """Print a response as JSON, with control characters escaped."""
    document = response.model_dump(mode="json")
    click.echo(escaped(json.dumps(document, ensure_ascii=False, indent=2)))


def print_result(response: Response, *lines: str, as_json: bool) -> None:
    """Print what a command has done, as JSON or in sentences."""
    if as_json:
        print_json(response)
        return
    for line in lines:
        click.echo(printable(line))


def _json_fact(value: Any) -> str:
    return wire_time(value) if isinstance(value, datetime) else str(value)


def csv_option(command: _Command) -> _Command:
    """Add the option `--csv` to a command that lists things."""
    what = "Print all that match as CSV, without a limit."
    return click.option("--csv", "as_csv", is_flag=True, help=what)(command)


def print_csv(
    columns: Sequence[str], batches: Iterable[Iterable[Mapping[str, Any]]], *, as_json: bool
) -> None:
    """Print batches of rows as CSV, each as soon as it is read; refuse `--json` with it."""
    if as_json:
        raise click.UsageError("give either --csv or --json")
    for text in csv_writer.stream(columns, batches):
        click.echo(text, nl=False)


def print_total(
    shown: int, total: int | None, noun: str, nouns: str | None = None, *, more: str
) -> None:
    """Print how many rows of a list are shown, of how many, as `pagination.count` counts them.

    `total` is None if it is not known. `more` is the option that shows the next page, or empty if
    there is none.
    """
    if more:
        of = "shown" if total is None else f"of {count(total, noun, nouns, limit=COUNTED)}"
        click.echo(f"{shown:,} {of}. More: add {printable(more)}")
    elif total:
        click.echo(count(total, noun, nouns, limit=COUNTED))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table, or the message for an empty one."""
    listed = list(rows)
    if not listed:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in listed:
        table.add_row(*(Text(readable(value)) for value in row))
    console().print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names, with spaces for underscores, and values, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name.replace("_", " "), Text(readable(value)))
    console().print(table)


def console() -> Console:
    """Return a console on stdout that wraps at the terminal's width."""
    return Console(width=shutil.get_terminal_size((_PLAIN_WIDTH, 50)).columns, highlight=False)


@contextmanager
def progress_bar(
    length: int, label: str, *, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr; yield the function that advances it.

    It is a bar on a terminal, and elsewhere a line now and then.
    """
    if hidden:
        yield lambda _: None
    elif sys.stderr.isatty():
        with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield _progress_lines(length, label)


def _progress_lines(length: int, label: str) -> Callable[[int], None]:
    done, shown_at = 0, time.monotonic()

    def advance(steps: int) -> None:
        nonlocal done, shown_at
        done += steps
        now = time.monotonic()
        if now - shown_at >= LINE_SECONDS:
            shown_at = now
            click.echo(f"{label}: {100 * done // max(length, 1)} %", err=True)

    return advance


def confirm(question: str) -> None:
    """Ask a question on a terminal, and abort unless the answer is yes.

    Raises UsageError without a terminal, where no one can answer.
    """
    if not _is_terminal():
        raise click.UsageError(f"{question} There is no terminal to ask on: add --yes.")
    click.confirm(question, abort=True)


def read_secret(prompt: str) -> str:
    """Return a secret from a hidden prompt, or the first line of standard input.

    Raises UsageError if it is empty.
    """
    secret = read_hidden_line(prompt).strip()
    if not secret:
        raise click.UsageError(f"{prompt}: nothing on standard input")
    return secret


def read_hidden_line(prompt: str, *, confirm: bool = False, default: str | None = None) -> str:
    """Return the input of a hidden prompt, or the first line of standard input, with its spaces."""
    if not _is_terminal():
        return sys.stdin.readline().rstrip("\r\n")
    repeat = "Repeat" if confirm else False
    return str(
        click.prompt(
            prompt,
            hide_input=True,
            confirmation_prompt=repeat,
            default=default,
            show_default=False,
        )
    )


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def current_user() -> str:
    """Return who runs the command, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return printable(f"{user}@{socket.gethostname()}")[:255]

"""The file that a command writes new tokens to; only its owner can read it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from contract.tokens import CourseToken
from foundation.cli.params import read_text
from foundation.errors import Refusal
from foundation.text import printable
from notifier.courses import token_file

_HEADER = token_file.HEADER.encode()


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Open a file at its end; a new one gets a header."""
    with _opened(path, os.O_APPEND) as file:
        first = file.readline()
        if first not in {b"", _HEADER}:
            name = token_file.HEADER.strip()
            raise click.UsageError(f"{path}: the file exists and does not begin with {name}")
        os.fchmod(file.fileno(), 0o600)
        file.seek(0, os.SEEK_END)
        if not first:
            file.write(_HEADER)
            file.flush()
        yield file


def create(path: Path) -> None:
    """Create a file, or raise UsageError if it exists: its tokens might be needed."""
    try:
        with _opened(path, os.O_EXCL) as file:
            file.write(_HEADER)
    except FileExistsError:
        raise click.UsageError(
            f"{path}: the file exists; name another one, or add --resume to go on where a command "
            "with this file was interrupted"
        ) from None


def read(path: Path) -> dict[str, CourseToken]:
    """Return the tokens in a file by course id."""
    with path.open("rb") as file:
        try:
            return token_file.read(read_text(file))
        except Refusal as error:
            raise click.UsageError(f"{path}: {error}") from None


def replace(path: Path, tokens: Mapping[str, CourseToken]) -> None:
    """Replace a file by one with these tokens."""
    temporary = path.with_name(f"{path.name}.new")
    with _opened(temporary, os.O_TRUNC) as file:
        file.write(_HEADER)
        write(file, tokens)
    temporary.replace(path)


def write(file: BinaryIO, tokens: Mapping[str, CourseToken]) -> None:
    """Write tokens; before the commit, or a crash could lose those that are stored."""
    file.write(token_file.lines(tokens).encode())
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def restored_on_error(file: BinaryIO) -> Iterator[None]:
    """Take back what is written if the transaction inside fails."""
    size = file.tell()
    try:
        yield
    except BaseException:
        file.truncate(size)
        raise


def what_next(path: Path, command: str) -> str:
    """Return what to do with a file that a command of ELMS reads."""
    return (
        f"Their tokens are in {printable(str(path))}; send it to the ELMS administrator\n"
        f"over a secure channel, for `{command}`, then delete it."
    )


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        yield file

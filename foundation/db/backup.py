"""Backups of a database: a consistent copy in one file, made while the services run."""

import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from foundation.db.session import Database
from foundation.errors import Advice, Refusal

# Pages that SQLite copies at once.
_STEP_PAGES = 1000

_NO_SPACE = Advice("Free disk space, or write elsewhere; then try again.")
_SEE_MESSAGE = Advice(
    "Fix what the message names. An older pg_dump than the server cannot be used: install the one "
    "of its version."
)


class BackupError(Refusal):
    """A backup cannot be made."""


def back_up(database: Database, file: Path, advance: Callable[[int], None]) -> int:
    """Write a backup to a new file that only its owner can access; return its size in bytes.

    SQLite: a database file, by SQLite's online backup; `advance` is called with the per cent that
    were added. PostgreSQL: an archive for pg_restore, by pg_dump. No writer is blocked. The file
    is complete, or it does not exist.

    Raises BackupError.
    """
    with _new_file(file) as partial:
        if database.is_sqlite:
            _copy(database, partial, advance)
        else:
            _dump(database, partial, file)
        return partial.stat().st_size


@contextmanager
def _new_file(file: Path) -> Iterator[Path]:
    """Yield a file to write to, which gets its name at the end."""
    advice = Advice("Choose another name, or remove that file.")
    if file.is_dir():
        raise BackupError(
            f"{file} is a directory", advice=Advice("Add the name of a new file to it.")
        )
    if file.exists():
        raise BackupError(f"there is a file {file}", advice=advice)
    partial = file.with_name(f"{file.name}.partial")
    if not file.parent.is_dir():
        raise BackupError(
            f"there is no directory {file.parent}",
            advice=Advice("Create it, or choose another directory."),
        )
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise BackupError(
            f"there is a file {partial}, of a backup that is running or was killed", advice=advice
        ) from None
    try:
        yield partial
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)


def _copy(database: Database, partial: Path, advance: Callable[[int], None]) -> None:
    percent = 0

    def report(_: int, remaining: int, total: int) -> None:
        nonlocal percent
        before, percent = percent, 100 * (total - remaining) // max(total, 1)
        advance(percent - before)

    with database.reading() as session, closing(sqlite3.connect(partial)) as target:
        # SQLite reads from the moment of the first SELECT, whatever is written meanwhile.
        session.execute(text("SELECT count(*) FROM sqlite_master"))
        source: Any = session.connection().connection.driver_connection
        try:
            source.backup(target, pages=_STEP_PAGES, progress=report)
        except sqlite3.Error as error:
            raise BackupError(f"the copy failed: {error}", advice=_NO_SPACE) from None


def _dump(database: Database, partial: Path, file: Path) -> None:
    from psycopg.conninfo import make_conninfo  # SQLite needs no psycopg

    url = database.engine.url
    parameters = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
    # Other users of the machine can read the command line, but not the environment.
    password = parameters.pop("password", "")
    if "sslpassword" in parameters:
        raise BackupError("the database URL has an sslpassword, which pg_dump can only be shown")
    command = ["pg_dump", "--format=custom", f"--dbname={make_conninfo('', **parameters)}"]
    if shutil.which("pg_dump") is None:
        by_hand = shlex.join([*command, f"--file={file}"])
        raise BackupError(
            "PostgreSQL's program pg_dump is not installed",
            advice=Advice(f"Install it, or run this where it is installed: {by_hand}"),
        )
    done = subprocess.run(  # noqa: S603 - no shell; the parameters are those of the settings
        [*command, f"--file={partial}"],
        env={**os.environ, **({"PGPASSWORD": str(password)} if password else {})},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())[:500]
        raise BackupError(reason or f"pg_dump: exit code {done.returncode}", advice=_SEE_MESSAGE)

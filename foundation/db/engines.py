"""Engines: how connections to a database are set up, and when they are given up."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError, OperationalError

from foundation.errors import ConfigurationError

ResponseTimeout = Callable[[], float | None]
"""Returns how many seconds a server may take to respond; None for no limit."""

_RETRY_SECONDS = 0.01
# The first release with the operators -> and ->> for JSON.
_OLDEST_SQLITE = (3, 38)


def new_engine(
    url: str, *, timeout: float, pool_size: int, response_timeout: ResponseTimeout
) -> Engine:
    """Return an engine whose connections wait `timeout` seconds for a busy database."""
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": pool_size,
        "pool_timeout": timeout,
    }
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, timeout, options)
    from foundation.db import postgresql  # SQLite needs no psycopg

    return postgresql.new_engine(
        parsed, timeout=timeout, response_timeout=response_timeout, **options
    )


def _sqlite(url: URL, timeout: float, options: dict[str, Any]) -> Engine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"this Python has SQLite {sqlite3.sqlite_version}; "
            f"{'.'.join(map(str, _OLDEST_SQLITE))} or newer is needed, or PostgreSQL"
        )
    if url.query:
        raise ConfigurationError(
            f"the database URL of an SQLite file has parameters: {', '.join(sorted(url.query))}; "
            "none can be used"
        )
    path = Path(str(url.database))
    engine = create_engine(url, **options)

    def connect(_: object, __: object, ___: object, given: dict[str, Any]) -> sqlite3.Connection:
        # Only `Schema.upgrade` creates a file: one that was moved away is missing, not empty.
        try:
            connection: sqlite3.Connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw", uri=True, **given
            )
        except sqlite3.OperationalError as error:
            raise _explained(error, path) from None
        return connection

    def prepare(raw: sqlite3.Connection, record: Any) -> None:
        # The driver starts no transaction before a SELECT; the "begin" event below does.
        raw.isolation_level = None
        try:
            cursor = raw.cursor()
            cursor.execute(f"PRAGMA busy_timeout={int(timeout * 1000)}")
            enable_wal(cursor, timeout)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()
        except sqlite3.OperationalError as error:
            raise _explained(error, path) from None
        record.info["file"] = _identity(path)

    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(options.get("sqlite_begin", "BEGIN"))

    def check_file(_: object, record: Any, __: object) -> None:
        # A connection to a file that was replaced would go on with the old one, and what it commits
        # there is lost.
        if record.info["file"] != _identity(path):
            raise DisconnectionError("the file was replaced")

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "checkout", check_file)
    event.listen(engine, "begin", begin)
    event.listen(engine, "handle_error", _map_corruption_error, retval=True)
    return engine


def enable_wal(cursor: sqlite3.Cursor, timeout: float) -> None:
    """Switch to the write-ahead log, so that writers do not block readers.

    SQLite's busy time-out does not apply here: of two processes that switch a new file at once,
    one fails without waiting. So it is tried again.
    """
    ends = time.monotonic() + timeout
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= ends:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_only_place(path: Path) -> Path | None:
    """Return the file, or its folder, if this user cannot write to it."""
    return next((it for it in (path.parent, path) if not os.access(it, os.W_OK)), None)


def _explained(error: sqlite3.OperationalError, path: Path) -> sqlite3.OperationalError:
    """Return the error with the file or the folder that is the cause, if it is one of them."""
    if not path.parent.is_dir():
        return sqlite3.OperationalError(f"there is no folder {path.parent}")
    if not path.exists():
        return sqlite3.OperationalError(f"there is no file {path}")
    if (place := read_only_place(path)) is not None:
        return sqlite3.OperationalError(
            f"{place} is read-only for this user; SQLite writes to both the file and its folder"
        )
    return error


def _map_corruption_error(context: ExceptionContext) -> BaseException | None:
    """Raise SQLite's error for a damaged file as an OperationalError."""
    original = context.original_exception
    if type(original) is sqlite3.DatabaseError:
        return OperationalError(context.statement, None, original, hide_parameters=True)
    return None

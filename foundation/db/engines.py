"""How a database is reached: what a connection is set up with, and when it is given up."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError, OperationalError

Patience = Callable[[], float | None]
"""Tells how many seconds a server may take over an answer; None is as many as it needs."""

_RETRY_SECONDS = 0.01
_Value = TypeVar("_Value")


class _Impatient(psycopg.Connection[Any]):
    """A connection that is given up when the server does not answer in time.

    Without it a server that hangs, or a network that swallows all, holds a thread for good.
    """

    patience: Patience = staticmethod(lambda: None)

    def wait(self, gen: PQGen[_Value], *_: Any, **__: Any) -> _Value:
        """Return what the server answers; raise OperationalError if it takes too long."""
        patience = self.patience()
        try:
            return super().wait(gen, timeout=patience)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server did not answer within {patience:g} seconds"
            ) from None


def new_engine(url: str, *, timeout: float, pool_size: int, patience: Patience) -> Engine:
    """Return an engine whose connections wait `timeout` seconds for a busy database."""
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": pool_size,
        "pool_timeout": timeout,
    }
    if url.startswith("sqlite"):
        return _sqlite(create_engine(url, **options), url, timeout)
    return _postgresql(create_engine(url, pool_pre_ping=True, **options), timeout, patience)


def _postgresql(engine: Engine, timeout: float, patience: Patience) -> Engine:
    more: dict[str, Any] = {
        "connect_timeout": max(1, int(timeout)),
        "options": f"-c lock_timeout={int(timeout * 1000)} -c timezone=UTC "
        f"-c idle_in_transaction_session_timeout=60000",
    }

    def connect(_: object, __: object, ___: object, options: dict[str, Any]) -> _Impatient:
        connection = _Impatient.connect(**options, **more)
        connection.patience = patience
        return connection

    event.listen(engine, "do_connect", connect)
    return engine


def _sqlite(engine: Engine, url: str, timeout: float) -> Engine:
    path = Path(str(make_url(url).database))

    def connected(raw: sqlite3.Connection, record: Any) -> None:
        _prepare(raw, timeout)
        record.info["file"] = _identity(path)

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", lambda _, record, __: _check_file(path, record))
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", _damage_is_unavailable, retval=True)
    return engine


def _prepare(raw: sqlite3.Connection, timeout: float) -> None:
    # The driver's own transaction handling starts none before a SELECT; "begin" below does it all.
    raw.isolation_level = None
    cursor = raw.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(timeout * 1000)}")
    into_wal(cursor, timeout)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def into_wal(cursor: sqlite3.Cursor, timeout: float) -> None:
    """Let writers not bar readers; wait for another that does the same to a new file.

    SQLite's own time-out does not hold here: of two at once one is refused without a wait.
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


def _check_file(path: Path, record: Any) -> None:
    """Give up a connection whose file is no longer the one of that name.

    A connection goes on with a file that was moved away or replaced, and what is committed into
    that is lost.
    """
    if record.info["file"] != _identity(path):
        raise DisconnectionError("the file was replaced")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _damage_is_unavailable(context: ExceptionContext) -> BaseException | None:
    """Give what SQLite says of a file that is damaged, or no database, the name of its kind."""
    original = context.original_exception
    if type(original) is sqlite3.DatabaseError:
        return OperationalError(context.statement, None, original, hide_parameters=True)
    return None

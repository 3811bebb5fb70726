"""One database: how it is reached, and what its columns may hold."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    ExceptionContext,
    String,
    TypeDecorator,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy import (
    insert as sql_insert,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

UNAVAILABLE = (OperationalError, InterfaceError, InternalError, PoolTimeoutError)
"""What SQLAlchemy raises while a database is away, busy, full, read-only or shutting down."""

UNUSABLE = (*UNAVAILABLE, ProgrammingError)
"""That, and what it raises where tables or rights are not what an edge needs."""

ANSWER_SECONDS = 30.0
"""How long a server may take over a statement, beyond the wait for a busy one."""

_Value = TypeVar("_Value")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC, to the microsecond, alike on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments; hand SQLite, which knows no zones, the time in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no zone; moments are aware, in UTC")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A Decimal stored digit by digit: SQLite's own numbers are floats."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the digits; refuse floats, whose digits nobody wrote."""
        if isinstance(value, float):
            raise ValueError(f"{value!r} is a float; points are Decimal")
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the number."""
        return None if value is None else Decimal(value)


class Database:
    """An engine and its two kinds of transaction; nothing is connected before the first one.

    On SQLite a writing transaction begins IMMEDIATE, because one that reads first and writes
    later loses updates or fails at once where it should wait.
    A server that does not answer a statement within `timeout` and `answer` is given up as one
    that is away. `info` is what each session knows of the service; `statements` counts what was
    sent to the database in this process.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        answer: float = ANSWER_SECONDS,
        pool_size: int = 10,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine = _engine(url, timeout, pool_size)
        self._patience: float | None = timeout + answer
        if not self.is_sqlite:
            event.listen(self.engine, "do_connect", self._connect)
        self._info = dict(info or {})
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self.statements = 0
        event.listen(self.engine, "before_cursor_execute", self._count)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is embedded, and its clock and writers those of one machine."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads; it is rolled back at the end."""
        with Session(self.engine, info=self._info) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction: returning commits, raising rolls back."""
        # What was read stays readable after the commit: edges tell of it when all is closed.
        with (
            Session(self._writer, info=self._info, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let statements take as long as they need, as those of a migration may."""
        patience, self._patience = self._patience, None
        try:
            yield
        finally:
            self._patience = patience

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _connect(self, _dialect: object, _record: object, _: object, options: Any) -> Any:
        connection = _Impatient.connect(**options)
        connection.patience = lambda: self._patience
        return connection

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):  # PostgreSQL's driver sends its own unseen
            self.statements += 1


class _Impatient(psycopg.Connection[Any]):
    """A connection that is given up when the server does not answer in time.

    Without it a server that hangs, or a network that swallows all, holds a thread for good.
    """

    patience: Callable[[], float | None] = staticmethod(lambda: None)

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


def _engine(url: str, timeout: float, pool_size: int) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, hide_parameters=True, pool_size=pool_size, pool_timeout=timeout)
        path = Path(str(make_url(url).database))
        event.listen(engine, "connect", lambda raw, _: _prepare_sqlite(raw, timeout))
        event.listen(engine, "connect", lambda _, record: _remember_file(path, record))
        event.listen(engine, "checkout", lambda _, record, __: _check_file(path, record))
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _damage_is_unavailable, retval=True)
        return engine
    milliseconds = int(timeout * 1000)
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        pool_timeout=timeout,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(1, int(timeout)),
            "options": f"-c lock_timeout={milliseconds} -c timezone=UTC "
            f"-c idle_in_transaction_session_timeout=60000",
        },
    )


def _prepare_sqlite(raw: Any, timeout: float) -> None:
    # The driver's own transaction handling starts none before a SELECT; "begin" below does it all.
    raw.isolation_level = None
    cursor = raw.cursor()
    for pragma in (
        f"busy_timeout={int(timeout * 1000)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _remember_file(path: Path, record: Any) -> None:
    record.info["file"] = _identity(path)


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


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _damage_is_unavailable(context: ExceptionContext) -> BaseException | None:
    """Give what SQLite says of a file that is damaged, or no database, the name of its kind."""
    original = context.original_exception
    if type(original) is sqlite3.DatabaseError:
        return OperationalError(context.statement, None, original, hide_parameters=True)
    return None


def now(session: Session) -> datetime:
    """Return the database's clock: the one clock that all machines on it share.

    SQLite is embedded, so its clock is this machine's.
    """
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment.astimezone(UTC)


def insert(session: Session, table: Any) -> Any:
    """Return an INSERT that can `on_conflict_do_nothing()`, in the session's dialect."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_all(session: Session, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in one statement, or none for no rows.

    Left to itself, the ORM leaves a None out and sends a statement for each pattern of them.
    """
    if rows:
        session.execute(sql_insert(table).execution_options(render_nulls=True), rows)


def cause(error: Exception) -> str:
    """Return in one line what a database said, without statement or values.

    Its first line alone: in those below it PostgreSQL names the row.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    said = str(original).strip().split("\n", 1)[0]
    return " ".join(said.split())[:300] or type(error).__name__

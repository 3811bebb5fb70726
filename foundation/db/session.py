"""A database: its transactions, its clock, and portable column types."""

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Dialect,
    Integer,
    Select,
    String,
    TypeDecorator,
    bindparam,
    event,
    text,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from foundation.db import engines
from foundation.errors import Advice, DatabaseSetupError

# What SQLAlchemy raises while a database is away, busy, full, read-only or shutting down.
UNAVAILABLE = (OperationalError, InterfaceError, InternalError, PoolTimeoutError)

# In addition, what it raises if tables or permissions are missing.
UNUSABLE = (*UNAVAILABLE, ProgrammingError)

# SELECTs in one UNION; SQLite allows up to 500.
_MAX_UNION = 150

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of indexes and constraints, so that migrations can refer to them."""

# Table options. Without them SQLite reuses the id of a deleted row, and references to the old row
# would point to the new one.
NEVER_REUSED = {"sqlite_autoincrement": True}


def only_where(condition: str) -> dict[str, Any]:
    """Return the options of an index that has only the rows of a condition."""
    return {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}


# Seconds that a server may take for a statement, in addition to waiting for locks.
RESPONSE_SECONDS = 30.0


class UtcDateTime(TypeDecorator[datetime]):
    """An aware timestamp in UTC, to the microsecond."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """The type of the values."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value for the database; refuse naive timestamps. SQLite has no time zones."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; timestamps are aware, in UTC")
        timestamp = value.astimezone(UTC)
        return timestamp.replace(tzinfo=None) if dialect.name == "sqlite" else timestamp

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the timestamp, aware and in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A Decimal, stored as text because SQLite's own numbers are floats."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the digits; refuse floats, which are not exact."""
        if isinstance(value, float):
            raise ValueError(f"{value!r} is a float; points are Decimal")
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the number."""
        return None if value is None else Decimal(value)


class Database:
    """An engine and its two kinds of transaction; it connects at the first one.

    On SQLite a writing transaction begins IMMEDIATE, because one that first reads and then writes
    may lose updates, or fails at once instead of waiting. A server that does not respond to a
    statement within `timeout` + `statement_timeout` seconds counts as unavailable. `info` is passed
    to each session; `statements` counts the statements of this process.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        statement_timeout: float = RESPONSE_SECONDS,
        pool_size: int = 10,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self._response_timeout: float | None = timeout + statement_timeout
        self.engine = engines.new_engine(
            url,
            timeout=timeout,
            pool_size=pool_size,
            response_timeout=lambda: self._response_timeout,
        )
        self._timeout = timeout
        self._one_writer = threading.Lock()
        self._info = dict(info or {})
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self.statements = 0
        event.listen(self.engine, "before_cursor_execute", self._count)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is embedded in this machine."""
        return self.engine.dialect.name == "sqlite"

    @property
    def file(self) -> Path | None:
        """The full path of the SQLite file; None for a server or a database in memory."""
        name = self.engine.url.database
        if not self.is_sqlite or not name or name == ":memory:" or name.startswith("file:"):
            return None
        return Path(name).absolute()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a read-only transaction; it is rolled back at the end."""
        with Session(self.engine, info=self._info) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction: returning commits, raising rolls back."""
        # What was read stays readable after the commit, when the edges show it.
        with (
            self._turn_to_write(),
            Session(self._writer, info=self._info, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """Let the writers of this process take turns on SQLite, which has one writer at a time.

        Those that wait in the database poll it, with growing pauses. After its time a writer goes
        on without a turn, and the database decides.
        """
        if not self.is_sqlite:
            yield
            return
        taken = self._one_writer.acquire(timeout=self._timeout)
        try:
            yield
        finally:
            if taken:
                self._one_writer.release()

    def check_writable(self) -> None:
        """Raise DatabaseSetupError if the database takes no writes, as a standby does."""
        if self.file is not None:
            read_only = self.file.exists() and engines.read_only_place(self.file) is not None
            cause = "its file or the folder of it is read-only"
        else:
            with self.reading() as session:
                read_only = session.scalar(text("SHOW transaction_read_only")) == "on"
            cause = "its transactions are read-only"
        if read_only:
            raise DatabaseSetupError(
                f"the database takes no writes: {cause}",
                advice=Advice(
                    "On PostgreSQL, connect to the primary server, or look at "
                    "default_transaction_read_only; on SQLite, let the user that runs this program "
                    "write to the file and its folder."
                ),
                file=self.file,
            )

    @contextmanager
    def without_time_limit(self) -> Iterator[None]:
        """Lift the time limit of statements, for migrations."""
        limit, self._response_timeout = self._response_timeout, None
        try:
            yield
        finally:
            self._response_timeout = limit

    @contextmanager
    def separate_connection(
        self, *, timeout: float, statement_timeout: float
    ) -> Iterator["Database"]:
        """Open the same database over another connection, with other time limits."""
        url = self.engine.url.render_as_string(hide_password=False)
        other = Database(
            url, timeout=timeout, statement_timeout=statement_timeout, pool_size=1, info=self._info
        )
        try:
            yield other
        finally:
            other.dispose()

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):  # PostgreSQL's driver sends its own unseen
            self.statements += 1


def now(session: Session) -> datetime:
    """Return the time by the database's clock, which all machines share.

    SQLite's clock is this machine's.
    """
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    timestamp: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return timestamp.astimezone(UTC)


def insert(session: Session, table: Any) -> Any:
    """Return an INSERT with `on_conflict_do_nothing()`, in the session's dialect."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


class _List(TypeDecorator[list[Any]]):
    """A list as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = String
    cache_ok = True

    def __init__(self, item: type[TypeEngine[Any]]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return String() if dialect.name == "sqlite" else postgresql.ARRAY(self.item)

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> Any:
        return json.dumps(value) if dialect.name == "sqlite" else value


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: object = None) -> "_Among":  # noqa: ARG002 - SQLAlchemy's signature
        # Without it SQLite would get `… = 1`, and use no index.
        return self


@compiles(_Among, "sqlite")
def _among_json(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - compiled parts


@compiles(_Among, "postgresql")
def _among_array(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY ({values})"


def among(column: Any, values: Collection[int] | Collection[str]) -> ColumnElement[bool]:
    """Return the condition that an integer or text column is one of any number of values.

    The values are one parameter: `column.in_()` sends one for each, and both databases limit them.
    """
    return _Among(column, bindparam(None, list(values), _list_of(column)))


def among_given(column: Any, name: str) -> ColumnElement[bool]:
    """Return the condition of `among` for a statement that is made once.

    The values, a list, are the parameter `name` of its executions. Making a statement takes several
    times as long as executing it.
    """
    return _Among(column, bindparam(name, type_=_list_of(column)))


def _list_of(column: Any) -> _List:
    return _List(Integer if column.type.python_type is int else String)


def union_rows(session: Session, queries: Sequence[Select[Any]]) -> Iterator[Any]:
    """Yield the rows of all queries, sent as a few UNION ALL statements."""
    for start in range(0, len(queries), _MAX_UNION):
        yield from session.execute(union_all(*queries[start : start + _MAX_UNION]))


def dicts(session: Session, query: Select[Any]) -> list[dict[str, Any]]:
    """Return the rows of a query, each as a dict by column.

    Converting SQLAlchemy's own mappings takes several times as long.
    """
    rows = session.execute(query)
    names = tuple(rows.keys())
    return [dict(zip(names, row, strict=True)) for row in rows]


def cause(error: Exception) -> str:
    """Return the database's message in one line, without statement or values.

    Only its first line, because PostgreSQL shows the row in the others.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    message = str(original).strip().split("\n", 1)[0]
    return " ".join(message.split())[:300] or type(error).__name__

"""PostgreSQL connections: the settings that results depend on, and a limit on each response."""

import re
import select
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from foundation.db.engines import ResponseTimeout
from foundation.errors import ConfigurationError

_Value = TypeVar("_Value")

# Set in each transaction; they override the defaults of role, database and server.
_PINNED = {
    "datestyle": "ISO, MDY",
    "idle_in_transaction_session_timeout": "60000",
    # Compilation takes longer than our statements, even those with high estimates.
    "jit": "off",
    "timezone": "UTC",
}
# Seconds after which a connection is replaced before it is used again: firewalls forget idle ones
# without a word, and what is sent over such a connection has no response.
_MAX_AGE = 60
# Seconds without use after which a connection is tested before it is used again.
_MAX_IDLE = 1.0
# Parameters that a URL must not set: another value would change results, or the service has a
# setting of its own.
_REFUSED = {*_PINNED, "lock_timeout", "client_encoding", "default_transaction_isolation"}
_NAME = re.compile(r"[a-z_][a-z0-9_.]*", re.ASCII | re.IGNORECASE)


class _Connection(psycopg.Connection[Any]):
    """A connection with a time limit on every response.

    Without it a server that hangs would block a thread forever: `statement_timeout` needs a server
    that still runs, and TCP time-outs do not expire while its kernel acknowledges packets.
    """

    response_timeout: ResponseTimeout = staticmethod(lambda: None)

    def wait(self, gen: PQGen[_Value], *args: Any, **limits: Any) -> _Value:
        """Return the server's response; raise OperationalError if it takes too long."""
        if args or limits:  # a wait for notifications, for which a server has any time
            return super().wait(gen, *args, **limits)
        response_timeout = self.response_timeout()
        begun = time.monotonic()
        try:
            return super().wait(gen, timeout=response_timeout)
        except psycopg.OperationalError:
            if response_timeout is None or time.monotonic() - begun < response_timeout:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server did not respond within {response_timeout:g} seconds"
            ) from None


def new_engine(
    url: URL, *, timeout: float, response_timeout: ResponseTimeout, **options: Any
) -> Engine:
    """Return an engine whose connections wait `timeout` seconds for locks.

    A connection keeps no state between two transactions, so that a pooler by transaction such as
    PgBouncer may stand between: no prepared statements, and settings only in the transaction.

    Raises ConfigurationError for a parameter of the URL that cannot be used.
    """
    parameters = _connection_parameters(url)
    settings = _session_settings(parameters.pop("options", ""))
    settings |= _PINNED | {"lock_timeout": str(int(timeout * 1000))}
    begin = _begin_statement(settings)
    parameters.setdefault("connect_timeout", str(max(1, int(timeout))))

    def connect(_: object, __: object, ___: object, given: dict[str, Any]) -> _Connection:
        given.pop("options", None)
        connection = _Connection.connect(
            **{**given, **parameters, "client_encoding": "UTF8"},
            autocommit=True,  # the "begin" event below sends BEGIN
            prepare_threshold=None,
        )
        connection.response_timeout = response_timeout
        return connection

    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin, execution_options={"no_parameters": True})

    engine = create_engine(url, pool_recycle=_MAX_AGE, use_native_hstore=False, **options)
    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _test_unless_recent)
    event.listen(engine, "begin", begin_transaction)
    return engine


def _note_use(_: object, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _test_unless_recent(connection: _Connection, record: Any, _: object) -> None:
    """Test a connection that was idle, or on which the server has sent something, such as its end.

    SQLAlchemy's `pool_pre_ping` would cost each transaction a round trip. A new connection is not
    tested: if it has ended too, its first statement says so, as an error that callers know.
    """
    used_at = record.info.get("used_at")
    if used_at is None:
        return
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if time.monotonic() - used_at >= _MAX_IDLE or poll.poll(0):
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        raise InvalidatePoolError from error


def _connection_parameters(url: URL) -> dict[str, str]:
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    parameters = {}
    for name, value in url.query.items():
        if name not in known:
            shown = name if _NAME.fullmatch(name) else "its name has characters that no name has"
            raise ConfigurationError(f"the database URL has an unknown parameter: {shown}")
        if not isinstance(value, str):
            raise ConfigurationError(f"the database URL has the parameter {name} more than once")
        parameters[name] = value
    if parameters.pop("client_encoding", "utf8").lower().replace("-", "") not in {"utf8", "auto"}:
        raise ConfigurationError("the database URL sets client_encoding; only UTF8 can be used")
    return parameters


def _session_settings(options: str) -> dict[str, str]:
    """Return the settings in libpq's `options`, such as `-c search_path=grades`."""
    settings = {}
    for setting in re.sub(r"(^|\s)-c\s*", r"\1--", options).split(" --") if options else ():
        name, _, value = setting.removeprefix("--").strip().partition("=")
        name = name.replace("-", "_").lower()
        if not _NAME.fullmatch(name) or not value:
            raise ConfigurationError(
                "the database URL has `options` that cannot be read; expected -cNAME=VALUE"
            )
        if name in _REFUSED:
            raise ConfigurationError(f"the database URL may not set {name} in `options`")
        settings[name] = re.sub(r"\\(.)", r"\1", value)
    return settings


def _begin_statement(settings: Mapping[str, str]) -> str:
    values = ", ".join(
        f"set_config('{name}', '{value.replace(chr(39), chr(39) * 2)}', true)"
        for name, value in sorted(settings.items())
    )
    return f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT {values}"

"""PostgreSQL connections that are closed if the server does not respond in time."""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, event

from foundation.db.engines import ResponseTimeout

_Value = TypeVar("_Value")


class _Connection(psycopg.Connection[Any]):
    """A connection with a time limit on every response.

    Without it a server that hangs would block a thread for ever: `statement_timeout` needs a server
    that still runs, and TCP time-outs do not expire while its kernel acknowledges packets.
    """

    response_timeout: ResponseTimeout = staticmethod(lambda: None)

    def wait(self, gen: PQGen[_Value], *_: Any, **__: Any) -> _Value:
        """Return the server's response; raise OperationalError if it takes too long."""
        response_timeout = self.response_timeout()
        try:
            return super().wait(gen, timeout=response_timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server did not respond within {response_timeout:g} seconds"
            ) from None


def prepare(engine: Engine, *, timeout: float, response_timeout: ResponseTimeout) -> Engine:
    """Return the engine, with connections that wait `timeout` seconds for locks."""
    more: dict[str, Any] = {
        "connect_timeout": max(1, int(timeout)),
        "options": f"-c lock_timeout={int(timeout * 1000)} -c timezone=UTC "
        f"-c idle_in_transaction_session_timeout=60000",
    }

    def connect(_: object, __: object, ___: object, options: dict[str, Any]) -> _Connection:
        connection = _Connection.connect(**options, **more)
        connection.response_timeout = response_timeout
        return connection

    event.listen(engine, "do_connect", connect)
    return engine

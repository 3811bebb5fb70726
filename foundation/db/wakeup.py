"""Wake-ups: a transaction that commits wakes those who listen, in this process and in others.

On PostgreSQL they are notifications. On SQLite each listener has a socket next to the database
file. A wake-up can be lost, so a listener also polls the database, but rarely.
"""

import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from foundation import logging
from foundation.db import session as db
from foundation.db.session import Database

_log = logging.get_logger(__name__)

_NOTIFY = text("SELECT pg_notify(:channel, '')")
# The key in a session's `info` of the channels to wake after its commit.
_CHANNELS = "wakeup_channels"
# Seconds without a wake-up after which a listener checks its connection, or its socket file.
_CHECK_SECONDS = 30.0
# Seconds to wait before listening again.
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 30.0
# Seconds that the end waits for a listener that is connecting at that moment.
_END_SECONDS = 1.0


def notify(session: Session, channel: str) -> None:
    """Wake the listeners of a channel when this transaction commits; never if it is rolled back.

    Any number of calls in a transaction are one wake-up.
    """
    engine = session.get_bind().engine
    if engine.dialect.name == "postgresql":
        session.execute(_NOTIFY, {"channel": channel})
        return
    session.info.setdefault(_CHANNELS, set()).add(channel)
    event.listen(session, "after_commit", _wake_sockets)  # a second time it has no effect


@contextmanager
def listen(database: Database, channel: str, on_wake: Callable[[], None]) -> Iterator[None]:
    """Call `on_wake` on a thread for the commits that notify the channel, once for several.

    It is also called each time listening begins, at first and after the connection was lost,
    because a wake-up may have been missed. Where no wake-ups can be had it is not called at all.
    """
    end, ended = socket.socketpair()
    thread = threading.Thread(
        target=_listen, args=(database, channel, on_wake, ended), name="wakeup", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        end.close()  # makes `ended` readable
        thread.join(_END_SECONDS)


def _listen(
    database: Database, channel: str, on_wake: Callable[[], None], ended: socket.socket
) -> None:
    engine = database.engine
    wakes = _socket_wakes if database.is_sqlite else _notifications
    lost = (OSError, SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
    back_off = 0.0
    with ended:
        while not _ready(ended, seconds=back_off):
            try:
                for _ in wakes(engine, channel, ended):
                    back_off = 0.0
                    on_wake()
            except lost as error:
                if not back_off:
                    _log.debug("no wake-ups, only the poll", cause=db.cause(error))
                back_off = min(max(back_off * 2, _FIRST_BACK_OFF), _LONGEST_BACK_OFF)


def _notifications(engine: Engine, channel: str, ended: socket.socket) -> Iterator[None]:
    """Yield once when listening, then for each batch of notifications, until `ended`."""
    pooled = engine.raw_connection()
    connection: Any = pooled.driver_connection
    pooled.detach()  # or it would go back to the pool, and listen there
    with closing(connection):
        connection.execute(f'LISTEN "{channel}"')
        yield
        while ended not in (ready := _ready(connection, ended, seconds=_CHECK_SECONDS)):
            if not ready:
                connection.execute("SELECT 1")
            if list(connection.notifies(timeout=0)):
                yield


def _socket_wakes(engine: Engine, channel: str, ended: socket.socket) -> Iterator[None]:
    """Yield once when listening, then for each batch of datagrams, until `ended`."""
    file = _file(engine.url)
    path = file.with_name(f"{file.name}.{channel}-{secrets.token_hex(4)}.sock")
    with _datagram_socket() as receiver:
        receiver.bind(str(path))
        try:
            # As SQLite does for its own files: every user who may write to the database can send.
            path.chmod(file.stat().st_mode & 0o777)
            yield
            while ended not in (ready := _ready(receiver, ended, seconds=_CHECK_SECONDS)):
                if ready:
                    with suppress(BlockingIOError):
                        while True:
                            receiver.recv(1)
                    yield
                elif not path.exists():
                    raise FileNotFoundError(f"{path} was deleted")
        finally:
            path.unlink(missing_ok=True)


def _wake_sockets(session: Session) -> None:
    if session.in_nested_transaction():
        return  # only a savepoint was committed
    file = _file(session.get_bind().engine.url)
    channels = session.info.pop(_CHANNELS, set())
    prefixes = tuple(f"{file.name}.{channel}-" for channel in channels)
    with suppress(OSError), _datagram_socket() as sender:
        for path in file.parent.iterdir():
            if path.name.startswith(prefixes) and path.is_socket():
                _send(sender, path)


def _send(sender: socket.socket, path: Path) -> None:
    try:
        sender.sendto(b"\0", str(path))
    except ConnectionRefusedError:  # its listener was killed
        with suppress(OSError):
            path.unlink()
    except OSError:
        pass  # its listener has enough to read, has just ended, or belongs to another user


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _file(url: URL) -> Path:
    return Path(str(url.database)).resolve()


def _ready(*sources: Any, seconds: float) -> list[Any]:
    """Return those that can be read, as soon as there are any, or none after the time."""
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]

"""A proxy to a real PostgreSQL server that breaks a session where a test wants it."""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from sqlalchemy import make_url

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER so that closing sends a reset, as a host that has gone does."""


class Break(Enum):
    """Where a session breaks."""

    BEFORE = auto()
    """The statement never reaches the server."""
    AFTER = auto()
    """The server runs the statement; the client gets no response."""
    IN_STATEMENT = auto()
    """The server gets half of the statement."""
    IN_ANSWER = auto()
    """The client gets half of the first message of the response."""
    SILENCE = auto()
    """The statement is dropped, and there is no response until the client gives up."""


@dataclass(frozen=True)
class Says:
    """An error response instead of the server's; `fatal` ends the session."""

    sqlstate: str
    message: str
    fatal: bool = False

    def messages(self) -> bytes:
        """Return the ErrorResponse and, unless it is fatal, ReadyForQuery."""
        severity = b"FATAL" if self.fatal else b"ERROR"
        fields = (
            (b"S", severity),
            (b"V", severity),
            (b"C", self.sqlstate.encode()),
            (b"M", self.message.encode()),
        )
        body = b"".join(kind + text + b"\0" for kind, text in fields) + b"\0"
        return _message(b"E", body) + (b"" if self.fatal else _message(b"Z", b"E"))


DISK_FULL = Says("53100", "could not extend file: No space left on device")
TOO_MANY = Says("53300", "sorry, too many clients already", fatal=True)
SHUTDOWN = Says("57P01", "terminating connection due to administrator command", fatal=True)
STARTING = Says("57P03", "the database system is starting up", fatal=True)
SERIALIZATION = Says("40001", "could not serialize access due to concurrent update")
DEADLOCK = Says("40P01", "deadlock detected")
READ_ONLY = Says("25006", "cannot execute INSERT in a read-only transaction")
LOCKED = Says("55P03", "canceling statement due to lock timeout")


@dataclass
class Fault:
    """What happens to the next statements that contain `words`; then `met` is set."""

    words: str
    happens: Break | Says
    times: int = 1
    met: threading.Event = field(default_factory=threading.Event)


class PostgresProxy:
    """A loopback listener that forwards everything to the server, except for the faults."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        server = str(self._url.query.get("host") or self._url.host), self._url.port or 5432
        self._server: tuple[str, int] = server
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._open: set[_Session] = set()
        self._at_connect: Says | None = None
        self._away = False
        self._budget: _Budget | None = None
        self.connections = 0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        """The URL of the database through the proxy."""
        port = self._listener.getsockname()[1]
        through = self._url.set(host="127.0.0.1", port=port, query={})
        return through.render_as_string(hide_password=False)

    def on(self, words: str, happens: Break | Says, times: int = 1) -> Fault:
        """Let a fault happen to the next statements that contain the words."""
        fault = Fault(words, happens, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def refuse(self, how: Says) -> None:
        """Respond to every new connection with an error."""
        self._at_connect = how

    def go_away(self) -> None:
        """Reset every connection, the open ones and each new one."""
        self._away = True
        self.cut_all()

    def come_back(self) -> None:
        """Serve again; faults for statements stay."""
        self._away, self._at_connect = False, None

    def cut_all(self) -> None:
        """Reset the connections that are open now."""
        for one in list(self._open):
            one.end()

    def cut_after(self, count: int, *, towards: str) -> threading.Event:
        """Cut the next connection after `count` bytes to `client` or `server`; sets the event."""
        self.cut_all()
        self._budget = _Budget(count, towards)
        return self._budget.spent

    def stop(self) -> None:
        """Close the listener and every connection."""
        self._away = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        self._accepting.join()

    def fault_for(self, statement: str) -> Fault | None:
        """Take the fault for a statement, if there is one."""
        with self._lock:
            for fault in self._faults:
                if fault.times and re.search(rf"\b{fault.words}\b", statement):
                    fault.times -= 1
                    return fault
        return None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._away:
                _reset(client)
                continue
            one = _Session(self, client, self._budget)
            self._open.add(one)
            one.start(self._server, self._at_connect, lambda ended: self._open.discard(ended))


@dataclass
class _Budget:
    """The number of bytes that may still pass in one direction."""

    left: int
    towards: str
    spent: threading.Event = field(default_factory=threading.Event)

    def take(self, data: bytes, towards: str) -> bytes:
        """Return the part of the data that may pass."""
        if towards != self.towards:
            return data
        passing = data[: self.left]
        self.left -= len(passing)
        if len(passing) < len(data):
            self.spent.set()
        return passing


class _Session:
    """One client and its session on the server."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, budget: _Budget | None) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._budget = budget
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._statements: dict[bytes, str] = {}
        self._break_answer: Break | None = None
        self._broken_by: Fault | None = None

    def start(
        self,
        server: tuple[str, int],
        at_connect: Says | None,
        ended: "Callable[[_Session], None]",
    ) -> None:
        """Serve the client in a thread of its own."""

        def serve() -> None:
            with contextlib.suppress(OSError, EOFError):
                self._serve(server, at_connect)
            self.end()
            ended(self)

        threading.Thread(target=serve, daemon=True).start()

    def end(self) -> None:
        """Reset both sides."""
        for one in (self._client, self._server):
            if one is not None:
                _reset(one)

    def _serve(self, server: tuple[str, int], at_connect: Says | None) -> None:
        startup = _read_startup(self._client)
        while int.from_bytes(startup[4:8], "big") in {_SSL_REQUEST, _GSS_REQUEST}:
            self._client.sendall(b"N")
            startup = _read_startup(self._client)
        if at_connect is not None:
            self._client.sendall(at_connect.messages())
            self._client.shutdown(socket.SHUT_WR)
            self._client.recv(1)
            return
        if server[0].startswith("/"):
            self._server = socket.socket(socket.AF_UNIX)
            self._server.connect(f"{server[0]}/.s.PGSQL.{server[1]}")
        else:
            self._server = socket.create_connection(server)
            self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pass(startup, self._server, "server")
        threading.Thread(target=self._answers, daemon=True).start()
        self._questions(self._server)

    def _questions(self, server: socket.socket) -> None:
        while True:
            batch, statement = self._read_batch()
            fault = self._proxy.fault_for(statement) if statement else None
            if fault is None:
                self._pass(batch, server, "server")
            elif isinstance(fault.happens, Says):
                self._client.sendall(fault.happens.messages())
                fault.met.set()
                if fault.happens.fatal:
                    self._client.shutdown(socket.SHUT_WR)
                    self._client.recv(1)
                    return
            elif not self._broken(fault, batch, server):
                return

    def _broken(self, fault: Fault, batch: bytes, server: socket.socket) -> bool:
        """Break the session at a statement; return whether it goes on for now."""
        match fault.happens:
            case Break.BEFORE:
                fault.met.set()
                return False
            case Break.IN_STATEMENT:
                server.sendall(batch[: len(batch) // 2])
                fault.met.set()
                return False
            case Break.SILENCE:
                fault.met.set()
                while self._client.recv(4096):
                    pass
                return False
            case how:
                self._break_answer, self._broken_by = how, fault  # type: ignore[assignment]
                server.sendall(batch)
                return True

    def _read_batch(self) -> tuple[bytes, str]:
        """Return the client's messages up to the one that needs a response, and their SQL."""
        batch, statement = b"", ""
        while True:
            kind, body = _read_message(self._client)
            batch += _message(kind, body)
            match kind:
                case b"Q":
                    return batch, body.rstrip(b"\0").decode()
                case b"P":
                    name, sql = body.split(b"\0", 2)[:2]
                    self._statements[name] = statement = sql.decode()
                case b"B":
                    statement = self._statements[body.split(b"\0", 2)[1]]
                case b"S" | b"X" | b"p":
                    return batch, statement
                case _:
                    pass

    def _answers(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, body = _read_message(self._server)
                message = _message(kind, body)
                match self._break_answer:
                    case None:
                        self._pass(message, self._client, "client")
                        continue
                    case Break.IN_ANSWER:
                        self._client.sendall(message[: max(1, len(message) // 2)])
                    case _ if kind != b"Z":
                        continue
                if self._broken_by is not None:
                    self._broken_by.met.set()
                break
        self.end()

    def _pass(self, data: bytes, to: socket.socket, towards: str) -> None:
        passing = self._budget.take(data, towards) if self._budget else data
        to.sendall(passing)
        if len(passing) < len(data):
            raise EOFError


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _read_message(source: socket.socket | None) -> tuple[bytes, bytes]:
    kind = _read(source, 1)
    return kind, _read(source, struct.unpack("!I", _read(source, 4))[0] - 4)


def _read_startup(client: socket.socket) -> bytes:
    length = _read(client, 4)
    return length + _read(client, struct.unpack("!I", length)[0] - 4)


def _read(source: socket.socket | None, count: int) -> bytes:
    data = b""
    while source is not None and len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        one.shutdown(socket.SHUT_RDWR)
    one.close()

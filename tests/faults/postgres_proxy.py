"""A proxy to a real PostgreSQL server that breaks a session at a given statement."""

import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from enum import Enum, auto

from sqlalchemy import make_url

from tests.faults.server import RESET

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


class Break(Enum):
    """Where a session breaks."""

    BEFORE = auto()
    """The statement never reaches the server."""
    AFTER = auto()
    """The server runs the statement; the client gets no response."""
    IN_RESPONSE = auto()
    """The client gets half of the first message of the response."""
    SILENCE = auto()
    """The statement is dropped, and there is no response until the client gives up."""


@dataclass(frozen=True)
class ErrorResponse:
    """An error instead of the server's response; `fatal` ends the session."""

    sqlstate: str
    message: str
    fatal: bool = False

    def messages(self) -> bytes:
        """Return the ErrorResponse and, unless it is fatal, ReadyForQuery."""
        severity = b"FATAL" if self.fatal else b"ERROR"
        texts = {b"S": severity, b"C": self.sqlstate.encode(), b"M": self.message.encode()}
        body = b"".join(kind + text + b"\0" for kind, text in texts.items()) + b"\0"
        return _message(b"E", body) + (b"" if self.fatal else _message(b"Z", b"E"))


# One for each exception class of the driver that the services have to expect.
DISK_FULL = ErrorResponse("53100", "could not extend file: No space left on device")
SHUTDOWN = ErrorResponse("57P01", "terminating connection due to shutdown", fatal=True)
SERIALIZATION = ErrorResponse("40001", "could not serialize access due to concurrent update")
LOCKED = ErrorResponse("55P03", "canceling statement due to lock timeout")
READ_ONLY = ErrorResponse("25006", "cannot execute INSERT in a read-only transaction")
NO_TABLE = ErrorResponse("42P01", 'relation "gone" does not exist')


@dataclass
class Fault:
    """What happens to the next statement that contains `words`; then `met` is set."""

    words: str
    happens: Break | ErrorResponse
    met: threading.Event = field(default_factory=threading.Event)


class PostgresProxy:
    """A loopback listener that forwards everything to the server, except for the faults."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._server = str(self._url.query.get("host") or self._url.host), self._url.port or 5432
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._open: set[_Session] = set()
        self._away = False
        self.connections = 0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        """The URL of the database through the proxy."""
        port = self._listener.getsockname()[1]
        through = self._url.set(host="127.0.0.1", port=port, query={})
        return through.render_as_string(hide_password=False)

    def on(self, words: str, happens: Break | ErrorResponse) -> Fault:
        """Let a fault happen to the next statement that contains the words."""
        fault = Fault(words, happens)
        with self._lock:
            self._faults.append(fault)
        return fault

    def go_away(self) -> None:
        """Reset every connection, the open ones and each new one."""
        self._away = True
        for one in list(self._open):
            one.end()

    def come_back(self) -> None:
        self._away = False

    def stop(self) -> None:
        """Close the listener and every connection."""
        self.go_away()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def fault_for(self, statement: str) -> Fault | None:
        """Take the fault for a statement, if there is one."""
        with self._lock:
            for fault in self._faults:
                if re.search(rf"\b{fault.words}\b", statement):
                    self._faults.remove(fault)
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
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        session = _Session(self, client, _connect(*self._server))
        self._open.add(session)
        with contextlib.suppress(OSError, EOFError):
            session.run()
        session.end()
        self._open.discard(session)


class _Session:
    """One client and its session on the server."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._statements: dict[bytes, str] = {}
        self._response_fault: Fault | None = None

    def run(self) -> None:
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        startup = _read_startup(self._client)
        while int.from_bytes(startup[4:8], "big") in {_SSL_REQUEST, _GSS_REQUEST}:
            self._client.sendall(b"N")
            startup = _read_startup(self._client)
        self._server.sendall(startup)
        threading.Thread(target=self._forward_responses, daemon=True).start()
        while self._forward_batch():
            pass

    def end(self) -> None:
        """Reset both sides."""
        _reset(self._client)
        _reset(self._server)

    def _forward_batch(self) -> bool:
        """Forward the client's next messages, or break; return whether the session goes on."""
        batch, statement = self._read_batch()
        fault = self._proxy.fault_for(statement) if statement else None
        if fault is None:
            self._server.sendall(batch)
            return True
        if fault.happens in {Break.AFTER, Break.IN_RESPONSE}:
            self._response_fault = fault
            self._server.sendall(batch)
            return True
        fault.met.set()
        if isinstance(fault.happens, ErrorResponse):
            self._client.sendall(fault.happens.messages())
            if not fault.happens.fatal:
                return True
            self._client.shutdown(socket.SHUT_WR)
        elif fault.happens is Break.BEFORE:
            return False
        while self._client.recv(4096):  # until the client gives up
            pass
        return False

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

    def _forward_responses(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, body = _read_message(self._server)
                message, fault = _message(kind, body), self._response_fault
                if fault is None:
                    self._client.sendall(message)
                    continue
                if fault.happens is Break.IN_RESPONSE:
                    self._client.sendall(message[: len(message) // 2])
                elif kind != b"Z":
                    continue
                fault.met.set()
                break
        self.end()


def _connect(host: str, port: int) -> socket.socket:
    if host.startswith("/"):
        local = socket.socket(socket.AF_UNIX)
        local.connect(f"{host}/.s.PGSQL.{port}")
        return local
    server = socket.create_connection((host, port))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _read_message(source: socket.socket) -> tuple[bytes, bytes]:
    kind = _read(source, 1)
    return kind, _read(source, struct.unpack("!I", _read(source, 4))[0] - 4)


def _read_startup(client: socket.socket) -> bytes:
    length = _read(client, 4)
    return length + _read(client, struct.unpack("!I", length)[0] - 4)


def _read(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.shutdown(socket.SHUT_RDWR)
    one.close()

"""Servers on loopback that misbehave as they are told to, byte by byte."""

import contextlib
import gzip
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from typing import Any

Behaviour = Callable[[socket.socket, threading.Event], None]
"""What is done with a connection; the event is set when the server stops."""

_TICK = 0.05
_MOST_PIECES = 2_000
_LINGER_NOT = b"\x01\x00\x00\x00" + b"\x00" * 4
FINE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nwell"
"""A normal answer."""
OK = b"HTTP/1.1 200 OK\r\n"


class LoopbackServer(socketserver.ThreadingTCPServer):
    """A loopback server that counts its connections and, closed, leaves none open."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, behave: Callable[[socket.socket, int], None]) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.connections = 0
        self.stopped = threading.Event()
        self._behave = behave
        self._open: set[socket.socket] = set()
        # The poll is how long `shutdown` may take.
        self._loop = threading.Thread(target=self.serve_forever, args=(0.005,))
        self._loop.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def open_now(self) -> int:
        """How many connections are open, seen from here."""
        return len(self._open)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do with a connection as was told."""
        self.connections += 1
        self._open.add(request)
        with contextlib.suppress(OSError):
            self._behave(request, self.connections)
        self._open.discard(request)

    def stop(self) -> None:
        """Close the listener and whatever is connected to it."""
        self.stopped.set()
        self.shutdown()
        self._loop.join()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.server_close()


class RawSink:
    """A listener that treats each connection as it is told to, byte by byte."""

    def __init__(self, behave: Behaviour) -> None:
        self._server = LoopbackServer(lambda request, _: behave(request, self._server.stopped))

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self._server.connections

    @property
    def port(self) -> int:
        """The port of this listener."""
        return self._server.port

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        """Return the URL of this listener."""
        return f"{scheme}://{host}:{self.port}/webhooks"

    def stop(self) -> None:
        """Close the listener and what is connected to it."""
        self._server.stop()


def ask(connection: socket.socket) -> bytes:
    """Read a request to the end of its body, and return that."""
    seen = b""
    while (rest := _rest(seen)) is None:
        some = connection.recv(65536)
        if not some:
            raise ConnectionResetError
        seen += some
    return rest


def _rest(seen: bytes) -> bytes | None:
    """Return the body of a request once it is whole."""
    head, ended, body = seen.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return body if ended and len(body) >= int(length[1] if length else 0) else None


def says(*parts: bytes, pause: float = 0.0) -> Behaviour:
    """Return a behaviour: hear one request, answer these bytes with pauses between, close."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        for part in parts:
            connection.sendall(part)
            stopped.wait(pause)

    return behave


def says_each(*answers: bytes) -> Behaviour:
    """Return a behaviour: answer the requests of a connection so, one each, then close."""

    def behave(connection: socket.socket, _: threading.Event) -> None:
        for answer in answers:
            ask(connection)
            connection.sendall(answer)

    return behave


def drips(head: bytes, drop: bytes = b"x") -> Behaviour:
    """Return a behaviour: after the head, a drop every twentieth of a second, without end."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        connection.sendall(head)
        while not stopped.wait(_TICK):
            connection.sendall(drop)

    return behave


def pours(head: bytes, piece: bytes, poured: list[int] | None = None) -> Behaviour:
    """Return a behaviour: after the head, pieces as fast as they are taken, nearly without end.

    `poured` gets the length of each.
    """

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        connection.sendall(head)
        for _ in range(_MOST_PIECES):
            if stopped.is_set():
                return
            connection.sendall(piece)
            if poured is not None:
                poured.append(len(piece))

    return behave


def resets(before: bytes = b"") -> Behaviour:
    """Return a behaviour: hear one request, answer so much, and reset the connection."""

    def behave(connection: socket.socket, _: threading.Event) -> None:
        ask(connection)
        connection.sendall(before)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        connection.close()

    return behave


def black_hole(connection: socket.socket, stopped: threading.Event) -> None:
    """Hear nothing and say nothing."""
    stopped.wait(30)


def sips(connection: socket.socket, stopped: threading.Event) -> None:
    """Take the request a little at a time, and never to its end."""
    while not stopped.wait(_TICK) and connection.recv(16384):
        pass


def drips_handshake(connection: socket.socket, stopped: threading.Event) -> None:
    """Answer a TLS greeting with a record that comes a byte at a time."""
    connection.recv(65536)
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
    while not stopped.wait(_TICK):
        connection.sendall(b"\x00")


def over_tls(context: ssl.SSLContext, behave: Behaviour, log: list[bytes]) -> Behaviour:
    """Return a behaviour over TLS; the log tells how handshakes ended, and what came in clear."""

    def wrapped(connection: socket.socket, stopped: threading.Event) -> None:
        try:
            tls = context.wrap_socket(connection, server_side=True)
        except (ssl.SSLError, OSError):
            log.append(b"handshake refused")
            return
        with tls:
            log.append(b"handshake done")
            behave(_Logged(tls, log), stopped)  # type: ignore[arg-type]

    return wrapped


class _Logged:
    """A connection of which is logged what it brings."""

    def __init__(self, connection: socket.socket, log: list[bytes]) -> None:
        self._connection = connection
        self._log = log

    def recv(self, most: int) -> bytes:
        some = self._connection.recv(most)
        self._log.append(some)
        return some

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


_BOMB = gzip.compress(b"boom" * 10_000_000)
FAULTS: dict[str, Behaviour] = {
    "black hole": black_hole,
    "slow status line": drips(b""),
    "slow headers": drips(OK + b"X-"),
    "slow body": drips(OK + b"Content-Length: 100000\r\n\r\n"),
    "slow chunks": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "slow size of a chunk": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "slow trailers": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n"),
    "slow interim answers": drips(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "endless status line": pours(b"HTTP/1.1 200 ", b"x" * 65536),
    "endless header": pours(OK + b"X: ", b"x" * 65536),
    "endless headers": pours(OK, (b"X: " + b"x" * 60_000 + b"\r\n") * 4),
    "endless small headers": pours(OK, b"X: x\r\n" * 10_000),
    "endless 100s": pours(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000),
    "endless 103s": pours(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2_000),
    "endless body": pours(OK + b"Content-Length: 99999999999\r\n\r\n", b"x" * 65536),
    "endless body of unknown length": pours(OK + b"\r\n", b"x" * 65536),
    "endless chunk": pours(OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n", b"x" * 65536),
    "endless size of a chunk": pours(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "endless trailers": pours(
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n" * 10_000
    ),
    "gzip bomb": says(
        OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BOMB), _BOMB
    ),
    "garbage": pours(b"", bytes(range(256)) * 256),
    "garbage in lines": pours(b"", b"\x00\xff\r\n" * 10_000),
    "switching protocols": drips(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "RST": resets(),
    "RST in the head": resets(OK),
    "RST in the body": resets(OK + b"Content-Length: 100\r\n\r\npart"),
    "closed": says(),
    "closed in the head": says(OK),
    "a length that lies": says(OK + b"Content-Length: 100\r\n\r\npart"),
}
"""Everything that a server can do to a request over plain HTTP instead of answering it well."""

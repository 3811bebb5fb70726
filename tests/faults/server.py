"""Servers on loopback that misbehave, byte by byte."""

import contextlib
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

# What is done with a connection; the event is set when the server stops.
Behaviour = Callable[[socket.socket, threading.Event], None]

_TICK = 0.05
_MOST_PIECES = 2_000
# SO_LINGER so that closing a connection resets it.
RESET = struct.pack("ii", 1, 0)
OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nwell"


class LoopbackServer(socketserver.ThreadingTCPServer):
    """A loopback server that counts its connections and, once stopped, leaves none open."""

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
        return int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.add(request)
        with contextlib.suppress(OSError):
            self._behave(request, self.connections)
        self._open.discard(request)

    def stop(self) -> None:
        """Close the listener and its connections."""
        self.stopped.set()
        self.shutdown()
        self._loop.join()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.server_close()


class RawSink(LoopbackServer):
    """A server that does with each connection what a behaviour does."""

    def __init__(self, behave: Behaviour) -> None:
        super().__init__(lambda request, _: behave(request, self.stopped))

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}/webhooks"


def ask(connection: socket.socket) -> bytes:
    """Read a request to the end of its body, and return the body."""
    seen = b""
    while True:
        head, ended, body = seen.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if ended and len(body) >= int(length[1] if length else 0):
            return body
        some = connection.recv(65536)
        if not some:
            raise ConnectionResetError
        seen += some


def says(*responses: bytes) -> Behaviour:
    """Return a behaviour: send one of the responses to each request, then close."""

    def behave(connection: socket.socket, _: threading.Event) -> None:
        for response in responses or (b"",):
            ask(connection)
            connection.sendall(response)

    return behave


def withholds(head: bytes) -> Behaviour:
    """Return a behaviour: read one request, send the beginning of a response, and no more."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        connection.sendall(head)
        stopped.wait(30)

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
    """Return a behaviour: after the head, pieces as fast as they are read, nearly without end.

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
    """Return a behaviour: read one request, send the beginning of a response, and reset."""

    def behave(connection: socket.socket, _: threading.Event) -> None:
        ask(connection)
        connection.sendall(before)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    return behave


def black_hole(connection: socket.socket, stopped: threading.Event) -> None:
    """Read nothing and send nothing."""
    stopped.wait(30)


def sips(connection: socket.socket, stopped: threading.Event) -> None:
    """Read the request a little at a time, and never to its end."""
    while not stopped.wait(_TICK) and connection.recv(16384):
        pass


def over_tls(context: ssl.SSLContext, behave: Behaviour, log: list[bytes]) -> Behaviour:
    """Return a behaviour over TLS; the log says how each handshake ended."""

    def wrapped(connection: socket.socket, stopped: threading.Event) -> None:
        try:
            tls = context.wrap_socket(connection, server_side=True)
        except OSError:
            log.append(b"handshake refused")
            return
        with tls:
            log.append(b"handshake done")
            behave(tls, stopped)

    return wrapped

"""A receiver that takes everything, and writes down what came, when, and over how much."""

import socket
import threading
import time
from collections import Counter
from typing import BinaryIO, Self

_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class PlainSink:
    """Listens on loopback and answers 204: cheap enough to be no bound for who sends.

    `arrived` tells when each webhook-id came first, `repeated` how often one came again, and
    `connections` how many were opened: a sender that keeps them opens one for each at once.
    """

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        self.seconds: Counter[int] = Counter()
        self.repeated = self.connections = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: list[socket.socket] = [self._server]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            one.close()

    @property
    def url(self) -> str:
        """The address to deliver to."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/webhooks"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed at the end
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while reader.readline().startswith(b"POST"):
            webhook_id = _read_rest(reader)
            self._take(webhook_id)
            connection.sendall(_NO_CONTENT)

    def _take(self, webhook_id: str) -> None:
        with self._lock:
            self.repeated += webhook_id in self.arrived
            self.arrived.setdefault(webhook_id, time.time())
            self.seconds[int(time.time())] += 1


def _read_rest(reader: BinaryIO) -> str:
    """Read a request to its end and return its webhook-id."""
    headers: dict[str, str] = {}
    for line in iter(reader.readline, b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    reader.read(int(headers["content-length"]))
    return headers["webhook-id"]

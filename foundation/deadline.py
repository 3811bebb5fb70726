"""A total time for an HTTP exchange: sockets whose every read and write ends by it."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

_exchange = threading.local()


class DeadlineError(TimeoutError):
    """The exchange's total time is over, however lively the other side still drips."""


@contextmanager
def within(seconds: float, *, silence: float) -> Iterator[None]:
    """Bound what this thread's sockets do inside: `seconds` in all, `silence` for each read."""
    _exchange.ends = time.monotonic() + seconds
    _exchange.silence = silence
    try:
        yield
    finally:
        del _exchange.ends, _exchange.silence


def _patience() -> float:
    left = float(getattr(_exchange, "ends", float("inf"))) - time.monotonic()
    if left <= 0:
        raise DeadlineError("the exchange's deadline has passed")
    return min(left, float(getattr(_exchange, "silence", left)))


class _Deadline:
    """Bounds each read and write of a socket by what is left of this thread's exchange.

    A time-out of the socket's own begins anew with every byte, so a drip would stretch it.
    """

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_patience())  # type: ignore[attr-defined]  # of the socket mixed in
        try:
            return int(super().recv_into(*args, **kwargs))  # type: ignore[misc]  # as above
        except TimeoutError:
            _patience()  # was it the silence, or the end of all patience?
            raise

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_patience())  # type: ignore[attr-defined]  # of the socket mixed in
        super().sendall(*args, **kwargs)  # type: ignore[misc]  # as above


class _PlainSocket(_Deadline, socket.socket):
    pass


class _TlsSocket(_Deadline, ssl.SSLSocket):
    pass


def _bounded(raw: socket.socket) -> socket.socket:
    timeout = raw.gettimeout()
    bounded = _PlainSocket(raw.family, raw.type, raw.proto, fileno=raw.detach())
    bounded.settimeout(timeout)
    return bounded


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _bounded(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _bounded(super()._new_conn())


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _PlainPool, "https": _TlsPool}
"""Connection pools for urllib3's `pool_classes_by_scheme`; https ones need `tls_context()`."""


def tls_context() -> ssl.SSLContext:
    """Return a context that verifies, and whose sockets keep the deadline too."""
    context = create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    context.sslsocket_class = _TlsSocket
    return context

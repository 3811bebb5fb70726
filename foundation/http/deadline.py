"""A total time and size for an HTTP exchange: sockets whose every read and write keeps them."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any


class DeadlineError(TimeoutError):
    """The exchange's total time is over, however lively the other side still drips."""


class HandshakeTimeoutError(TimeoutError):
    """The connection was accepted, and then no TLS handshake came about in time."""


class TooMuchError(OSError):
    """More came than an exchange may bring."""


@dataclass(eq=False)
class Exchange:
    """What one thread's exchange may still take; `waits_on` is what it waits for."""

    ends: float
    silence: float
    bytes_left: int
    waits_on: socket.socket | None = None

    def break_off(self) -> None:
        """End it now, from whatever thread: what it waits for fails, and nothing more is tried."""
        self.ends = float("-inf")
        if self.waits_on is not None:
            with suppress(OSError):
                # Not the TLS socket's own, which would take its state from under the waiting read.
                socket.socket.shutdown(self.waits_on, socket.SHUT_RDWR)


class _Current(threading.local):
    exchange: Exchange


_current = _Current()


@contextmanager
def within(seconds: float, *, silence: float, most_bytes: int) -> Iterator[Exchange]:
    """Bound what this thread's sockets do inside: `seconds` and `most_bytes` read in all.

    No single wait is longer than `silence`.
    """
    _current.exchange = Exchange(time.monotonic() + seconds, silence, most_bytes)
    try:
        yield _current.exchange
    finally:
        del _current.exchange


@contextmanager
def without_waiting() -> Iterator[None]:
    """Read inside only what is there already, for BlockingIOError or SSLWantReadError else."""
    exchange = _current.exchange
    silence, exchange.silence = exchange.silence, 0.0
    try:
        yield
    finally:
        exchange.silence = silence


def patience(longest: float = float("inf")) -> float:
    """Return how long this thread may wait for one thing now; raise DeadlineError if no more."""
    exchange = _current.exchange
    left = exchange.ends - time.monotonic()
    if left <= 0:
        raise DeadlineError("the exchange's deadline has passed")
    return min(left, exchange.silence, longest)


def waiting(on: socket.socket, longest: float = float("inf")) -> float:
    """Return `patience`, and let the exchange know what it waits for, so that it can be ended."""
    _current.exchange.waits_on = on
    return patience(longest)


def _count(received: int) -> int:
    _current.exchange.bytes_left -= received
    if _current.exchange.bytes_left < 0:
        raise TooMuchError("more came than an answer may be")
    return received


class _Deadline:
    """Bounds each read and write of a socket by what is left of this thread's exchange.

    A time-out of the socket's own begins anew with every byte, so a drip would stretch it.
    """

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(waiting(self))  # type: ignore[attr-defined,arg-type]  # of a socket
        try:
            return _count(int(super().recv_into(*args, **kwargs)))  # type: ignore[misc]  # as above
        except TimeoutError:
            patience()  # was it the silence, or the end of all patience?
            raise

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(waiting(self))  # type: ignore[attr-defined,arg-type]  # of a socket
        try:
            super().sendall(*args, **kwargs)  # type: ignore[misc]  # as above
        except TimeoutError:
            patience()
            raise


class PlainSocket(_Deadline, socket.socket):
    """A socket that keeps its thread's deadline."""


class TlsSocket(_Deadline, ssl.SSLSocket):
    """A TLS socket that keeps its thread's deadline, its handshake too.

    The handshake has the time that the socket was given to connect in.
    """

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, or raise HandshakeTimeoutError."""
        self.settimeout(waiting(self, self.gettimeout() or float("inf")))
        try:
            super().do_handshake(block)
        except TimeoutError as error:
            patience()
            raise HandshakeTimeoutError("no TLS handshake came about in time") from error

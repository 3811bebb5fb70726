"""Limits on the total time and size of an HTTP exchange, kept by every socket operation.

A socket's own time-out starts again with every byte, so a slow sender could stretch it for ever.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any


class DeadlineError(TimeoutError):
    """The total time of the exchange is over."""


class IdleTimeoutError(TimeoutError):
    """No data came, or could be sent, for the longest single wait."""


class HandshakeTimeoutError(TimeoutError):
    """The TLS handshake did not finish in time."""


class TooMuchError(OSError):
    """The response is larger than the exchange may be."""


@dataclass(eq=False)
class Exchange:
    """The limits of one thread's exchange, and the socket that it waits for.

    Args:
        ends_at: When the total time is over, by the monotonic clock.
        idle_timeout: The longest single wait, in seconds.
        bytes_left: How many bytes may still be received.
    """

    ends_at: float
    idle_timeout: float
    bytes_left: int
    waits_for: socket.socket | None = None

    def cancel(self) -> None:
        """End the exchange now, from any thread: its current wait and all later ones fail."""
        self.ends_at = float("-inf")
        if self.waits_for is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which would discard the state that the reader uses.
                socket.socket.shutdown(self.waits_for, socket.SHUT_RDWR)


class _Current(threading.local):
    exchange: Exchange


_current = _Current()


@contextmanager
def within(seconds: float, *, idle_timeout: float, max_bytes: int) -> Iterator[Exchange]:
    """Limit what this thread's sockets do inside: total seconds, single waits, bytes received."""
    _current.exchange = Exchange(time.monotonic() + seconds, idle_timeout, max_bytes)
    try:
        yield _current.exchange
    finally:
        del _current.exchange


def timeout(longest: float = float("inf")) -> float:
    """Return the seconds that this thread may wait now, or raise DeadlineError."""
    exchange = _current.exchange
    left = exchange.ends_at - time.monotonic()
    if left <= 0:
        raise DeadlineError("the deadline has passed")
    return min(left, exchange.idle_timeout, longest)


def timeout_for(waits_for: socket.socket, longest: float = float("inf")) -> float:
    """Return `timeout` for a socket that the exchange is about to wait for."""
    _current.exchange.waits_for = waits_for
    return timeout(longest)


def check_expired(error: TimeoutError, too_long: TimeoutError) -> None:
    """Raise DeadlineError if the total time is over, `too_long` if only a single wait was.

    An error of the network, which has a number (ETIMEDOUT), says nothing about either.
    """
    timeout()
    if error.errno is None:
        raise too_long from error


def bytes_left() -> int:
    """Return how many bytes this thread's exchange may still receive."""
    return _current.exchange.bytes_left


def _count(received: int) -> int:
    _current.exchange.bytes_left -= received
    if _current.exchange.bytes_left < 0:
        raise TooMuchError("the response is too large")
    return received


class _LimitedSocket:
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(timeout_for(self))  # type: ignore[attr-defined,arg-type]  # of a socket
        try:
            return _count(int(super().recv_into(*args, **kwargs)))  # type: ignore[misc]  # as above
        except TimeoutError as error:
            check_expired(error, IdleTimeoutError("no data for too long"))
            raise

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(timeout_for(self))  # type: ignore[attr-defined,arg-type]  # of a socket
        try:
            super().sendall(*args, **kwargs)  # type: ignore[misc]  # as above
        except TimeoutError as error:
            check_expired(error, IdleTimeoutError("no data was accepted for too long"))
            raise


class PlainSocket(_LimitedSocket, socket.socket):
    """A socket that keeps the limits of its thread's exchange."""


class TlsSocket(_LimitedSocket, ssl.SSLSocket):
    """A TLS socket that keeps the limits of its thread's exchange, also in the handshake."""

    def do_handshake(self, block: bool = False) -> None:
        """Perform the handshake within the connect time-out, or raise HandshakeTimeoutError."""
        self.settimeout(timeout_for(self, self.gettimeout() or float("inf")))
        try:
            super().do_handshake(block)
        except TimeoutError as error:
            check_expired(error, HandshakeTimeoutError("the TLS handshake did not finish in time"))
            raise

"""Limits on the time of an HTTP exchange, kept by every socket operation.

A socket's own time-out starts again with every byte, so a slow sender could stretch it for ever.
"""

import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self


class DeadlineError(TimeoutError):
    """The total time of the exchange is over."""


class IdleTimeoutError(TimeoutError):
    """No data came, or the request could not be sent, within the longest single wait."""


class HandshakeTimeoutError(TimeoutError):
    """The TLS handshake did not finish in time."""


@dataclass(eq=False)
class Exchange:
    """The limits of an exchange, and how far it got; a context manager for its thread.

    Args:
        ends_at: When the total time is over, by the monotonic clock.
        idle_timeout: The longest single wait, in seconds.
        has_received: Whether a part of a response came.
    """

    ends_at: float
    idle_timeout: float
    has_received: bool = False
    _waits_for: socket.socket | None = None

    def __enter__(self) -> Self:
        _current.exchange = self
        return self

    def __exit__(self, *_: object) -> None:
        del _current.exchange

    def shorten(self, seconds: float) -> None:
        """End the exchange after at most this number of seconds from now."""
        self.ends_at = min(self.ends_at, time.monotonic() + seconds)

    def cancel(self) -> None:
        """End the exchange now, from any thread: its current wait and all later ones fail.

        A lookup of a name ends by its own time-out.
        """
        self.ends_at = float("-inf")
        if self._waits_for is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which would discard the state that the reader uses.
                socket.socket.shutdown(self._waits_for, socket.SHUT_RDWR)

    def timeout(self, longest: float = float("inf")) -> float:
        """Return the seconds that may be waited now, or raise DeadlineError."""
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise DeadlineError("the deadline has passed")
        return min(left, self.idle_timeout, longest)

    def wait_for(self, waits_for: socket.socket, longest: float = float("inf")) -> None:
        """Give a socket that the exchange is about to wait for its time-out."""
        self._waits_for = waits_for
        waits_for.settimeout(self.timeout(longest))

    def check_expired(self, error: TimeoutError, too_long: TimeoutError) -> None:
        """Raise DeadlineError if the total time is over, `too_long` if only a single wait was.

        An error of the network, which has a number (ETIMEDOUT), says nothing about either.
        """
        self.timeout()
        if error.errno is None:
            raise too_long from error


class _Current(threading.local):
    exchange: Exchange


_current = _Current()


def within(seconds: float, *, idle_timeout: float = float("inf")) -> Exchange:
    """Return an exchange that begins now and may take at most `seconds`."""
    return Exchange(time.monotonic() + seconds, idle_timeout)


def current() -> Exchange:
    """Return the exchange of this thread."""
    return _current.exchange


class PlainSocket(socket.socket):
    """A socket that keeps the limits of its thread's exchange."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Receive bytes, or raise DeadlineError or IdleTimeoutError."""
        exchange = _current.exchange
        exchange.wait_for(self)
        try:
            received = super().recv_into(*args, **kwargs)
        except TimeoutError as error:
            exchange.check_expired(error, IdleTimeoutError("no data for too long"))
            raise
        exchange.has_received |= received > 0
        if not received:
            exchange.timeout()  # one that was cancelled looks like the end of the response
        return received

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        """Send bytes, or raise DeadlineError or IdleTimeoutError."""
        exchange = _current.exchange
        exchange.wait_for(self)
        try:
            super().sendall(*args, **kwargs)
        except TimeoutError as error:
            exchange.check_expired(error, IdleTimeoutError("no data was accepted for too long"))
            raise


class TlsSocket(PlainSocket, ssl.SSLSocket):
    """A TLS socket that keeps the limits of its thread's exchange, also in the handshake."""

    def do_handshake(self, block: bool = False) -> None:
        """Perform the handshake within the connect time-out, or raise HandshakeTimeoutError."""
        exchange = _current.exchange
        exchange.wait_for(self, self.gettimeout() or float("inf"))
        try:
            super().do_handshake(block)
        except TimeoutError as error:
            too_long = HandshakeTimeoutError("the TLS handshake did not finish in time")
            exchange.check_expired(error, too_long)
            raise

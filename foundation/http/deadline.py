"""Limits on the time of an HTTP exchange.

A socket's own time-out starts again with every byte, so a slow sender could stretch it for ever.
A thread therefore shuts down the sockets of exchanges that outlast their deadlines: whatever waits
for one of them ends.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache

# Seconds between two looks at the deadlines, by which an exchange may take longer.
_TICK = 0.02


class DeadlineError(TimeoutError):
    """The total time of the exchange is over."""


class IdleTimeoutError(TimeoutError):
    """No data came, or the request could not be sent, within the longest single wait."""


class Exchange:
    """The limits of an exchange, in seconds, and the socket that it uses now."""

    def __init__(self, seconds: float, idle_timeout: float | None) -> None:
        self.idle_timeout = idle_timeout
        self._ends_at = time.monotonic() + seconds
        self._is_optional = False
        self._socket: socket.socket | None = None

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline; not above zero if it has passed."""
        return self._ends_at - time.monotonic()

    def attach(self, attached: socket.socket) -> None:
        """Let the deadline end whatever waits for a socket; raise DeadlineError if it is over."""
        self._socket = attached
        self.check()

    def release(self) -> bool:
        """Let the deadline end nothing more; return False if it may have ended the socket."""
        # In this order: a socket is only shut down if it is still attached after the deadline.
        self._socket = None
        return self.seconds_left > 0

    def cut_after(self, seconds: float) -> None:
        """End the exchange after this time at the latest, which is no error from now on."""
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)
        self._is_optional = True

    def cancel(self) -> None:
        """End the exchange now, from any thread; a lookup of a name ends by its own time-out.

        What waits for the attached socket fails, or finds the end of the response.
        """
        self._ends_at = float("-inf")
        if (attached := self._socket) is not None:
            with suppress(OSError):  # it is not connected yet, or closed
                # Not SSLSocket.shutdown, which would discard the state that the reader uses.
                socket.socket.shutdown(attached, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise DeadlineError if the time is over, and it matters."""
        if self.seconds_left <= 0 and not self._is_optional:
            raise DeadlineError("the deadline has passed")


class _Watch:
    """A thread that ends exchanges at their deadlines, and sleeps while there are none."""

    def __init__(self) -> None:
        self.exchanges = set[Exchange]()
        self.has_begun = threading.Event()
        threading.Thread(target=self._run, name="deadlines", daemon=True).start()

    def _run(self) -> None:
        while self.has_begun.wait():
            self.has_begun.clear()
            while self.exchanges:
                time.sleep(_TICK)
                for exchange in self.exchanges.copy():
                    # Again at each tick: it may not have been connected before.
                    if exchange.seconds_left <= 0:
                        exchange.cancel()


@cache
def _watch_of(_process_id: int) -> _Watch:
    """Return the watch of a process; a fork copies no threads."""
    return _Watch()


_current = ContextVar[Exchange]("exchange")


def current() -> Exchange:
    """Return the exchange of this thread."""
    return _current.get()


@contextmanager
def within(seconds: float, *, idle_timeout: float | None = None) -> Iterator[Exchange]:
    """Make an exchange of this thread, with limits in seconds.

    Once the time is over, every error is a DeadlineError, because a socket that was shut down fails
    in many ways; and success is too, because it may be half of a response. A time-out of the socket
    is an IdleTimeoutError; one of the network has a number (ETIMEDOUT).
    """
    exchange, watch = Exchange(seconds, idle_timeout), _watch_of(os.getpid())
    token = _current.set(exchange)
    watch.exchanges.add(exchange)
    if not watch.has_begun.is_set():
        watch.has_begun.set()
    try:
        yield exchange
        exchange.check()
    except Exception as error:
        exchange.check()
        if type(error) is TimeoutError and error.errno is None:
            raise IdleTimeoutError("no data for too long") from error
        raise
    finally:
        watch.exchanges.discard(exchange)
        _current.reset(token)

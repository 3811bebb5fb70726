"""Limits on the time of an HTTP exchange.

A socket's own time-out starts again with every byte, so a slow sender could stretch it for ever.
A thread therefore shuts down the sockets of exchanges that outlast their deadlines: whatever waits
for one of them ends.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import cache
from typing import Self

# Seconds between two looks at the deadlines, by which an exchange may take longer.
_TICK = 0.02


class DeadlineError(TimeoutError):
    """The total time of the exchange is over."""


class Exchange:
    """An HTTP exchange of this thread, a context manager with limits in seconds.

    Once the time is over, every error is a DeadlineError, because a socket that was shut down fails
    in many ways; and success is too, because it may be half of a response.
    """

    def __init__(self, seconds: float, *, idle_timeout: float | None = None) -> None:
        self.idle_timeout = idle_timeout
        self._ends_at = time.monotonic() + seconds
        self._may_be_cut = False
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        self._watched, has_begun = _watched_of(os.getpid())
        self._token: Token[Exchange] = current.set(self)
        self._watched.add(self)
        if not has_begun.is_set():
            has_begun.set()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._watched.discard(self)
        current.reset(self._token)
        if error is None or isinstance(error, Exception):
            self.check()

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
        self._may_be_cut = True

    def cancel(self) -> None:
        """End the exchange now, from any thread.

        What waits for the attached socket fails, or finds the end of the response. A lookup, or a
        connection that is being made, ends by its own time-out.
        """
        self._ends_at = float("-inf")
        if (attached := self._socket) is not None:
            with suppress(OSError):  # it is closed
                # Not SSLSocket.shutdown, which would discard the state that the reader uses.
                socket.socket.shutdown(attached, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise DeadlineError if the time is over, and it matters."""
        if self.seconds_left <= 0 and not self._may_be_cut:
            raise DeadlineError("the deadline has passed")


# The exchange of this thread.
current = ContextVar[Exchange]("current")


@cache
def _watched_of(_process_id: int) -> tuple[set[Exchange], threading.Event]:
    """Return the exchanges that a thread of a process watches; a fork copies no threads."""
    # Exchanges that are the first at the same time may have a thread each.
    watched, has_begun = set[Exchange](), threading.Event()
    arguments = (watched, has_begun)
    threading.Thread(target=_watch, args=arguments, name="deadlines", daemon=True).start()
    return arguments


def _watch(watched: set[Exchange], has_begun: threading.Event) -> None:
    """End exchanges at their deadlines, and sleep while there are none."""
    while has_begun.wait():
        has_begun.clear()
        while watched:
            time.sleep(_TICK)
            for exchange in watched.copy():
                if exchange.seconds_left <= 0:
                    exchange.cancel()

"""The end of a run: what outlasts it is broken off, whatever thread waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_SECONDS = 2.0
"""How long what is under way may still take when nothing more may be asked."""

_TICK_SECONDS = 0.2


@contextmanager
def enforced(over: Callable[[], bool], break_off: Callable[[], None]) -> Iterator[None]:
    """Call `break_off` from another thread if what is inside goes on for long once it is over.

    Who waits for an answer in the run's own thread cannot look at the clock.
    """
    done = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(done, over, break_off), name="ending", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(done: threading.Event, over: Callable[[], bool], break_off: Callable[[], None]) -> None:
    over_since: float | None = None
    while not done.wait(_TICK_SECONDS):
        if over():
            over_since = over_since or time.monotonic()
            if time.monotonic() - over_since >= GRACE_SECONDS:
                break_off()
                return

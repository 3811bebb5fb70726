"""Named points at which a process under test is killed or stopped.

The code under test does not know them: `install` wraps functions and listens to sessions, in a
process that was forked for one command and ends with it.
"""

import itertools
import os
import signal
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from notifier import config as notifier_config
from notifier.webhooks import circuit_breaker, retry_policy
from notifier.webhooks.http_client import Transport
from receiver import config as receiver_config
from receiver.gradebook.database import DatabaseGradebook
from receiver.sources.eassessment import EAssessmentClient
from receiver.webhooks import inbox

# Seconds by which a lease must outlast its attempt, instead of the services' own.
_LEASE_MARGIN_SECONDS = 0.25


class Point(StrEnum):
    """The points of workers, of ELMS, of every transaction, and of grade syncs."""

    BEFORE_POST = "before_post"
    AFTER_POST = "after_post"
    INBOX_WRITTEN = "inbox_written"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    FETCHED = "fetched"
    STORED = "stored"
    ANYWHERE = "anywhere"


class Action(StrEnum):
    """What happens to the process; it can catch neither."""

    KILL = "kill"
    STOP = "stop"


@dataclass(frozen=True)
class Fault:
    """What happens the `nth` time that a process reaches a point."""

    point: Point
    action: Action = Action.KILL
    nth: int = 1


def arm(folder: Path, fault: Fault) -> None:
    """Write a fault into the folder of a process, which finds it there."""
    written = folder / f".{fault.point}"
    written.write_text(f"{fault.action} {fault.nth}")
    written.rename(folder / fault.point)


def disarm(folder: Path, point: Point) -> bool:
    """Remove a fault; return whether it had not happened."""
    try:
        (folder / point).unlink()
    except FileNotFoundError:
        return False
    return True


def shorten(wait: float) -> None:
    """Shorten every retry wait and every pause to `wait` seconds, and the leases' margin."""
    retry_policy.SCHEDULE = tuple(timedelta(seconds=wait) for _ in retry_policy.SCHEDULE)
    circuit_breaker.SHORTEST_PAUSE = circuit_breaker.LONGEST_PAUSE = timedelta(seconds=wait)
    notifier_config.LEASE_MARGIN_SECONDS = _LEASE_MARGIN_SECONDS
    receiver_config.LEASE_MARGIN_SECONDS = _LEASE_MARGIN_SECONDS


def install(folder: Path) -> None:
    """Let this process meet the faults of a folder."""
    points = _Points(folder)
    points.wrap(Transport, "post", before=Point.BEFORE_POST, after=Point.AFTER_POST)
    points.wrap(inbox, "_apply", before=Point.INBOX_WRITTEN)
    points.wrap(EAssessmentClient, "fetch", after=Point.FETCHED)
    points.wrap(DatabaseGradebook, "write", after=Point.STORED)
    for point in (Point.BEFORE_COMMIT, Point.AFTER_COMMIT):
        event.listen(Session, point.value, lambda _, point=point: points.reach(point))
    if (folder / Point.ANYWHERE).exists():
        event.listen(Session, "after_begin", lambda *_: points.count_calls(), once=True)


class _Points:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def wrap(
        self, owner: Any, name: str, *, before: Point | None = None, after: Point | None = None
    ) -> None:
        wrapped = getattr(owner, name)

        def reached(*args: Any, **kwargs: Any) -> Any:
            if before:
                self.reach(before)
            returned = wrapped(*args, **kwargs)
            if after:
                self.reach(after)
            return returned

        setattr(owner, name, reached)

    def reach(self, point: Point) -> None:
        with self._lock:
            try:
                action, nth = _read(self._folder / point)
            except FileNotFoundError:
                return
            if nth > 1:
                arm(self._folder, Fault(point, action, nth - 1))
                return
            (self._folder / point).unlink()
        _happen(action)

    def count_calls(self) -> None:
        """Kill at the nth call or return in any thread from now on (ANYWHERE)."""
        action, nth = _read(self._folder / Point.ANYWHERE)
        calls = itertools.count(1)

        def called(*_: object) -> None:
            if next(calls) == nth:
                (self._folder / Point.ANYWHERE).unlink()
                _happen(action)

        threading.setprofile(called)
        sys.setprofile(called)


def _read(path: Path) -> tuple[Action, int]:
    action, nth = path.read_text().split()
    return Action(action), int(nth)


def _happen(action: Action) -> None:
    if action is Action.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    # To this thread, which would run on for a moment otherwise.
    signal.raise_signal(signal.SIGSTOP)

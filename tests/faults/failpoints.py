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

from alembic.operations import Operations
from sqlalchemy import event
from sqlalchemy.orm import Session

from contract import signatures
from notifier import config as notifier_config
from notifier import signals
from notifier.webhooks import circuit_breaker, deliveries, retry_policy
from notifier.webhooks.http_client import Transport
from notifier.worker import claims
from receiver import config as receiver_config
from receiver.gradebook.database import DatabaseGradebook
from receiver.sources.eassessment import EAssessmentClient
from receiver.webhooks import inbox


class Point(StrEnum):
    """The points, in the order in which a change reaches them."""

    MIGRATING = "migrating"
    COURSE_CHANGED = "course_changed"
    DUE_SEEN = "due_seen"
    CLAIMED = "claimed"
    SIGNED = "signed"
    VERIFIED = "verified"
    INBOX_WRITTEN = "inbox_written"
    POSTED = "posted"
    SETTLING = "settling"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    ASKED = "asked"
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
    """Write a fault into the folder of a process, which takes it there."""
    laid = folder / f".{fault.point}"
    laid.write_text(f"{fault.action} {fault.nth}")
    laid.rename(folder / fault.point)


def disarm(folder: Path, point: Point) -> bool:
    """Remove a fault; return whether it was still there."""
    try:
        (folder / point).unlink()
    except FileNotFoundError:
        return False
    return True


def is_armed(folder: Path, point: Point) -> bool:
    """Return whether a fault is still there."""
    return (folder / point).exists()


def install(folder: Path) -> None:
    """Let this process meet the faults of a folder."""
    points = _Points(folder)
    points.before(signatures, "sign", Point.CLAIMED)
    points.before(Transport, "post", Point.SIGNED)
    points.after(Transport, "post", Point.POSTED)
    points.after(claims, "any_due", Point.DUE_SEEN)
    points.before(deliveries, "settle", Point.SETTLING)
    points.after(signals, "send", Point.COURSE_CHANGED)
    points.after(signatures, "verify_body", Point.VERIFIED)
    points.after(inbox, "_insert", Point.INBOX_WRITTEN)
    points.after(EAssessmentClient, "fetch", Point.ASKED)
    points.after(DatabaseGradebook, "write", Point.STORED)
    points.after(Operations, "invoke", Point.MIGRATING)
    for point in (Point.BEFORE_COMMIT, Point.AFTER_COMMIT):
        event.listen(Session, point.value, lambda _, point=point: points.reach(point))
    if is_armed(folder, Point.ANYWHERE):
        event.listen(Session, "after_begin", lambda *_: points.count_calls(), once=True)


def shorten(wait: float, margin: float) -> None:
    """Shorten every retry wait and every pause to `wait` seconds; the number of attempts stays.

    `margin` is how many seconds a lease must outlast the deadline of its attempt.
    """
    retry_policy.SCHEDULE = tuple(timedelta(seconds=wait) for _ in retry_policy.SCHEDULE)
    circuit_breaker.SHORTEST_PAUSE = circuit_breaker.LONGEST_PAUSE = timedelta(seconds=wait)
    notifier_config.LEASE_MARGIN_SECONDS = receiver_config.LEASE_MARGIN_SECONDS = margin


class _Points:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def before(self, owner: Any, name: str, point: Point) -> None:
        wrapped = getattr(owner, name)

        def reached(*args: Any, **kwargs: Any) -> Any:
            self.reach(point)
            return wrapped(*args, **kwargs)

        setattr(owner, name, reached)

    def after(self, owner: Any, name: str, point: Point) -> None:
        wrapped = getattr(owner, name)

        def reached(*args: Any, **kwargs: Any) -> Any:
            returned = wrapped(*args, **kwargs)
            self.reach(point)
            return returned

        setattr(owner, name, reached)

    def reach(self, point: Point) -> None:
        action = self._taken(point)
        if action is not None:
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

    def _taken(self, point: Point) -> Action | None:
        with self._lock:
            try:
                action, nth = _read(self._folder / point)
            except FileNotFoundError:
                return None
            if nth > 1:
                arm(self._folder, Fault(point, action, nth - 1))
                return None
            return action if disarm(self._folder, point) else None


def _read(path: Path) -> tuple[Action, int]:
    action, nth = path.read_text().split()
    return Action(action), int(nth)


def _happen(action: Action) -> None:
    match action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            # To this thread, which would run on for a moment otherwise.
            signal.raise_signal(signal.SIGSTOP)

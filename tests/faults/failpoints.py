"""Named places where a process under test dies or stops; wrapped from outside, for this run only.

The code under test knows nothing of them: `install` replaces attributes of its modules and
listens to its sessions, in a process that was forked for one command and ends with it.
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
    """The places, in the order in which a fact comes by them."""

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
    """What befalls the process: nothing of it can be caught."""

    KILL = "kill"
    KILL_GROUP = "kill-group"
    STOP = "stop"


@dataclass(frozen=True)
class Fault:
    """What happens where: at the point's `nth` time."""

    point: Point
    action: Action = Action.KILL
    nth: int = 1


def arm(folder: Path, fault: Fault) -> None:
    """Lay a fault down for the processes that look into a folder; the first one there takes it."""
    laid = folder / f".{fault.point}"
    laid.write_text(f"{fault.action} {fault.nth}")
    laid.rename(folder / fault.point)


def disarm(folder: Path, point: Point) -> bool:
    """Take a fault back, and tell whether it was still there."""
    try:
        (folder / point).unlink()
    except FileNotFoundError:
        return False
    return True


def is_armed(folder: Path, point: Point) -> bool:
    """Tell whether a fault still waits to be taken."""
    return (folder / point).exists()


def install(folder: Path) -> None:
    """Wrap every place, so that this process meets what is laid down in the folder."""
    places = _Places(folder)
    places.before(signatures, "sign", Point.CLAIMED)
    places.before(Transport, "post", Point.SIGNED)
    places.after(Transport, "post", Point.POSTED)
    places.after(claims, "any_due", Point.DUE_SEEN)
    places.before(deliveries, "settle", Point.SETTLING)
    places.after(signals, "send", Point.COURSE_CHANGED)
    places.after(signatures, "verify_body", Point.VERIFIED)
    places.after(inbox, "_insert", Point.INBOX_WRITTEN)
    places.after(EAssessmentClient, "fetch", Point.ASKED)
    places.after(DatabaseGradebook, "write", Point.STORED)
    places.after(Operations, "invoke", Point.MIGRATING)
    for point in (Point.BEFORE_COMMIT, Point.AFTER_COMMIT):
        event.listen(Session, point.value, lambda _, point=point: places.reach(point))
    if is_armed(folder, Point.ANYWHERE):
        event.listen(Session, "after_begin", lambda *_: places.count_calls(), once=True)


def shorten(wait: float, margin: float) -> None:
    """Make every wait of the retry schedule and every pause so many seconds, and set the margin.

    Hours of retries then pass in seconds; how many attempts there are stays as it is.
    `margin` is what a lease must last beyond the deadline of what is done under it.
    """
    retry_policy.SCHEDULE = tuple(timedelta(seconds=wait) for _ in retry_policy.SCHEDULE)
    circuit_breaker.SHORTEST_PAUSE = circuit_breaker.LONGEST_PAUSE = timedelta(seconds=wait)
    notifier_config.LEASE_MARGIN_SECONDS = receiver_config.LEASE_MARGIN_SECONDS = margin


class _Places:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def before(self, owner: Any, name: str, point: Point) -> None:
        """Reach the point when the function is called."""
        wrapped = getattr(owner, name)

        def reached(*args: Any, **kwargs: Any) -> Any:
            self.reach(point)
            return wrapped(*args, **kwargs)

        setattr(owner, name, reached)

    def after(self, owner: Any, name: str, point: Point) -> None:
        """Reach the point when the function returns."""
        wrapped = getattr(owner, name)

        def reached(*args: Any, **kwargs: Any) -> Any:
            returned = wrapped(*args, **kwargs)
            self.reach(point)
            return returned

        setattr(owner, name, reached)

    def reach(self, point: Point) -> None:
        """Take the fault that is laid down here, if any is, and let it happen."""
        action = self._taken(point)
        if action is not None:
            _happen(action)

    def count_calls(self) -> None:
        """Let the fault of ANYWHERE happen at the nth call or return in any thread from now on."""
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
        case Action.KILL_GROUP:
            os.killpg(0, signal.SIGKILL)
        case Action.STOP:
            # To this thread, so that it does not run on for a moment while another one is stopped.
            signal.raise_signal(signal.SIGSTOP)

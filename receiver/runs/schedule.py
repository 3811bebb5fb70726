"""The schedule of the grade sync: whether it is paused, and when the next run is expected.

Cron or a timer starts the runs. When it does is not known here, but follows from past runs.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.text import readable
from receiver.errors import SyncPausedError
from receiver.models import Run, SyncPause

_NAME = "grade-sync"

# The unattended runs from which the interval follows, and the fewest that show one.
_RUNS_READ = 12
_FEWEST_RUNS = 3
# Cron starts a run each minute at most, a few seconds early or late; what is more often is not
# cron.
_SHORTEST = timedelta(seconds=50)


@dataclass(frozen=True)
class Schedule:
    """The interval at which runs are scheduled and the time of the next; None if not known yet.

    `runs`: the number of runs from which they follow.
    """

    interval: timedelta | None = None
    next_at: datetime | None = None
    runs: int = 0

    def is_overdue(self, *, now: datetime) -> bool:
        """Return True if the next run should have started half an interval ago."""
        if self.next_at is None or self.interval is None:
            return False
        return now > self.next_at + self.interval / 2


def read(session: Session) -> Schedule:
    """Return the schedule that the last unattended runs show: the median of their intervals."""
    query = select(Run.started_at).where(Run.unattended).order_by(Run.id.desc()).limit(_RUNS_READ)
    started_at = list(session.scalars(query))
    if len(started_at) < _FEWEST_RUNS:
        return Schedule(runs=len(started_at))
    seconds = median((later - earlier).total_seconds() for later, earlier in pairwise(started_at))
    interval = timedelta(seconds=round(seconds))
    if interval < _SHORTEST:
        return Schedule(runs=len(started_at))
    next_at = started_at[0] + interval
    for start, end in _prevented(session):
        if start <= next_at < end:
            next_at += -((next_at - end) // interval) * interval
    return Schedule(interval, next_at, len(started_at))


def _prevented(session: Session) -> list[tuple[datetime, datetime]]:
    """Return when no unattended run could start: the last pause, and the last run."""
    pauses = select(SyncPause.paused_at, SyncPause.resumed_at)
    last_run = select(Run.started_at, Run.ended_at).order_by(Run.id.desc()).limit(1)
    spans = [*session.execute(pauses), *session.execute(last_run)]
    return [(start, end) for start, end in spans if end is not None]


def pause(session: Session, by: str, *, now: datetime) -> None:
    """Pause the grade sync; one that is paused stays as it is."""
    row = {"paused_at": now, "paused_by": by, "resumed_at": None}
    insert = db.insert(session, SyncPause).values(name=_NAME, **row)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["name"], set_=row, where=SyncPause.resumed_at.is_not(None)
        )
    )


def resume(session: Session, *, now: datetime) -> None:
    """Resume the grade sync if it is paused."""
    session.execute(update(SyncPause).where(SyncPause.resumed_at.is_(None)).values(resumed_at=now))


def get_pause(session: Session) -> SyncPause | None:
    """Return since when and by whom the grade sync is paused, or None."""
    return session.scalar(select(SyncPause).where(SyncPause.resumed_at.is_(None)))


def check_not_paused(session: Session) -> None:
    """Raise SyncPausedError if the grade sync is paused."""
    if pause := get_pause(session):
        raise SyncPausedError(
            f"the grade sync is paused since {readable(pause.paused_at)} by {pause.paused_by}",
            paused_at=pause.paused_at,
            paused_by=pause.paused_by,
        )

"""The schedule of the grade sync: whether it is paused, and when the next run is expected.

Cron or a timer starts the runs. When it does is not known here, but follows from past runs.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.text import readable
from receiver.errors import SyncPausedError
from receiver.models import Run, SyncPause

_NAME = "grade-sync"

# The scheduled runs from which the interval follows, and the fewest that show one.
_RUNS_READ = 12
_FEWEST_RUNS = 3


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
    """Return the schedule that the last scheduled runs show: the median of their intervals."""
    query = select(Run.started_at).where(Run.scheduled).order_by(Run.id.desc()).limit(_RUNS_READ)
    started_at = list(session.scalars(query))
    if len(started_at) < _FEWEST_RUNS:
        return Schedule(runs=len(started_at))
    seconds = median((later - earlier).total_seconds() for later, earlier in pairwise(started_at))
    interval = timedelta(seconds=round(seconds))
    return Schedule(interval, started_at[0] + interval, len(started_at))


def pause(session: Session, by: str, *, now: datetime) -> None:
    """Pause the grade sync; one that is paused stays as it is."""
    row = {"name": _NAME, "paused_at": now, "paused_by": by}
    session.execute(db.insert(session, SyncPause).values(row).on_conflict_do_nothing())


def resume(session: Session) -> None:
    """Resume the grade sync."""
    session.execute(delete(SyncPause))


def get_pause(session: Session) -> SyncPause | None:
    """Return since when and by whom the grade sync is paused, or None."""
    return session.get(SyncPause, _NAME)


def check_not_paused(session: Session) -> None:
    """Raise SyncPausedError if the grade sync is paused."""
    if pause := get_pause(session):
        raise SyncPausedError(
            f"the grade sync is paused since {readable(pause.paused_at)} by {pause.paused_by}",
            paused_at=pause.paused_at,
            paused_by=pause.paused_by,
        )

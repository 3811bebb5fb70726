"""The runs of the sync: the lease that lets one at a time write, and the record of each."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from foundation import database as db
from foundation.terminal import cell
from receiver.errors import LeaseLostError, RunInProgressError, RunUnknownError
from receiver.gradebook import Written
from receiver.models import Run, RunCourse, SyncLease

_LEASE = "grade-sync"


class CourseOutcome(StrEnum):
    """What became of a course in a run."""

    SYNCED = "synced"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


class Ending(StrEnum):
    """How a run ended, or that it has not."""

    WELL = "well"
    WITH_FAILURES = "with failures"
    STOPPED = "before its time"
    KILLED = "killed"
    AT_WORK = "at work"


@dataclass(frozen=True)
class CourseReport:
    """What became of one course; where it was not synced: why, since when, what to do.

    `url` is what was asked, for the log; the record does without.
    """

    source: str
    course_id: str
    outcome: CourseOutcome
    reason: str | None = None
    detail: str | None = None
    since: datetime | None = None
    next_step: str | None = None
    url: str | None = None

    def columns(self) -> dict[str, Any]:
        """Return what is kept of it, and shown."""
        return {name: value for name, value in vars(self).items() if name != "url"}


@dataclass(frozen=True)
class Report:
    """What a run came to; `stopped` says why it ended before its time."""

    run_id: int
    courses: tuple[CourseReport, ...]
    written: Written
    requests: int
    statements: int
    seconds: float
    exit_code: int
    stopped: str | None = None

    def count(self, outcome: CourseOutcome) -> int:
        """Return how many courses had this outcome."""
        return sum(course.outcome is outcome for course in self.courses)


def acquire(session: Session, holder: str, lasting: timedelta, *, now: datetime) -> str:
    """Take the lease and return its token; an expired one is taken over, or a crash would bar all.

    Raises RunInProgressError that names who holds it, and until when.
    """
    token = secrets.token_hex(16)
    session.execute(db.insert(session, SyncLease).values(name=_LEASE).on_conflict_do_nothing())
    taken: Any = session.execute(
        update(SyncLease)
        .where(
            SyncLease.name == _LEASE,
            or_(SyncLease.leased_until.is_(None), SyncLease.leased_until <= now),
        )
        .values(holder=holder, token=token, leased_until=now + lasting)
    )
    if not taken.rowcount:
        held = session.get_one(SyncLease, _LEASE)
        raise RunInProgressError(
            f"another grade sync is at work: {held.holder}, "
            f"its lease lasts until {cell(held.leased_until)}"
        )
    return token


def renew(session: Session, token: str, lasting: timedelta, *, now: datetime) -> None:
    """Hold the lease for longer, or raise LeaseLostError if another run has taken it over."""
    kept: Any = session.execute(
        update(SyncLease)
        .where(SyncLease.name == _LEASE, SyncLease.token == token)
        .values(leased_until=now + lasting)
    )
    if not kept.rowcount:
        raise LeaseLostError("another grade sync has taken over the lease")


def release(session: Session, token: str) -> None:
    """Give the lease back, if it is still held with this token."""
    session.execute(
        update(SyncLease)
        .where(SyncLease.name == _LEASE, SyncLease.token == token)
        .values(holder=None, token=None, leased_until=None)
    )


def begin(session: Session, holder: str, *, partial: bool = False, now: datetime) -> int:
    """Open the record of a run and return its number; `partial`: not every course is meant."""
    run = Run(holder=holder, partial=partial, started_at=now)
    session.add(run)
    session.flush()
    return run.id


def record(session: Session, run_id: int, reports: Sequence[CourseReport]) -> None:
    """Write down what became of courses in a run."""
    rows = [{"run_id": run_id, **report.columns()} for report in reports]
    db.insert_all(session, RunCourse, rows)


def end(session: Session, report: Report, *, now: datetime) -> None:
    """Close the record of a run."""
    session.execute(
        update(Run)
        .where(Run.id == report.run_id)
        .values(
            ended_at=now,
            **{outcome.value: report.count(outcome) for outcome in CourseOutcome},
            scores_new=report.written.added,
            scores_changed=report.written.changed,
            scores_as_before=report.written.unchanged,
            requests=report.requests,
            statements=report.statements,
            seconds=report.seconds,
            stopped=report.stopped,
            exit_code=report.exit_code,
        )
    )


def latest_whole(session: Session) -> Run | None:
    """Return the run that began last of those that were for every course."""
    return session.scalar(
        select(Run).where(Run.partial.is_(False)).order_by(Run.id.desc()).limit(1)
    )


def listing(session: Session, limit: int) -> list[Run]:
    """Return the runs that began last, the newest first."""
    return list(session.scalars(select(Run).order_by(Run.id.desc()).limit(limit)))


def get(session: Session, run_id: int | None = None) -> Run:
    """Return a run by its number, or the one that began last; or raise RunUnknownError."""
    query = select(Run).order_by(Run.id.desc()).limit(1)
    run = session.scalar(query if run_id is None else query.where(Run.id == run_id))
    if run is None:
        named = "there was no run yet" if run_id is None else f"there is no run {run_id}"
        raise RunUnknownError(named)
    return run


def courses_of(
    session: Session, run_id: int, outcome: CourseOutcome | None = None
) -> list[RunCourse]:
    """Return what became of each course in a run, in the order in which it was told."""
    query = select(RunCourse).where(RunCourse.run_id == run_id).order_by(RunCourse.id)
    if outcome is not None:
        query = query.where(RunCourse.outcome == outcome.value)
    return list(session.scalars(query))


def endings(session: Session, every: Sequence[Run], *, now: datetime) -> dict[int, Ending]:
    """Return by number how each run ended; at work is only who holds the lease still."""
    lease = session.get(SyncLease, _LEASE)
    until = lease.leased_until if lease else None
    last = session.scalar(select(func.max(Run.id)))
    held = until is not None and until > now
    return {run.id: _ending(run, at_work=held and run.id == last) for run in every}


def _ending(run: Run, *, at_work: bool) -> Ending:
    if run.ended_at is None:
        return Ending.AT_WORK if at_work else Ending.KILLED
    if run.stopped is not None:
        return Ending.STOPPED
    return Ending.WITH_FAILURES if run.exit_code else Ending.WELL

"""The runs of the sync: the lease that lets one at a time write, and the record of each."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from foundation import database as db
from foundation.terminal import cell
from receiver.errors import LeaseLostError, RunInProgressError
from receiver.gradebook import Written
from receiver.models import Run, RunCourse, SyncLease

_LEASE = "grade-sync"


class CourseOutcome(StrEnum):
    """What became of a course in a run."""

    SYNCED = "synced"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


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
            requests=report.requests,
            statements=report.statements,
            seconds=report.seconds,
            stopped=report.stopped,
            exit_code=report.exit_code,
        )
    )


def latest(session: Session) -> Run | None:
    """Return the run that began last."""
    return session.scalar(select(Run).order_by(Run.id.desc()).limit(1))

"""The runs of the sync: the record of each, and what became of each course in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from foundation.db import session as db
from receiver.errors import RunUnknownError
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run, RunCourse
from receiver.runs import lease as leases

LOOKED_BACK = 10
"""In how many runs a course's last outcome is looked for: it stands in each that was for all."""


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
class CourseResult:
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
class RunResult:
    """What a run came to; `stopped` says why it ended before its time, and `next_step` what to do.

    `requests` went to eAssessment, `gradebook_requests` to the Moodle that ELMS is, if it is one.
    """

    run_id: int
    courses: tuple[CourseResult, ...]
    scores: ScoreCounts
    requests: int
    statements: int
    seconds: float
    exit_code: int
    stopped: str | None = None
    next_step: str | None = None
    gradebook_requests: int = 0

    def count(self, outcome: CourseOutcome) -> int:
        """Return how many courses had this outcome."""
        return sum(course.outcome is outcome for course in self.courses)


@dataclass(frozen=True)
class Totals:
    """What came of all runs that are over, and when the last one ended that went well for all."""

    runs: dict[Ending, int]
    courses: dict[CourseOutcome, int]
    well_at: datetime | None


@dataclass(frozen=True)
class LastOutcome:
    """What became of a course last, in the run that began then."""

    outcome: CourseOutcome
    at: datetime


def begin(session: Session, holder: str, *, partial: bool = False, now: datetime) -> int:
    """Open the record of a run and return its number; `partial`: not every course is meant."""
    run = Run(holder=holder, partial=partial, started_at=now)
    session.add(run)
    session.flush()
    return run.id


def record(session: Session, run_id: int, reports: Sequence[CourseResult]) -> None:
    """Write down what became of courses in a run."""
    rows = [{"run_id": run_id, **report.columns()} for report in reports]
    db.insert_all(session, RunCourse, rows)


def end(session: Session, report: RunResult, *, now: datetime) -> None:
    """Close the record of a run."""
    session.execute(
        update(Run)
        .where(Run.id == report.run_id)
        .values(
            ended_at=now,
            **{outcome.value: report.count(outcome) for outcome in CourseOutcome},
            scores_new=report.scores.added,
            scores_changed=report.scores.changed,
            scores_as_before=report.scores.unchanged,
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


def forget(session: Session, before: datetime, most: int) -> int:
    """Forget so many of the runs that began before then, with their courses; return how many.

    The last run, and the last for every course, are kept, however old.
    """
    kept = select(func.max(Run.id)).group_by(Run.partial)
    old = session.scalars(
        select(Run.id)
        .where(Run.started_at < before, Run.id.not_in(kept))
        .order_by(Run.id)
        .limit(most)
    ).all()
    if old:
        session.execute(delete(RunCourse).where(RunCourse.run_id.in_(old)))
        session.execute(delete(Run).where(Run.id.in_(old)))
    return len(old)


def last_outcomes(session: Session) -> dict[tuple[str, str], LastOutcome]:
    """Return by source and course what became of each in the last run that told of it.

    One query; only the last `LOOKED_BACK` runs are looked at.
    """
    newest = select(func.coalesce(func.max(Run.id), 0) - LOOKED_BACK).scalar_subquery()
    last = (
        select(func.max(RunCourse.id))
        .where(RunCourse.run_id > newest)
        .group_by(RunCourse.source, RunCourse.course_id)
    )
    rows = session.execute(
        select(RunCourse.source, RunCourse.course_id, RunCourse.outcome, Run.started_at)
        .join(Run, Run.id == RunCourse.run_id)
        .where(RunCourse.id.in_(last))
    )
    return {
        (row.source, row.course_id): LastOutcome(CourseOutcome(row.outcome), row.started_at)
        for row in rows
    }


def endings(session: Session, every: Sequence[Run], *, now: datetime) -> dict[int, Ending]:
    """Return by number how each run ended; at work is only who holds the lease still."""
    lease = leases.current(session)
    until = lease.leased_until if lease else None
    last = session.scalar(select(func.max(Run.id)))
    held = until is not None and until > now
    return {run.id: _ending(run, at_work=held and run.id == last) for run in every}


def totals(session: Session, *, now: datetime) -> Totals:
    """Return what came of all runs that are over."""
    ending = case(
        (Run.ended_at.is_(None), Ending.KILLED.value),
        (Run.stopped.is_not(None), Ending.STOPPED.value),
        (Run.exit_code != 0, Ending.WITH_FAILURES.value),
        else_=Ending.WELL.value,
    ).label("ending")
    sums = [func.sum(getattr(Run, outcome.value)) for outcome in CourseOutcome]
    whole_ended_at = func.max(case((Run.partial.is_(False), Run.ended_at)))
    rows = session.execute(
        select(ending, func.count(), whole_ended_at, *sums).group_by("ending")
    ).all()
    runs = {Ending(row[0]): row[1] for row in rows}
    if at_work(session, now=now):
        runs[Ending.KILLED] -= 1
    return Totals(
        runs,
        {outcome: sum(row[3 + at] for row in rows) for at, outcome in enumerate(CourseOutcome)},
        next((row[2] for row in rows if row[0] == Ending.WELL), None),
    )


def at_work(session: Session, *, now: datetime) -> bool:
    """Tell whether a run holds the lease at present."""
    last = session.scalars(select(Run).order_by(Run.id.desc()).limit(1)).all()
    return Ending.AT_WORK in endings(session, last, now=now).values()


def _ending(run: Run, *, at_work: bool) -> Ending:
    if run.ended_at is None:
        return Ending.AT_WORK if at_work else Ending.KILLED
    if run.stopped is not None:
        return Ending.STOPPED
    return Ending.WITH_FAILURES if run.exit_code else Ending.WELL

"""The records of grade sync runs, and the result of each course in them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from foundation.db import bulk
from foundation.db import session as db
from foundation.errors import Advice
from receiver.course_state import CourseStatus
from receiver.errors import RunUnknownError
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, Run, RunCourse, RunPerson, Source
from receiver.runs import lease as leases
from receiver.sources.base import PersonProblem

# In how many of the latest runs the last failure of a course is searched.
RUNS_SEARCHED = 20

# What a site sends as an ID can be megabytes long.
_MAX_USER_ID = 255


class CourseOutcome(StrEnum):
    """The outcome of a course in a run."""

    SYNCED = "synced"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


class ResultReason(StrEnum):
    """Why a course has its outcome in a run; these values are stable.

    A course that is skipped because of its status has that status as its reason.
    """

    SITE_TROUBLE = "site_trouble"
    GRADEBOOK_TROUBLE = "gradebook_trouble"
    MISCONFIGURED = "misconfigured"
    TRANSIENT = "transient"
    TOKEN_UNREADABLE = "token_unreadable"  # noqa: S105 - a reason, no secret
    UNFORESEEN = "unforeseen"
    # The run ended before the course was stored.
    STOPPED = "stopped"
    DEADLINE = "deadline"
    LEASE_LOST = "lease_lost"
    DATABASE_UNAVAILABLE = "database_unavailable"
    # The course was synced, but not for everyone in it, or not where ELMS keeps its own grades.
    PEOPLE_LEFT_OUT = "people_left_out"
    PEOPLE_KEPT = "people_kept"


class RunStatus(StrEnum):
    """Whether a run is running, and otherwise how it ended; these values are stable."""

    COMPLETED = "completed"
    NEEDS_ACTION = "needs_action"
    WITH_ERRORS = "with_errors"
    STOPPED = "stopped"
    KILLED = "killed"
    RUNNING = "running"

    @property
    def label(self) -> str:
        """The status as people read it."""
        return _RUN_LABELS.get(self, self.value)


_RUN_LABELS = {
    RunStatus.NEEDS_ACTION: "completed, action needed",
    RunStatus.WITH_ERRORS: "completed with errors",
    RunStatus.STOPPED: "stopped early",
}


_WITHOUT_FAILURE = (RunStatus.COMPLETED, RunStatus.NEEDS_ACTION)


@dataclass(frozen=True)
class CourseResult:
    """The result of one course; if it was not synced: why, since when, and what to do.

    `url` is the one that was requested; it is logged, but not recorded. `people` are those whose
    scores were not imported.
    """

    source: str
    course_id: str
    outcome: CourseOutcome
    reason: ResultReason | CourseStatus | None = None
    detail: str | None = None
    since: datetime | None = None
    advice: Advice | None = None
    url: str | None = None
    people: tuple[PersonProblem, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """The result of a run; `stopped` says why it ended early, and `advice` what to do.

    `courses` are all that it was for, also those that were known to be deleted.
    `requests` were sent to eAssessment, `gradebook_requests` to ELMS's Moodle.
    """

    run_id: int
    courses: tuple[CourseResult, ...]
    scores: ScoreCounts
    requests: int
    statements: int
    seconds: float
    exit_code: int
    stopped: str | None = None
    advice: Advice | None = None
    gradebook_requests: int = 0

    def count(self, outcome: CourseOutcome) -> int:
        """Return the number of courses with this outcome."""
        return sum(course.outcome is outcome for course in self.courses)

    @property
    def deleted(self) -> int:
        """The number of courses that were skipped because they were deleted."""
        return sum(course.reason == CourseStatus.COURSE_DELETED for course in self.courses)


@dataclass(frozen=True)
class RunTotals:
    """The number of ended runs by status and of their courses by outcome.

    `completed_at` is when the last run of every course completed without a failure.
    """

    runs: dict[RunStatus, int]
    courses: dict[CourseOutcome, int]
    completed_at: datetime | None


@dataclass(frozen=True)
class CourseFailure:
    """Why the last runs could not sync a course, although it was active.

    `since`: when the first of them started. `detail` and `advice` are those of the last.
    """

    since: datetime
    detail: str | None = None
    advice: Advice | None = None


def begin(
    session: Session,
    holder: str,
    *,
    partial: bool = False,
    unattended: bool = False,
    deleted: int = 0,
    now: datetime,
) -> int:
    """Open the record of a run and return its id.

    `partial`: it is not for every course. `unattended`: it was not started at a terminal or on a
    page. `deleted`: how many courses it skips because they are known to be deleted; they are
    counted, but not recorded one by one.
    """
    run = Run(
        holder=holder,
        partial=partial,
        unattended=unattended,
        skipped=deleted,
        deleted=deleted,
        started_at=now,
    )
    session.add(run)
    session.flush()
    return run.id


def record(session: Session, run_id: int, courses: Sequence[CourseResult]) -> None:
    """Record the results of courses in a run, with the people whose scores were not imported.

    Unchanged courses are only counted.
    """
    changed = [course for course in courses if course.outcome is not CourseOutcome.UNCHANGED]
    if unchanged := len(courses) - len(changed):
        counted = update(Run).where(Run.id == run_id)
        session.execute(counted.values(unchanged=Run.unchanged + unchanged))
    rows = []
    for course in changed:
        advice = course.advice
        row = {
            "run_id": run_id,
            **vars(course),
            "next_step": advice and advice.text,
            "action": [advice.action, *advice.args] if advice and advice.action else None,
        }
        del row["advice"], row["url"], row["people"]
        rows.append(row)
    bulk.insert(session, RunCourse, rows)
    people = [
        {
            "run_id": run_id,
            "source": course.source,
            "course_id": course.course_id,
            **vars(person),
            "user_id": person.user_id and person.user_id[:_MAX_USER_ID],
        }
        for course in changed
        for person in course.people
    ]
    bulk.insert(session, RunPerson, people)


def end(session: Session, result: RunResult, *, now: datetime) -> None:
    """Close the record of a run."""
    session.execute(
        update(Run)
        .where(Run.id == result.run_id)
        .values(
            ended_at=now,
            **{outcome.value: result.count(outcome) for outcome in CourseOutcome},
            deleted=result.deleted,
            scores_added=result.scores.added,
            scores_changed=result.scores.changed,
            scores_unchanged=result.scores.unchanged,
            requests=result.requests,
            statements=result.statements,
            seconds=result.seconds,
            stopped=result.stopped,
            exit_code=result.exit_code,
        )
    )


def latest_full(session: Session) -> Run | None:
    """Return the latest run of every course."""
    return session.scalar(
        select(Run).where(Run.partial.is_(False)).order_by(Run.id.desc()).limit(1)
    )


def get(session: Session, run_id: int | None = None) -> Run:
    """Return a run by its id, or the latest one; or raise RunUnknownError."""
    query = select(Run).order_by(Run.id.desc()).limit(1)
    run = session.scalar(query if run_id is None else query.where(Run.id == run_id))
    if run is None:
        raise RunUnknownError(
            "there is no run yet" if run_id is None else f"there is no run {run_id}"
        )
    return run


def people_of(session: Session, run_id: int) -> list[RunPerson]:
    """Return the people of a run whose scores were not imported, by source and course."""
    query = select(RunPerson).where(RunPerson.run_id == run_id)
    order = RunPerson.source, RunPerson.course_id, RunPerson.id
    return list(session.scalars(query.order_by(*order)))


def count_old(session: Session, before: datetime) -> int:
    """Return how many runs `prune` deletes."""
    return session.scalar(select(func.count()).select_from(Run).where(_is_old(before))) or 0


def prune(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` runs that started before then, with their courses; return how many.

    The latest run and the latest run of every course stay, however old.
    """
    query = select(Run.id).where(_is_old(before)).order_by(Run.id).limit(limit)
    old = session.scalars(query).all()
    if old:
        session.execute(delete(RunPerson).where(RunPerson.run_id.in_(old)))
        session.execute(delete(RunCourse).where(RunCourse.run_id.in_(old)))
        session.execute(delete(Run).where(Run.id.in_(old)))
    return len(old)


def _is_old(before: datetime) -> ColumnElement[bool]:
    kept = select(func.max(Run.id)).group_by(Run.partial)
    return and_(Run.started_at < before, Run.id.not_in(kept))


def failures(session: Session, course_ids: Collection[str]) -> dict[tuple[str, str], CourseFailure]:
    """Return by source and course id the failures of the courses that fail, in one query.

    A run that started before the course was last synced does not count: unchanged courses are not
    recorded. Only the latest `RUNS_SEARCHED` runs are searched for the last result.
    """
    newest = select(func.coalesce(func.max(Run.id), 0) - RUNS_SEARCHED).scalar_subquery()
    last = (
        select(func.max(RunCourse.id))
        .where(RunCourse.run_id > newest, db.among(RunCourse.course_id, course_ids))
        .group_by(RunCourse.source, RunCourse.course_id)
    )
    earlier, first, first_run = aliased(RunCourse), aliased(RunCourse), aliased(Run)
    synced = (
        select(func.coalesce(func.max(earlier.id), 0))
        .where(
            earlier.course_id == RunCourse.course_id,
            earlier.source == RunCourse.source,
            earlier.outcome == CourseOutcome.SYNCED.value,
        )
        .correlate(RunCourse)
        .scalar_subquery()
    )
    since = (
        select(func.min(first_run.started_at))
        .join(first, first.run_id == first_run.id)
        .where(
            first.course_id == RunCourse.course_id,
            first.source == RunCourse.source,
            first.id > synced,
            _is_failing(first, first_run),
        )
        .correlate(RunCourse, Entry)
        .scalar_subquery()
    )
    rows = session.execute(
        select(RunCourse, since)
        .join(Run, Run.id == RunCourse.run_id)
        .join(Source, Source.name == RunCourse.source)
        .join(Entry, and_(Entry.source_id == Source.id, Entry.course_id == RunCourse.course_id))
        .where(RunCourse.id.in_(last), _is_failing(RunCourse, Run))
    )
    return {
        (course.source, course.course_id): CourseFailure(since, course.detail, course.advice)
        for course, since in rows
    }


def _is_failing(course: Any, run: Any) -> ColumnElement[bool]:
    """Return the condition that a run did not sync an active course, nor a later one."""
    inactive = [status.value for status in CourseStatus if status is not CourseStatus.ACTIVE]
    return and_(
        course.outcome != CourseOutcome.SYNCED.value,
        course.reason.not_in(inactive),
        or_(Entry.synced_at.is_(None), run.started_at >= Entry.synced_at),
    )


def statuses(session: Session, runs: Sequence[Run], *, now: datetime) -> dict[int, RunStatus]:
    """Return the status of each run by id; only the latest can be running, and needs the lease."""
    lease = leases.current(session)
    until = lease.leased_until if lease else None
    latest = session.scalar(select(func.max(Run.id)))
    is_leased = until is not None and until > now
    return {run.id: _status(run, running=is_leased and run.id == latest) for run in runs}


def totals(session: Session, *, now: datetime) -> RunTotals:
    """Return the totals of all runs that have ended."""
    status = case(
        (Run.ended_at.is_(None), RunStatus.KILLED.value),
        (Run.stopped.is_not(None), RunStatus.STOPPED.value),
        (Run.failed > 0, RunStatus.WITH_ERRORS.value),
        (Run.exit_code != 0, RunStatus.NEEDS_ACTION.value),
        else_=RunStatus.COMPLETED.value,
    ).label("status")
    sums = [func.sum(getattr(Run, outcome.value)) for outcome in CourseOutcome]
    full_ended_at = func.max(case((Run.partial.is_(False), Run.ended_at)))
    rows = session.execute(
        select(status, func.count(), full_ended_at, *sums).group_by("status")
    ).all()
    runs = {RunStatus(row[0]): row[1] for row in rows}
    if is_running(session, now=now):
        runs[RunStatus.KILLED] -= 1
    return RunTotals(
        runs,
        {
            outcome: sum(row[3 + index] for row in rows)
            for index, outcome in enumerate(CourseOutcome)
        },
        max((row[2] for row in rows if row[0] in _WITHOUT_FAILURE and row[2]), default=None),
    )


def is_running(session: Session, *, now: datetime) -> bool:
    """Return True if a run is running now."""
    latest = session.scalars(select(Run).order_by(Run.id.desc()).limit(1)).all()
    return RunStatus.RUNNING in statuses(session, latest, now=now).values()


def _status(run: Run, *, running: bool) -> RunStatus:
    if run.ended_at is None:
        return RunStatus.RUNNING if running else RunStatus.KILLED
    if run.stopped is not None:
        return RunStatus.STOPPED
    if run.failed:
        return RunStatus.WITH_ERRORS
    return RunStatus.NEEDS_ACTION if run.exit_code else RunStatus.COMPLETED

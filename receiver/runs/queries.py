"""Queries over recorded runs for pages and commands, and their rows of CSV files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import BATCH, Cursor, Page, PageRequest
from foundation.db.session import Database
from foundation.errors import fields_of
from receiver.course_state import CourseStatus
from receiver.models import Entry, Run, RunCourse, RunPerson, Source
from receiver.runs import store
from receiver.runs.groups import FIRST_FEW, ResultGroup, in_order
from receiver.runs.store import CourseOutcome


@dataclass(frozen=True)
class RunCounts:
    """The number of courses of a run by outcome; `deleted` of the skipped ones were deleted."""

    outcomes: dict[CourseOutcome, int]
    deleted: int

    @property
    def parts(self) -> dict[CourseOutcome | CourseStatus, int]:
        """The numbers by outcome, with the deleted courses apart from others that were skipped."""
        skipped = self.outcomes[CourseOutcome.SKIPPED] - self.deleted
        return {
            CourseOutcome.SYNCED: self.outcomes[CourseOutcome.SYNCED],
            CourseOutcome.UNCHANGED: self.outcomes[CourseOutcome.UNCHANGED],
            CourseStatus.COURSE_DELETED: self.deleted,
            CourseOutcome.SKIPPED: skipped,
            CourseOutcome.FAILED: self.outcomes[CourseOutcome.FAILED],
        }


@dataclass(frozen=True)
class ResultFilter:
    """Which results of a run to list: of this outcome, of this reason, of this source."""

    outcome: CourseOutcome | None = None
    reason: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class RunFilter:
    """Which runs to list: those that started since a time, and before another one."""

    since: datetime | None = None
    until: datetime | None = None


ALL_RUNS = RunFilter()
LISTED = (CourseOutcome.SYNCED, CourseOutcome.SKIPPED, CourseOutcome.FAILED)
"""The outcomes whose courses are listed; unchanged ones are only counted."""
COLUMNS = (
    *("run_id", "started_at", "ended_at", "by", "partial", "unattended"),
    *("synced", "unchanged", "skipped", "deleted", "failed"),
    *("requests", "database_queries", "seconds", "status"),
)
"""The columns of an exported list of runs."""
COURSE_COLUMNS = (
    *("source", "course_id", "outcome", "reason"),
    *("detail", "since", "next_step", "action"),
)
"""The columns of the exported courses of a run."""
PEOPLE_COLUMNS = ("source", "course_id", "user_id", "kept", "detail")
"""The columns of the exported people of a run."""


def page(
    session: Session,
    page_request: PageRequest,
    run_filter: RunFilter = ALL_RUNS,
    *,
    limit: int = pagination.PAGE,
) -> Page[Run]:
    """Return a page of the runs, newest first."""
    return pagination.read(
        session,
        _runs(run_filter),
        [Run.id],
        lambda row: (row[0], (row[0].id,)),
        page_request,
        limit=limit,
        descending=True,
    )


def count(session: Session, run_filter: RunFilter) -> int:
    """Return the number of runs, as `pagination.count` does."""
    return pagination.count(session, _runs(run_filter))


def export(database: Database, run_filter: RunFilter) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `COLUMNS`, newest first, each read in its own transaction."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        found = page(session, PageRequest(after=cursor), run_filter, limit=BATCH)
        statuses = store.statuses(session, found.rows, now=db.now(session))
        rows = [
            {
                **{name: getattr(run, name, None) for name in COLUMNS},
                "run_id": run.id,
                "by": run.holder,
                "database_queries": run.statements,
                "status": statuses[run.id],
            }
            for run in found.rows
        ]
        return Page(rows, None, found.after)

    return pagination.batches(database, read)


def export_courses(
    database: Database, run_id: int, result_filter: ResultFilter
) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of a run's courses with `COURSE_COLUMNS`, by source."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        request = PageRequest(after=cursor)
        found = page_of_courses(session, run_id, result_filter, request, limit=BATCH)
        rows = [
            {name: getattr(row, name) for name in COURSE_COLUMNS} | fields_of(row.advice)
            for row, _ in found.rows
        ]
        return Page(rows, None, found.after)

    return pagination.batches(database, read)


def export_people(database: Database, run_id: int) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of a run's people with `PEOPLE_COLUMNS`, by source and course."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        found = page_of_people(session, run_id, PageRequest(after=cursor), limit=BATCH)
        rows = [{name: getattr(row, name) for name in PEOPLE_COLUMNS} for row, _ in found.rows]
        return Page(rows, None, found.after)

    return pagination.batches(database, read)


def _runs(run_filter: RunFilter) -> Select[tuple[Run]]:
    query = select(Run)
    if run_filter.since is not None:
        query = query.where(Run.started_at >= run_filter.since)
    if run_filter.until is not None:
        query = query.where(Run.started_at < run_filter.until)
    return query


def page_of_courses(
    session: Session,
    run_id: int,
    result_filter: ResultFilter,
    page_request: PageRequest,
    *,
    limit: int = pagination.PAGE,
) -> Page[tuple[RunCourse, int | None]]:
    """Return a page of a run's recorded courses by source, with their entry ids."""
    return pagination.read(
        session,
        _matching(_with_entry_ids(RunCourse, run_id), result_filter),
        [RunCourse.source, RunCourse.id],
        lambda row: ((row[0], row[1]), (row[0].source, row[0].id)),
        page_request,
        limit=limit,
    )


def courses(session: Session, run_id: int, result_filter: ResultFilter) -> list[RunCourse]:
    """Return a run's recorded courses, in the order in which they were recorded."""
    query = select(RunCourse).where(RunCourse.run_id == run_id).order_by(RunCourse.id)
    return list(session.scalars(_matching(query, result_filter)))


def result_groups(session: Session, run_id: int) -> list[ResultGroup]:
    """Return a run's recorded results grouped as `group_results` does, in one query."""
    alike = (RunCourse.source, RunCourse.reason, RunCourse.next_step)
    number = func.row_number().over(partition_by=alike, order_by=RunCourse.id)
    details = [
        function(func.coalesce(RunCourse.detail, "")).over(partition_by=alike)
        for function in (func.min, func.max)
    ]
    numbered = (
        select(
            RunCourse.id,
            number.label("number"),
            func.count().over(partition_by=alike).label("courses"),
            (details[0] == details[1]).label("same_detail"),
        )
        .where(
            RunCourse.run_id == run_id,
            RunCourse.reason.is_not(None),
            RunCourse.reason != CourseStatus.COURSE_DELETED.value,
        )
        .subquery()
    )
    rows = session.execute(
        select(RunCourse, numbered.c.courses, numbered.c.same_detail)
        .join(numbered, numbered.c.id == RunCourse.id)
        .where(numbered.c.number <= FIRST_FEW)
        .order_by(RunCourse.id)
    )
    found: dict[tuple[Any, ...], ResultGroup] = {}
    for course, number_of_courses, same_detail in rows:
        key = course.source, course.reason, course.next_step
        before = found[key].first if key in found else ()
        detail = course.detail if same_detail else None
        found[key] = ResultGroup(number_of_courses, (*before, course), detail)
    return in_order(found.values())


def entry_ids(session: Session, groups: Sequence[ResultGroup]) -> dict[tuple[str, str], int]:
    """Return by source and course id the entry ids of the courses that groups name."""
    course_ids = {course.course_id for group in groups for course in group.first}
    query = (
        select(Source.name, Entry.course_id, Entry.id)
        .join(Entry, Entry.source_id == Source.id)
        .where(Entry.course_id.in_(course_ids))
    )
    return {(source, course_id): id_ for source, course_id, id_ in session.execute(query)}


def _matching(query: Select[Any], result_filter: ResultFilter) -> Select[Any]:
    if result_filter.outcome is not None:
        query = query.where(RunCourse.outcome == result_filter.outcome.value)
    if result_filter.reason is not None:
        query = query.where(RunCourse.reason == result_filter.reason)
    if result_filter.source is not None:
        query = query.where(RunCourse.source == result_filter.source)
    return query


def page_of_people(
    session: Session, run_id: int, page_request: PageRequest, *, limit: int = pagination.PAGE
) -> Page[tuple[RunPerson, int | None]]:
    """Return a page of the people of a run that were left out, with the ids of their entries."""
    return pagination.read(
        session,
        _with_entry_ids(RunPerson, run_id),
        [RunPerson.source, RunPerson.course_id, RunPerson.id],
        lambda row: ((row[0], row[1]), (row[0].source, row[0].course_id, row[0].id)),
        page_request,
        limit=limit,
    )


def _with_entry_ids(model: type[RunCourse | RunPerson], run_id: int) -> Select[Any]:
    return (
        select(model, Entry.id)
        .outerjoin(Source, Source.name == model.source)
        .outerjoin(Entry, and_(Entry.source_id == Source.id, Entry.course_id == model.course_id))
        .where(model.run_id == run_id)
    )


def people_count(session: Session, run_id: int) -> int:
    """Return the number of people of a run whose scores were not imported."""
    query = select(func.count()).select_from(RunPerson).where(RunPerson.run_id == run_id)
    return session.scalars(query).one()


def of_course(
    session: Session, source: str, course_id: str, limit: int = 5
) -> list[tuple[RunCourse, Run]]:
    """Return the recorded results of a course in the latest runs, newest first."""
    query = (
        select(RunCourse, Run)
        .join(Run, Run.id == RunCourse.run_id)
        .where(RunCourse.course_id == course_id, RunCourse.source == source)
        .order_by(RunCourse.id.desc())
        .limit(limit)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def counts(session: Session, runs: Sequence[Run]) -> dict[int, RunCounts]:
    """Return the number of courses of each run by run id, in at most one query.

    For a run that has not ended, these are the known deletions and the courses recorded so far.
    """
    outcomes = {
        run.id: {outcome: getattr(run, outcome.value) for outcome in CourseOutcome} for run in runs
    }
    deleted = {run.id: run.deleted for run in runs}
    if not_ended := [run.id for run in runs if run.ended_at is None]:
        is_deleted = RunCourse.reason == CourseStatus.COURSE_DELETED.value
        number_deleted = func.count().filter(is_deleted)
        query = (
            select(RunCourse.run_id, RunCourse.outcome, func.count(), number_deleted)
            .where(RunCourse.run_id.in_(not_ended))
            .group_by(RunCourse.run_id, RunCourse.outcome)
        )
        for run_id, outcome, number, of_them_deleted in session.execute(query):
            outcomes[run_id][CourseOutcome(outcome)] += number
            deleted[run_id] += of_them_deleted
    return {run.id: RunCounts(outcomes[run.id], deleted[run.id]) for run in runs}


def not_recorded(session: Session, run: Run) -> int:
    """Return how many failed courses were not recorded, because the run stopped early."""
    if run.stopped is None:
        return 0
    failed = (RunCourse.run_id == run.id, RunCourse.outcome == CourseOutcome.FAILED.value)
    recorded = session.scalars(select(func.count()).select_from(RunCourse).where(*failed)).one()
    return run.failed - recorded

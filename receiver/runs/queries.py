"""Queries over recorded runs for the pages."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db.pagination import Page, PageRequest
from receiver.models import Entry, Run, RunCourse, RunPerson, Source
from receiver.runs.store import RUNS_SEARCHED, CourseOutcome


def page(session: Session, page_request: PageRequest, *, limit: int = pagination.PAGE) -> Page[Run]:
    """Return a page of the runs, newest first."""
    return pagination.read(
        session,
        select(Run),
        [Run.id],
        lambda row: (row[0], (row[0].id,)),
        page_request,
        limit=limit,
        descending=True,
    )


def page_of_courses(
    session: Session, run_id: int, outcome: CourseOutcome, page_request: PageRequest
) -> Page[tuple[RunCourse, int | None]]:
    """Return a page of a run's courses with this outcome, by source, with their entry ids."""
    return pagination.read(
        session,
        _with_entry_ids(RunCourse, run_id).where(RunCourse.outcome == outcome.value),
        [RunCourse.source, RunCourse.id],
        lambda row: ((row[0], row[1]), (row[0].source, row[0].id)),
        page_request,
    )


def page_of_people(
    session: Session, run_id: int, page_request: PageRequest
) -> Page[tuple[RunPerson, int | None]]:
    """Return a page of the people of a run that were left out, with the ids of their entries."""
    return pagination.read(
        session,
        _with_entry_ids(RunPerson, run_id),
        [RunPerson.source, RunPerson.course_id, RunPerson.id],
        lambda row: ((row[0], row[1]), (row[0].source, row[0].course_id, row[0].id)),
        page_request,
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
    """Return the results of a course in the latest runs that have one, newest first."""
    query = (
        select(RunCourse, Run)
        .join(Run, Run.id == RunCourse.run_id)
        .where(RunCourse.course_id == course_id, RunCourse.source == source)
        .order_by(RunCourse.id.desc())
        .limit(limit)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def last_fetches(session: Session) -> dict[int, Run]:
    """Return by source id the latest run that fetched from it, of the last `RUNS_SEARCHED`."""
    newest = select(func.coalesce(func.max(Run.id), 0) - RUNS_SEARCHED).scalar_subquery()
    fetched = (
        select(RunCourse.id)
        .where(
            RunCourse.run_id == Run.id,
            RunCourse.outcome.in_(sorted(set(CourseOutcome) - {CourseOutcome.SKIPPED})),
            RunCourse.source == Source.name,
        )
        .correlate(Run, Source)
        .exists()
    )
    last = select(func.max(Run.id)).where(Run.id > newest, fetched).correlate(Source)
    query = select(Source.id, Run).join(Run, Run.id == last.scalar_subquery())
    return {row[0]: row[1] for row in session.execute(query)}


def counts(session: Session, runs: Sequence[Run]) -> dict[int, dict[CourseOutcome, int]]:
    """Return by run id the number of courses by outcome, in at most one query.

    For a run that has not ended, these are the courses recorded so far.
    """
    counted: dict[int, dict[CourseOutcome, int]] = {
        run.id: {outcome: getattr(run, outcome.value) for outcome in CourseOutcome} for run in runs
    }
    not_ended = [run.id for run in runs if run.ended_at is None]
    if not_ended:
        query = select(RunCourse.run_id, RunCourse.outcome, func.count())
        query = query.where(RunCourse.run_id.in_(not_ended))
        rows = session.execute(query.group_by(RunCourse.run_id, RunCourse.outcome))
        for run_id, outcome, count in rows:
            counted[run_id][CourseOutcome(outcome)] = count
    return counted


def not_recorded(session: Session, run: Run) -> int:
    """Return how many failed courses were not recorded, because the run stopped early."""
    if run.stopped is None:
        return 0
    failed = (RunCourse.run_id == run.id, RunCourse.outcome == CourseOutcome.FAILED.value)
    recorded = session.scalars(select(func.count()).select_from(RunCourse).where(*failed)).one()
    return run.failed - recorded

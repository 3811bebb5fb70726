"""Stored grades: load new and changed scores, count and forget them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from contract.grades import Score
from foundation.db import bulk
from foundation.db import session as db
from foundation.import_result import ImportResult
from notifier.courses.service import lock_courses, lock_known
from notifier.models import Course, Grade

_TICK = timedelta(microseconds=1)


# Courses whose scores are read and written together.
_BATCH = 500


def load(session: Session, scores: Mapping[str, Sequence[Score]], *, now: datetime) -> ImportResult:
    """Store scores by course id, one for each user.

    Scores of other users are kept, and so is the version of a course whose scores are unchanged.
    Raises CourseUnknownError or CourseDeletedError; then nothing is stored.
    """
    return sum(load_in_batches(session, scores, now=now), ImportResult())


def load_in_batches(
    session: Session, scores: Mapping[str, Sequence[Score]], *, now: datetime
) -> Iterator[ImportResult]:
    """Store scores as `load` does; yield the result of some courses at a time.

    All courses are locked first, in one order, so that two imports cannot deadlock.
    """
    courses = lock_courses(session, scores)
    course_ids = list(scores)
    for start in range(0, len(course_ids), _BATCH):
        batch = course_ids[start : start + _BATCH]
        yield _load(session, [(courses[one], scores[one]) for one in batch], now=now)


def _load(
    session: Session, scores: Sequence[tuple[Course, Sequence[Score]]], *, now: datetime
) -> ImportResult:
    course_pks = [course.id for course, _ in scores]
    rows = db.dicts(
        session, select(*Grade.__table__.columns).where(db.among(Grade.course_pk, course_pks))
    )
    stored = {(row["course_pk"], row["user_id"]): row for row in rows}
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    unchanged = 0
    for course, course_scores in scores:
        for score in course_scores:
            row = {
                "course_pk": course.id,
                **vars(score),
                "activity_progress": str(score.activity_progress),
                "grading_progress": str(score.grading_progress),
            }
            before = stored.get((course.id, score.user_id))
            if before is None:
                new.append(row)
            elif {**before, "timestamp": None} != {**row, "timestamp": None}:
                changed.append(row)
            else:
                unchanged += 1
    bulk.insert(session, Grade, new)
    if changed:
        session.execute(update(Grade), changed)
    touched = {row["course_pk"] for row in (*new, *changed)}
    for course, _ in scores:
        if course.id in touched:
            course.grades_version += 1
            course.grades_changed_at = _after(course.grades_changed_at, now)
    session.flush()
    return ImportResult(len(new), len(changed), unchanged)


def count(session: Session, course_pk: int) -> int:
    """Return the number of scores of a course."""
    query = select(func.count()).select_from(Grade).where(Grade.course_pk == course_pk)
    return session.scalar(query) or 0


def count_by_course(
    session: Session, *, course_id: str | None = None, user_id: str | None = None
) -> dict[str, int]:
    """Return by course id the number of scores of a course, of a user, or of a user in a course."""
    query = select(Course.course_id, func.count()).join(Grade, Grade.course_pk == Course.id)
    if course_id is not None:
        query = query.where(Course.course_id == course_id)
    if user_id is not None:
        query = query.where(Grade.user_id == user_id)
    rows = session.execute(query.group_by(Course.course_id).order_by(Course.course_id))
    return {row[0]: row[1] for row in rows}


def forget(
    session: Session, *, course_id: str | None = None, user_id: str | None = None, now: datetime
) -> dict[str, int]:
    """Delete the scores that `count_by_course` counts; return their numbers by course id.

    For the clients of the grades API the courses have changed.
    """
    counts = count_by_course(session, course_id=course_id, user_id=user_id)
    courses = lock_known(session, counts).values()
    condition = db.among(Grade.course_pk, [course.id for course in courses])
    _delete(session, condition if user_id is None else condition & (Grade.user_id == user_id))
    for course in courses:
        course.grades_version += 1
        course.grades_changed_at = _after(course.grades_changed_at, now)
    return counts


def find_forgotten(session: Session, course_ids: Collection[str]) -> set[str]:
    """Return the ids of the courses that had grades and have none left."""
    query = select(Course.course_id).where(
        db.among(Course.course_id, course_ids),
        Course.grades_version > 0,
        ~exists().where(Grade.course_pk == Course.id),
    )
    return set(session.scalars(query))


def forget_deleted_courses(session: Session, before: datetime, *, limit: int) -> int:
    """Delete the grades of up to `limit` courses that were deleted before a time.

    Return how many there were.
    """
    has_grades = exists().where(Grade.course_pk == Course.id)
    query = select(Course.id).where(Course.deleted_at < before, has_grades)
    # Locked: a course that is restored meanwhile keeps its grades.
    query = query.order_by(Course.id).limit(limit).with_for_update()
    course_pks = session.scalars(query).all()
    return _delete(session, db.among(Grade.course_pk, course_pks))


def _delete(session: Session, condition: ColumnElement[bool]) -> int:
    statement = delete(Grade).where(condition).execution_options(synchronize_session=False)
    result: Any = session.execute(statement)
    return int(result.rowcount)


def _after(before: datetime | None, now: datetime) -> datetime:
    # Always later than before: a clock can be set back, and a client that has everything up to the
    # previous time must not get "unchanged".
    return now if before is None else max(now, before + _TICK)

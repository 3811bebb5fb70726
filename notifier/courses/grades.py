"""Stored grades: load new and changed scores, count them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from contract.grades import Score
from foundation.db import session as db
from notifier.courses.service import lock_courses
from notifier.models import Grade

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class LoadResult:
    """The number of scores that were added, changed and unchanged."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0


def load(session: Session, scores: Mapping[str, Sequence[Score]], *, now: datetime) -> LoadResult:
    """Store scores by course id, one for each user.

    Scores of other users are kept, and so is the version of a course whose scores are unchanged.
    Raises CourseUnknownError or CourseDeletedError; then nothing is stored.
    """
    courses = lock_courses(session, scores)
    course_pks = [course.id for course in courses.values()]
    rows = db.dicts(
        session, select(*Grade.__table__.columns).where(db.among(Grade.course_pk, course_pks))
    )
    stored = {(row["course_pk"], row["user_id"]): row for row in rows}
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    unchanged = 0
    for course_id, course_scores in scores.items():
        for score in course_scores:
            row = {
                "course_pk": courses[course_id].id,
                **vars(score),
                "activity_progress": str(score.activity_progress),
                "grading_progress": str(score.grading_progress),
            }
            before = stored.get((row["course_pk"], score.user_id))
            if before is None:
                new.append(row)
            elif {**before, "timestamp": None} != {**row, "timestamp": None}:
                changed.append(row)
            else:
                unchanged += 1
    db.insert_all(session, Grade, new)
    if changed:
        session.execute(update(Grade), changed)
    touched = {row["course_pk"] for row in (*new, *changed)}
    for course in courses.values():
        if course.id in touched:
            course.grades_version += 1
            course.grades_changed_at = _after(course.grades_changed_at, now)
    return LoadResult(len(new), len(changed), unchanged)


def count(session: Session, course_pk: int) -> int:
    """Return the number of scores of a course."""
    query = select(func.count()).select_from(Grade).where(Grade.course_pk == course_pk)
    return session.scalar(query) or 0


def _after(before: datetime | None, now: datetime) -> datetime:
    # Always later than before: a clock can be set back, and a client that has everything up to the
    # previous time must not get "unchanged".
    return now if before is None else max(now, before + _TICK)

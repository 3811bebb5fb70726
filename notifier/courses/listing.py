"""Lists of courses: all, or those that a search finds; by page, and as rows of a CSV file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db.pagination import Cursor, Page, PageRequest
from foundation.db.session import Database
from notifier.courses import search
from notifier.courses import service as courses
from notifier.models import Course

COLUMNS = ("course_id", "title", "course_version", "token_id", "created_at", "deleted_at")
"""The columns of an exported list."""


@dataclass(frozen=True)
class CourseFilter:
    """Courses that a search finds, or all; `deleted` selects deleted or active ones."""

    words: str = ""
    deleted: bool | None = None

    @property
    def is_search(self) -> bool:
        """Whether there is something to search for."""
        return bool(search.key(self.words))


def page(
    session: Session, criteria: CourseFilter, *, after: str = "", limit: int = 100
) -> Page[Course]:
    """Return a page of courses, after the one with the id `after`.

    They are ordered by id; for a search, ids that start with it are first. Raises
    CourseUnknownError if a search is to go on after a course that does not exist.
    """
    deleted = criteria.deleted
    if not criteria.is_search:
        rows = courses.list_courses(session, after=after, limit=limit + 1, deleted=deleted)
        return pagination.page_of([(row, (row.course_id,)) for row in rows], PageRequest(), limit)
    last = courses.get_course(session, after) if after else None
    return search.find(session, criteria.words, deleted=deleted, after=last, limit=limit)


def ids(session: Session, criteria: CourseFilter, *, limit: int | None = None) -> list[str]:
    """Return the ids of the first courses, in their order."""
    query = _where(select(Course.course_id), criteria)
    return list(session.scalars(query.order_by(Course.course_id).limit(limit)))


def count(session: Session, criteria: CourseFilter) -> int:
    """Return the number of courses."""
    query = _where(select(func.count()).select_from(Course), criteria)
    return session.scalar(query) or 0


def _where(query: Select[Any], criteria: CourseFilter) -> Select[Any]:
    if criteria.is_search:
        query = query.where(search.condition(criteria.words))
    if criteria.deleted is not None:
        is_deleted = Course.deleted_at.is_not(None)
        query = query.where(is_deleted if criteria.deleted else ~is_deleted)
    return query


def export(database: Database, criteria: CourseFilter) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `COLUMNS`, each read in a transaction of its own."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        found = page(session, criteria, after=cursor[0] if cursor else "", limit=pagination.BATCH)
        tokens = courses.current_tokens(session, [course.id for course in found.rows])
        rows = [
            {
                "course_id": course.course_id,
                "title": course.title,
                "course_version": course.version,
                "token_id": tokens.get(course.id),
                "created_at": course.created_at,
                "deleted_at": course.deleted_at,
            }
            for course in found.rows
        ]
        return Page(rows, None, found.after)

    return pagination.batches(database, read)

"""Lists of courses: all, or those that a search finds; by page, and as rows of a CSV file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db.pagination import FIRST_PAGE, Cursor, Key, Page, PageRequest, Sort
from foundation.db.session import Database
from notifier.courses import search
from notifier.courses import service as courses
from notifier.models import Course

COLUMNS = (
    "course_id",
    "title",
    "course_version",
    "token_id",
    "created_at",
    "changed_at",
    "deleted_at",
)
"""The columns of an exported list."""
# Characters of a title that order a list: a title can be long.
_SORTED_TITLE = 100
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_BY_ID = Sort("id", (Course.course_id,))
_title = func.substr(func.lower(Course.title), 1, _SORTED_TITLE)
SORTS: dict[str, tuple[Key, ...]] = {
    "id": _BY_ID.keys,
    "title": (_title, Course.id),
    "changed": (Course.changed_at, Course.id),
    "deleted": (func.coalesce(Course.deleted_at, _NEVER), Course.id),
}
"""The columns that a list can be sorted by; active courses come before deleted ones."""


@dataclass(frozen=True)
class CourseFilter:
    """Courses that a search finds, or all.

    `deleted` selects deleted or active ones, `deleted_since` those deleted since a time,
    `deleted_at` those deleted at one of these times.
    """

    words: str = ""
    deleted: bool | None = None
    deleted_since: datetime | None = None
    deleted_at: tuple[datetime, ...] = ()

    @property
    def is_search(self) -> bool:
        """Whether there is something to search for."""
        return bool(search.key(self.words))


def page(
    session: Session,
    criteria: CourseFilter,
    page_request: PageRequest = FIRST_PAGE,
    *,
    sort: Sort | None = None,
    limit: int = 100,
) -> Page[Course]:
    """Return a page of courses; a cursor is the id of a course.

    Unless `sort` is given, they are ordered by id, but for a search ids that start with it are
    first. Raises CourseUnknownError for a cursor without a course, unless they are ordered by id.
    """
    if sort is None:
        is_search = criteria.is_search
        sort = Sort("relevance", search.relevance(criteria.words)) if is_search else _BY_ID
    if sort.keys != _BY_ID.keys:
        page_request = PageRequest(
            _position(session, sort, page_request.after),
            _position(session, sort, page_request.before),
        )
    query = _where(select(Course), criteria)
    found = pagination.read_sorted(session, query, sort, page_request, limit=limit)
    return Page(
        found.rows,
        (found.rows[0].course_id,) if found.before else None,
        (found.rows[-1].course_id,) if found.after else None,
    )


def _position(session: Session, sort: Sort, cursor: Cursor | None) -> Cursor | None:
    if cursor is None:
        return None
    course = courses.get_course(session, cursor[0])
    return tuple(session.execute(select(*sort.keys).where(Course.id == course.id)).one())


def ids(session: Session, criteria: CourseFilter, *, limit: int | None = None) -> list[str]:
    """Return the ids of the first courses, in their order."""
    query = _where(select(Course.course_id), criteria)
    return list(session.scalars(query.order_by(Course.course_id).limit(limit)))


def count(session: Session, criteria: CourseFilter) -> int:
    """Return the number of courses, as `pagination.count` does."""
    return pagination.count(session, _where(select(Course.id), criteria))


def _where(query: Select[Any], criteria: CourseFilter) -> Select[Any]:
    if criteria.is_search:
        query = query.where(search.condition(criteria.words))
    if criteria.deleted is not None:
        is_deleted = Course.deleted_at.is_not(None)
        query = query.where(is_deleted if criteria.deleted else ~is_deleted)
    if criteria.deleted_since is not None:
        query = query.where(Course.deleted_at >= criteria.deleted_since)
    if criteria.deleted_at:
        query = query.where(Course.deleted_at.in_(criteria.deleted_at))
    return query


def export(
    database: Database, criteria: CourseFilter, sort: Sort | None = None
) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `COLUMNS`, in the order of `page`, each read in a transaction."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        found = page(session, criteria, PageRequest(cursor), sort=sort, limit=pagination.BATCH)
        tokens = courses.current_tokens(session, [course.id for course in found.rows])
        rows = [
            {
                "course_id": course.course_id,
                "title": course.title,
                "course_version": course.version,
                "token_id": tokens.get(course.id),
                "created_at": course.created_at,
                "changed_at": course.changed_at,
                "deleted_at": course.deleted_at,
            }
            for course in found.rows
        ]
        return Page(rows, None, found.after)

    return pagination.batches(database, read)

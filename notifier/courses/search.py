"""Search: courses by the beginning of their id, or by words of id and title, page by page."""

import unicodedata
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db.pagination import Page, PageRequest
from notifier.models import Course

LONGEST_KEY = 600
"""How many characters of id and title are looked through; four bytes each fit into an index."""
_LAST = "\U0010ffff"
_KEYS = (Course.search_key, Course.id)


def key(words: str) -> str:
    """Return words as they are compared: without accents, in one case, of some length."""
    normal = unicodedata.normalize("NFKD", words[:LONGEST_KEY])
    plain = unicodedata.normalize("NFKD", normal.casefold())
    bare = "".join(one for one in plain if not unicodedata.combining(one))
    return " ".join(bare.split())[:LONGEST_KEY]


def find(
    session: Session,
    words: str,
    *,
    deleted: bool | None = None,
    after: Course | None = None,
    limit: int = 100,
) -> Page[Course]:
    """Return the courses whose id begins as asked, then those that hold all of the words.

    The former are found by index; the latter by looking through the index, which takes longer the
    more courses there are. `deleted` picks the deleted or the others.
    """
    asked = key(words)
    rows: list[Course] = []
    if after is None or _begins(after, asked):
        rows = _read(session, _beginning(asked), deleted, after, limit + 1)
        after = None
    if len(rows) <= limit:
        beyond = _read(session, _holding(asked), deleted, after, limit + 1 - len(rows))
        rows += beyond
    return pagination.page_of([(row, (row.course_id,)) for row in rows], PageRequest(), limit)


def _begins(course: Course, asked: str) -> bool:
    return (course.search_key or "").startswith(asked)


def _beginning(asked: str) -> Any:
    return and_(Course.search_key >= asked, Course.search_key < asked + _LAST)


def _holding(asked: str) -> Any:
    holds = [Course.search_key.contains(word, autoescape=True) for word in asked.split()]
    return and_(~_beginning(asked), *holds)


def _read(
    session: Session, condition: Any, deleted: bool | None, after: Course | None, limit: int
) -> list[Course]:
    # The ids first: these are read from the index alone.
    ids = select(Course.id).where(condition)
    if after is not None:
        cursor = (after.search_key or "", after.id)
        ids = ids.where(pagination.beyond(_KEYS, cursor, descending=False))
    if deleted is not None:
        ids = ids.where(Course.deleted_at.is_not(None) if deleted else Course.deleted_at.is_(None))
    wanted = pagination.in_order(ids, _KEYS, descending=False).limit(limit)
    courses = select(Course).where(Course.id.in_(wanted))
    return list(session.scalars(pagination.in_order(courses, _KEYS, descending=False)))

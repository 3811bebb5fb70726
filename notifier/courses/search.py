"""Search for courses: ids that start with the search first, then all with its words."""

import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session

from foundation.db import pagination
from foundation.db.pagination import Page, PageRequest
from notifier.models import Course

# Characters of id and title that are searched; at four bytes each they fit into an index.
LONGEST_KEY = 600
_LAST = "\U0010ffff"
_KEYS = (Course.search_key, Course.id)


def key(words: str) -> str:
    """Return text normalised for comparison: no accents, one case, limited length."""
    normal = unicodedata.normalize("NFKD", words[:LONGEST_KEY])
    plain = unicodedata.normalize("NFKD", normal.casefold())
    bare = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join(bare.split())[:LONGEST_KEY]


def find(
    session: Session,
    words: str,
    *,
    deleted: bool | None = None,
    after: Course | None = None,
    limit: int = 100,
) -> Page[Course]:
    """Return the courses that start with the search, then the others that contain all its words.

    The first are a range of the index; for the others the whole index is scanned. `deleted`
    selects deleted or active courses.
    """
    prefix = key(words)
    starts, contains = _starts(prefix), _contains(prefix)
    rows: list[Course] = []
    if after is None or (after.search_key or "").startswith(prefix):
        rows = _read(session, starts, deleted, after, limit + 1)
        after = None
    if len(rows) <= limit:
        rows += _read(session, and_(~starts, contains), deleted, after, limit + 1 - len(rows))
    return pagination.page_of([(row, (row.course_id,)) for row in rows], PageRequest(), limit)


def condition(words: str) -> ColumnElement[bool]:
    """Return the condition for the courses that `find` finds."""
    prefix = key(words)
    return or_(_starts(prefix), _contains(prefix))


def _starts(prefix: str) -> ColumnElement[bool]:
    return and_(Course.search_key >= prefix, Course.search_key < prefix + _LAST)


def _contains(prefix: str) -> ColumnElement[bool]:
    words = (Course.search_key.contains(word, autoescape=True) for word in prefix.split())
    return and_(true(), *words)


def _read(
    session: Session, condition: Any, deleted: bool | None, after: Course | None, limit: int
) -> list[Course]:
    # The ids in a subquery: these are read from the index alone.
    ids = select(Course.id).where(condition)
    if after is not None:
        cursor = (after.search_key or "", after.id)
        ids = ids.where(pagination.beyond(_KEYS, cursor, descending=False))
    if deleted is not None:
        ids = ids.where(Course.deleted_at.is_not(None) if deleted else Course.deleted_at.is_(None))
    matching = pagination.in_order(ids, _KEYS, descending=False).limit(limit)
    courses = select(Course).where(Course.id.in_(matching))
    return list(session.scalars(pagination.in_order(courses, _KEYS, descending=False)))

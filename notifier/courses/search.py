"""Search: courses by the beginning of their id, or by words of id and title, page by page."""

import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, select, tuple_
from sqlalchemy.orm import Session

from notifier.models import Course

LONGEST_KEY = 600
"""How many characters of id and title are looked through; four bytes each fit into an index."""
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class SearchPage:
    """Some courses, and whether there are more after the last of them."""

    rows: list[Course]
    has_more: bool


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
) -> SearchPage:
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
    return SearchPage(rows[:limit], len(rows) > limit)


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
        ids = ids.where(_place() > (after.search_key or "", after.id))
    if deleted is not None:
        ids = ids.where(Course.deleted_at.is_not(None) if deleted else Course.deleted_at.is_(None))
    wanted = _in_order(ids).limit(limit)
    return list(session.scalars(_in_order(select(Course).where(Course.id.in_(wanted)))))


def _place() -> Any:
    return tuple_(Course.search_key, Course.id)


def _in_order(query: Select[Any]) -> Select[Any]:
    return query.order_by(Course.search_key, Course.id)

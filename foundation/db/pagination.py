"""A long list a page at a time, by the place of its rows and not by their number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

PAGE = 50
"""How many rows a page has."""

_Shown = TypeVar("_Shown")
Place = tuple[Any, ...]
"""Where a row stands in the order of its list: the values of the columns that order it."""
Key = InstrumentedAttribute[Any] | ColumnElement[Any]


@dataclass(frozen=True)
class Page(Generic[_Shown]):
    """Rows, and the places to go on from on either side, None where the list ends."""

    rows: tuple[_Shown, ...]
    before: Place | None
    after: Place | None


@dataclass(frozen=True)
class Turn:
    """Which page is meant: the rows after a place, or before one; the first page for neither."""

    after: Place | None = None
    before: Place | None = None


def read(
    session: Session,
    query: Select[Any],
    keys: Sequence[Key],
    show: Callable[[Row[Any]], tuple[_Shown, Place]],
    *,
    turn: Turn,
    limit: int = PAGE,
    descending: bool = False,
) -> Page[_Shown]:
    """Return a page of a query's rows in the order of the keys, which together are unique.

    `show` gives what is shown of a row, and its place. However long the list, and however far
    down the page, an index over the keys answers by reading a page.
    """
    backwards = turn.before is not None
    place = turn.before if backwards else turn.after
    downwards = descending is not backwards
    if place is not None:
        here = tuple_(*keys)
        query = query.where(here < place if downwards else here > place)
    ordered = query.order_by(*(key.desc() if downwards else key.asc() for key in keys))
    found = [show(row) for row in session.execute(ordered.limit(limit + 1))]
    rows = found[:limit][::-1] if backwards else found[:limit]
    more, some = len(found) > limit, place is not None
    return Page(
        tuple(shown for shown, _ in rows),
        rows[0][1] if rows and (more if backwards else some) else None,
        rows[-1][1] if rows and (some if backwards else more) else None,
    )

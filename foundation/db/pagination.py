"""Keyset pagination: a page of a query from a cursor on, read by index however far down it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from foundation.db.session import Database
from foundation.text import printable

# Rows on a page.
PAGE = 50
# Rows that an export reads at once.
BATCH = 1000
# Rows up to which the length of a list is counted.
COUNTED = 10_000

_Shown = TypeVar("_Shown")
Cursor = tuple[Any, ...]
"""A row's position in its list: the values of the columns that order the list."""
Key = InstrumentedAttribute[Any] | ColumnElement[Any]


@dataclass(frozen=True)
class Page(Generic[_Shown]):
    """Rows, and the cursors of the pages before and after them; None where the list ends."""

    rows: Sequence[_Shown]
    before: Cursor | None
    after: Cursor | None


@dataclass(frozen=True)
class PageRequest:
    """Which page is requested: the rows after a cursor, or before one; else the first page."""

    after: Cursor | None = None
    before: Cursor | None = None

    @property
    def cursor(self) -> Cursor | None:
        """The cursor that the page begins or ends at."""
        return self.after if self.before is None else self.before

    @property
    def backwards(self) -> bool:
        """Whether the page is read from its end."""
        return self.before is not None


@dataclass(frozen=True)
class Sort:
    """The order of a list: a column's name, its keys, which together are unique, the direction."""

    name: str
    keys: tuple[Key, ...]
    descending: bool = False

    @classmethod
    def parse(cls, text: str, columns: Mapping[str, tuple[Key, ...]]) -> Self:
        """Return the order of a text such as title, or -title for descending.

        `columns` are the keys by name. Raises ValueError for another name.
        """
        name = text.removeprefix("-")
        if name not in columns:
            known = ", ".join(columns)
            raise ValueError(f"'{printable(text[:40])}' is not a column to sort by ({known})")
        return cls(name, columns[name], text.startswith("-"))

    @property
    def kinds(self) -> tuple[type, ...]:
        """The types of a cursor's values."""
        return tuple(key.type.python_type for key in self.keys)


FIRST_PAGE = PageRequest()


def beyond(keys: Sequence[Key], cursor: Cursor, *, descending: bool) -> ColumnElement[bool]:
    """Return the condition for the rows that come after a cursor in the order of the keys."""
    position = tuple_(*keys)
    return position < cursor if descending else position > cursor


def in_order(query: Select[Any], keys: Sequence[Key], *, descending: bool) -> Select[Any]:
    """Return the query in the order of the keys."""
    return query.order_by(*(key.desc() if descending else key.asc() for key in keys))


def page_of(
    items: Sequence[tuple[_Shown, Cursor]], page_request: PageRequest, limit: int
) -> Page[_Shown]:
    """Return the page; `items` are up to `limit` + 1, in the direction of the request.

    The item beyond the limit shows that there is a further page.
    """
    backwards = page_request.backwards
    rows = items[:limit][::-1] if backwards else items[:limit]
    goes_on, has_begun = len(items) > limit, page_request.cursor is not None
    return Page(
        tuple(shown for shown, _ in rows),
        rows[0][1] if rows and (goes_on if backwards else has_begun) else None,
        rows[-1][1] if rows and (has_begun if backwards else goes_on) else None,
    )


def read(
    session: Session,
    query: Select[Any],
    keys: Sequence[Key],
    show: Callable[[Row[Any]], tuple[_Shown, Cursor]],
    page_request: PageRequest,
    *,
    limit: int = PAGE,
    descending: bool = False,
) -> Page[_Shown]:
    """Return a page of a query's rows in the order of the keys, which together are unique.

    `show` returns what is shown of a row, and its cursor. With an index over the keys no more
    than the page is read.
    """
    descending = descending is not page_request.backwards
    if page_request.cursor is not None:
        query = query.where(beyond(keys, page_request.cursor, descending=descending))
    ordered = in_order(query, keys, descending=descending).limit(limit + 1)
    return page_of([show(row) for row in session.execute(ordered)], page_request, limit)


def read_sorted(
    session: Session,
    query: Select[Any],
    sort: Sort,
    page_request: PageRequest,
    *,
    limit: int = PAGE,
) -> Page[Any]:
    """Return a page of the entities that a query selects, in an order of the caller's choice."""
    return read(
        session,
        query.add_columns(*sort.keys),
        sort.keys,
        lambda row: (row[0], tuple(row[1:])),
        page_request,
        limit=limit,
        descending=sort.descending,
    )


def count(session: Session, query: Select[Any], *, limit: int = COUNTED) -> int:
    """Return the number of a query's rows, up to `limit` + 1, which means that there are more."""
    found = query.order_by(None).limit(limit + 1).subquery()
    return session.scalar(select(func.count()).select_from(found)) or 0


def batches(
    database: Database, read_page: Callable[[Session, Cursor | None], Page[_Shown]]
) -> Iterator[Sequence[_Shown]]:
    """Yield the rows of each page, read in a transaction of its own.

    `read_page` returns the page after a cursor, or the first one. No transaction is open while the
    rows are used, however slowly they are.
    """
    cursor: Cursor | None = None
    while True:
        with database.reading() as session:
            page = read_page(session, cursor)
        yield page.rows
        cursor = page.after
        if cursor is None:
            return

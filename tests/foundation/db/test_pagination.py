"""Pages of a long list, by cursor."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, insert, select

from foundation.db import pagination
from foundation.db.pagination import Page, PageRequest, Sort
from foundation.db.session import Database
from foundation.pages.pagination import read as read_cursor
from foundation.pages.pagination import to_query
from tests.foundation.conftest import ITEMS

Read = Callable[..., Page[str]]
# The list in its order: by number, then by name.
EVERY = [f"{number}{letter}" for number in range(4) for letter in "ab"]


@pytest.fixture
def read(database: Database) -> Read:
    """Return a function that reads a page of three of a list of eight."""
    rows = [{"number": int(one[0]), "name": one} for one in reversed(EVERY)]
    with database.writing() as session:
        session.execute(insert(ITEMS), rows)

    def page(request: PageRequest, *, descending: bool = False) -> Page[str]:
        with database.reading() as session:
            return pagination.read(
                session,
                select(ITEMS.c.number, ITEMS.c.name),
                (ITEMS.c.number, ITEMS.c.name),
                lambda row: (row.name, (row.number, row.name)),
                request,
                limit=3,
                descending=descending,
            )

    return page


@pytest.mark.parametrize("descending", [False, True])
def test_pages_forwards_and_backwards_show_every_row_once(read: Read, *, descending: bool) -> None:
    forwards = [read(PageRequest(), descending=descending)]
    while forwards[-1].after is not None:
        request = PageRequest(after=forwards[-1].after)
        forwards.append(read(request, descending=descending))
    end = (-1, "") if descending else (9, "")
    backwards = [read(PageRequest(before=end), descending=descending)]
    while backwards[0].before is not None:
        request = PageRequest(before=backwards[0].before)
        backwards.insert(0, read(request, descending=descending))

    expected = EVERY[::-1] if descending else EVERY
    assert [row for page in forwards for row in page.rows] == expected
    assert [row for page in backwards for row in page.rows] == expected
    assert [len(page.rows) for page in forwards] == [3, 3, 2]


def test_page_has_the_cursors_of_its_neighbours(read: Read) -> None:
    first = read(PageRequest())
    middle = read(PageRequest(after=first.after))

    assert (first.before, first.after) == (None, (1, "1a"))
    assert (middle.before, middle.after) == ((1, "1b"), (2, "2b"))
    assert read(PageRequest(before=middle.before)) == first
    assert read(PageRequest(after=(9, ""))) == Page((), None, None)


_NONE = datetime(1, 1, 1, tzinfo=UTC)
COLUMNS = {
    "id": (ITEMS.c.id,),
    "name": (ITEMS.c.name,),
    "happened": (func.coalesce(ITEMS.c.happened_at, _NONE), ITEMS.c.id),
}


@pytest.mark.parametrize("text", ["name", "-name", "happened", "-happened"])
def test_any_order_shows_every_row_once(database: Database, text: str) -> None:
    times = (None, datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    rows = [{"name": f"{(7 * n) % 10}", "happened_at": times[n % 3]} for n in range(10)]
    sort = Sort.parse(text, COLUMNS)

    with database.writing() as session:
        session.execute(insert(ITEMS), rows)
        names: list[str] = []
        request: PageRequest | None = PageRequest()
        while request is not None:
            page = pagination.read_sorted(session, select(ITEMS.c.name), sort, request, limit=3)
            names += page.rows
            # The cursor goes through the address, as on a page.
            after = to_query(page.after)
            request = read_cursor({"after": after}, sort.kinds) if after else None
        ordered = select(ITEMS.c.name).order_by(
            *(key.desc() if sort.descending else key for key in sort.keys)
        )

        assert names == list(session.scalars(ordered))
    assert sorted(names) == [str(n) for n in range(10)]


def test_unknown_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"'-nane' is not a column to sort by \(id, name"):
        Sort.parse("-nane", COLUMNS)


def test_count_stops_one_beyond_its_limit(database: Database) -> None:
    query = select(ITEMS.c.id)
    with database.writing() as session:
        session.execute(insert(ITEMS), [{"name": f"{n}"} for n in range(5)])

        assert pagination.count(session, query) == 5
        assert pagination.count(session, query.order_by(ITEMS.c.name), limit=3) == 4

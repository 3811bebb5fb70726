"""Pages of a long list, by cursor."""

from collections.abc import Callable

import pytest
from sqlalchemy import insert, select

from foundation.db import pagination
from foundation.db.pagination import Page, PageRequest
from foundation.db.session import Database
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

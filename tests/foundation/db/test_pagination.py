"""A long list, a page at a time."""

from collections.abc import Callable

import pytest
from sqlalchemy import Table, insert, select

from foundation.db import pagination
from foundation.db.pagination import Page, PageRequest
from foundation.db.session import Database

Read = Callable[..., Page[str]]
EVERY = [f"{number}{letter}" for number in range(4) for letter in "ab"]
"""What the list holds, in its order: by number, then by name."""


@pytest.fixture
def read(database: Database, items: Table) -> Read:
    """Return what reads a page of three of a list of eight."""
    with database.writing() as session:
        session.execute(
            insert(items), [{"number": int(one[0]), "name": one} for one in reversed(EVERY)]
        )

    def page(page_request: PageRequest, *, descending: bool = False) -> Page[str]:
        with database.reading() as session:
            return pagination.read(
                session,
                select(items.c.number, items.c.name),
                (items.c.number, items.c.name),
                lambda row: (row.name, (row.number, row.name)),
                page_request,
                limit=3,
                descending=descending,
            )

    return page


@pytest.mark.parametrize("descending", [False, True])
def test_going_on_shows_every_row_once_and_ends(read: Read, *, descending: bool) -> None:
    pages = [read(PageRequest(), descending=descending)]
    while pages[-1].after is not None:
        pages.append(read(PageRequest(after=pages[-1].after), descending=descending))

    expected = EVERY[::-1] if descending else EVERY
    assert expected == [row for page in pages for row in page.rows]
    assert [len(page.rows) for page in pages] == [3, 3, 2]


@pytest.mark.parametrize("descending", [False, True])
def test_going_back_shows_the_same_pages_from_their_ends(read: Read, *, descending: bool) -> None:
    pages = [
        read(PageRequest(before=(9, "") if not descending else (-1, "")), descending=descending)
    ]
    while pages[-1].before is not None:
        pages.append(read(PageRequest(before=pages[-1].before), descending=descending))

    expected = EVERY[::-1] if descending else EVERY
    assert expected == [row for page in reversed(pages) for row in page.rows]


def test_a_page_names_what_lies_beside_it(read: Read) -> None:
    first = read(PageRequest())
    middle = read(PageRequest(after=first.after))
    back = read(PageRequest(before=middle.before))

    assert (first.before, first.after) == (None, (1, "1a"))
    assert (middle.before, middle.after) == ((1, "1b"), (2, "2b"))
    assert first == back


def test_a_place_behind_the_end_is_an_empty_page(read: Read) -> None:
    page = read(PageRequest(after=(9, "")))

    assert Page((), None, None) == page

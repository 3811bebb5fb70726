"""Search for courses: matches, order, pages."""

from typing import Any

import pytest

from foundation.db.pagination import PageRequest
from notifier.courses import listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from tests.notifier.conftest import NINE, Store

TITLES = {
    "CS101": "Introduction to Programming",
    "CS102": "Algorithms: an introduction",
    "cs103": "Música electrónica",
    "LAW1": "Contracts of CS101",
    "MATH-cs": "Discrete mathematics",
    "100%": "Percent_ages",
    "ÉCO1": "Économie",
}


@pytest.fixture
def catalogue(store: Store) -> None:
    """Some courses, added in reverse order."""
    for course_id, title in reversed(TITLES.items()):
        store.add_course(course_id, title=title)


def find(store: Store, words: str, **options: Any) -> list[str]:
    """Return the ids of the courses that a search finds."""
    criteria = CourseFilter(words, **options)
    return [row.course_id for row in store.read(listing.page, criteria).rows]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("CS101", ["CS101", "LAW1"], id="whole id, also in a title"),
        pytest.param("cs", ["CS101", "CS102", "cs103", "LAW1", "MATH-cs"], id="a beginning"),
        pytest.param("introduction", ["CS101", "CS102"], id="a word"),
        pytest.param("S10", ["CS101", "CS102", "cs103", "LAW1"], id="the middle of an id"),
        pytest.param("INTRO prog", ["CS101"], id="parts of words in any case"),
        pytest.param("programming introduction", ["CS101"], id="words in another order"),
        pytest.param("musica ELECTRONICA", ["cs103"], id="without accents"),
        pytest.param("eco", ["ÉCO1"], id="a beginning without accents"),
        pytest.param("%", ["100%"], id="wildcard of LIKE"),
        pytest.param("\\", [], id="a backslash"),
        pytest.param("zzz", [], id="nothing"),
        pytest.param("  law1  ", ["LAW1"], id="space around it"),
    ],
)
def test_courses_are_found(store: Store, catalogue: None, words: str, found: list[str]) -> None:
    assert find(store, words) == found


@pytest.mark.parametrize("limit", [1, 2])
def test_pages_have_each_course_once(store: Store, catalogue: None, limit: int) -> None:
    criteria = CourseFilter("cs")
    pages = [store.read(listing.page, criteria, limit=limit)]
    while pages[-1].after is not None:
        request = PageRequest(after=pages[-1].after)
        pages.append(store.read(listing.page, criteria, request, limit=limit))
    last = PageRequest(before=(pages[-1].rows[0].course_id,))
    before = store.read(listing.page, criteria, last, limit=limit)

    ids = [[row.course_id for row in page.rows] for page in pages]
    assert [one for page in ids for one in page] == ["CS101", "CS102", "cs103", "LAW1", "MATH-cs"]
    assert {len(page) for page in ids[:-1]} == {limit}
    assert [row.course_id for row in before.rows] == ids[-2]


def test_deleted_courses_can_be_selected(store: Store, catalogue: None) -> None:
    store.write(courses.delete_course, "CS102", now=NINE)

    found = [find(store, "introduction", deleted=deleted) for deleted in (True, False, None)]

    assert found == [["CS102"], ["CS101"], ["CS101", "CS102"]]


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("\U0001d49clgebra " + "𐍈" * 9_990, id="long"),
        pytest.param("Algebra " + "\ufdfa" * 1_000, id="long once normalised"),
    ],
)
def test_long_title_fits_into_the_index(store: Store, title: str) -> None:
    store.add_course("LONG", title=title)

    assert find(store, "long algebra") == ["LONG"]

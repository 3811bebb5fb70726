"""Search for courses: matches, order, pages."""

from collections.abc import Callable, Iterator

import pytest

from foundation.db.session import Database
from notifier.courses import search
from notifier.courses import service as courses
from notifier.models import Course
from tests.notifier.conftest import NINE, MakeCourse

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
def catalogue(make_course: MakeCourse) -> None:
    """Some courses, added in reverse order."""
    for course_id, title in reversed(TITLES.items()):
        make_course(course_id, title=title)


@pytest.fixture
def find(database: Database) -> Callable[..., list[str]]:
    """Return a function that searches and returns the found ids."""

    def ids(words: str, **options: object) -> list[str]:
        with database.reading() as session:
            return [row.course_id for row in search.find(session, words, **options).rows]

    return ids


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("CS101", ["CS101", "LAW1"], id="a whole id, and where else it stands"),
        pytest.param("cs", ["CS101", "CS102", "cs103", "LAW1", "MATH-cs"], id="a beginning"),
        pytest.param("introduction", ["CS101", "CS102"], id="a word"),
        pytest.param("INTRO prog", ["CS101"], id="parts of words in any case"),
        pytest.param("programming introduction", ["CS101"], id="words in another order"),
        pytest.param("musica ELECTRONICA", ["cs103"], id="without accents"),
        pytest.param("économie", ["ÉCO1"], id="with accents"),
        pytest.param("eco", ["ÉCO1"], id="a beginning without accents"),
        pytest.param("%", ["100%"], id="a sign that LIKE knows"),
        pytest.param("_", ["100%"], id="another"),
        pytest.param("\\", [], id="a backslash"),
        pytest.param("zzz", [], id="nothing"),
        pytest.param("  law1  ", ["LAW1"], id="space around it"),
    ],
)
def test_courses_are_found(
    catalogue: None, find: Callable[..., list[str]], words: str, found: list[str]
) -> None:
    assert found == find(words)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_have_each_course_once(catalogue: None, database: Database, limit: int) -> None:
    def pages() -> Iterator[list[Course]]:
        after = None
        with database.reading() as session:
            while True:
                found = search.find(session, "cs", after=after, limit=limit)
                yield list(found.rows)
                if found.after is None:
                    return
                after = found.rows[-1]

    every = list(pages())

    ids = [row.course_id for rows in every for row in rows]
    assert ids == ["CS101", "CS102", "cs103", "LAW1", "MATH-cs"]
    assert {len(rows) for rows in every[:-1]} <= {limit}


def test_deleted_courses_can_be_selected(
    catalogue: None, database: Database, find: Callable[..., list[str]]
) -> None:
    with database.writing() as session:
        courses.delete_course(session, "CS102", now=NINE)

    assert find("introduction", deleted=True) == ["CS102"]
    assert find("introduction", deleted=False) == ["CS101"]
    assert find("introduction") == ["CS101", "CS102"]


def test_long_title_fits_into_the_index(
    make_course: MakeCourse, find: Callable[..., list[str]]
) -> None:
    make_course("LONG", title="\U0001d49clgebra " + "𐍈" * 9_990)

    assert find("long algebra") == ["LONG"]


def test_normalised_text_is_limited_too(
    make_course: MakeCourse, find: Callable[..., list[str]]
) -> None:
    make_course("LIG", title="\ufdfa" * 1_000)

    assert find("lig") == ["LIG"]

"""CSV files of courses: rows, new and existing courses, tokens."""

import pytest
from sqlalchemy import func, select

from foundation.csv_reader import CsvError
from foundation.import_result import ImportResult
from notifier.courses import course_import, listing
from notifier.courses import service as courses
from notifier.courses.course_import import CourseRow
from notifier.courses.listing import CourseFilter
from notifier.models import IssuedToken
from tests.notifier.conftest import NINE, Store


def rows(*titles: tuple[str, str]) -> list[CourseRow]:
    return [CourseRow(course_id=course_id, title=title) for course_id, title in titles]


def test_export_is_read_in_the_order_of_ids() -> None:
    text = "title;course_id;course_version;deleted_at\n'=Law;LAW1;3;\nArt, old;ART1;1;\n"

    assert course_import.read(text) == rows(("ART1", "Art, old"), ("LAW1", "=Law"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param("CS1,\n", "line 2: title: must not be empty", id="no title"),
        pytest.param(" CS1,x\n", "line 2: course_id: ", id="invalid id"),
        pytest.param("CS1,x\nCS2,y\nCS1,z\n", "line 4: the same course as in line 2", id="twice"),
    ],
)
def test_invalid_lines_are_named(lines: str, message: str) -> None:
    with pytest.raises(CsvError, match=message):
        course_import.read(f"course_id,title\n{lines}")


def test_new_courses_get_tokens_and_others_get_titles(store: Store) -> None:
    old = store.add_course("CS1", title="Old")
    store.add_courses(["CS2", "CS3"])
    store.write(courses.delete_course, "CS3", now=NINE)
    file = rows(("CS1", "Économie"), ("CS2", "a course"), ("CS3", "x"), ("CS4", "Law"))

    imported = store.write(course_import.import_courses, file, now=NINE)

    assert imported.counts == ImportResult(added=1, changed=1, unchanged=1)
    assert imported.deleted == ("CS3",)
    assert list(imported.tokens) == ["CS4"]
    assert store.course("CS3").title == "a course"
    assert store.read(listing.ids, CourseFilter("economie")) == ["CS1"]
    assert store.read(courses.current_token, store.course("CS1")) == old.token_id
    token = store.read(courses.current_token, store.course("CS4"))
    assert token == imported.tokens["CS4"].token_id
    assert imported.titles == {"CS1": "Économie"}


def test_statements_do_not_grow_with_the_number_of_courses(store: Store) -> None:
    few, many = (
        [(f"{name}{n}", "x") for n in range(size)] for name, size in (("A", 2), ("B", 300))
    )

    counts = [
        store.count_statements(
            lambda file=file: store.write(course_import.import_courses, rows(*file), now=NINE)
        )
        for file in (few, many)
    ]

    assert counts[0] == counts[1]
    assert store.read(lambda session: session.scalar(select(func.count(IssuedToken.id)))) == 302

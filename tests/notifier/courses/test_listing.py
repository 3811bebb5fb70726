"""Lists of courses: filters, and exports in batches."""

import pytest

from foundation.db import pagination
from foundation.db.pagination import PageRequest, Sort
from notifier.courses import listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.errors import CourseUnknownError
from tests.notifier.conftest import MINUTE, NINE, Store

IDS = ["CS101", "CS102", "CS103", "LAW1", "MATH-cs"]


@pytest.fixture(autouse=True)
def catalogue(store: Store) -> None:
    """Five courses, of which CS102 is deleted."""
    store.add_courses(IDS)
    store.write(courses.delete_course, "CS102", now=NINE)


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        pytest.param(CourseFilter(), IDS, id="all"),
        pytest.param(CourseFilter(" ", deleted=False), [*IDS[:1], *IDS[2:]], id="active"),
        pytest.param(CourseFilter("cs"), [*IDS[:3], IDS[4]], id="search"),
        pytest.param(CourseFilter("cs", deleted=True), ["CS102"], id="search, deleted"),
        pytest.param(CourseFilter("zzz"), [], id="nothing"),
        pytest.param(CourseFilter(deleted_since=NINE), ["CS102"], id="deleted since"),
        pytest.param(CourseFilter(deleted_since=NINE + MINUTE), [], id="none deleted since"),
    ],
)
def test_export_and_ids_have_what_the_pages_list(
    store: Store, monkeypatch: pytest.MonkeyPatch, criteria: CourseFilter, found: list[str]
) -> None:
    monkeypatch.setattr(pagination, "BATCH", 2)

    batches = list(listing.export(store.database, criteria))

    assert [row["course_id"] for batch in batches for row in batch] == found
    assert max(map(len, batches)) <= 2
    assert store.read(listing.ids, criteria) == found
    assert store.read(listing.count, criteria) == len(found)
    assert store.read(listing.ids, criteria, limit=2) == found[:2]


@pytest.mark.parametrize(
    ("sort", "ids"),
    [
        pytest.param("id", ["B1", "a2", "c3", "d4"], id="id, capitals first"),
        pytest.param("title", ["d4", "c3", "B1", "a2"], id="title, without case"),
        pytest.param("-title", ["a2", "B1", "c3", "d4"], id="title, descending"),
        pytest.param("-changed", ["B1", "d4", "a2", "c3"], id="last change"),
        pytest.param("-deleted", ["B1", "d4", "c3", "a2"], id="last deletion, then active"),
    ],
)
@pytest.mark.parametrize("limit", [1, 3])
def test_pages_follow_any_column(store: Store, sort: str, ids: list[str], limit: int) -> None:
    titles = {"a2.": "zoology", "B1.": "Botany", "c3.": "art b", "d4.": "Art A" + "x" * 9_000}
    for number, (course_id, title) in enumerate(titles.items()):
        store.write(courses.add_course, course_id, title, now=NINE + number * MINUTE)
    store.write(courses.delete_course, "d4.", now=NINE + 10 * MINUTE)
    store.write(courses.delete_course, "B1.", now=NINE + 20 * MINUTE)
    store.write(courses.regenerate_token, "a2.", now=NINE + 5 * MINUTE)
    criteria, order = CourseFilter("."), Sort.parse(sort, listing.SORTS)

    pages = [store.read(listing.page, criteria, sort=order, limit=limit)]
    while pages[-1].after is not None:
        request = PageRequest(after=pages[-1].after)
        pages.append(store.read(listing.page, criteria, request, sort=order, limit=limit))
    last = PageRequest(before=(pages[-1].rows[0].course_id,))
    before = store.read(listing.page, criteria, last, sort=order, limit=limit)

    assert [row.course_id for page in pages for row in page.rows] == [f"{one}." for one in ids]
    exported = [row for batch in listing.export(store.database, criteria, order) for row in batch]
    assert [row["course_id"] for row in exported] == [f"{one}." for one in ids]
    assert [row.course_id for row in before.rows] == [row.course_id for row in pages[-2].rows]


def test_unknown_cursor_is_refused_where_the_order_needs_its_course(store: Store) -> None:
    request, order = PageRequest(after=("CS1",)), Sort.parse("title", listing.SORTS)

    assert len(store.read(listing.page, CourseFilter(), request).rows) == len(IDS)
    with pytest.raises(CourseUnknownError):
        store.read(listing.page, CourseFilter(), request, sort=order)

"""Lists of courses: filters, and exports in batches."""

import pytest

from foundation.db import pagination
from notifier.courses import listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from tests.notifier.conftest import NINE, Store

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
    assert store.read(listing.ids, criteria, limit=2) == found[:2]

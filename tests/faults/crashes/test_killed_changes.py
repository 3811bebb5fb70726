"""Changes of courses whose command is killed before or after its commit."""

import signal

import pytest
from sqlalchemy import func, select

from notifier.models import Course, Delivery, Event, IssuedToken
from tests.faults.failpoints import Fault, Point
from tests.faults.site import PLAIN, Site


@pytest.mark.parametrize(
    ("words", "committed"),
    [
        pytest.param(("delete", "CS101", "--yes"), (2, True, 1, 1, 1), id="delete"),
        pytest.param(("regenerate-token", "CS101"), (2, False, 2, 1, 1), id="regenerate"),
    ],
)
@pytest.mark.parametrize("point", [Point.BEFORE_COMMIT, Point.AFTER_COMMIT])
def test_killed_change_is_whole_or_not_there(
    both: Site, point: Point, words: tuple[str, ...], committed: tuple[int, bool, int, int, int]
) -> None:
    both.register(PLAIN)
    both.add_courses("CS101")

    killed = both.start("notifier", "courses", *words, fault=Fault(point)).wait_ended()
    both.run("notifier", "work", "--once")

    with both.notifier.reading() as session:
        course = session.scalars(select(Course)).one()
        counts = [
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (IssuedToken, Event, Delivery)
        ]
    found = (course.version, course.deleted_at is not None, *counts)
    is_committed = point is Point.AFTER_COMMIT
    assert killed == -signal.SIGKILL
    assert found == (committed if is_committed else (1, False, 1, 0, 0))
    assert len(both.observer.on(PLAIN)) == is_committed


def test_killed_deletion_of_many_courses_is_resumed(both: Site) -> None:
    both.register(PLAIN)
    course_ids = [f"CS{number}" for number in range(600)]
    both.add_courses(*course_ids)
    words = ("notifier", "courses", "delete", *course_ids, "--yes")

    killed = both.start(*words, fault=Fault(Point.BEFORE_COMMIT, nth=2)).wait_ended()
    resumed = both.start(*words)
    ended = resumed.wait_ended()

    with both.notifier.reading() as session:
        versions = set(session.execute(select(Event.course_id, Event.course_version)).all())
        deliveries = session.scalar(select(func.count()).select_from(Delivery))
    assert (killed, ended) == (-signal.SIGKILL, 0)
    assert resumed.printed() == (
        "Deleted 100 of 600 courses; 500 already deleted; deliveries: 100 pending\n"
    )
    assert (versions, deliveries) == ({(one, 2) for one in course_ids}, 600)

"""Changes of courses whose command is killed before, in or after its transaction."""

import signal

import pytest
from sqlalchemy import select

from notifier.models import Course, Delivery, Event, IssuedToken
from tests.faults.failpoints import Fault, Point
from tests.faults.site import PLAIN, Site

CHANGES = [
    pytest.param(("delete", "CS101", "--yes"), id="delete"),
    pytest.param(("regenerate-token", "CS101"), id="regenerate"),
]


def stands(both: Site) -> tuple[int, bool, int, list[int], int]:
    """Return the course's version, whether it is deleted, its tokens, its events, deliveries."""
    with both.notifier.reading() as session:
        course = session.scalars(select(Course)).one()
        tokens = len(session.scalars(select(IssuedToken.id)).all())
        versions = list(session.scalars(select(Event.course_version)))
        deliveries = len(session.scalars(select(Delivery.id)).all())
        return course.version, course.deleted_at is not None, tokens, versions, deliveries


@pytest.mark.parametrize("words", CHANGES)
@pytest.mark.parametrize("point", [Point.COURSE_CHANGED, Point.BEFORE_COMMIT])
def test_change_killed_before_its_commit_never_was(
    both: Site, point: Point, words: tuple[str, ...]
) -> None:
    both.register(PLAIN)
    both.add_courses("CS101")

    killed = both.start("notifier", "courses", *words, fault=Fault(point)).wait_ended()
    both.run("notifier", "work", "--once")

    assert killed == -signal.SIGKILL
    assert stands(both) == (1, False, 1, [], 0)
    assert both.observer.on(PLAIN) == []


@pytest.mark.parametrize("words", CHANGES)
def test_change_killed_after_its_commit_is_told(both: Site, words: tuple[str, ...]) -> None:
    both.register(PLAIN)
    both.add_courses("CS101")

    killed = both.start("notifier", "courses", *words, fault=Fault(Point.AFTER_COMMIT))
    code = killed.wait_ended()
    both.run("notifier", "work", "--once")

    deleted = words[0] == "delete"
    assert code == -signal.SIGKILL
    assert stands(both) == (2, deleted, 1 if deleted else 2, [2], 1)
    assert len(both.observer.on(PLAIN)) == 1

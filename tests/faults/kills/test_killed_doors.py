"""ELMS's door, killed while it takes an event in."""

import pytest
from sqlalchemy import select

from receiver.models import Entry, InboxMessage
from tests.faults.failpoints import Action, Fault, Point
from tests.faults.processes import wait_until
from tests.faults.site import DOOR, Site


@pytest.mark.parametrize("action", [Action.KILL, Action.KILL_GROUP])
@pytest.mark.parametrize(
    ("point", "second_answer"),
    [
        pytest.param(Point.VERIFIED, "applied", id="before anything is written"),
        pytest.param(Point.INBOX_WRITTEN, "applied", id="between inbox and registry"),
        pytest.param(Point.BEFORE_COMMIT, "applied", id="before the commit"),
        pytest.param(Point.AFTER_COMMIT, "duplicate", id="between commit and response"),
    ],
)
def test_killed_door_takes_an_event_in_once(
    both: Site, point: Point, second_answer: str, action: Action
) -> None:
    """The sender retries, and there is one effect, wherever the door was killed (F5, I3)."""
    both.wait = 0.5
    door = both.open_door()
    both.register(DOOR)
    both.add_courses("CS101")
    both.run("notifier", "courses", "delete", "CS101", "--yes")
    door.arm(Fault(point, action))

    both.start("notifier", "work")
    wait_until(lambda: not door.is_armed(point), "the door is killed")
    if action is Action.KILL_GROUP:
        door.wait_ended()
        both.open_door()
    wait_until(lambda: any(post.taken for post in both.observer.on(DOOR)), "the event is taken")

    outcomes = [post.outcome for post in both.observer.on(DOOR)]
    with both.receiver.reading() as session:
        inbox = [row.outcome for row in session.scalars(select(InboxMessage))]
        entries = [(row.course_id, row.deleted_version) for row in session.scalars(select(Entry))]
    assert (outcomes[0], outcomes[-1]) == (None, second_answer)
    assert inbox == ["applied"]
    assert entries == [("CS101", 2)]

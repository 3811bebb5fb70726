"""ELMS, killed while it accepts an event."""

import pytest
from sqlalchemy import select

from receiver.models import Entry, InboxMessage
from tests.faults.failpoints import Fault, Point
from tests.faults.processes import wait_until
from tests.faults.site import ELMS, Site


@pytest.mark.parametrize(
    ("point", "outcome"),
    [
        pytest.param(Point.INBOX_WRITTEN, "applied", id="between inbox and registry"),
        pytest.param(Point.BEFORE_COMMIT, "applied", id="before the commit"),
        pytest.param(Point.AFTER_COMMIT, "duplicate", id="between commit and response"),
    ],
)
def test_killed_elms_applies_an_event_once(both: Site, point: Point, outcome: str) -> None:
    server = both.serve_elms()
    both.register(ELMS)
    both.add_courses("CS101")
    both.run("notifier", "courses", "delete", "CS101", "--yes")
    server.arm(Fault(point))

    # So that the attempts last until ELMS is back, however busy the machine is.
    both.wait = 2.0
    both.start("notifier", "work")
    server.wait_ended()
    both.serve_elms()
    wait_until(lambda: any(post.accepted for post in both.observer.on(ELMS)), "it is accepted")

    outcomes = [post.outcome for post in both.observer.on(ELMS)]
    with both.receiver.reading() as session:
        inbox = [row.outcome for row in session.scalars(select(InboxMessage))]
        entries = [(row.course_id, row.deleted_version) for row in session.scalars(select(Entry))]
    assert (outcomes[0], outcomes[-1]) == (None, outcome)
    assert inbox == ["applied"]
    assert entries == [("CS101", 2)]

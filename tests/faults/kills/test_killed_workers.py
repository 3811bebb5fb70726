"""Workers that are killed, stopped, or told to end, while they deliver."""

import signal
import threading

import pytest
from sqlalchemy import select

from notifier.models import Attempt, Delivery, Event
from notifier.webhooks.failure_advice import FailureKind
from receiver.models import Entry, InboxMessage
from tests.faults.failpoints import Action, Fault, Point
from tests.faults.processes import Process, wait_until
from tests.faults.site import ELMS, PLAIN, Site

WORKER_LOST = FailureKind.WORKER_LOST

PATIENT = {"NOTIFIER_ATTEMPT_DEADLINE": "20", "NOTIFIER_LEASE": "60"}
"""Times of a worker that outlast whatever a test does meanwhile."""


def delete(both: Site, *course_ids: str) -> None:
    """Add courses, and have them deleted by the command."""
    both.add_courses(*course_ids)
    both.run("notifier", "courses", "delete", *course_ids, "--yes")


def deliveries_of(both: Site) -> list[Delivery]:
    """Return the deliveries as they stand, the oldest first."""
    with both.notifier.reading() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def attempts_of(both: Site) -> list[tuple[str, int | str | None]]:
    """Return what was decided of each attempt, and its status or failure."""
    with both.notifier.reading() as session:
        rows = session.scalars(select(Attempt).order_by(Attempt.id))
        return [(row.decided, row.status or row.failure) for row in rows]


def wait_delivered(both: Site) -> None:
    """Return once everything is delivered."""
    wait_until(
        lambda: all(one.status == "delivered" for one in deliveries_of(both)), "all is delivered"
    )


def effects(both: Site) -> tuple[list[str], list[tuple[str, int | None]]]:
    """Return what ELMS made of it: the inbox's outcomes, and which version deleted which course."""
    with both.receiver.reading() as session:
        inbox = [row.outcome for row in session.scalars(select(InboxMessage))]
        entries = session.scalars(select(Entry).order_by(Entry.course_id))
        return inbox, [(row.course_id, row.deleted_version) for row in entries]


@pytest.fixture
def with_elms(both: Site) -> Site:
    """Both services, ELMS's door open and registered."""
    both.serve_elms()
    both.register(ELMS)
    return both


@pytest.mark.parametrize("point", [Point.CLAIMED, Point.SIGNED])
def test_worker_killed_before_its_post_has_sent_nothing(with_elms: Site, point: Point) -> None:
    delete(with_elms, "CS101")

    killed = with_elms.start("notifier", "work", fault=Fault(point)).wait_ended()
    sent_by_killed = with_elms.observer.on(ELMS)
    with_elms.start("notifier", "work")
    wait_delivered(with_elms)

    assert killed == -signal.SIGKILL
    assert sent_by_killed == []
    assert [post.outcome for post in with_elms.observer.on(ELMS)] == ["applied"]
    assert attempts_of(with_elms) == [("retry", WORKER_LOST), ("delivered", 200)]
    assert effects(with_elms) == (["applied"], [("CS101", 2)])


@pytest.mark.parametrize("point", [Point.POSTED, Point.SETTLING])
def test_worker_killed_after_its_post_leaves_a_duplicate(with_elms: Site, point: Point) -> None:
    delete(with_elms, "CS101")

    killed = with_elms.start("notifier", "work", fault=Fault(point)).wait_ended()
    with_elms.start("notifier", "work")
    wait_delivered(with_elms)

    assert killed == -signal.SIGKILL
    assert [post.outcome for post in with_elms.observer.on(ELMS)] == ["applied", "duplicate"]
    assert len({post.webhook_id for post in with_elms.observer.on(ELMS)}) == 1
    assert attempts_of(with_elms) == [("retry", WORKER_LOST), ("delivered", 200)]
    assert effects(with_elms) == (["applied"], [("CS101", 2)])


def stopped_at(both: Site, point: Point) -> Process:
    """Return a worker that was stopped at a point while it held the one delivery there is."""
    worker = both.start("notifier", "work", fault=Fault(point, Action.STOP))
    worker.wait_stopped()
    return worker


def test_late_failure_of_a_stopped_worker_is_fenced(both: Site) -> None:
    both.register(PLAIN)
    delete(both, "CS101")
    late = stopped_at(both, Point.SIGNED)
    live = both.start("notifier", "work")
    wait_delivered(both)

    both.stop(live)
    both.observer.statuses[PLAIN].append(500)
    late.send(signal.SIGCONT)
    wait_until(lambda: ("too late", 500) in attempts_of(both), "the late failure is written down")

    (delivery,) = deliveries_of(both)
    assert (delivery.status, delivery.lease_token) == ("delivered", None)
    assert attempts_of(both) == [
        ("retry", WORKER_LOST),
        ("delivered", 200),
        ("too late", 500),
    ]
    assert both.stop(late) == 0


def test_late_success_of_a_stopped_worker_counts(both: Site) -> None:
    both.wait = 600.0
    both.register(PLAIN)
    delete(both, "CS101")
    late = stopped_at(both, Point.POSTED)
    both.observer.statuses[PLAIN].append(500)
    live = both.start("notifier", "work")
    wait_until(lambda: ("retry", 500) in attempts_of(both), "the live failure is written down")

    before = [one.status for one in deliveries_of(both)]
    late.send(signal.SIGCONT)
    wait_delivered(both)

    assert before == ["pending"]
    assert len(both.observer.on(PLAIN)) == 2
    assert attempts_of(both) == [
        ("retry", WORKER_LOST),
        ("retry", 500),
        ("delivered", 200),
    ]
    assert [both.stop(late), both.stop(live)] == [0, 0]


def test_eight_workers_claim_each_delivery_once(both: Site) -> None:
    both.register(PLAIN)
    delete(both, *(f"CS{number}" for number in range(40)))
    seen = Fault(Point.DUE_SEEN, Action.STOP)
    racing = [both.start("notifier", "work", "--once", fault=seen, more=PATIENT) for _ in range(8)]
    for worker in racing:
        worker.wait_stopped()

    for worker in racing:
        worker.send(signal.SIGCONT)
    codes = [worker.wait_ended() for worker in racing]

    sent = sorted(post.webhook_id for post in both.observer.on(PLAIN))
    with both.notifier.reading() as session:
        assert sent == sorted(session.scalars(select(Event.id)))
    assert codes == [0] * 8
    assert {(one.status, one.attempts) for one in deliveries_of(both)} == {("delivered", 1)}


@pytest.fixture
def in_a_post(both: Site) -> Process:
    """A worker with one place, in the POST of the first of three deliveries."""
    both.register(PLAIN)
    both.observer.gates[PLAIN] = threading.Event()
    delete(both, "CS101", "CS102", "CS103")
    worker = both.start("notifier", "work", "--threads", "1", more=PATIENT)
    both.observer.wait_for(1, PLAIN)
    worker.send(signal.SIGTERM)
    wait_until(lambda: "worker stopping" in worker.logged(), "the worker has heard SIGTERM")
    return worker


def test_worker_told_to_end_finishes_what_is_in_flight(both: Site, in_a_post: Process) -> None:
    both.observer.gates[PLAIN].set()

    code = in_a_post.wait_ended()

    assert code == 0
    assert len(both.observer.on(PLAIN)) == 1
    assert [(one.status, one.attempts) for one in deliveries_of(both)] == [
        ("delivered", 1),
        ("pending", 0),
        ("pending", 0),
    ]


def test_second_signal_ends_a_worker_at_once(both: Site, in_a_post: Process) -> None:
    in_a_post.send(signal.SIGTERM)

    code = in_a_post.wait_ended()

    assert code == -signal.SIGTERM
    assert [post.over for post in both.observer.on(PLAIN)] == [False]
    assert [(one.status, one.lease_token is None) for one in deliveries_of(both)] == [
        ("pending", False),
        ("pending", True),
        ("pending", True),
    ]

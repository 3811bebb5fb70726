"""Workers that are killed, suspended, or told to stop, while they deliver."""

import json
import os
import signal
import threading

import pytest
from sqlalchemy import select

from notifier.models import Attempt, Delivery
from notifier.webhooks.failure_advice import FailureKind
from receiver.models import Entry, InboxMessage
from tests.faults.failpoints import Action, Fault, Point
from tests.faults.processes import Process, is_running, wait_until
from tests.faults.site import ELMS, PATIENT, PLAIN, Site

LOST = ("retry", FailureKind.WORKER_LOST)


def delete(both: Site, *course_ids: str) -> None:
    """Add courses, and delete them by the command."""
    both.add_courses(*course_ids)
    both.run("notifier", "courses", "delete", *course_ids, "--yes")


def deliveries_of(both: Site) -> list[Delivery]:
    """Return the deliveries, the oldest first."""
    with both.notifier.reading() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def attempts_of(both: Site) -> list[tuple[str, int | str | None]]:
    """Return the decision on each attempt, and its status or failure."""
    with both.notifier.reading() as session:
        rows = session.scalars(select(Attempt).order_by(Attempt.id))
        return [(row.decided, row.status or row.failure) for row in rows]


def wait_delivered(both: Site) -> None:
    wait_until(
        lambda: {one.status for one in deliveries_of(both)} == {"delivered"}, "all is delivered"
    )


def assert_applied_once(both: Site) -> None:
    with both.receiver.reading() as session:
        inbox = [row.outcome for row in session.scalars(select(InboxMessage))]
        entries = [(row.course_id, row.deleted_version) for row in session.scalars(select(Entry))]
    assert (inbox, entries) == (["applied"], [("CS101", 2)])


@pytest.fixture
def with_elms(both: Site) -> Site:
    """Both services; ELMS is served and registered."""
    both.serve_elms()
    both.register(ELMS)
    return both


def test_worker_killed_before_its_post_has_sent_nothing(with_elms: Site) -> None:
    delete(with_elms, "CS101")

    killed = with_elms.start("notifier", "work", fault=Fault(Point.BEFORE_POST)).wait_ended()
    sent_by_killed = with_elms.observer.on(ELMS)
    with_elms.start("notifier", "work")
    wait_delivered(with_elms)

    assert killed == -signal.SIGKILL
    assert sent_by_killed == []
    assert [post.outcome for post in with_elms.observer.on(ELMS)] == ["applied"]
    assert attempts_of(with_elms) == [LOST, ("delivered", 200)]
    assert_applied_once(with_elms)


def test_worker_killed_after_its_post_leaves_a_duplicate(with_elms: Site) -> None:
    delete(with_elms, "CS101")

    killed = with_elms.start("notifier", "work", fault=Fault(Point.AFTER_POST)).wait_ended()
    with_elms.start("notifier", "work")
    wait_delivered(with_elms)

    posts = with_elms.observer.on(ELMS)
    assert killed == -signal.SIGKILL
    assert [post.outcome for post in posts] == ["applied", "duplicate"]
    assert len({post.webhook_id for post in posts}) == 1
    assert attempts_of(with_elms) == [LOST, ("delivered", 200)]
    assert_applied_once(with_elms)


def suspended_at(both: Site, point: Point) -> Process:
    """Return a worker that was suspended at a point of the only delivery."""
    both.register(PLAIN)
    delete(both, "CS101")
    worker = both.start("notifier", "work", fault=Fault(point, Action.STOP))
    wait_until(lambda: worker.stopped, "the worker is suspended")
    return worker


def test_late_failure_of_a_stopped_worker_is_fenced(both: Site) -> None:
    late = suspended_at(both, Point.BEFORE_POST)
    live = both.start("notifier", "work")
    wait_delivered(both)

    both.stop(live)
    both.observer.statuses[PLAIN].append(500)
    late.send(signal.SIGCONT)
    wait_until(lambda: ("too late", 500) in attempts_of(both), "the late failure is recorded")

    (delivery,) = deliveries_of(both)
    assert (delivery.status, delivery.lease_token) == ("delivered", None)
    assert attempts_of(both) == [LOST, ("delivered", 200), ("too late", 500)]
    assert both.stop(late) == 0


def test_late_success_of_a_stopped_worker_counts(both: Site) -> None:
    late = suspended_at(both, Point.AFTER_POST)
    both.wait = 600.0
    both.observer.statuses[PLAIN].append(500)
    live = both.start("notifier", "work")
    wait_until(lambda: ("retry", 500) in attempts_of(both), "the live failure is recorded")

    before = [one.status for one in deliveries_of(both)]
    late.send(signal.SIGCONT)
    wait_delivered(both)

    assert before == ["pending"]
    assert len(both.observer.on(PLAIN)) == 2
    assert attempts_of(both) == [LOST, ("retry", 500), ("delivered", 200)]
    assert [both.stop(late), both.stop(live)] == [0, 0]


@pytest.fixture
def in_a_post(both: Site) -> Process:
    """A worker with one thread, told to stop during one of three deliveries."""
    both.register(PLAIN)
    both.observer.gates[PLAIN] = threading.Event()
    delete(both, "CS101", "CS102", "CS103")
    worker = both.start("notifier", "work", "--threads", "1", more=PATIENT)
    both.observer.wait_for(1, PLAIN)
    worker.send(signal.SIGTERM)
    worker.wait_logged("worker stopping")
    return worker


def test_worker_told_to_end_finishes_what_is_in_flight(both: Site, in_a_post: Process) -> None:
    both.observer.gates[PLAIN].set()

    code = in_a_post.wait_ended()

    assert code == 0
    assert len(both.observer.on(PLAIN)) == 1
    assert sorted((one.status, one.attempts) for one in deliveries_of(both)) == [
        ("delivered", 1),
        ("pending", 0),
        ("pending", 0),
    ]


def test_second_signal_ends_a_worker_at_once(both: Site, in_a_post: Process) -> None:
    in_a_post.send(signal.SIGTERM)

    code = in_a_post.wait_ended()

    assert code == -signal.SIGTERM
    assert [post.over for post in both.observer.on(PLAIN)] == [False]
    assert sorted((one.status, one.lease_token is None) for one in deliveries_of(both)) == [
        ("pending", False),
        ("pending", True),
        ("pending", True),
    ]


@pytest.fixture
def two_processes(both: Site) -> Process:
    """A command of two worker processes, each in a post of a delivery of its own."""
    both.register(PLAIN)
    both.observer.gates[PLAIN] = threading.Event()
    more = {**PATIENT, "NOTIFIER_ENDPOINT_CONCURRENCY": "2"}
    command = both.start("notifier", "work", "--processes", "2", more=more)
    command.wait_logged("worker started")
    delete(both, "CS101", "CS102")
    both.observer.wait_for(2, PLAIN)
    return command


def test_processes_of_a_worker_end_together(both: Site, two_processes: Process) -> None:
    two_processes.send(signal.SIGTERM)
    two_processes.wait_logged("worker stopping")
    both.observer.gates[PLAIN].set()

    code = two_processes.wait_ended()

    assert code == 0
    assert [one.status for one in deliveries_of(both)] == ["delivered"] * 2
    (stopped,) = [
        json.loads(line)
        for line in two_processes.logged().splitlines()
        if '"worker stopped"' in line
    ]
    assert stopped["delivered"] == 2


def test_killed_process_ends_the_others_in_order(both: Site, two_processes: Process) -> None:
    first, *_ = two_processes.children()
    os.kill(first, signal.SIGKILL)
    two_processes.wait_logged("worker process ended unexpectedly, the others stop")
    both.observer.gates[PLAIN].set()

    code = two_processes.wait_ended()

    assert code == 1
    assert sorted(one.status for one in deliveries_of(both)) == ["delivered", "pending"]


def test_each_process_killed_while_the_command_stops_is_reported(two_processes: Process) -> None:
    two_processes.send(signal.SIGTERM)
    two_processes.wait_logged("worker stopping")
    for process_id in two_processes.children():
        os.kill(process_id, signal.SIGKILL)

    code = two_processes.wait_ended()

    assert code == 1
    assert two_processes.logged().count("worker process ended unexpectedly") == 2


def test_processes_end_with_a_killed_command(both: Site, two_processes: Process) -> None:
    first, second = sorted(two_processes.children())
    os.kill(second, signal.SIGSTOP)
    two_processes.send(signal.SIGKILL)
    both.observer.gates[PLAIN].set()

    wait_until(lambda: not is_running(first), "the first has ended, without waiting for the second")
    os.kill(second, signal.SIGCONT)
    wait_delivered(both)
    wait_until(lambda: not is_running(second), "both have ended")

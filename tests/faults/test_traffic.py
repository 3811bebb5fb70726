"""Secrets that are rotated, and deliveries that are replayed, while events flow to ELMS."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import select, update

from contract import events, signatures
from contract.signatures import Secret
from foundation.db import session as db
from notifier.courses import service as courses
from notifier.models import Attempt, Delivery, EndpointSecret, Event, Replay
from notifier.webhooks import outbox
from receiver.models import InboxMessage
from tests.faults.processes import wait_until
from tests.faults.site import ELMS, PATIENT, SOURCE, Site


class Traffic:
    """Courses that are deleted one after the other, and what became of the events."""

    def __init__(self, both: Site) -> None:
        self._both = both
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flow)
        self._thread.start()

    def _flow(self) -> None:
        number = 0
        while not self._stop.wait(0.02):
            number += 1
            with self._both.notifier.writing() as session:
                now = datetime.now(UTC)
                courses.add_course(session, f"C{number}", "Algorithms", now=now)
                courses.delete_course(session, f"C{number}", now=now)

    def wait_for_more(self) -> None:
        """Return once five more events were delivered."""
        wanted = self.statuses()["delivered"] + 5
        wait_until(lambda: self.statuses()["delivered"] >= wanted, "more events are delivered")

    def stop(self) -> None:
        """Stop, and return once all events are delivered."""
        self._stop.set()
        self._thread.join()
        wait_until(lambda: set(self.statuses()) == {"delivered"}, "all is delivered")

    def statuses(self) -> Counter[str]:
        return Counter(read(self._both, select(Delivery.status)))


def read(both: Site, query: db.Select[tuple[str]]) -> list[str]:
    with both.notifier.reading() as session:
        return list(session.scalars(query))


@pytest.fixture
def traffic(both: Site) -> Iterator[Traffic]:
    """Events that flow to ELMS."""
    outbox.subscribe()
    both.environment.update(PATIENT)
    both.observer.timeout = 60.0
    both.serve_elms()
    both.register(ELMS)
    both.start("notifier", "work")
    made = Traffic(both)
    yield made
    made._stop.set()


def status_of(both: Site, secret: str, webhook_id: str) -> int:
    """Return ELMS's response to an event that is signed with a secret."""
    data = events.CourseDeletedData(source=SOURCE, course_id="CS101", course_version=2)
    now = datetime.now(UTC)
    body = events.dump(events.CourseDeleted(timestamp=now, data=data)).encode()
    headers = signatures.sign([Secret.parse(secret)], webhook_id, body, now=now)
    headers["Content-Type"] = "application/json"
    url = f"http://127.0.0.1:{both.observer.servers[ELMS]}{ELMS}"
    try:
        with urlopen(Request(url, body, headers, method="POST"), timeout=60) as response:
            return int(response.status)
    except HTTPError as refused:
        with refused:
            return refused.code


def test_rotation_under_traffic_fails_no_delivery(both: Site, traffic: Traffic) -> None:
    traffic.wait_for_more()
    both.rotate_secret(ELMS, 1, "--overlap", "10m")
    old, new = both.observer.secrets[ELMS]
    traffic.wait_for_more()
    in_overlap = status_of(both, old, "msg_overlap")
    with both.notifier.writing() as session:  # the overlap ends
        ends = update(EndpointSecret).where(EndpointSecret.expires_at.is_not(None))
        session.execute(ends.values(expires_at=db.now(session)))
    traffic.wait_for_more()
    both.run("receiver", "sources", "remove-secret", SOURCE, "1")
    traffic.wait_for_more()
    traffic.stop()

    with both.notifier.reading() as session:
        failed = select(Attempt.status, Attempt.failure).where(Attempt.decided != "delivered")
        assert session.execute(failed).all() == []
    assert in_overlap == 200
    wait_until(lambda: status_of(both, old, "msg_old") == 401, "the old secret counts no more")
    assert status_of(both, new, "msg_new") == 200


def test_rotation_without_overlap_signs_with_the_new_secret_alone(
    both: Site, traffic: Traffic
) -> None:
    traffic.wait_for_more()
    traffic.stop()
    old = len(both.observer.posts)
    both.rotate_secret(ELMS, 1, "--now")
    both.observer.secrets[ELMS].pop(0)
    both.add_courses("CS101")
    both.run("notifier", "courses", "delete", "CS101", "--yes")
    both.observer.wait_for(old + 1, ELMS)

    assert both.observer.posts[-1].verified


def test_replays_during_delivery_are_applied_once_and_recorded(
    both: Site, traffic: Traffic
) -> None:
    traffic.wait_for_more()
    delivered = set(read(both, select(Delivery.id).where(Delivery.status == "delivered")))
    for _ in range(2):
        both.run("notifier", "deliveries", "replay", "--status", "delivered", "--yes")
    traffic.wait_for_more()
    traffic.stop()

    attempts = Counter(read(both, select(Attempt.delivery_id)))
    applied = Counter(post.webhook_id for post in both.observer.posts if post.outcome == "applied")
    with both.receiver.reading() as session:
        inbox = set(session.scalars(select(InboxMessage.webhook_id)))
    assert delivered <= set(read(both, select(Replay.delivery_id)))
    assert all(attempts[one] > 1 for one in delivered)
    assert set(read(both, select(Attempt.decided))) == {"delivered"}
    assert set(applied.values()) == {1}
    assert inbox == set(applied) == set(read(both, select(Event.id)))

"""A webhook secret is rotated while events flow, between real processes over HTTP."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from contract import events, signatures
from contract.signatures import Secret
from demo.processes import Machines, machines
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import SCHEMA as NOTIFIER
from notifier.models import SOURCE, Attempt, Delivery, EndpointSecret, Event
from notifier.webhooks import outbox
from receiver.models import SCHEMA as RECEIVER
from receiver.models import InboxMessage
from tests.faults.database.every_command import SITE


class Traffic:
    """Courses that are deleted one after the other, until it is stopped."""

    def __init__(self, url: str) -> None:
        outbox.subscribe()
        self.database = Database(url, info={SOURCE: SITE})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flow)
        self.failed: list[Exception] = []

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _flow(self) -> None:
        try:
            for number in range(10_000):
                if self._stop.wait(0.02):
                    return
                self.delete(f"C{number}")
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.failed.append(error)

    def delete(self, course_id: str) -> None:
        """Delete a course that was added for it."""
        with self.database.writing() as session:
            now = datetime.now(UTC)
            courses.add_course(session, course_id, "Algorithms", now=now)
            courses.delete_course(session, course_id, now=now)

    def count(self, what: type) -> int:
        """Return how many rows there are."""
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(what)) or 0

    def wait_for_more(self, count: int = 5) -> None:
        """Return once so many more events have been delivered; fail after twenty seconds."""
        wanted = self._delivered() + count
        ends = time.monotonic() + 20
        while self._delivered() < wanted:
            assert time.monotonic() < ends, self._standing()
            self._stop.wait(0.02)

    def end_overlap(self) -> None:
        """Let the ten minutes pass in which the old secret signs too."""
        with self.database.writing() as session:
            session.execute(
                update(EndpointSecret)
                .where(EndpointSecret.expires_at.is_not(None))
                .values(expires_at=db.now(session))
            )

    def wait_until_settled(self) -> None:
        """Return once nothing is pending; fail after twenty seconds."""
        ends = time.monotonic() + 20
        while set(self._standing()) - {"delivered"}:
            assert time.monotonic() < ends, self._standing()
            self._stop.wait(0.02)

    def attempts(self) -> Counter[str]:
        """Return what was decided of every attempt, and how often."""
        with self.database.reading() as session:
            return Counter(session.scalars(select(Attempt.decided)))

    def refusals(self) -> set[int | None]:
        """Return with what the attempts that failed were answered."""
        with self.database.reading() as session:
            failed = select(Attempt.status).where(Attempt.decided != "delivered")
            return set(session.scalars(failed))

    def wait_for_refusal(self) -> None:
        """Return once an attempt has failed; fail after twenty seconds."""
        ends = time.monotonic() + 20
        while not self.refusals():
            assert time.monotonic() < ends, self._standing()
            self._stop.wait(0.02)

    def _delivered(self) -> int:
        return self._standing()["delivered"]

    def _standing(self) -> Counter[str]:
        with self.database.reading() as session:
            return Counter(session.scalars(select(Delivery.status)))


@pytest.fixture
def both(tmp_path: Path, make_database_url: Callable[[Schema], str]) -> Iterator[Machines]:
    """Both services: ELMS's route and eAssessment's worker, real processes on real databases."""
    with machines(tmp_path) as made:
        for program, schema in (("notifier", NOTIFIER), ("receiver", RECEIVER)):
            made.environment[f"{program.upper()}_DATABASE_URL"] = make_database_url(schema).replace(
                "+psycopg", ""
            )
        yield made


@pytest.fixture
def traffic(both: Machines) -> Iterator[Traffic]:
    """Events that flow from the worker to the route."""
    url = both.environment["NOTIFIER_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
    flowing = Traffic(url)
    yield flowing
    flowing.database.dispose()


def connect(both: Machines) -> Secret:
    """Make the route known to each side, start both, and return the secret between them."""
    route = f"{both.elms_url}/webhooks/{SITE}"
    secret = json.loads(both.run("notifier", "endpoints", "add", route, "--json"))["secret"]
    both.run("receiver", "sources", "add", SITE, "--url", both.eassessment_url, stdin=secret)
    both.start("receiver", "receiver", "serve")
    both.wait_until_answers("receiver", f"{both.elms_url}/")
    both.start("worker", "notifier", "work")
    return Secret.parse(secret)


def rotate(both: Machines, *how: str) -> Secret:
    """Rotate the endpoint's secret and return the new one."""
    said = both.run("notifier", "endpoints", "rotate-secret", "1", *how, "--json")
    return Secret.parse(json.loads(said)["secret"])


def status_of(both: Machines, secret: Secret, webhook_id: str) -> int:
    """Return what the route answers to an event that is signed with a secret."""
    data = events.CourseDeletedData(source=SITE, course_id="CS101", course_version=2)
    now = datetime.now(UTC)
    body = events.dump(events.CourseDeleted(timestamp=now, data=data)).encode()
    headers = {**signatures.sign([secret], webhook_id, body, now=now)}
    headers["Content-Type"] = "application/json"
    url = f"{both.elms_url}/webhooks/{SITE}"
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def taken(both: Machines) -> int:
    """Return how many events the route has taken in."""
    url = both.environment["RECEIVER_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
    database = Database(url)
    with database.reading() as session:
        count = session.scalar(select(func.count()).select_from(InboxMessage)) or 0
    database.dispose()
    return count


def test_a_rotation_under_traffic_fails_no_delivery(both: Machines, traffic: Traffic) -> None:
    old = connect(both)

    with traffic:
        traffic.wait_for_more()
        new = rotate(both, "--overlap", "10m")
        traffic.wait_for_more()
        both.run("receiver", "sources", "add-secret", SITE, stdin=new.reveal())
        traffic.wait_for_more()
        in_overlap = status_of(both, old, "msg_old_in_overlap")
        traffic.end_overlap()
        traffic.wait_for_more()
        both.run("receiver", "sources", "remove-secret", SITE, "1")
        traffic.wait_for_more()
    traffic.wait_until_settled()

    assert traffic.failed == []
    assert dict(traffic.attempts()) == {"delivered": traffic.count(Event)}
    assert taken(both) == traffic.count(Event) + 1
    assert in_overlap == 200
    assert status_of(both, old, "msg_old") == 401
    assert status_of(both, new, "msg_new") == 200


def test_a_rotation_without_overlap_signs_with_the_new_secret_alone(
    both: Machines, traffic: Traffic
) -> None:
    old = connect(both)

    with traffic:
        traffic.wait_for_more()
    traffic.wait_until_settled()
    new = rotate(both, "--now")
    traffic.delete("after the rotation")
    traffic.wait_for_refusal()
    both.run("receiver", "sources", "add-secret", SITE, stdin=new.reveal())
    both.run("receiver", "sources", "remove-secret", SITE, "1")
    both.run("notifier", "deliveries", "replay", "--status", "pending")
    traffic.wait_until_settled()

    assert traffic.failed == []
    # More where the retry was under way when its delivery was replayed: at least once.
    assert traffic.attempts()["delivered"] >= traffic.count(Event)
    assert traffic.refusals() == {401}
    assert taken(both) == traffic.count(Event)
    assert status_of(both, old, "msg_old") == 401
    assert status_of(both, new, "msg_new") == 200

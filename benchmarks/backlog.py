"""The worker's cost against history and backlog: a large database compared with a small one.

`python -m benchmarks.backlog [--database-url URL] [--seconds 20]` fills a database with 200,000
pending deliveries to 10 endpoints, and one with as many to 5,000 endpoints and 1,000,000 settled
ones, on SQLite or on a PostgreSQL server. A worker sends what it can in the time; meanwhile another
endpoint gets new events.

Then it measures a claim: the search for due endpoints and the claim of what they have, in this
process. 10 endpoints have something due; of the others everything is settled, or one delivery waits
for a retry. CPU is that of this process, which on SQLite includes the database.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks import delivery, pending, receivers
from benchmarks.notifier_data import write_rows
from demo.processes import Machines, machines
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Attempt, Delivery, DeliveryStatus, Event
from notifier.signals import CourseChange
from notifier.webhooks import outbox
from notifier.worker import claims

_FRESH_PATH = "/fresh"
_FRESH_TYPE = "token.regenerated"
_FRESH_SECONDS = 0.25
# New events may still arrive for this long after the last.
_ARRIVE_SECONDS = 5.0
_START_SECONDS = 120.0
_DUE_ENDPOINTS = 10
_CLAIMED_EACH = 16
_LEASE = timedelta(minutes=1)
_TURNS = 20
_SETTLED, _FOLLOWING = timedelta(days=30), timedelta(hours=1)


@dataclass(frozen=True)
class Size:
    """The endpoints of a database, and how many deliveries are settled and pending in all."""

    endpoints: int
    settled: int
    pending: int


@dataclass(frozen=True)
class Drained:
    """What a worker did: webhooks a second, and the milliseconds that new events took."""

    rate: float
    fresh: list[float]
    missing: int

    def __str__(self) -> str:
        took = self.fresh or [math.inf]
        return (
            f"{self.rate:5.0f}/s, {len(self.fresh)} new events: median "
            f"{statistics.median(took):.0f} ms, p95 {took[int(len(took) * 0.95)]:.0f} ms, "
            f"longest {took[-1]:.0f} ms, not arrived {self.missing}"
        )


def fill(database: Database, size: Size) -> None:
    """Write deliveries to all endpoints, the settled ones each with its attempt."""
    now = datetime.now(UTC)
    settled, waiting = size.settled // size.endpoints, size.pending // size.endpoints
    write_rows(database, [(Event, _events(settled, waiting, now))])
    write_rows(database, [(Delivery, _deliveries(settled, waiting, size.endpoints, now))])
    if settled:
        write_rows(database, [(Attempt, _attempts(settled * size.endpoints, now))])


def _events(settled: int, waiting: int, now: datetime) -> Iterator[dict[str, Any]]:
    for number in range(settled + waiting):
        at = now - (_SETTLED if number < settled else _FOLLOWING)
        yield {
            "id": f"msg_{number:032x}",
            "type": "course.deleted",
            "course_id": f"C{number}",
            "course_version": 2,
            "body": pending.body_of(number, at),
            "occurred_at": at,
        }


def _deliveries(
    settled: int, waiting: int, endpoints: int, now: datetime
) -> Iterator[dict[str, Any]]:
    for number in range(settled + waiting):
        is_settled = number < settled
        at = now - (_SETTLED if is_settled else _FOLLOWING)
        for endpoint in range(endpoints):
            yield {
                "id": number * endpoints + endpoint + 1,
                "event_id": f"msg_{number:032x}",
                "endpoint_id": endpoint + 1,
                "status": DeliveryStatus.DELIVERED if is_settled else DeliveryStatus.PENDING,
                "attempts": int(is_settled),
                "due_at": at,
                "created_at": at,
                "settled_at": at if is_settled else None,
            }


def _attempts(count: int, now: datetime) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "delivery_id": number + 1,
            "started_at": now - _SETTLED,
            "milliseconds": 12,
            "status": 204,
            "decided": "delivered",
        }


def drain(both: Machines, server_url: str | None, size: Size, seconds: float) -> Drained:
    """Let a worker send for a while, with new events for another endpoint."""
    key = both.environment["NOTIFIER_ENCRYPTION_KEYS"]
    with (
        pending.new_database(both.folder, server_url) as url,
        pending.opened(url) as database,
        receivers.receiving(both, delay_ms=0) as receiver,
    ):
        pending.register(database, key, receiver.url, size.endpoints)
        pending.register_urls(database, key, [f"{receiver.url}{_FRESH_PATH}"], _FRESH_TYPE)
        fill(database, size)
        work = delivery.work(1, delivery.THREADS)
        both.start("worker", *work, where={"NOTIFIER_DATABASE_URL": url})
        receiver.wait_for(1, _START_SECONDS)
        begun = time.time()
        committed = _write_fresh(database, begun + seconds)
        time.sleep(_ARRIVE_SECONDS)
        both.stop("worker")
        with database.reading() as session:
            rows = session.execute(select(Event.id, Event.course_id).filter_by(type=_FRESH_TYPE))
            ids = {course_id: webhook_id for webhook_id, course_id in rows}
    at = receiver.requests().at
    sent = [one for (path, _), one in at.items() if path != _FRESH_PATH]
    took = [
        (at[_FRESH_PATH, ids[course_id]] - committed_at) * 1000
        for course_id, committed_at in committed.items()
        if (_FRESH_PATH, ids[course_id]) in at
    ]
    rate = sum(begun <= one < begun + seconds for one in sent) / seconds
    return Drained(rate, sorted(took), len(committed) - len(took))


def _write_fresh(database: Database, ends: float) -> dict[str, float]:
    """Write an event every now and then; return when each was committed, by its course."""
    committed: dict[str, float] = {}
    while time.time() < ends:
        course_id = f"FRESH{len(committed)}"
        with database.writing() as session:
            change = CourseChange(course_id, 2, db.now(session), "token")
            outbox.on_token_regenerated(session, change)
            outbox.on_changes_complete(session)
        committed[course_id] = time.time()
        time.sleep(_FRESH_SECONDS)
    return committed


def measure_claims(
    folder: Path, server_url: str | None, key: str, endpoints: int, *, retries: bool
) -> tuple[float, float, int]:
    """Return the milliseconds of CPU and of time that a claim takes, and how many it claims."""
    with pending.new_database(folder, server_url) as url, pending.opened(url) as database:
        pending.register(database, key, "http://127.0.0.1:9", endpoints)
        fill(database, Size(endpoints, 20 * endpoints, 0))
        write_rows(database, [(Event, _claim_events())])
        write_rows(database, [(Delivery, _claim_deliveries(endpoints, retries=retries))])
        took = [_claim(database) for _ in range(_TURNS)]
    cpu, seconds, claimed = zip(*took, strict=True)
    return statistics.median(cpu) * 1000, statistics.median(seconds) * 1000, claimed[0]


def _claim(database: Database) -> tuple[float, float, int]:
    cpu, begun = time.process_time(), time.perf_counter()
    with database.writing() as session:
        now = db.now(session)
        due, after = claims.find_due(session, 0, now=now)
        while after:
            found, after = claims.find_due(session, after, now=now)
            due |= found
        numbers = dict.fromkeys(due, _CLAIMED_EACH)
        claimed = claims.claim(session, numbers, newest=False, lease=_LEASE, now=now)
        session.rollback()
    return time.process_time() - cpu, time.perf_counter() - begun, len(claimed)


def _claim_events() -> Iterator[dict[str, Any]]:
    for event in _events(0, _CLAIMED_EACH * 2, datetime.now(UTC)):
        yield {**event, "id": f"due_{event['id']}"}


def _claim_deliveries(endpoints: int, *, retries: bool) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    step = endpoints // _DUE_ENDPOINTS
    number = 20 * endpoints
    for endpoint in range(endpoints):
        is_due = endpoint % step == 0
        for event in range(_CLAIMED_EACH * 2 if is_due else int(retries)):
            number += 1
            yield {
                "id": number,
                "event_id": f"due_msg_{event:032x}",
                "endpoint_id": endpoint + 1,
                "status": DeliveryStatus.PENDING,
                "attempts": int(not is_due),
                "due_at": now - _FOLLOWING if is_due else now + _FOLLOWING,
                "created_at": now - _FOLLOWING,
            }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", help="of a PostgreSQL server, for databases of its own")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--endpoints", type=int, default=5_000)
    parser.add_argument("--settled", type=int, default=1_000_000)
    parser.add_argument("--pending", type=int, default=200_000)
    given = parser.parse_args()
    small = Size(_DUE_ENDPOINTS, 0, given.pending)
    large = Size(given.endpoints, given.settled, given.pending)
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder)) as both:
        delivery.prepare(both)
        for size in (small, large):
            drained = drain(both, given.database_url, size, given.seconds)
            print(
                f"{size.endpoints:5} endpoints, {size.settled:7} settled, {size.pending} pending: "
                f"{drained}"
            )
        key = both.environment["NOTIFIER_ENCRYPTION_KEYS"]
        for retries in (False, True):
            for endpoints in (_DUE_ENDPOINTS, 1_000, 5_000):
                cpu, took_ms, claimed = measure_claims(
                    both.folder, given.database_url, key, endpoints, retries=retries
                )
                others = "one retry each" if retries else "everything settled"
                print(
                    f"claim of {claimed}, {endpoints:4} endpoints, of the others {others}: "
                    f"{cpu:.1f} ms CPU, {took_ms:.1f} ms"
                )


if __name__ == "__main__":
    main()

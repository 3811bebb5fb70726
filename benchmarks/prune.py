"""Pruning old deliveries under a running worker, and what new events wait for meanwhile.

`python -m benchmarks.prune [--deliveries 5000000] [--database-url URL]` fills a database, on SQLite
or on a PostgreSQL server, with deliveries of two endpoints that were settled more than 30 days ago;
one of a hundred is dead and stays. A worker runs, and another endpoint gets new events: first for a
while without pruning, then until `notifier db prune` has ended.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks import delivery, pending, receivers
from benchmarks.notifier_data import write_rows
from benchmarks.receivers import Receiver
from demo.processes import Machines, ProcessError, machines
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Attempt, Delivery, DeliveryStatus, Event
from notifier.signals import CourseChange
from notifier.webhooks import outbox

_ENDPOINTS = 2
_FRESH_PATH = "/fresh"
_FRESH_TYPE = "token.regenerated"
_FRESH_SECONDS = 0.25
# New events may still arrive for this long after the last.
_ARRIVE_SECONDS = 5.0
_PRUNED_AFTER, _BETWEEN = timedelta(days=30), timedelta(seconds=20)
_DEAD_EVERY = 100


@dataclass(frozen=True)
class FreshEvent:
    """A new event: how long its transaction took, and when it was committed."""

    course_id: str
    seconds: float
    committed_at: float


def fill(database: Database, deliveries: int) -> None:
    """Write settled deliveries, each with its attempt."""
    events = deliveries // _ENDPOINTS
    latest = datetime.now(UTC) - _PRUNED_AFTER
    write_rows(database, [(Event, _events(events, latest))])
    write_rows(database, [(Delivery, _deliveries(events, latest))])
    write_rows(database, [(Attempt, _attempts(events, latest))])
    database.dispose()  # the write-ahead log becomes part of the file


def _id(number: int) -> str:
    # As scattered as the random ids are.
    return f"msg_{number * 2654435761 % 2**32:032x}"


def _events(events: int, latest: datetime) -> Iterator[dict[str, Any]]:
    for number in range(events):
        at = latest - (events - number) * _BETWEEN
        yield {
            "id": _id(number),
            "type": "course.deleted",
            "course_id": f"C{number}",
            "course_version": 2,
            "body": pending.body_of(number, at),
            "occurred_at": at,
        }


def _deliveries(events: int, latest: datetime) -> Iterator[dict[str, Any]]:
    for number in range(events * _ENDPOINTS):
        at = latest - (events - number // _ENDPOINTS) * _BETWEEN
        is_dead = number % _DEAD_EVERY == 0
        yield {
            "id": number + 1,
            "event_id": _id(number // _ENDPOINTS),
            "endpoint_id": number % _ENDPOINTS + 1,
            "status": DeliveryStatus.DEAD if is_dead else DeliveryStatus.DELIVERED,
            "attempts": 1,
            "due_at": at,
            "created_at": at,
            "settled_at": at,
        }


def _attempts(events: int, latest: datetime) -> Iterator[dict[str, Any]]:
    for number in range(events * _ENDPOINTS):
        is_dead = number % _DEAD_EVERY == 0
        yield {
            "delivery_id": number + 1,
            "started_at": latest - (events - number // _ENDPOINTS) * _BETWEEN,
            "milliseconds": 12,
            "status": 400 if is_dead else 204,
            "decided": "dead" if is_dead else "delivered",
        }


def write_fresh(database: Database, name: str, goes_on: Callable[[], bool]) -> list[FreshEvent]:
    """Write an event every now and then for as long as `goes_on`."""
    fresh: list[FreshEvent] = []
    while goes_on():
        course_id = f"{name}{len(fresh)}"
        begun = time.time()
        with database.writing() as session:
            change = CourseChange(course_id, 2, db.now(session), "token")
            outbox.on_token_regenerated(session, change)
            outbox.on_changes_complete(session)
        committed_at = time.time()
        fresh.append(FreshEvent(course_id, committed_at - begun, committed_at))
        time.sleep(_FRESH_SECONDS)
    return fresh


def report(name: str, fresh: list[FreshEvent], database: Database, receiver: Receiver) -> None:
    """Print what new events waited for: their own transaction, and their delivery."""
    with database.reading() as session:
        rows = session.execute(select(Event.course_id, Event.id).filter_by(type=_FRESH_TYPE))
        ids = {row.course_id: row.id for row in rows}
    at = receiver.requests().at
    arrived = [
        at[_FRESH_PATH, ids[one.course_id]] - one.committed_at
        for one in fresh
        if (_FRESH_PATH, ids[one.course_id]) in at
    ]
    if len(arrived) < len(fresh):
        raise ProcessError(f"{len(fresh) - len(arrived)} new events did not arrive")
    print(
        f"{name}: {len(fresh)} new events; their transaction: "
        f"{_times([one.seconds for one in fresh])}; from its commit to the receiver: "
        f"{_times(arrived)}",
        flush=True,
    )


def _times(seconds: list[float]) -> str:
    ordered = sorted(one * 1000 for one in seconds)
    return (
        f"median {statistics.median(ordered):.0f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.0f} "
        f"ms, longest {ordered[-1]:.0f} ms"
    )


def measure(both: Machines, server_url: str | None, deliveries: int, seconds: float) -> None:
    """Fill, let the worker run, prune, print."""
    key = both.environment["NOTIFIER_ENCRYPTION_KEYS"]
    with (
        pending.new_database(both.folder, server_url) as url,
        pending.opened(url) as database,
        receivers.receiving(both, delay_ms=0) as receiver,
    ):
        pending.register(database, key, receiver.url, _ENDPOINTS)
        pending.register_urls(database, key, [f"{receiver.url}{_FRESH_PATH}"], _FRESH_TYPE)
        begun = time.monotonic()
        fill(database, deliveries)
        print(f"filled with {deliveries:,} deliveries in {time.monotonic() - begun:.0f} s")
        where = {"NOTIFIER_DATABASE_URL": url.replace("+psycopg", "")}
        both.start("worker", "notifier", "work", where=where)
        warm = write_fresh(database, "WARM", lambda: receiver.count() == 0)
        ends = time.monotonic() + seconds
        before = write_fresh(database, "BEFORE", lambda: time.monotonic() < ends)
        begun = time.monotonic()
        both.start("prune", "notifier", "db", "prune", "--older-than", "30d", where=where)
        prune = both.running["prune"]
        during = write_fresh(database, "DURING", lambda: prune.poll() is None)
        took = time.monotonic() - begun
        both.wait("prune", 1)
        time.sleep(_ARRIVE_SECONDS)
        both.stop("worker")
        printed = both.log_of("prune").read_text().splitlines()[-1]
        with database.reading() as session:
            left = session.scalar(select(func.count()).select_from(Delivery)) or 0
        pruned = deliveries + len(warm) + len(before) + len(during) - left
        print(f"{printed}\n{took:.0f} s, {pruned / took:,.0f} deliveries per second")
        report("without pruning", before, database, receiver)
        report("during pruning", during, database, receiver)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", help="of a PostgreSQL server, for databases of its own")
    parser.add_argument("--deliveries", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="without pruning")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder)) as both:
        delivery.prepare(both)
        measure(both, given.database_url, given.deliveries, given.seconds)


if __name__ == "__main__":
    main()

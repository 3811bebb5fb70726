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
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select, text

from benchmarks import delivery, pending, receivers
from benchmarks.receivers import Receiver
from demo.processes import Machines, ProcessError, machines
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Delivery, Event
from notifier.signals import CourseChange
from notifier.webhooks import outbox

_ENDPOINTS = 2
_FRESH_PATH = "/fresh"
_FRESH_TYPE = "token.regenerated"
_FRESH_SECONDS = 0.25
# A worker delivers its first event within this time, or the measurement fails.
_START_SECONDS = 60.0
# New events may still arrive for this long after the last.
_ARRIVE_SECONDS = 5.0
_PRUNED_AFTER, _BETWEEN_SECONDS = timedelta(days=30), 20

# The rows: every event has a delivery to each of two endpoints, and one delivery of 100 is dead.
_NUMBERS = """
WITH RECURSIVE numbers(n) AS (
  SELECT CAST(0 AS bigint) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count
)"""
_EVENTS = f"""
INSERT INTO events (id, type, course_id, course_version, body, occurred_at) {_NUMBERS}
SELECT {{id}}, 'course.deleted', 'C' || n, 2, :body, {{at}}
FROM (SELECT n, n AS event FROM numbers) AS numbered"""
_DELIVERIES = f"""
INSERT INTO deliveries
  (id, event_id, endpoint_id, status, attempts, due_at, created_at, settled_at) {_NUMBERS}
SELECT n + 1, {{id}}, n % {_ENDPOINTS} + 1,
  CASE WHEN n % 100 = 0 THEN 'dead' ELSE 'delivered' END, 1, {{at}}, {{at}}, {{at}}
FROM (SELECT n, n / {_ENDPOINTS} AS event FROM numbers) AS numbered"""
_ATTEMPTS = f"""
INSERT INTO attempts (delivery_id, started_at, milliseconds, status, decided) {_NUMBERS}
SELECT n + 1, {{at}}, 12, CASE WHEN n % 100 = 0 THEN 400 ELSE 204 END,
  CASE WHEN n % 100 = 0 THEN 'dead' ELSE 'delivered' END
FROM (SELECT n, n / {_ENDPOINTS} AS event FROM numbers) AS numbered"""
_SET_SEQUENCE = "SELECT setval(pg_get_serial_sequence('deliveries', 'id'), max(id)) FROM deliveries"
# The id, as scattered as random ones are, and the time of an event by its number.
_ON_SQLITE = {
    "id": "printf('msg_%032x', event * 2654435761 % 4294967296)",
    "at": f"strftime('%Y-%m-%d %H:%M:%f000', :first + event * {_BETWEEN_SECONDS}, 'unixepoch')",
}
_ON_POSTGRESQL = {
    "id": "'msg_' || lpad(to_hex(event * 2654435761 % 4294967296), 32, '0')",
    "at": f"to_timestamp(:first + event * {_BETWEEN_SECONDS})",
}


@dataclass(frozen=True)
class FreshEvent:
    """A new event: how long its transaction took, and when it was committed."""

    course_id: str
    seconds: float
    committed_at: float


def fill(database: Database, deliveries: int) -> None:
    """Write settled deliveries, each with its attempt, by statements that make the rows."""
    events = deliveries // _ENDPOINTS
    latest = int((datetime.now(UTC) - _PRUNED_AFTER).timestamp())
    body = pending.body_of(0, datetime.now(UTC))
    values = {"first": latest - events * _BETWEEN_SECONDS, "body": body}
    expressions = _ON_SQLITE if database.is_sqlite else _ON_POSTGRESQL
    with database.without_time_limit(), database.engine.connect() as connection:
        if database.is_sqlite:
            # With its cache of 2 MB it would write the pages of the indexes of ids again and again.
            connection.exec_driver_sql("PRAGMA cache_size = -4000000")
        for statement, number in (
            (_EVENTS, events),
            (_DELIVERIES, deliveries),
            (_ATTEMPTS, deliveries),
        ):
            connection.execute(text(statement.format(**expressions)), {**values, "count": number})
        if not database.is_sqlite:
            connection.execute(text(_SET_SEQUENCE))
        connection.execute(text("ANALYZE"))
        connection.commit()
    database.dispose()  # the write-ahead log becomes part of the file


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
        started_by = time.monotonic() + _START_SECONDS
        warm = write_fresh(
            database, "WARM", lambda: receiver.count() == 0 and time.monotonic() < started_by
        )
        if receiver.count() == 0:
            raise ProcessError("the worker delivers nothing")
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

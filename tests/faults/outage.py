"""An outage of six hours with many events: all of them are delivered, at a limited rate.

`python -m tests.faults.outage [--events N] [--rate N]` writes the events as they are after such
an outage (a few attempted, the endpoint paused, the rest waiting), starts the real worker, and
compares what the receiver got. Meanwhile another endpoint gets new events, and the time that
these take is reported. Exit code 0 only if all arrived.
"""

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import click
from sqlalchemy import func, select, update

from foundation.db import bulk
from foundation.db.session import Database
from notifier.models import Delivery, DeliveryStatus, Endpoint, Event
from notifier.webhooks import outbox
from tests.faults.site import Site, site
from tests.faults.torture import databases
from tests.loopback import Handler, served

_OUTAGE = timedelta(hours=6)
_BATCH = 5000
_ATTEMPTED = 40
_NEW_EVERY_SECONDS = 0.5


@dataclass
class Arrivals:
    """What a receiver got: the time of each webhook-id, repetitions, requests in each second."""

    url: str = ""
    at: dict[str, float] = field(default_factory=dict)
    repeated: int = 0
    connections: int = 0
    seconds: Counter[int] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, webhook_id: str) -> None:
        with self.lock:
            self.repeated += webhook_id in self.at
            self.at.setdefault(webhook_id, time.time())
            self.seconds[int(time.time())] += 1


@contextmanager
def receiving() -> Iterator[Arrivals]:
    """Run a receiver that accepts everything."""
    arrivals = Arrivals()

    class Receiving(Handler, BaseHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            arrivals.connections += 1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            arrivals.record(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

    with served(Receiving) as arrivals.url:
        yield arrivals


def write(database: Database, endpoint_id: int, occurred: list[datetime]) -> list[str]:
    """Write an event for each time, with its delivery for an endpoint; return their ids."""
    events = [
        {
            "id": outbox.new_webhook_id(),
            "type": "course.deleted",
            "course_id": f"C{number}",
            "course_version": 2,
            "body": json.dumps({"type": "course.deleted", "data": {"course_id": f"C{number}"}}),
            "occurred_at": at,
        }
        for number, at in enumerate(occurred)
    ]
    deliveries = [
        {
            "event_id": event["id"],
            "endpoint_id": endpoint_id,
            "due_at": event["occurred_at"],
            "created_at": event["occurred_at"],
            "status": DeliveryStatus.PENDING,
            "attempts": 0,
        }
        for event in events
    ]
    for start in range(0, len(events), _BATCH):
        with database.writing() as session:
            bulk.insert(session, Event, events[start : start + _BATCH])
            bulk.insert(session, Delivery, deliveries[start : start + _BATCH])
    return [str(event["id"]) for event in events]


def write_backlog(database: Database, endpoint_id: int, count: int) -> set[str]:
    """Write the events of the outage, and the endpoint as it is once its last pause is over."""
    now = datetime.now(UTC)
    ids = write(database, endpoint_id, [now - _OUTAGE * (1 - n / count) for n in range(count)])
    failing = {"failures": _ATTEMPTED, "failing_since": now - _OUTAGE, "failed_at": now}
    with database.writing() as session:
        attempted = update(Delivery).where(Delivery.id <= _ATTEMPTED)
        session.execute(attempted.values(attempts=5))
        endpoint = update(Endpoint).where(Endpoint.id == endpoint_id)
        session.execute(endpoint.values(paused_until=now, **failing))
    return set(ids)


def deliver(both: Site, count: int) -> dict[str, object]:
    """Let the worker deliver everything; return what the receivers saw."""
    with receiving() as failed, receiving() as healthy:
        for receiver in (failed, healthy):
            both.run("notifier", "endpoints", "add", f"{receiver.url}/webhooks")
        wanted = write_backlog(both.notifier, 1, count)
        started = time.monotonic()
        worker = both.start("notifier", "work")
        written: dict[str, float] = {}
        while not wanted <= failed.at.keys():
            (new,) = write(both.notifier, 2, [datetime.now(UTC)])
            written[new] = time.time()
            time.sleep(_NEW_EVERY_SECONDS)
            if worker.code is not None:
                raise RuntimeError(worker.logged()[-2000:])
        seconds = time.monotonic() - started
        both.stop(worker)
        took = sorted(healthy.at[one] - at for one, at in written.items())
    with both.notifier.reading() as session:
        rows = session.execute(
            select(Delivery.stored_status, func.count()).group_by(Delivery.stored_status)
        )
        statuses = {row[0]: row[1] for row in rows}
    return {
        "events": count,
        "in all": count + len(written),
        "delivered": statuses,
        "lost": len(wanted - failed.at.keys()),
        "sent twice": failed.repeated + healthy.repeated,
        "seconds": round(seconds, 1),
        "a second": round(count / seconds),
        "busiest second": max(failed.seconds.values()),
        "connections": failed.connections,
        "new events elsewhere": len(took),
        "their median, ms": round(took[len(took) // 2] * 1000),
        "their longest, ms": round(took[-1] * 1000),
    }


@click.command(help=__doc__)
@click.option("--events", default=100_000, show_default=True)
@click.option("--rate", default=500.0, show_default=True, help="Attempts a second.")
def main(events: int, rate: float) -> None:
    """Measure, print, and exit with 1 unless everything was delivered."""
    with (
        tempfile.TemporaryDirectory() as name,
        databases(Path(name), None) as urls,
        site(Path(name), *urls, short=False) as both,
    ):
        both.environment["NOTIFIER_ENDPOINT_RATE"] = str(rate)
        both.environment["NOTIFIER_LOG_LEVEL"] = "WARNING"
        result = deliver(both, events)
    for label, value in result.items():
        click.echo(f"{label:24} {value}")
    sys.exit(1 if result["lost"] or result["delivered"] != {"delivered": result["in all"]} else 0)


if __name__ == "__main__":
    main()

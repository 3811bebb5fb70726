"""An outage of six hours with a hundred thousand events, then back: all delivered, no herd.

`python -m tests.faults.outage [--events N] [--rate N]` writes the events as
they stand after such an outage (a few attempted, the endpoint paused, the rest waiting), lets the
pause be over, starts the real worker, and looks at what a sink of its own saw. Beside the backlog
another endpoint gets fresh events, and how long these took is told. Exit 0 only if all arrived.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

from demo.processes import Machines, machines
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Delivery, DeliveryStatus, Endpoint, Event, Lane
from notifier.webhooks import outbox
from tests.faults.plain_sink import PlainSink

_OUTAGE = timedelta(hours=6)
_BATCH = 5000
_ATTEMPTED = 40
_FRESH_EVERY = 0.5


def write_event(number: int, at: datetime) -> dict[str, Any]:
    """Return the row of an event that happened at a moment."""
    body = {"type": "course.deleted", "data": {"course_id": f"C{number}", "course_version": 2}}
    return {
        "id": outbox.new_webhook_id(),
        "type": "course.deleted",
        "course_id": f"C{number}",
        "course_version": 2,
        "body": json.dumps(body),
        "occurred_at": at,
    }


def write(database: Database, endpoint_id: int, moments: list[datetime]) -> list[str]:
    """Write an event for each moment with its delivery for an endpoint; return the ids."""
    rows = [write_event(number, at) for number, at in enumerate(moments)]
    waiting = {"status": DeliveryStatus.PENDING, "lane": Lane.FIRST, "attempts": 0}
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        due = [
            {
                "event_id": row["id"],
                "endpoint_id": endpoint_id,
                "due_at": row["occurred_at"],
                "created_at": row["occurred_at"],
                **waiting,
            }
            for row in batch
        ]
        with database.writing() as session:
            db.insert_all(session, Event, batch)
            db.insert_all(session, Delivery, due)
    return [row["id"] for row in rows]


def after_the_outage(database: Database, endpoint_id: int, count: int) -> list[str]:
    """Write the backlog, and the endpoint as it is once its last pause is over."""
    now = datetime.now(UTC)
    ids = write(database, endpoint_id, [now - _OUTAGE * (1 - n / count) for n in range(count)])
    ill = {"failures": _ATTEMPTED, "failing_since": now - _OUTAGE, "failed_at": now}
    with database.writing() as session:
        attempted = Delivery.id <= _ATTEMPTED
        session.execute(update(Delivery).where(attempted).values(lane=Lane.RETRY, attempts=5))
        session.execute(
            update(Endpoint).where(Endpoint.id == endpoint_id).values(paused_until=now, **ill)
        )
    return ids


def drain(both: Machines, database: Database, count: int) -> dict[str, object]:
    """Let the worker deliver everything; return what the sinks saw."""
    with PlainSink() as back, PlainSink() as healthy:
        for sink in (back, healthy):
            both.run("notifier", "endpoints", "add", sink.url)
        wanted = set(after_the_outage(database, 1, count))
        started = time.monotonic()
        both.start("worker", "notifier", "work")
        emitted: dict[str, float] = {}
        while not wanted <= back.arrived.keys():
            (fresh,) = write(database, 2, [datetime.now(UTC)])
            emitted[fresh] = time.time()
            time.sleep(_FRESH_EVERY)
            if both.running["worker"].poll() is not None:
                raise RuntimeError(both.log_of("worker").read_text()[-2000:])
        seconds = time.monotonic() - started
        both.stop("worker")
        took = sorted(healthy.arrived[one] - at for one, at in emitted.items())
        with database.reading() as session:
            standing = session.execute(select(Delivery.status, func.count()).group_by("status"))
            counts = {row[0]: row[1] for row in standing}
    return {
        "events": count,
        "delivered": counts,
        "lost": len(wanted - back.arrived.keys()),
        "sent twice": back.repeated + healthy.repeated,
        "seconds": round(seconds, 1),
        "a second": round(count / seconds),
        "busiest second": max(back.seconds.values()),
        "connections": back.connections,
        "fresh events elsewhere": len(took),
        "their median, ms": round(took[len(took) // 2] * 1000),
        "their longest, ms": round(took[-1] * 1000),
    }


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=500.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder)) as both:
        both.environment["NOTIFIER_ENDPOINT_RATE"] = str(given.rate)
        both.environment["NOTIFIER_LOG_LEVEL"] = "WARNING"
        both.run("notifier", "db", "upgrade")
        database = Database(f"sqlite:///{folder}/notifier.db", timeout=30)
        seen = drain(both, database, given.events)
        database.dispose()
    for name, value in seen.items():
        print(f"{name:24} {value}")
    return 1 if seen["lost"] or seen["delivered"].keys() != {"delivered"} else 0


if __name__ == "__main__":
    sys.exit(main())

"""Time from a change in eAssessment to the commit in ELMS, and the CPU of a worker that waits.

`python -m benchmarks.latency [--deletions 50] [--database-url URL]` starts both services and the
worker on SQLite, or on databases of a PostgreSQL server. It deletes courses one after another,
reads from the log when ELMS committed each, then leaves everything idle and reads the worker's CPU.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import requests

from demo import service_logs
from demo.processes import Machines, machines
from tests.faults.torture import databases

_IDLE_SECONDS = 30.0


def measure(both: Machines, count: int) -> list[float]:
    """Return the milliseconds from each deletion to the response of ELMS."""
    api = f"{both.eassessment_url}/api/v1/admin"
    http = requests.Session()
    http.headers["Authorization"] = f"Bearer {both.environment['NOTIFIER_ADMIN_KEY']}"
    for number in range(count + 1):
        course = {"course_id": f"C{number}", "title": "A course"}
        http.post(f"{api}/courses", json=course, timeout=10).raise_for_status()
    for number in range(count + 1):
        http.delete(f"{api}/courses/C{number}", timeout=10).raise_for_status()
        while len(service_logs.received_webhooks(both.log_of("elms"))) <= number:
            time.sleep(0.1)
        time.sleep(0.3)  # until the worker is idle again
    listed = both.run("notifier", "deliveries", "list", "--limit", str(count), "--json")
    happened = {one["webhook_id"]: one["occurred_at"] for one in json.loads(listed)["deliveries"]}
    heard = service_logs.received_webhooks(both.log_of("elms"))
    return [
        (heard[webhook_id][1] - datetime.fromisoformat(at)).total_seconds() * 1000
        for webhook_id, at in happened.items()  # the newest: the first waited for the worker
    ]


def idle_cpu(both: Machines) -> float:
    """Return the share of a core that the worker uses while it has nothing to do."""
    worker = Path(f"/proc/{both.running['worker'].pid}/stat")

    def ticks() -> int:
        fields = worker.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])  # user and system time

    before = ticks()
    time.sleep(_IDLE_SECONDS)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / _IDLE_SECONDS


def set_up(both: Machines) -> None:
    """Start both services and the worker, and connect them."""
    for program, name, url in (
        ("notifier", "eassessment", both.eassessment_url),
        ("receiver", "elms", both.elms_url),
    ):
        both.start(name, program, "serve")
        both.wait_until_answers(name, url)
    added = both.run("notifier", "endpoints", "add", f"{both.elms_url}/webhooks/eassessment")
    both.run(
        "receiver", "sources", "add", "eassessment", "--url", both.eassessment_url,
        stdin=added.split()[-1],
    )  # fmt: skip
    both.start("worker", "notifier", "work")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deletions", type=int, default=50)
    parser.add_argument("--database-url", help="of a PostgreSQL server, for databases of its own")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(Path(folder), given.database_url) as (notifier_url, receiver_url),
        machines(Path(folder)) as both,
    ):
        both.environment["NOTIFIER_DATABASE_URL"] = notifier_url
        both.environment["RECEIVER_DATABASE_URL"] = receiver_url
        set_up(both)
        took = sorted(measure(both, given.deletions))
        idle = idle_cpu(both)
    print(
        f"{len(took)} deletions: median {statistics.median(took):.0f} ms, "
        f"95th percentile {took[int(len(took) * 0.95)]:.0f} ms, longest {took[-1]:.0f} ms; "
        f"worker without work: {idle:.1%} of a core"
    )


if __name__ == "__main__":
    main()

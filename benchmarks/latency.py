"""Time from the commit of a change in eAssessment to the commit in ELMS, with everything idle.

`python -m benchmarks.latency [COUNT]` starts both services and the worker, deletes COUNT courses
one after another, and reads from the log when ELMS committed each.
"""

import json
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import requests

from demo import service_logs
from demo.processes import Machines, machines


def measure(both: Machines, count: int) -> list[float]:
    """Return the milliseconds from each deletion to the response of ELMS."""
    api = f"{both.eassessment_url}/api/v1/admin"
    http = requests.Session()
    http.headers["Authorization"] = f"Bearer {both.environment['NOTIFIER_ADMIN_KEY']}"
    for number in range(count):
        course = {"course_id": f"C{number}", "title": "A course"}
        http.post(f"{api}/courses", json=course, timeout=10).raise_for_status()
    for number in range(count):
        http.delete(f"{api}/courses/C{number}", timeout=10).raise_for_status()
        time.sleep(0.5)  # until the worker is idle again
    listed = both.run("notifier", "deliveries", "list", "--limit", str(count), "--json")
    happened = {one["webhook_id"]: one["occurred_at"] for one in json.loads(listed)}
    heard = service_logs.received_webhooks(both.log_of("elms"))
    return [
        (heard[webhook_id][1] - datetime.fromisoformat(at)).total_seconds() * 1000
        for webhook_id, at in happened.items()
    ]


def set_up(both: Machines) -> None:
    """Start both services and the worker, and connect them."""
    for program, name, url in (
        ("notifier", "eassessment", both.eassessment_url),
        ("receiver", "elms", both.elms_url),
    ):
        both.run(program, "db", "upgrade")
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
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder)) as both:
        set_up(both)
        took = sorted(measure(both, count))
    print(
        f"{count} deletions: median {statistics.median(took):.0f} ms, "
        f"95th percentile {took[int(count * 0.95)]:.0f} ms, longest {took[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()

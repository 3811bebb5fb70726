"""Tokens that are regenerated with an overlap, at a steady rate, under a sync every second.

`python -m tests.faults.regenerations [--count N] [--rate N]` runs eAssessment, its worker and ELMS,
regenerates tokens over the admin API, and starts `receiver sync-grades` again and again. Exit code
0 only if no run skipped a course, eAssessment refused no token, and ELMS has every new one at the
end.
"""

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import requests
from sqlalchemy import select, update

from notifier.courses import service as courses
from notifier.models import Course, Delivery, IssuedToken
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
from tests.faults.processes import PATIENCE, Process, wait_until
from tests.faults.site import ELMS, SOURCE, Site, site
from tests.faults.torture import databases

_COURSES = tuple(f"CS{number}" for number in range(101, 121))
_SYNC_EVERY, _OVERLAP_SECONDS = 1.0, 3600


@dataclass
class Regenerations:
    """A thread that regenerates the tokens of the courses in turn, over the admin API."""

    url: str
    admin_key: str
    count: int
    rate: float
    statuses: Counter[int] = field(default_factory=Counter)

    def run(self) -> None:
        """Send all requests, at the rate or slower."""
        began = time.monotonic()
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {self.admin_key}"
            for number in range(self.count):
                time.sleep(max(0.0, began + number / self.rate - time.monotonic()))
                course_id = _COURSES[number % len(_COURSES)]
                url = f"{self.url}/api/v1/admin/courses/{course_id}/token"
                overlap = {"overlap_seconds": _OVERLAP_SECONDS}
                response = session.post(url, params=overlap, timeout=PATIENCE)
                self.statuses[response.status_code] += 1


@dataclass
class Result:
    """What happened to the courses; `refused` are those whose token eAssessment refused."""

    statuses: Mapping[int, int]
    seconds: float
    runs: list[Mapping[str, Any]]
    claimed: int
    refused: list[str]
    outdated: list[str]

    @property
    def not_synced(self) -> list[Mapping[str, Any]]:
        """The runs in which a course was skipped or failed."""
        return [run for run in self.runs if run["skipped"] or run["failed"] or run["deleted"]]

    def is_good(self, count: int) -> bool:
        """Return True if no course noticed any of the regenerations, and ELMS has all tokens."""
        bad = self.not_synced or self.refused or self.outdated
        return not bad and self.statuses == {201: count} and bool(self.claimed)


def regenerate(both: Site, *, count: int, rate: float) -> Result:
    """Regenerate tokens while ELMS syncs; return what happened."""
    server, worker = _begin(both)
    key = both.environment["NOTIFIER_ADMIN_KEY"]
    with both.receiver.reading() as session:
        url = sources.get(session, SOURCE).url
    regenerations = Regenerations(url, key, count, rate)
    thread = threading.Thread(target=regenerations.run, daemon=True)
    began = time.monotonic()
    thread.start()
    runs = []
    while thread.is_alive():
        next_at = time.monotonic() + _SYNC_EVERY
        runs.append(_sync(both))
        thread.join(max(0.0, next_at - time.monotonic()))
    seconds = time.monotonic() - began
    wait_until(lambda: _delivered(both), "all webhooks are delivered")
    runs += [_sync(both), _sync(both)]
    both.stop(worker)
    both.stop(server)
    logged = [*_logged(server)]
    return Result(
        regenerations.statuses,
        seconds,
        runs,
        sum(len(line["claimed"]) for line in logged if line["event"] == "tokens claimed"),
        [*_refused(logged)],
        _outdated(both),
    )


def _begin(both: Site) -> tuple[Process, Process]:
    """Start both services and the worker, with the same courses; return the first and the last."""
    now = datetime.now(UTC)
    with both.notifier.writing() as session:
        tokens = {one: courses.add_course(session, one, one, now=now) for one in _COURSES}
    server, port = both.serve("notifier")
    actor = Actor(ActorKind.ADMINISTRATOR, "ada")
    with both.receiver.writing() as session:
        session.execute(update(Source).values(url=f"http://127.0.0.1:{port}"))
        source = sources.get(session, SOURCE)
        for one, token in tokens.items():
            registry.add(session, source, one, token, vault=both.vault, actor=actor, now=now)
    both.serve_elms()
    endpoint_id = both.register(ELMS)
    both.run("notifier", "endpoints", "set-token-claims", str(endpoint_id), "on")
    return server, both.start("notifier", "work")


def _sync(both: Site) -> Mapping[str, Any]:
    run: Mapping[str, Any] = json.loads(both.run("receiver", "sync-grades", "--json"))
    both.forget(both.started.pop())
    return run


def _delivered(both: Site) -> bool:
    with both.notifier.reading() as session:
        return set(session.scalars(select(Delivery.status))) == {"delivered"}


def _logged(process: Process) -> Iterator[Mapping[str, Any]]:
    for line in process.logged().splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _refused(logged: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each refusal of a token, alone or in a batch."""
    for line in logged:
        if line["event"] == "batch answered":
            yield from (f"{why}: {which}" for why, which in line["refused"].items())
        elif line["event"] == "request refused":
            yield f"{line['problem']}: {line['url']}"


def _outdated(both: Site) -> list[str]:
    """Return the courses of which ELMS does not have the current token."""
    current = select(Course.course_id, IssuedToken.token_id).join(IssuedToken)
    with both.notifier.reading() as session:
        rows = session.execute(current.where(IssuedToken.superseded_at.is_(None))).all()
    with both.receiver.reading() as session:
        stored = {one.course_id: one.stored_token_id for one in session.scalars(select(Entry))}
    return [row.course_id for row in rows if stored[row.course_id] != row.token_id]


@click.command(help=__doc__)
@click.option("--count", default=1000, show_default=True)
@click.option("--rate", default=5.0, show_default=True, help="Regenerations a second.")
@click.option("--database-url", help="A PostgreSQL server; without it, on SQLite.")
def main(count: int, rate: float, database_url: str | None) -> None:
    """Regenerate, print what happened, and exit with 1 unless no course noticed anything."""
    with (
        tempfile.TemporaryDirectory(prefix="regenerations-") as name,
        databases(Path(name), database_url) as urls,
        site(Path(name), *urls, short=False) as both,
    ):
        result = regenerate(both, count=count, rate=rate)
    for label, value in {
        "regenerations, by status": dict(result.statuses),
        "seconds": round(result.seconds, 1),
        "runs of the sync": len(result.runs),
        "tokens claimed": result.claimed,
        "runs with a course that was not synced": len(result.not_synced),
        "refused": len(result.refused),
        "courses without their new token": len(result.outdated),
    }.items():
        click.echo(f"{label:40} {value}")
    for problem in (*result.not_synced, *result.refused, *result.outdated):
        click.echo(problem, err=True)
    sys.exit(0 if result.is_good(count) else 1)


if __name__ == "__main__":
    main()

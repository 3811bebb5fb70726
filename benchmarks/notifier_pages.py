"""Response times of eAssessment's pages with a hundred deliveries and with a million.

`python -m benchmarks.notifier_pages` fills two SQLite databases, measures each page on both in
turns, and prints the times and their ratio. `--small-url` and `--large-url` take two databases
instead (`postgresql+psycopg://…`), which are filled if they are empty. `--plans` prints the query
plans of the large one.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask.testing import FlaskClient
from sqlalchemy import func, select

from benchmarks.notifier_data import BEGAN, BETWEEN, course_id_of, fill, migrated
from benchmarks.plans import explain
from foundation.db.session import Database
from foundation.pages import users
from notifier import services
from notifier.app import create_app
from notifier.config import Settings
from notifier.models import Delivery

_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_PASSWORD = "a long benchmark"  # noqa: S105 - of a database that is deleted
_SMALL = 100


@dataclass(frozen=True)
class Site:
    """eAssessment on a database, with a client that is signed in."""

    client: FlaskClient
    database: Database
    deliveries: int


def pages(deliveries: int) -> dict[str, str]:
    """Return the paths of the pages by name, for a database of that size."""
    middle = (BEGAN + deliveries // 4 * BETWEEN).isoformat().replace("+00:00", "Z")
    last = course_id_of(4)
    return {
        "overview": "/",
        "endpoints": "/endpoints",
        "an endpoint": "/endpoints/2",
        "courses": "/courses",
        "courses, the next page": f"/courses?after={last}",
        "courses, deleted": "/courses?state=deleted",
        "courses, beginning of an id": "/courses?q=law0000",
        "courses, words": "/courses?q=musica+3",
        "courses, no such word": "/courses?q=zzz",
        "courses, by last change": "/courses?sort=-changed",
        "courses, by title, the next page": f"/courses?sort=title&after={last}",
        "a course": f"/courses/one?course_id={last}",
        "deliveries": "/deliveries",
        "deliveries, the next page": f"/deliveries?before={max(deliveries - 30, 1)}",
        "deliveries, oldest first": "/deliveries?sort=occurred",
        "deliveries, dead, oldest first": "/deliveries?sort=occurred&status=dead",
        "deliveries, pending": "/deliveries?status=pending",
        "deliveries, dead": "/deliveries?status=dead",
        "deliveries, held": "/deliveries?status=held",
        "deliveries of an endpoint": "/deliveries?endpoint_id=2",
        "deliveries of a type": "/deliveries?event_type=token.regenerated",
        "deliveries of a rare type": "/deliveries?event_type=delivery.dead",
        "deliveries, pending, of a type": "/deliveries?status=pending&event_type=course.deleted",
        "deliveries, dead, of a type that none is of": (
            "/deliveries?status=dead&event_type=course.deleted"
        ),
        "deliveries of a course": f"/deliveries?course_id={last}",
        "deliveries, part of a course id": f"/deliveries?matching={last[2:]}",
        "deliveries, part of every course id": "/deliveries?matching=0",
        "deliveries, part of no course id": "/deliveries?matching=zzz",
        "deliveries, dead, part of a course id": "/deliveries?status=dead&matching=00",
        "deliveries of an event": "/deliveries?webhook_id=nowhere",
        "deliveries since": f"/deliveries?since={middle}",
        "deliveries until": f"/deliveries?until={middle}",
        "deliveries, dead, until": f"/deliveries?status=dead&until={middle}",
        "a delivery": f"/deliveries/{deliveries // 2}",
        "before a replay of the dead": "/deliveries/replay?status=dead",
        "before a replay of all since": f"/deliveries/replay?since={middle}",
    }


@contextmanager
def opened(url: str, courses: int, deliveries: int) -> Iterator[Site]:
    """Fill the database if it is empty, and sign in."""
    database = migrated(url)
    with database.reading() as session:
        there = session.scalar(select(func.max(Delivery.id)))
    if there is None:
        started, cpu = time.perf_counter(), time.process_time()
        fill(database, courses=courses, deliveries=deliveries)
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(f"filled with {deliveries:,} deliveries in {took:.0f} s ({cpu:.0f} s of our CPU)")
    database.dispose()
    settings = Settings(
        _env_file=None,
        admin_key="a-key-that-opens-nothing-at-all-here",
        encryption_keys=_KEY,
        database_url=url.replace("postgresql+psycopg", "postgresql"),
        log_level="ERROR",
    )
    app = create_app(settings)
    here = services.of(app).database
    client = app.test_client()
    _sign_in(client, here)
    yield Site(client, here, there or deliveries)
    here.dispose()


def _sign_in(client: FlaskClient, database: Database) -> None:
    with database.writing() as session:
        if users.find(session, "bench") is None:
            users.add(session, "bench", _PASSWORD, now=BEGAN)
    (token,) = re.findall(r'csrf_token" value="([^"]+)"', client.get("/sign-in").text)
    fields = {"csrf_token": token, "name": "bench", "password": _PASSWORD}
    if client.post("/sign-in", data=fields).status_code != 303:
        raise SystemExit("the benchmark cannot sign in")


def milliseconds(site: Site, path: str) -> float:
    """Return how long a page takes to the last byte of its response."""
    started = time.perf_counter()
    answer = site.client.get(path)
    took = (time.perf_counter() - started) * 1000
    if answer.status_code != 200:
        raise SystemExit(f"{path} answered {answer.status_code}")
    return took


def compare(small: Site, large: Site, rounds: int) -> Iterator[tuple[str, float, float]]:
    """Yield the median of each page on both databases, measured in turns."""
    for name, of_large in pages(large.deliveries).items():
        of_small = pages(small.deliveries)[name]
        taken: dict[str, list[float]] = {"small": [], "large": []}
        for _ in range(rounds):
            taken["small"].append(milliseconds(small, of_small))
            taken["large"].append(milliseconds(large, of_large))
        yield name, statistics.median(taken["small"]), statistics.median(taken["large"])


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notifier_pages")
    parser.add_argument("--courses", type=int, default=50_000)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--small-url")
    parser.add_argument("--large-url")
    parser.add_argument("--plans", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        at = _in_folder(Path(folder))
        small_url, large_url = asked.small_url or at("small"), asked.large_url or at("large")
        with (
            opened(small_url, _SMALL // 2, _SMALL) as small,
            opened(large_url, asked.courses, asked.deliveries) as large,
        ):
            _print(compare(small, large, asked.rounds), small, large)
            if asked.plans:
                explain(large.client, large.database, pages(large.deliveries))


def _in_folder(folder: Path) -> Callable[[str], str]:
    return lambda name: f"sqlite:///{folder}/{name}.db"


def _print(compared: Iterator[tuple[str, float, float]], small: Site, large: Site) -> None:
    heads = f"{small.deliveries:,}", f"{large.deliveries:,}"
    print(f"{'page, median in ms, deliveries:':45}{heads[0]:>12}{heads[1]:>12}{'ratio':>8}")
    for name, little, much in compared:
        print(f"{name:45}{little:12.1f}{much:12.1f}{much / little:8.2f}", flush=True)


if __name__ == "__main__":
    main()

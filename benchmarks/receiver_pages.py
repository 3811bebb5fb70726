"""Response times of ELMS's pages with many courses and webhooks, and with a hundred.

`python -m benchmarks.receiver_pages` fills two databases in a temporary folder, or on a PostgreSQL
server (`--server URL`), and measures each page on both in turns. `--plans` prints the query plans
of the large one.
"""

import argparse
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import create_engine, insert, make_url, text

from benchmarks.plans import explain
from foundation.db.session import Database
from foundation.pages import users
from receiver import services
from receiver.app import create_app
from receiver.config import Settings
from receiver.models import SCHEMA, Entry, HistoryEntry, InboxMessage, Run, RunCourse, Source

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
PASSWORD = "correct horse battery"  # noqa: S105 - of a database that is deleted
NOW = datetime.now(UTC)
CHUNK = 20_000
RUNS = 20
FEW = 100
PAGES = (
    ("registry", "/"),
    ("registry, in the middle", "/?after=%5B%22C050-025000%22%2C1%5D"),
    ("registry, token invalid", "/?status=token_invalid"),
    ("registry, course deleted", "/?status=course_deleted"),
    ("registry, one source", "/?source=two"),
    ("registry, token invalid at one source", "/?source=two&status=token_invalid"),
    ("registry, part of the course id", "/?q=C05"),
    ("registry, part of the course id, none", "/?q=zzz"),
    ("registry, by last sync", "/?sort=synced"),
    ("registry, by time of status", "/?sort=-since"),
    ("registry, status since", "/?since=2h"),
    ("one course", "/entries/3"),
    ("runs", "/runs"),
    ("one run, failed", f"/runs/{RUNS}"),
    ("one run, synced", f"/runs/{RUNS}?outcome=synced"),
    ("inbox", "/inbox"),
    ("inbox, stale", "/inbox?outcome=stale"),
    ("inbox, one course", "/inbox?course_id=C003-000003"),
    ("inbox, part of a course id", "/inbox?q=003-0000"),
    ("inbox, one webhook", "/inbox?webhook_id=msg_7"),
    ("sources", "/sources"),
    ("one source", "/sources/one"),
)


def fill(database: Database, courses: int, webhooks: int) -> None:
    """Fill a database: one course in ten needs a token, one in ten was deleted."""
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=NOW)
        for name in ("one", "two"):
            session.add(Source(name=name, url=f"https://{name}.example", created_at=NOW))
    _write(database, Entry, (_entry(number) for number in range(courses)))
    _write(database, HistoryEntry, (_heard(number, courses) for number in range(2 * courses)))
    _write(database, InboxMessage, (_taken(number, courses) for number in range(webhooks)))
    _write(database, Run, (_run(number, courses) for number in range(RUNS)))
    _write(
        database,
        RunCourse,
        (_run_course(run, number) for run in range(RUNS) for number in range(courses)),
    )


def _name(number: int) -> str:
    return f"C{number % 997:03}-{number:06}"


def _entry(number: int) -> dict[str, Any]:
    invalid, deleted = number % 10 == 3, number % 10 == 4
    return {
        "id": number + 1,
        "source_id": 1 + number % 2,
        "course_id": _name(number),
        "created_at": NOW,
        "added_at": NOW,
        "encrypted_token": "x" * 120,
        "stored_token_id": "held",
        "announced_version": 2 if invalid else None,
        "announced_token_id": "new" if invalid else None,
        "announced_at": NOW if invalid else None,
        "deleted_version": 3 if deleted else None,
        "deleted_at": NOW if deleted else None,
        "synced_at": NOW,
    }


def _heard(number: int, courses: int) -> dict[str, Any]:
    return {
        "entry_id": 1 + number % courses,
        "at": NOW,
        "actor": "webhook",
        "actor_name": f"msg_{number}",
        "event": "course.deleted" if number % 10 == 4 else "token.regenerated",
        "detail": "version 2, present is new",
        "status": "token_invalid",
    }


def _taken(number: int, courses: int) -> dict[str, Any]:
    return {
        "source_id": 1 + number % 2,
        "webhook_id": f"msg_{number}",
        "type": "token.regenerated",
        "course_id": _name(number % courses),
        "course_version": 2,
        "body_sha256": "0" * 64,
        "outcome": "stale" if number % 1000 == 7 else "applied",
        "received_at": NOW - timedelta(milliseconds=number),
    }


def _run(number: int, courses: int) -> dict[str, Any]:
    return {
        "holder": "elms@sync",
        "started_at": NOW - timedelta(minutes=15 * (RUNS - number)),
        "ended_at": NOW - timedelta(minutes=15 * (RUNS - number) - 1),
        "synced": courses - courses // 10,
        "failed": courses // 10,
        "unchanged": 0,
        "skipped": 0,
        "requests": 500,
        "statements": 2000,
        "seconds": 60.0,
        "exit_code": 1,
    }


def _run_course(run: int, number: int) -> dict[str, Any]:
    failed = number % 10 == 5
    return {
        "run_id": run + 1,
        "source": ("one", "two")[number % 2],
        "course_id": _name(number),
        "outcome": "failed" if failed else "synced",
        "reason": "transient" if failed else None,
        "detail": "answered 503" if failed else None,
        "next_step": "No action needed yet: the next run tries again." if failed else None,
        "action": None,
    }


def _write(database: Database, model: Any, rows: Iterator[dict[str, Any]]) -> None:
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            _insert(database, model, chunk)
            chunk = []
    if chunk:
        _insert(database, model, chunk)


def _insert(database: Database, model: Any, rows: list[dict[str, Any]]) -> None:
    with database.writing() as session:
        session.execute(insert(model.__table__), rows)


def browser(url: str, courses: int, webhooks: int) -> tuple[FlaskClient, Database]:
    """Return a client that is signed in at an ELMS with a filled database."""
    app = create_app(
        Settings(
            _env_file=None,
            database_url=url,
            encryption_keys=KEY,
            log_level="ERROR",
        )
    )
    database = services.of(app).database
    SCHEMA.upgrade(database)
    began = time.perf_counter()
    fill(database, courses, webhooks)
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    print(
        f"{courses:,} courses, {webhooks:,} webhooks: {time.perf_counter() - began:.0f} s to fill"
    )
    client = app.test_client()
    form = client.get("/sign-in").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    fields = {"name": "Ada", "password": PASSWORD, "csrf_token": form}
    assert client.post("/sign-in", data=fields).status_code == 303  # noqa: S101 - it measures nothing else
    return client, database


def seconds(client: FlaskClient, path: str) -> float:
    """Return how long a page takes."""
    began = time.perf_counter()
    assert client.get(path).status_code == 200  # noqa: S101 - as above
    return time.perf_counter() - began


def measure(few: FlaskClient, many: FlaskClient, times: int) -> None:
    """Measure each page on both in turns, and print the medians and their ratio."""
    print(f"\n{'page':42} {'with a hundred':>15} {'with many':>12} {'ratio':>7}")
    for name, path in PAGES:
        seconds(few, path), seconds(many, path)
        pairs = [(seconds(few, path), seconds(many, path)) for _ in range(times)]
        one, other = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
        print(f"{name:42} {one:12.1f} ms {other:9.1f} ms {other / one:7.2f}")


@contextmanager
def two_urls(server: str | None) -> Iterator[list[str]]:
    """Create two empty databases, yield their URLs, and delete them at the end."""
    if server is None:
        with tempfile.TemporaryDirectory() as folder:
            yield [f"sqlite:///{Path(folder) / name}.db" for name in ("few", "many")]
        return
    root = make_url(server.replace("postgresql://", "postgresql+psycopg://", 1))
    names = [f"pages_{secrets.token_hex(4)}" for _ in range(2)]
    engine = create_engine(root, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        try:
            yield [
                root.set(drivername="postgresql", database=name).render_as_string(
                    hide_password=False
                )
                for name in names
            ]
        finally:
            for name in names:
                connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    engine.dispose()


def main() -> None:
    """Fill both databases and measure every page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--courses", type=int, default=50_000)
    parser.add_argument("--webhooks", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--server", help="A PostgreSQL server, instead of SQLite.")
    parser.add_argument("--plans", action="store_true")
    given = parser.parse_args()
    with two_urls(given.server) as (small, large):
        few, _ = browser(small, FEW, FEW)
        many, database = browser(large, given.courses, given.webhooks)
        measure(few, many, given.times)
        if given.plans:
            explain(many, database, dict(PAGES))


if __name__ == "__main__":
    main()

"""What a route answers when SQLite's file is locked, full, read-only, gone or garbage."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, func, select
from werkzeug.test import TestResponse

from contract import events, signatures
from contract.signatures import Secret
from foundation.db.session import Database
from notifier import services as notifier_services
from notifier.models import Course, Delivery, Event
from receiver import services as receiver_services
from receiver.models import InboxMessage
from tests.faults.database.conftest import ADMIN_KEY, SITE, Route, file_of, write_lock

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

Refused = Callable[[TestResponse], None]


def test_a_file_that_is_locked_for_long_is_a_503(writing_route: Route, refused: Refused) -> None:
    app = writing_route.make_app(writing_route.url, database_timeout=0.2)

    with write_lock(writing_route.url):
        answer = writing_route.call(app)
        during = writing_route.done()
    again = writing_route.call(app)

    refused(answer)
    assert during == {False}
    assert again.status_code in writing_route.taken
    assert writing_route.done() == {True}


def test_a_file_that_is_locked_for_a_while_is_waited_for(writing_route: Route) -> None:
    app = writing_route.make_app(writing_route.url, database_timeout=20)
    with ThreadPoolExecutor(1) as pool:
        with write_lock(writing_route.url):
            knocking = pool.submit(writing_route.call, app)
            waited = wait([knocking], timeout=0.2).not_done
        answer = knocking.result(timeout=20)

    assert waited
    assert answer.status_code in writing_route.taken
    assert writing_route.done() == {True}


def test_a_file_that_is_locked_can_be_read(grades_route: Route) -> None:
    app = grades_route.make_app(grades_route.url, database_timeout=0.2)

    with write_lock(grades_route.url):
        answer = grades_route.call(app)

    assert answer.status_code == 200


def test_a_read_only_file_is_a_503(writing_route: Route, refused: Refused) -> None:
    app = writing_route.make_app(writing_route.url)
    with read_only_connections():
        answer = writing_route.call(app)

    refused(answer)
    assert writing_route.done() == {False}


@contextmanager
def read_only_connections() -> Iterator[None]:
    """Open every connection as one to a read-only file."""

    def connected(raw: sqlite3.Connection, _: object) -> None:
        raw.execute("PRAGMA query_only=ON")

    event.listen(Engine, "connect", connected)
    yield
    event.remove(Engine, "connect", connected)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """Move the folder of a database away, as a disk that is unmounted; then bring it back."""
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    yield
    aside.rename(path.parent)


@contextmanager
def garbage(path: Path) -> Iterator[None]:
    """Put a file that is no database in the place of a database; then put that back."""
    aside = path.with_name("aside.db")
    path.rename(aside)
    path.write_bytes(b"once this was a database" * 100)
    yield
    aside.rename(path)


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """Move a database away and leave nothing in its place; then put it back."""
    aside = path.with_name("aside.db")
    path.rename(aside)
    yield
    aside.rename(path)


@pytest.mark.parametrize("lost", [gone, garbage, moved])
def test_a_file_that_is_replaced_is_not_written_to(
    route: Route, refused: Refused, lost: Callable[[Path], Iterator[None]]
) -> None:
    app = route.make_app(route.url)
    before = route.call(app)

    with lost(file_of(route.url)):
        during = route.call(app)
    after = route.call(app)

    assert before.status_code in route.taken
    refused(during)
    assert after.status_code in route.taken


@contextmanager
def full(database: Database) -> Iterator[None]:
    """Let a database take no page more than it has, as a disk that is full."""

    def limit(raw: sqlite3.Connection, _: object) -> None:
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count={pages}")

    database.dispose()
    event.listen(database.engine, "connect", limit)
    yield
    event.remove(database.engine, "connect", limit)
    database.dispose()


def until_refused(call: Callable[[int], TestResponse]) -> tuple[int, TestResponse]:
    """Knock until one is not taken; return how many were, and what the last one was answered."""
    for count in range(2000):
        answer = call(count)
        if answer.status_code >= 300:
            return count, answer
    pytest.fail("the disk did not become full")


def test_a_full_disk_takes_no_webhook(
    webhook_route: Route, secret: Secret, refused: Refused
) -> None:
    app = webhook_route.make_app(webhook_route.url)
    database = receiver_services.of(app).database
    now = datetime.now(UTC)

    def call(number: int) -> TestResponse:
        data = events.CourseDeletedData(source=SITE, course_id=f"C{number}", course_version=2)
        body = events.dump(events.CourseDeleted(timestamp=now, data=data)).encode()
        headers = signatures.sign([secret], f"msg_{number}", body, now=datetime.now(UTC))
        headers["Content-Type"] = "application/json"
        return app.test_client().post(f"/webhooks/{SITE}", data=body, headers=headers)

    with full(database):
        taken, answer = until_refused(call)
        with database.reading() as session:
            inbox = session.scalar(select(func.count()).select_from(InboxMessage))
    again = call(taken)

    refused(answer)
    assert inbox == taken
    assert again.get_json() == {"outcome": "applied"}


def test_a_full_disk_takes_neither_change_nor_event(
    deletion_route: Route, refused: Refused
) -> None:
    app = deletion_route.make_app(deletion_route.url)
    database = notifier_services.of(app).database
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    client = app.test_client()
    for number in range(200):
        course = {"course_id": f"C{number:03}", "title": "Algorithms"}
        client.post("/api/v1/admin/courses", json=course, headers=headers)

    def call(number: int) -> TestResponse:
        return client.delete(f"/api/v1/admin/courses/C{number:03}", headers=headers)

    with full(database):
        taken, answer = until_refused(call)
        with database.reading() as session:
            deleted = session.scalar(select(func.count(Course.deleted_at)))
            told = session.scalar(select(func.count()).select_from(Event))
            due = session.scalar(select(func.count()).select_from(Delivery))
    again = call(taken)

    refused(answer)
    assert (deleted, told, due) == (taken, taken, taken)
    assert again.status_code == 200

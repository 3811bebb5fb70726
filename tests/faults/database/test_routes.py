"""Routes whose database is locked, full, read-only, replaced or away: 503, and nothing half."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from foundation.db.session import Database
from foundation.services import Services
from notifier import signals
from tests.faults.database.conftest import (
    COURSES,
    GARBAGE,
    MakeProxy,
    Route,
    assert_unavailable,
    file_of,
    write_lock,
)
from tests.faults.postgres_proxy import (
    DISK_FULL,
    NO_TABLE,
    READ_ONLY,
    SERIALIZATION,
    SHUTDOWN,
    Break,
    ErrorResponse,
)

on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

NOTHING, ALL = {0}, {1}


@on_sqlite
def test_file_that_is_locked_for_long_is_a_503(route: Route) -> None:
    app = route.make_app(route.url, database_timeout=0.2)

    with write_lock(route.url):
        response = route.call(app, 1)
        during = route.facts()
    again = route.call(app, 1)

    assert_unavailable(response)
    assert during == NOTHING
    assert again.status_code in route.accepted
    assert route.facts() == ALL


@on_sqlite
def test_file_that_is_locked_for_a_while_is_waited_for(webhook_route: Route) -> None:
    app = webhook_route.make_app(webhook_route.url, database_timeout=60)
    with ThreadPoolExecutor(1) as pool:
        with write_lock(webhook_route.url):
            calling = pool.submit(webhook_route.call, app, 1)
            waited = wait([calling], timeout=0.2).not_done
        response = calling.result(timeout=60)

    assert waited
    assert response.status_code == 200
    assert webhook_route.facts() == ALL


@on_sqlite
def test_read_only_file_is_a_503(webhook_route: Route) -> None:
    app = webhook_route.make_app(webhook_route.url)

    with read_only_connections():
        response = webhook_route.call(app, 1)

    assert_unavailable(response)
    assert webhook_route.facts() == NOTHING


@contextmanager
def read_only_connections() -> Iterator[None]:
    """Open every connection as one to a read-only file."""

    def connected(raw: sqlite3.Connection, _: object) -> None:
        raw.execute("PRAGMA query_only=ON")

    event.listen(Engine, "connect", connected)
    yield
    event.remove(Engine, "connect", connected)


@contextmanager
def unmounted(path: Path) -> Iterator[None]:
    """Move the folder of a database away for the block."""
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    yield
    aside.rename(path.parent)


@contextmanager
def overwritten(path: Path) -> Iterator[None]:
    """Put another file in the place of a database for the block."""
    aside = path.with_name("aside.db")
    path.rename(aside)
    path.write_bytes(GARBAGE)
    yield
    aside.rename(path)


@on_sqlite
@pytest.mark.parametrize("lost", [unmounted, overwritten])
def test_file_that_was_replaced_is_not_written(
    webhook_route: Route, lost: Callable[[Path], Iterator[None]]
) -> None:
    app = webhook_route.make_app(webhook_route.url)
    webhook_route.call(app, 1)

    with lost(file_of(webhook_route.url)):
        during = webhook_route.call(app, 2)
    after = webhook_route.call(app, 2)

    assert_unavailable(during)
    assert after.get_json() == {"outcome": "applied"}


@contextmanager
def full(database: Database) -> Iterator[None]:
    """Give a database no further page for the block, like a disk that is full."""

    def limit(raw: sqlite3.Connection, _: object) -> None:
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count={pages}")

    database.dispose()
    event.listen(database.engine, "connect", limit)
    yield
    event.remove(database.engine, "connect", limit)
    database.dispose()


@on_sqlite
def test_full_disk_is_a_503_until_there_is_space(route: Route) -> None:
    app = route.make_app(route.url)

    with full(Services.of(app).database):
        for number in range(COURSES):
            response = route.call(app, number)
            if response.status_code == 503:
                break
        during = route.facts()
    after = route.call(app, number)

    assert_unavailable(response)
    assert during == {number}
    assert after.status_code == 200
    assert route.facts() == {number + 1}


@on_postgres
@pytest.mark.parametrize(
    ("words", "happens", "left"),
    [
        pytest.param("BEGIN", Break.BEFORE, NOTHING, id="cut at BEGIN"),
        pytest.param("INSERT INTO", Break.BEFORE, NOTHING, id="cut before a statement"),
        pytest.param("INSERT INTO", Break.IN_RESPONSE, NOTHING, id="cut in a response"),
        pytest.param("INSERT INTO", Break.AFTER, NOTHING, id="cut after a statement"),
        pytest.param("COMMIT", Break.BEFORE, NOTHING, id="cut before COMMIT"),
        pytest.param("COMMIT", Break.AFTER, ALL, id="cut after COMMIT"),
        pytest.param("COMMIT", Break.IN_RESPONSE, ALL, id="cut in the response to COMMIT"),
        pytest.param("INSERT INTO", DISK_FULL, NOTHING, id="disk full"),
        pytest.param("COMMIT", DISK_FULL, NOTHING, id="disk full at COMMIT"),
        pytest.param("COMMIT", SERIALIZATION, NOTHING, id="serialization failure"),
        pytest.param("INSERT INTO", SHUTDOWN, NOTHING, id="shutdown"),
        pytest.param("INSERT INTO", READ_ONLY, NOTHING, id="read-only"),
        pytest.param("INSERT INTO", NO_TABLE, NOTHING, id="missing table"),
    ],
)
def test_change_is_whole_or_not_there(
    route: Route,
    make_proxy: MakeProxy,
    words: str,
    happens: Break | ErrorResponse,
    left: set[int],
) -> None:
    proxy = make_proxy(route.url)
    app = route.make_app(proxy.url)
    fault = proxy.on(words, happens)

    response = route.call(app, 1)

    assert_unavailable(response)
    assert fault.met.is_set()
    assert route.facts() == left
    assert route.call(app, 1).status_code in route.accepted
    assert route.facts() == ALL


@on_postgres
def test_server_that_is_away_is_a_503_until_it_is_back(route: Route, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(route.url)
    app = route.make_app(proxy.url)
    route.call(app, 1)

    proxy.go_away()
    during = [route.call(app, 2) for _ in range(2)]
    proxy.come_back()
    after = route.call(app, 2)

    for response in during:
        assert_unavailable(response)
    assert after.status_code == 200


@on_sqlite
def test_failing_subscriber_is_a_500_without_its_message(deletion_route: Route) -> None:
    app = deletion_route.make_app(deletion_route.url)

    def fail(_: Session, change: object) -> None:
        raise KeyError("whsec_planted")

    with signals.course_deleted.connected_to(fail):
        response = deletion_route.call(app, 1)

    document = response.get_json(force=True)
    assert (response.status_code, response.mimetype) == (500, "application/problem+json")
    assert document["type"] == "urn:problem-type:event-not-written"
    assert document["detail"].startswith("the course 'C1' was not changed: a subscriber")
    assert document["detail"].endswith("failed: KeyError")
    assert document["next_step"].startswith("Nothing was changed. Tell the operators")
    assert "planted" not in response.text
    assert deletion_route.facts() == NOTHING


@on_sqlite
def test_database_that_fails_in_a_subscriber_is_a_503(deletion_route: Route) -> None:
    app = deletion_route.make_app(deletion_route.url)

    def fail(_: Session, change: object) -> None:
        raise OperationalError("INSERT", None, Exception("away"))

    with signals.course_deleted.connected_to(fail):
        response = deletion_route.call(app, 1)

    assert_unavailable(response)
    assert deletion_route.facts() == NOTHING

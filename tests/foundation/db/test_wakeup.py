"""Wake-ups: which commits wake whom, and that no failure to do so shows anywhere else."""

import logging
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from structlog.testing import capture_logs

from foundation.db import wakeup
from foundation.db.session import Database
from tests.foundation.conftest import ITEMS

CHANNEL = "items"
# Seconds, far more than any wake-up takes.
LONG = 20.0

sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

Listen = Callable[[Database], "queue.Queue[None]"]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Return a function that listens, and returns the wake-ups once listening has begun."""
    with ExitStack() as listening:

        def listen(database: Database) -> "queue.Queue[None]":
            wakes: queue.Queue[None] = queue.Queue()
            listening.enter_context(
                wakeup.listen(database, CHANNEL, lambda: wakes.put(None)),
            )
            wakes.get(timeout=LONG)  # the one of the beginning
            return wakes

        yield listen


def change(database: Database, *channels: str) -> None:
    with database.writing() as session:
        session.execute(insert(ITEMS).values(name=None))
        for channel in channels:
            wakeup.notify(session, channel)


def count(database: Database) -> int:
    with database.reading() as session:
        return int(session.scalar(text("SELECT count(*) FROM items")) or 0)


def sockets(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_socket()]


def last_statements(database: Database) -> list[str]:
    """Return what the listeners sent last."""
    with database.reading() as session:
        return list(
            session.scalars(
                text(
                    "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                )
            )
        )


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < ends, "it has not happened"
        time.sleep(0.01)


def test_commit_wakes_every_listener_once(database: Database, listen: Listen) -> None:
    heard = [listen(database), listen(database)]

    change(database, CHANNEL, CHANNEL)
    change(database)

    for wakes in heard:
        wakes.get(timeout=LONG)
    change(database, CHANNEL)
    for wakes in heard:
        wakes.get(timeout=LONG)
        assert wakes.empty()


def test_commit_wakes_another_process(database: Database, listen: Listen) -> None:
    wakes = listen(database)
    url = database.engine.url.render_as_string(hide_password=False)

    subprocess.run([sys.executable, "-c", WRITER, url, CHANNEL], check=True, timeout=60)

    wakes.get(timeout=LONG)


WRITER = """
import sys
from foundation.db import wakeup
from foundation.db.session import Database

with Database(sys.argv[1]).writing() as session:
    wakeup.notify(session, sys.argv[2])
"""


def test_rollback_and_other_channels_wake_no_one_and_a_savepoint_waits(
    database: Database, listen: Listen
) -> None:
    wakes = listen(database)

    with database.writing() as session:
        wakeup.notify(session, CHANNEL)
        session.rollback()
    change(database, "other")
    with database.writing() as session:
        with session.begin_nested():
            wakeup.notify(session, CHANNEL)
        assert wakes.empty()

    # Only the last one arrives: wake-ups keep their order.
    wakes.get(timeout=LONG)
    change(database, CHANNEL)
    wakes.get(timeout=LONG)
    assert wakes.empty()


def test_commit_without_listeners_is_harmless(database: Database) -> None:
    change(database, CHANNEL)

    assert count(database) == 1


def test_listener_is_gone_at_the_end(database: Database, tmp_path: Path) -> None:
    wakes: queue.Queue[None] = queue.Queue()
    before = threading.active_count()

    with wakeup.listen(database, CHANNEL, lambda: wakes.put(None)):
        wakes.get(timeout=LONG)

    assert (threading.active_count(), sockets(tmp_path)) == (before, [])
    change(database, CHANNEL)
    assert wakes.empty()


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_listener_returns_after_its_connection_was_lost(
    database: Database, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    wakes = listen(database)

    with database.reading() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
        )

    wakes.get(timeout=LONG)  # it listens again
    change(database, CHANNEL)
    wakes.get(timeout=LONG)
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_quiet_connection_is_checked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "_CHECK_SECONDS", 0.01)
    wakes: queue.Queue[None] = queue.Queue()
    before = threading.active_count()

    with wakeup.listen(database, CHANNEL, lambda: wakes.put(None)):
        wakes.get(timeout=LONG)
        change(database, CHANNEL)
        wakes.get(timeout=LONG)
        wait_for(lambda: "SELECT 1" in last_statements(database))

    assert wakes.empty()
    assert threading.active_count() == before


def test_absent_server_is_tried_again_and_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "_FIRST_BACK_OFF", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg://x@127.0.0.1:{server.getsockname()[1]}/x?sslmode=disable"

        with capture_logs() as lines, wakeup.listen(Database(url), CHANNEL, pytest.fail):
            for _ in range(4):
                server.accept()[0].close()

    assert [(one["log_level"], one["event"]) for one in lines] == [
        ("debug", "no wake-ups, only the poll")
    ]


def test_server_that_does_not_answer_delays_no_end() -> None:
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x"
        database = Database(url, timeout=3600.0)

        with wakeup.listen(database, CHANNEL, pytest.fail):
            connection, _ = silent.accept()
        assert threading.active_count() == before + 1
        connection.close()
    wait_for(lambda: threading.active_count() == before)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("/proc/items.db", id="folder takes no files"),
        pytest.param(f"/tmp/{'long/' * 30}items.db", id="path is too long"),
    ],
)
def test_listener_without_a_socket_calls_no_one(place: str) -> None:
    with (
        capture_logs() as lines,
        wakeup.listen(Database(f"sqlite:///{place}"), CHANNEL, pytest.fail),
    ):
        wait_for(lambda: bool(lines))

    assert [(one["log_level"], one["event"]) for one in lines] == [
        ("debug", "no wake-ups, only the poll")
    ]


@sqlite
def test_socket_has_the_permissions_of_the_database(
    database: Database, listen: Listen, tmp_path: Path
) -> None:
    (tmp_path / "sample.db").chmod(0o660)

    listen(database)

    [path] = sockets(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o660


@sqlite
def test_deleted_socket_is_made_again(
    database: Database, listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "_CHECK_SECONDS", 0.01)
    wakes = listen(database)

    for path in sockets(tmp_path):
        path.unlink()

    wakes.get(timeout=LONG)
    change(database, CHANNEL)
    wakes.get(timeout=LONG)


@sqlite
def test_socket_of_a_killed_listener_is_deleted(database: Database, tmp_path: Path) -> None:
    file = tmp_path / f"sample.db.{CHANNEL}-backup.sock"
    file.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(tmp_path / f"sample.db.{CHANNEL}-00000000.sock"))

    change(database, CHANNEL)

    assert (sockets(tmp_path), file.exists(), count(database)) == ([], True, 1)


@sqlite
def test_listener_that_reads_nothing_delays_no_commit(database: Database, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as busy:
        busy.bind(str(tmp_path / f"sample.db.{CHANNEL}-00000000.sock"))
        busy.setblocking(False)
        full = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 10

        for _ in range(full):
            change(database, CHANNEL)

    assert count(database) == full

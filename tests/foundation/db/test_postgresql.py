"""Connections to PostgreSQL: what they pin, what a URL may hold, and a pooler in between."""

import queue
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time
from sqlalchemy import func, insert, make_url, select, text
from structlog.testing import capture_logs

from foundation.db import session as db
from foundation.db import wakeup
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import ConfigurationError, DatabaseSetupError
from tests.conftest import Postgres
from tests.faults.postgres_proxy import Break, PostgresProxy
from tests.foundation.conftest import ITEMS

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

Open = Callable[[str], Database]


@pytest.fixture
def open_url(database_kind: str) -> Iterator[Open]:
    """Return a function that opens a database; closed after the test."""
    opened: list[Database] = []

    def open_url(url: str) -> Database:
        opened.append(Database(url, timeout=2.0))
        return opened[-1]

    yield open_url
    for database in opened:
        database.dispose()


@pytest.fixture
def own_url(postgres: Postgres) -> str:
    """The URL of an empty database that the test may change."""
    return postgres.bare_database("own")


def alter(database: Database, setting: str) -> None:
    """Change a default of the database, for connections that begin later."""
    with database.writing() as session:
        name = session.scalar(text("SELECT current_database()"))
        session.execute(text(f'ALTER DATABASE "{name}" SET {setting}'))
    database.dispose()


def show(database: Database, setting: str) -> object:
    with database.reading() as session:
        return session.scalar(text(f"SHOW {setting}"))


@pytest.mark.parametrize(
    ("setting", "default", "pinned"),
    [
        (
            "transaction_isolation",
            "default_transaction_isolation = 'serializable'",
            "read committed",
        ),
        ("datestyle", "datestyle = 'German, DMY'", "ISO, MDY"),
        ("timezone", "timezone = 'Asia/Kathmandu'", "UTC"),
        ("client_encoding", "client_encoding = 'LATIN1'", "UTF8"),
        ("jit", "jit = on", "off"),
        ("lock_timeout", "lock_timeout = '1h'", "2s"),
        (
            "idle_in_transaction_session_timeout",
            "idle_in_transaction_session_timeout = 0",
            "1min",
        ),
    ],
)
def test_defaults_of_the_database_change_no_result(
    open_url: Open, own_url: str, setting: str, default: str, pinned: str
) -> None:
    database = open_url(own_url)
    alter(database, default)

    assert show(database, setting) == pinned


def test_search_path_of_the_url_is_used(open_url: Open, own_url: str, schema: Schema) -> None:
    with open_url(own_url).writing() as session:
        session.execute(text("CREATE SCHEMA grades"))
    database = open_url(f"{own_url}?options=-csearch_path%3Dgrades&application_name=elms")

    schema.upgrade(database)
    schema.check(database)

    assert show(database, "application_name") == "elms"
    with database.reading() as session:
        schemas = set(
            session.scalars(
                text(
                    "SELECT table_schema FROM information_schema.tables WHERE table_name = 'items'"
                )
            )
        )
    assert schemas == {"grades"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param("colour=red", "unknown parameter: colour", id="unknown"),
        pytest.param("sslmode=prefer&sslmode=require", "sslmode more than once", id="twice"),
        pytest.param("client_encoding=latin1", "only UTF8", id="encoding"),
        pytest.param("options=-clock_timeout%3D9", "may not set lock_timeout", id="pinned"),
        pytest.param("options=-d5", "`options` that cannot be read", id="not a setting"),
    ],
)
def test_parameter_that_cannot_be_used_is_named(
    open_url: Open, own_url: str, query: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_url(f"{own_url}?{query}")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_encoding_other_than_utf8_is_refused(
    open_url: Open, postgres: Postgres, schema: Schema, encoding: str
) -> None:
    url = postgres.bare_database(
        "encoding", f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )

    for check in (schema.upgrade, schema.check):
        with pytest.raises(DatabaseSetupError, match=f"has the encoding {encoding}"):
            check(open_url(url))


def test_read_only_database_takes_no_writes_until_it_does(
    open_url: Open, own_url: str, postgres: Postgres, schema: Schema
) -> None:
    database = open_url(own_url)
    schema.upgrade(database)
    database.check_writable()

    alter(database, "default_transaction_read_only = on")
    with pytest.raises(DatabaseSetupError, match="takes no writes"):
        database.check_writable()

    with open_url(postgres.bare_database("other")).writing() as session:
        name = database.engine.url.database
        session.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
    database.dispose()
    database.check_writable()


def test_old_connection_is_replaced_before_it_is_used(open_url: Open, own_url: str) -> None:
    database = open_url(own_url)

    def process() -> object:
        with database.reading() as session:
            return session.scalar(text("SELECT pg_backend_pid()"))

    recent = [process(), process()]
    with freeze_time(datetime.now(UTC) + timedelta(minutes=2)):
        old = process()

    assert recent[0] == recent[1]
    assert old != recent[0]


@pytest.mark.parametrize(
    ("seconds", "tested"),
    [pytest.param(0.5, False, id="used recently"), pytest.param(1.5, True, id="idle")],
)
def test_idle_connection_is_tested_before_it_is_used(
    open_url: Open, own_url: str, seconds: float, tested: bool
) -> None:
    """One that fails the test, because a firewall has forgotten it, is replaced."""
    proxy = PostgresProxy(own_url)
    database = open_url(proxy.url)
    lost = proxy.on("SELECT 1", Break.BEFORE)

    with freeze_time(datetime.now(UTC)) as clock:
        shown = [show(database, "timezone")]
        clock.tick(seconds)
        shown.append(show(database, "timezone"))
    proxy.stop()

    assert shown == ["UTC", "UTC"]
    assert lost.met.is_set() is tested


def test_server_that_ends_a_connection_is_not_reported_as_a_timeout(
    open_url: Open, own_url: str
) -> None:
    database = open_url(own_url)

    with (
        pytest.raises(Exception, match=r"terminat|closed") as caught,
        database.reading() as session,
    ):
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    assert "terminating connection" in db.cause(caught.value)


@pytest.fixture
def pgbouncer(own_url: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database behind PgBouncer, which pools by transaction over two connections."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    server = make_url(own_url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\n{server.database} = host={server.host} port={server.port or 5432} "
        f"user={server.username}\n"
        f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\n"
        "pool_mode=transaction\ndefault_pool_size=2\nunix_socket_dir=\n"
    )
    tmp_path.chmod(0o755)
    process = subprocess.Popen([program, "-q", "-u", "nobody", str(tmp_path / "pgbouncer.ini")])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    process.terminate()
    process.wait(timeout=10)


def test_pooler_by_transaction_works(
    open_url: Open, pgbouncer: str, own_url: str, schema: Schema
) -> None:
    direct = open_url(own_url)
    alter(direct, "default_transaction_isolation = 'serializable'")
    database = open_url(pgbouncer)
    schema.upgrade(database)

    def add(number: int) -> object:
        with database.writing() as session:
            session.execute(insert(ITEMS).values(name=f"{number}"))
            return session.scalar(text("SHOW transaction_isolation"))

    with ThreadPoolExecutor(8) as pool:
        isolations = set(pool.map(add, range(200)))

    assert isolations == {"read committed"}
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ITEMS)) == 200
    assert show(direct, "lock_timeout") == "2s"


def test_commits_through_a_pooler_wake_those_who_are_connected_directly(
    open_url: Open, pgbouncer: str, own_url: str
) -> None:
    direct, pooled = open_url(own_url), open_url(pgbouncer)
    wakes: list[queue.Queue[None]] = [queue.Queue(), queue.Queue()]

    with (
        capture_logs() as lines,
        wakeup.listen(direct, "items", lambda: wakes[0].put(None)),
        wakeup.listen(pooled, "items", lambda: wakes[1].put(None)),
    ):
        for one in wakes:
            one.get(timeout=20)  # listening has begun
        for _ in range(10):
            with pooled.writing() as session:
                wakeup.notify(session, "items")
            wakes[0].get(timeout=20)

    assert lines == []

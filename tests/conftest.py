"""Databases and environment of all tests, and the report of skipped tests."""

import json
import logging
import os
import secrets
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import create_engine, make_url, text

from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http import dialer
from foundation.pages import users

POSTGRES_VARIABLE = "TEST_POSTGRES_URL"
NO_POSTGRES = f"{POSTGRES_VARIABLE} is not set"
_TERMINAL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PYTHONWARNINGS")

TESTS = Path(__file__).parent
# Tests that wait for a browser or for many processes, the slowest first.
# `make test` leaves them out; `make test-all` and CI run them.
LONG = (
    "integration/story/test_story.py",
    "integration/story/test_everything_at_once.py",
    "integration/story/test_demo.py",
    "integration/story/test_benchmark.py",
    "browser",
    "faults/crashes",
    "faults/test_traffic.py",
    "faults/test_silence.py",
    "faults/test_regenerations.py",
    "faults/test_state_machine.py",
    "integration/serve/test_commands_without_room.py",
    "receiver/cli/test_sync_stops.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests and start them first; skip the PostgreSQL tests without a server.

    In CI they fail instead (see `postgres`).
    """
    skips_postgres = not (os.environ.get(POSTGRES_VARIABLE) or os.environ.get("CI"))
    for item in items:
        if _rank(item) < len(LONG):
            item.add_marker("long")
        if skips_postgres and _needs_postgres(item):
            item.add_marker(pytest.mark.skip(reason=NO_POSTGRES))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    found = (rank for rank, long in enumerate(LONG) if item.path.is_relative_to(TESTS / long))
    return next(found, len(LONG))


def _needs_postgres(item: pytest.Item) -> bool:
    if hasattr(item, "callspec") and item.callspec.params.get("database_kind") == "postgresql":
        return True
    return "postgres" in getattr(item, "fixturenames", ())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each reason to skip, with the number of tests."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:,} skipped: {reason}")


class Postgres:
    """A server on which a test run creates its own databases, and drops them at the end."""

    def __init__(self, url: str) -> None:
        self._server = make_url(url.replace("postgresql://", "postgresql+psycopg://", 1))
        self._made: list[str] = []
        self._migrated: dict[str, str] = {}

    def database_for(self, schema: Schema) -> str:
        """Return the URL of the run's database for a service, created and migrated once."""
        if schema.service not in self._migrated:
            url = self.bare_database(schema.service)
            database = Database(url)
            schema.upgrade(database)
            database.dispose()
            self._migrated[schema.service] = url
        return self._migrated[schema.service]

    def bare_database(self, service: str, options: str = "") -> str:
        """Return the URL of a new database without tables."""
        name = self.new_name(service)
        self._run(f'CREATE DATABASE "{name}" {options}')
        return self.url_of(name)

    def new_name(self, service: str) -> str:
        """Return the name of a database that may be created; it is dropped at the end."""
        name = f"webhooks_test_{service}_{secrets.token_hex(4)}"
        self._made.append(name)
        return name

    def url_of(self, name: str) -> str:
        return self._server.set(database=name).render_as_string(hide_password=False)

    def drop_all(self) -> None:
        """Drop every database that this run created."""
        for name in self._made:
            self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        engine = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


_POSTGRES = pytest.StashKey[Postgres]()


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo what making an app, or sending it a request, does to the process's logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that returns the JSON log lines with a message."""
    lines: list[dict[str, Any]] = []

    def read(message: str) -> list[dict[str, Any]]:
        lines.extend(map(json.loads, capsys.readouterr().err.splitlines()))
        return [line for line in lines if line["event"] == message]

    return read


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove terminal settings and settings of our services that the shell may have."""
    for name in [*os.environ]:
        if name in _TERMINAL or name.startswith(("NOTIFIER_", "RECEIVER_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process resolve addresses and localhost only: no test asks a name server."""
    look_up = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in {None, "localhost"}:
            look_up(host, None, flags=socket.AI_NUMERICHOST)  # raises gaierror for a name
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Hash passwords cheaply; a test of users checks the real method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "METHOD", "scrypt:1024:8:1")
        yield


class _TemplateCache(BytecodeCache):
    """Compiled templates, shared by all apps of a test process."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled_templates() -> Iterator[None]:
    """Compile each template once for all apps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Flask.jinja_options, "bytecode_cache", _TemplateCache())
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_tls_contexts() -> Iterator[None]:
    """Load the public authorities once, and not again for each HTTP client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialer, "tls_context", cache(dialer.tls_context))
        yield


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Postgres:
    """The PostgreSQL server that TEST_POSTGRES_URL names, with databases of this run's own."""
    url = os.environ.get(POSTGRES_VARIABLE)
    if not url:
        pytest.fail(f"{NO_POSTGRES}, and CI skips no PostgreSQL test")
    server = pytestconfig.stash[_POSTGRES] = Postgres(url)
    return server


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop the databases of the run.

    Not in the fixture, where it would count against the time-out of the last test: each waits for
    a checkpoint, which takes seconds on a busy disk.
    """
    if server := session.config.stash.get(_POSTGRES, None):
        server.drop_all()


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Schema], Path]:
    """Return the migrated SQLite file of a service, which each test copies."""
    folder = tmp_path_factory.mktemp("templates")

    def template(schema: Schema) -> Path:
        path = folder / f"{schema.service}.db"
        if not path.exists():
            database = Database(f"sqlite:///{path}")
            schema.upgrade(database)
            database.dispose()
        return path

    return template


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database: every test that uses this runs on both."""
    return str(request.param)


@pytest.fixture
def make_database_url(
    database_kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sqlite_templates: Callable[[Schema], Path],
) -> Callable[[Schema], str]:
    """Return a function that creates an empty, migrated database and returns its URL."""

    def make(schema: Schema) -> str:
        if database_kind == "sqlite":
            path = tmp_path / f"{schema.service}.db"
            shutil.copy(sqlite_templates(schema), path)
            return f"sqlite:///{path}"
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database_for(schema)
        _empty(url, schema)
        return url

    return make


def _empty(url: str, schema: Schema) -> None:
    tables = ", ".join(f'"{table.name}"' for table in schema.metadata.sorted_tables)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    engine.dispose()


@pytest.fixture
def make_database(
    make_database_url: Callable[[Schema], str],
) -> Iterator[Callable[[Schema], Database]]:
    """Return a function that opens an empty, migrated database; closed after the test."""
    made: list[Database] = []

    def make(schema: Schema) -> Database:
        made.append(Database(make_database_url(schema)))
        return made[-1]

    yield make
    for database in made:
        database.dispose()

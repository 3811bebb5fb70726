"""Databases for tests: each test that asks for one runs on SQLite and on PostgreSQL."""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import create_engine, make_url, text

from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.pages import users

POSTGRES_VARIABLE = "TEST_POSTGRES_URL"
_SURROUNDINGS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PYTHONWARNINGS")

TESTS = Path(__file__).parent
LONG = (
    "story",
    "browser",
    "faults/kills",
    "faults/database/test_rotation.py",
    "faults/model/test_state_machine.py",
    "faults/database/test_schema_gate.py",
    "integration/test_commands_without_room.py",
    "receiver/moodle/test_real_moodle_tests.py",
    "receiver/cli/test_sync_stops.py",
)
"""What waits for a browser, or for many processes, the longest first.

`make test` leaves it out on a person's machine, and says so; CI runs all of it.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is long, and let it begin first, so that at the end nobody waits for it."""
    ranks = {item: _rank(item.path) for item in items}
    for item, rank in ranks.items():
        if rank < len(LONG):
            item.add_marker("long")
    items.sort(key=ranks.__getitem__)


def _rank(path: Path) -> int:
    found = (rank for rank, long in enumerate(LONG) if path.is_relative_to(TESTS / long))
    return next(found, len(LONG))


class Postgres:
    """A server on which a test run makes databases of its own, and drops them at its end."""

    def __init__(self, url: str) -> None:
        self._server = make_url(url.replace("postgresql://", "postgresql+psycopg://", 1))
        self._made: list[str] = []
        self._migrated: dict[str, str] = {}

    def database_for(self, schema: Schema) -> str:
        """Return the URL of the run's database for a service, made and migrated once."""
        if schema.service not in self._migrated:
            url = self.bare_database(schema.service)
            database = Database(url)
            schema.upgrade(database)
            database.dispose()
            self._migrated[schema.service] = url
        return self._migrated[schema.service]

    def bare_database(self, service: str) -> str:
        """Return the URL of a new database that holds nothing, not even tables."""
        name = f"webhooks_test_{service}_{secrets.token_hex(4)}"
        self._run(f'CREATE DATABASE "{name}"')
        self._made.append(name)
        return self.url_of(name)

    def url_of(self, name: str) -> str:
        """Return the URL of a database on this server."""
        return self._server.set(database=name).render_as_string(hide_password=False)

    def drop_all(self) -> None:
        """Drop every database that this run made."""
        for name in self._made:
            self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        engine = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what making an app, or asking it, does to the logging of the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def nobodys_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables be as wide as where there is no terminal, and settings be the tests' own.

    Whoever runs the tests, and how: the shell may have the settings of a service that runs beside.
    """
    for name in [*os.environ]:
        if name in _SURROUNDINGS or name.startswith(("NOTIFIER_", "RECEIVER_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Hash passwords fast: what makes it slow is a number that one test looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "METHOD", "scrypt:1024:8:1")
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL server of this run; without one, what needs it skips, and fails in CI."""
    url = os.environ.get(POSTGRES_VARIABLE)
    if not url:
        if os.environ.get("CI"):
            pytest.fail(
                f"{POSTGRES_VARIABLE} is not set, and in CI nothing may skip for want of it"
            )
        pytest.skip(f"{POSTGRES_VARIABLE} is not set")
    server = Postgres(url)
    yield server
    server.drop_all()


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Schema], Path]:
    """Migrated SQLite files, one for each service, to be copied by each test."""
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
    """The kind of database a test runs on: every test that asks runs on both."""
    return str(request.param)


@pytest.fixture
def make_database_url(
    database_kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sqlite_templates: Callable[[Schema], Path],
) -> Callable[[Schema], str]:
    """Return what makes an empty, migrated database for a service and names its URL."""

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
    """Return what makes an empty, migrated database for a service; closed after the test."""
    made: list[Database] = []

    def make(schema: Schema) -> Database:
        made.append(Database(make_database_url(schema)))
        return made[-1]

    yield make
    for database in made:
        database.dispose()

"""The command `notifier` in a folder and an environment of its own."""

import functools
import json
import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, select, text

from foundation.db import session as db
from foundation.db.session import Database
from notifier.cli import main
from notifier.courses import service as courses
from notifier.models import SCHEMA, Delivery, Event

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """Take back what a command does to its process: logging, and what signals do."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    received = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    root.handlers[:], root.level = handlers, level
    for number, handler in received.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with the two secrets set, and receivers on this machine allowed."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("NOTIFIER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv("NOTIFIER_ALLOW_LOOPBACK", "true")


@pytest.fixture
def command() -> Callable[..., Result]:
    """Return what gives the command `notifier` with arguments; what it raises is raised."""

    def give(*arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(
            main, [str(one) for one in arguments], input=stdin, catch_exceptions=False
        )

    return give


@pytest.fixture
def notifier(
    database_url: str, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Result]
) -> Callable[..., Result]:
    """Return what gives a command on an empty, migrated database."""
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", database_url)
    return command


@pytest.fixture
def away(command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return what gives a command whose database is away: what gets that far exits 4."""
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", "sqlite:///none/notifier.db")
    return command


@pytest.fixture
def told(notifier: Callable[..., Result]) -> Callable[..., Any]:
    """Return what gives a command that is done, with `--json`, and answers its document."""

    def give(*arguments: object, stdin: str | None = None) -> Any:
        result = notifier(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return give


@pytest.fixture
def rows(database: Database) -> Callable[[], dict[str, list[str]]]:
    """Return what tells every row of every table as text."""

    def tell() -> dict[str, list[str]]:
        with database.reading() as session:
            return {
                table.name: sorted(repr(tuple(row)) for row in session.execute(select(table)).all())
                for table in SCHEMA.metadata.sorted_tables
            }

    return tell


@pytest.fixture
def make_deleted(database: Database) -> Callable[..., int]:
    """Return what adds and deletes a course, and answers the number of the delivery about it."""

    def make(course_id: str = "CS101") -> int:
        with database.writing() as session:
            now = db.now(session)
            courses.add_course(session, course_id, "Algorithms", now=now)
            courses.delete_course(session, course_id, now=now)
            query = select(Delivery.id).join(Event).where(Event.course_id == course_id)
            return session.scalars(query).one()

    return make


@pytest.fixture(scope="session")
def blank_postgres(postgres: Any) -> Iterator[str]:
    """The URL of a PostgreSQL database of these tests' own."""
    name = f"webhooks_blank_{secrets.token_hex(4)}"
    server = create_engine(postgres.url_of("postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres.url_of(name)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def blank_url(
    database_kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> str:
    """A database without any table, which the settings name."""
    url = f"sqlite:///{tmp_path}/blank.db"
    if database_kind == "postgresql":
        url = request.getfixturevalue("blank_postgres")
        run_sql(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", url)
    return url


def run_sql(url: str, *statements: str) -> None:
    """Run statements as somebody else who has the database would."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def sql(blank_url: str) -> Callable[..., None]:
    """Return what runs statements on the blank database."""
    return functools.partial(run_sql, blank_url)

"""Routes, commands and workers of both services on databases that a test can break."""

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import create_engine, func, make_url, select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from contract import events, signatures
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.services import Services
from notifier import app as notifier_app
from notifier.cli import main as notifier_main
from notifier.config import Settings as NotifierSettings
from notifier.courses import service as courses
from notifier.models import SCHEMA as NOTIFIER
from notifier.models import Course, Delivery, Event
from notifier.webhooks import endpoints, outbox
from receiver import app as receiver_app
from receiver.cli import main as receiver_main
from receiver.config import Settings as ReceiverSettings
from receiver.models import SCHEMA as RECEIVER
from receiver.models import Entry, InboxMessage
from receiver.registry import entries as registry
from receiver.sources import store as sources
from tests.faults.database.commands import COMMANDS, COURSE, SITE, STDIN
from tests.faults.postgres_proxy import PostgresProxy
from tests.notifier.conftest import LOOPBACK, make_sink, make_transport, sink  # noqa: F401 - fixtures

PROGRAMS: dict[str, click.Group] = {"notifier": notifier_main, "receiver": receiver_main}
SCHEMAS = {"notifier": NOTIFIER, "receiver": RECEIVER}
ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
VAULT = Vault(SecretStr(ENCRYPTION_KEY))
GARBAGE = b"once this was a database" * 100
# Courses that the deletion route can delete.
COURSES = 60

MakeProxy = Callable[[str], PostgresProxy]
RunCommand = Callable[..., Result]


@dataclass(frozen=True)
class Route:
    """A route that changes something; each change stores several facts, all of them or none."""

    schema: Schema
    url: str
    make_app: Callable[..., Flask]
    call: Callable[[Flask, int], TestResponse]
    count_facts: Callable[[Session], set[int]]
    # The statuses of a call that succeeds, or that succeeded before.
    accepted: frozenset[int]

    def facts(self) -> set[int]:
        """Return how many facts of each kind are stored, read without the fault."""
        with opened(self.url) as database, database.reading() as session:
            return self.count_facts(session)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """Open a database for the block."""
    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


@pytest.fixture
def close_apps() -> Iterator[list[Flask]]:
    """The apps whose databases are closed after the test."""
    made: list[Flask] = []
    yield made
    for app in made:
        Services.of(app).database.dispose()


def count(session: Session, table: type) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
def webhook_route(make_database_url: Callable[[Schema], str], close_apps: list[Flask]) -> Route:
    """ELMS's webhook route, called with the deletion of a course."""
    url, secret, now = make_database_url(RECEIVER), Secret.generate(), datetime.now(UTC)
    fill_receiver(url, secret)

    def make_app(at: str, **overrides: Any) -> Flask:
        given = {"encryption_keys": ENCRYPTION_KEY, "log_format": "json", **overrides}
        settings = ReceiverSettings(_env_file=None, database_url=at, **given)
        close_apps.append(receiver_app.create_app(settings))
        return close_apps[-1]

    def call(app: Flask, number: int) -> TestResponse:
        data = events.CourseDeletedData(source=SITE, course_id=f"C{number}", course_version=2)
        body = events.dump(events.CourseDeleted(timestamp=now, data=data)).encode()
        headers = signatures.sign([secret], f"msg_{number}", body, now=datetime.now(UTC))
        headers["Content-Type"] = "application/json"
        return app.test_client().post(f"/webhooks/{SITE}", data=body, headers=headers)

    def count_facts(session: Session) -> set[int]:
        deleted = session.scalar(select(func.count(Entry.deleted_at))) or 0
        return {count(session, InboxMessage), deleted}

    return Route(RECEIVER, url, make_app, call, count_facts, frozenset({200}))


@pytest.fixture
def deletion_route(make_database_url: Callable[[Schema], str], close_apps: list[Flask]) -> Route:
    """eAssessment's admin API, called to delete a course; one endpoint is registered."""
    url, now = make_database_url(NOTIFIER), datetime.now(UTC)
    with opened(url) as database, database.writing() as session:
        for number in range(COURSES):
            courses.add_course(session, f"C{number}", "Algorithms", now=now)
        endpoints.register(
            session, "https://elms.example/webhooks", vault=VAULT, guard=LOOPBACK, now=now
        )

    def make_app(at: str, **overrides: Any) -> Flask:
        given = {"encryption_keys": ENCRYPTION_KEY, "admin_key": ADMIN_KEY, "log_format": "json"}
        settings = NotifierSettings(_env_file=None, database_url=at, **{**given, **overrides})
        close_apps.append(notifier_app.create_app(settings))
        return close_apps[-1]

    def call(app: Flask, number: int) -> TestResponse:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return app.test_client().delete(f"/api/v1/admin/courses/C{number}", headers=headers)

    def count_facts(session: Session) -> set[int]:
        deleted = session.scalar(select(func.count(Course.deleted_at))) or 0
        return {deleted, count(session, Event), count(session, Delivery)}

    return Route(NOTIFIER, url, make_app, call, count_facts, frozenset({200, 410}))


@pytest.fixture(params=["webhook_route", "deletion_route"], ids=["webhook", "deletion"])
def route(request: pytest.FixtureRequest, make_database_url: Callable[[Schema], str]) -> Route:
    """A route of each service."""
    made: Route = request.getfixturevalue(request.param)
    return made


def assert_unavailable(response: TestResponse) -> None:
    assert response.status_code == 503, response.text
    assert response.mimetype == "application/problem+json"
    document = response.get_json(force=True)
    assert document["type"] == "urn:problem-type:database-unavailable"
    assert document["next_step"] == "Try again after 5 seconds."
    assert response.headers["Retry-After"] == "5"


@pytest.fixture
def make_proxy() -> Iterator[MakeProxy]:
    """Return a function that opens a proxy to a PostgreSQL URL; closed after the test."""
    made: list[PostgresProxy] = []

    def make(url: str) -> PostgresProxy:
        made.append(PostgresProxy(url))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


def rows(url: str, schema: Schema) -> dict[str, list[str]]:
    """Return every row of every table as text."""
    with opened(url) as database, database.reading() as session:
        return {
            table.name: sorted(map(repr, session.execute(select(table)).all()))
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture
def run_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunCommand]:
    """Return a function that runs a command on a database, by default with its usual arguments.

    The folder is empty but for `grades.csv`, and time-outs are short.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grades.csv").write_text(
        f"course_id,user_id,score_given,score_maximum\n{COURSE},ada,7.5,10\n"
    )
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", ADMIN_KEY)
    for prefix in ("NOTIFIER", "RECEIVER"):
        monkeypatch.setenv(f"{prefix}_ENCRYPTION_KEYS", ENCRYPTION_KEY)
        monkeypatch.setenv(f"{prefix}_DATABASE_TIMEOUT", "0.1")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(words: str, url: str, *arguments: str) -> Result:
        program, *path = words.split()
        monkeypatch.setenv(f"{program.upper()}_DATABASE_URL", url.replace("+psycopg", ""))
        return CliRunner().invoke(
            PROGRAMS[program],
            [*path, *(arguments or COMMANDS[words].split())],
            input=STDIN.get(words, ""),
            catch_exceptions=False,
        )

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def fill_notifier(url: str) -> None:
    """Add a course and an endpoint."""
    outbox.subscribe()
    now = datetime.now(UTC)
    with opened(url) as database, database.writing() as session:
        endpoints.register(session, "https://elms.example/1", vault=VAULT, guard=LOOPBACK, now=now)
        courses.add_course(session, COURSE, "Algorithms", now=now)


def fill_receiver(url: str, secret: Secret, site_url: str = "http://127.0.0.1:9") -> CourseToken:
    """Add a source and a course of it; return the token of the course."""
    now, token = datetime.now(UTC), CourseToken.generate()
    with opened(url) as database, database.writing() as session:
        source = sources.add(session, SITE, site_url, now=now)
        sources.add_secret(session, source, secret, vault=VAULT, now=now)
        actor = registry.Actor("administrator", "ada@elms")
        registry.add(session, source, COURSE, token, vault=VAULT, actor=actor, now=now)
    return token


@contextmanager
def held(url: str, schema: Schema) -> Iterator[None]:
    """Hold a database, so that no one else can even read it."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(file_of(url), isolation_level=None)) as holder:
            holder.execute("PRAGMA locking_mode=EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
            holder.execute("CREATE TABLE held (id INTEGER)")
            yield
            holder.execute("ROLLBACK")
        return
    engine = create_engine(url)
    tables = ", ".join(["alembic_version", *schema.metadata.tables])
    with engine.connect() as holder:
        holder.execute(text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
        yield
        holder.rollback()
    engine.dispose()


def file_of(url: str) -> Path:
    """Return the path of a SQLite database."""
    return Path(str(make_url(url).database))


@contextmanager
def write_lock(url: str) -> Iterator[None]:
    """Hold the one lock that a writer needs, as another process that writes for long does."""
    with closing(sqlite3.connect(file_of(url), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")

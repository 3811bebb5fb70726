"""Routes of both services on databases that a test can break."""

import secrets
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import create_engine, func, make_url, select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from contract import events, signatures
from contract.grades import Score
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.pages import users
from foundation.services import Services, attach
from notifier import app as notifier_app
from notifier import config as notifier_config
from notifier.courses import service as courses
from notifier.models import SCHEMA as NOTIFIER
from notifier.models import SOURCE, Course, Delivery, Event, Grade, IssuedToken
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.http_client import Transport
from notifier.worker.worker import Worker, WorkerOptions
from receiver import app as receiver_app
from receiver import config as receiver_config
from receiver.models import SCHEMA as RECEIVER
from receiver.models import Entry, InboxMessage
from receiver.registry import entries as registry
from receiver.sources import store as sources
from tests.faults.database.every_command import COURSE, EVERY, MOODLE, PROGRAMS, SITE, USER
from tests.faults.database.outbox import Outbox
from tests.faults.postgres_proxy import PostgresProxy
from tests.notifier.conftest import LOOPBACK, make_sink, make_transport, sink  # noqa: F401 - fixtures

SCHEMAS = {"notifier": NOTIFIER, "receiver": RECEIVER}
ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def notifier_settings(url: str, **overrides: Any) -> notifier_config.Settings:
    """Return eAssessment's settings on a database, reading no `.env`."""
    given = {"admin_key": ADMIN_KEY, "encryption_keys": ENCRYPTION_KEY, "log_format": "json"}
    return notifier_config.Settings(_env_file=None, **given, database_url=url, **overrides)


def receiver_settings(url: str, **overrides: Any) -> receiver_config.Settings:
    """Return ELMS's settings on a database, reading no `.env`."""
    given = {"encryption_keys": ENCRYPTION_KEY, "log_format": "json"}
    return receiver_config.Settings(_env_file=None, **given, database_url=url, **overrides)


@dataclass(frozen=True)
class Route:
    """A route, how to call it, and the facts of a call, which must all be stored or none."""

    schema: Schema
    url: str
    make_app: Callable[..., Flask]
    call: Callable[[Flask], TestResponse]
    facts: Callable[[Session], set[bool]]
    taken: frozenset[int]
    """The statuses of a call that succeeds, or that was made before."""

    def done(self) -> set[bool]:
        """Return whether each fact is stored, read past the fault."""
        database = Database(self.url)
        try:
            with database.reading() as session:
                return self.facts(session)
        finally:
            database.dispose()


@pytest.fixture
def make_app() -> Iterator[Callable[[Flask], Flask]]:
    """Return a function that registers an app, whose database is closed at the end."""
    made: list[Flask] = []

    def keep(app: Flask) -> Flask:
        made.append(app)
        return app

    yield keep
    for app in made:
        Services.of(app).database.dispose()


@pytest.fixture
def secret() -> Secret:
    """The secret of both services."""
    return Secret.generate()


@pytest.fixture
def webhook_route(
    make_database_url: Callable[[Schema], str], make_app: Callable[[Flask], Flask], secret: Secret
) -> Route:
    """The webhook route, called with a deletion that is signed for each call."""
    url = make_database_url(RECEIVER)
    settings = receiver_settings(url)
    database, now = Database(url), datetime.now(UTC)
    vault = Vault(settings.encryption_keys)
    with database.writing() as session:
        source = sources.add(session, SITE, "http://127.0.0.1:9", now=now)
        sources.add_secret(session, source, secret, vault=vault, now=now)
        registry.add(
            session,
            source,
            COURSE,
            CourseToken.generate(),
            vault=vault,
            actor=registry.Actor("administrator", "ada@elms"),
            now=now,
        )
        users.add(session, USER, "tr0ubador and three", now=now)
    database.dispose()
    data = events.CourseDeletedData(source=SITE, course_id=COURSE, course_version=2)
    body = events.dump(events.CourseDeleted(timestamp=now, data=data)).encode()

    def call(app: Flask) -> TestResponse:
        headers = signatures.sign([secret], "msg_1", body, now=datetime.now(UTC))
        return app.test_client().post(
            f"/webhooks/{SITE}", data=body, headers=headers, content_type="application/json"
        )

    def facts(session: Session) -> set[bool]:
        return {
            session.scalar(select(func.count()).select_from(InboxMessage)) == 1,
            session.scalars(select(Entry)).one().deleted_at is not None,
        }

    return Route(
        RECEIVER,
        url,
        lambda at, **more: make_app(receiver_app.create_app(receiver_settings(at, **more))),
        call,
        facts,
        frozenset({200}),
    )


def admin(method: str, path: str, document: Any = None) -> Callable[[Flask], TestResponse]:
    """Return a function that calls the admin API with the admin key."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return lambda app: app.test_client().open(
        f"/api/v1/admin{path}", method=method, json=document, headers=headers
    )


@pytest.fixture
def deletion_route(
    make_database_url: Callable[[Schema], str], make_app: Callable[[Flask], Flask]
) -> Route:
    """The admin API, where a course is deleted; one endpoint is registered."""
    url = make_database_url(NOTIFIER)
    settings = notifier_settings(url)
    database, now = Database(url, info={SOURCE: SITE}), datetime.now(UTC)
    with database.writing() as session:
        courses.add_course(session, COURSE, "Algorithms", now=now)
        vault = Vault(settings.encryption_keys)
        endpoints.register(
            session, "https://elms.example/webhooks", vault=vault, guard=LOOPBACK, now=now
        )
    database.dispose()

    def facts(session: Session) -> set[bool]:
        return {
            session.scalars(select(Course)).one().deleted_at is not None,
            session.scalar(select(func.count()).select_from(Event)) == 1,
            session.scalar(select(func.count()).select_from(Delivery)) == 1,
        }

    return Route(
        NOTIFIER,
        url,
        lambda at, **more: make_app(notifier_app.create_app(notifier_settings(at, **more))),
        admin("DELETE", f"/courses/{COURSE}"),
        facts,
        frozenset({200, 410}),
    )


@pytest.fixture
def regeneration_route(deletion_route: Route) -> Route:
    """The admin API, where a course gets a new token with each call."""

    def facts(session: Session) -> set[bool]:
        version = session.scalars(select(Course)).one().version
        return {
            version > 1,
            session.scalar(select(func.count()).select_from(IssuedToken)) == version > 1,
            session.scalar(select(func.count()).select_from(Event)) == version - 1 > 0,
            session.scalar(select(func.count()).select_from(Delivery)) == version - 1 > 0,
        }

    call = admin("POST", f"/courses/{COURSE}/token")
    return replace(deletion_route, call=call, facts=facts, taken=frozenset({201}))


@pytest.fixture
def loading_route(deletion_route: Route) -> Route:
    """The admin API, where grades are imported."""
    scores = [
        Score(
            user_id=user_id,
            score_given=Decimal("7.5"),
            score_maximum=Decimal(10),
            timestamp=datetime(2026, 11, 22, 9, tzinfo=UTC),
        ).model_dump(mode="json", by_alias=True)
        for user_id in ("ada", "grace")
    ]

    def facts(session: Session) -> set[bool]:
        return {
            session.scalars(select(Course)).one().grades_version == 1,
            session.scalar(select(func.count()).select_from(Grade)) == 2,
        }

    call = admin("PUT", f"/courses/{COURSE}/grades", {"scores": scores})
    return replace(deletion_route, call=call, facts=facts, taken=frozenset({200}))


@pytest.fixture
def grades_route(deletion_route: Route) -> Route:
    """The grades API, which changes nothing."""
    database = Database(deletion_route.url, info={SOURCE: SITE})
    with database.writing() as session:
        token = courses.regenerate_token(session, COURSE, now=datetime.now(UTC))
    database.dispose()

    def call(app: Flask) -> TestResponse:
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return app.test_client().get(f"/api/v1/courses/{COURSE}/grades", headers=headers)

    return replace(deletion_route, call=call, facts=lambda _: set(), taken=frozenset({200}))


@pytest.fixture(
    params=["webhook_route", "deletion_route", "regeneration_route", "loading_route"],
    ids=["webhook", "delete a course", "regenerate a token", "load grades"],
)
def writing_route(
    request: pytest.FixtureRequest, make_database_url: Callable[[Schema], str]
) -> Route:
    """Each route that changes something."""
    route: Route = request.getfixturevalue(request.param)
    return route


@pytest.fixture(
    params=["webhook_route", "deletion_route", "grades_route"],
    ids=["webhook", "admin API", "grades API"],
)
def route(request: pytest.FixtureRequest, make_database_url: Callable[[Schema], str]) -> Route:
    """One route of each kind."""
    route: Route = request.getfixturevalue(request.param)
    return route


def with_database(app: Flask, database: Database) -> Flask:
    """Replace the database of an app, and close the old one."""
    before: Services[Any] = Services.of(app)
    before.database.dispose()
    attach(app, replace(before, database=database))
    return app


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], PostgresProxy]]:
    """Return a function that opens a proxy to a PostgreSQL URL; closed after the test."""
    made: list[PostgresProxy] = []

    def make(url: str) -> PostgresProxy:
        made.append(PostgresProxy(url))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


@pytest.fixture
def refused() -> Callable[[TestResponse], None]:
    """Return a function that asserts a 503 with Retry-After."""

    def check(answer: TestResponse) -> None:
        assert answer.status_code == 503, answer.text
        assert answer.mimetype == "application/problem+json"
        document = answer.get_json(force=True)
        assert document["type"] == "urn:problem-type:database-unavailable"
        assert document["next_step"] == "Try again after 5 seconds."
        assert answer.headers["Retry-After"] == "5"

    return check


@pytest.fixture
def make_own_url(
    database_kind: str,
    tmp_path: Path,
    sqlite_templates: Callable[[Schema], Path],
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., str]]:
    """Return a function that creates a database which a test may damage: migrated, or empty."""
    names: list[str] = []

    def make(schema: Schema | None = None) -> str:
        name = f"webhooks_spoilt_{secrets.token_hex(4)}"
        if database_kind == "sqlite":
            if schema is not None:
                shutil.copy(sqlite_templates(schema), tmp_path / f"{name}.db")
            return f"sqlite:///{tmp_path}/{name}.db"
        server = request.getfixturevalue("postgres")
        server._run(f'CREATE DATABASE "{name}"')
        names.append(name)
        if schema is not None:
            database = Database(server.url_of(name))
            schema.upgrade(database)
            database.dispose()
        return str(server.url_of(name))

    yield make
    for name in names:
        request.getfixturevalue("postgres")._run(f'DROP DATABASE "{name}" WITH (FORCE)')


def run_sql(url: str, statement: str) -> None:
    """Run a statement on a connection of its own."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def rows(url: str, schema: Schema) -> dict[str, list[str]]:
    """Return every row of every table as text."""
    database = Database(url)
    try:
        with database.reading() as session:
            return {
                table.name: sorted(map(repr, session.execute(select(table)).all()))
                for table in schema.metadata.sorted_tables
            }
    finally:
        database.dispose()


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run commands in an empty folder with short timeouts; restore the signal handlers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grades.csv").write_text(
        f"course_id,user_id,score_given,score_maximum\n{COURSE},ada,7.5,10\n"
    )
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", ADMIN_KEY)
    for prefix in ("NOTIFIER", "RECEIVER"):
        monkeypatch.setenv(f"{prefix}_ENCRYPTION_KEYS", ENCRYPTION_KEY)
        monkeypatch.setenv(f"{prefix}_DATABASE_TIMEOUT", "0.1")
    heard = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in heard.items():
        signal.signal(number, handler)


@pytest.fixture
def run_command(terminal: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command on a database, by default with its usual arguments."""

    def run(words: str, url: str, *arguments: str) -> Result:
        program, *path = words.split()
        monkeypatch.setenv(f"{program.upper()}_DATABASE_URL", url.replace("+psycopg", ""))
        return CliRunner().invoke(
            PROGRAMS[program],
            [*path, *(arguments or EVERY[words].arguments.split())],
            input=EVERY[words].stdin(),
            catch_exceptions=False,
        )

    return run


@pytest.fixture
def make_filled_database(make_database_url: Callable[[Schema], str]) -> Callable[[str], str]:
    """Return what sets up a program's database so that each command has something to do."""

    def make(program: str) -> str:
        url = make_database_url(SCHEMAS[program])
        (_furnish_notifier if program == "notifier" else _furnish_receiver)(url)
        return url

    return make


def _furnish_notifier(url: str) -> None:
    outbox.subscribe()
    settings, now = notifier_settings(url), datetime.now(UTC)
    database, vault = Database(url, info={SOURCE: SITE}), Vault(settings.encryption_keys)
    with database.writing() as session:
        endpoints.register(session, "https://elms.example/1", vault=vault, guard=LOOPBACK, now=now)
        endpoints.register(session, "https://elms.example/2", vault=vault, guard=LOOPBACK, now=now)
        endpoints.disable(session, 2, "gone", now=now)
        for course_id in (COURSE, "CS100"):
            courses.add_course(session, course_id, "Algorithms", now=now)
        courses.delete_course(session, "CS100", now=now)
        users.add(session, USER, "tr0ubador and three", now=now)
    database.dispose()


def _furnish_receiver(url: str) -> None:
    settings, now = receiver_settings(url), datetime.now(UTC)
    database, vault = Database(url), Vault(settings.encryption_keys)
    with database.writing() as session:
        sources.add(session, MOODLE, "http://127.0.0.1:9", "moodle", now=now)
        source = sources.add(session, SITE, "http://127.0.0.1:9", now=now)
        sources.add_secret(session, source, Secret.generate(), vault=vault, now=now)
        registry.add(
            session,
            source,
            COURSE,
            CourseToken.generate(),
            vault=vault,
            actor=registry.Actor("administrator", "ada@elms"),
            now=now,
        )
        users.add(session, USER, "tr0ubador and three", now=now)
    database.dispose()


@contextmanager
def held(url: str, schema: Schema) -> Iterator[None]:
    """Hold a database, so that nobody else can even read it."""
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


LEASE = timedelta(seconds=1)
"""So short that what is left to a lease is made again within the test."""


@pytest.fixture
def make_worker(
    make_transport: Callable[..., Transport],  # noqa: F811 - the fixture that was imported
) -> Iterator[Callable[..., Worker]]:
    """Return what makes a worker on the database of a URL, with little patience."""
    made: list[Database] = []

    def make(due: Outbox, url: str) -> Worker:
        made.append(Database(url, timeout=0.2, statement_timeout=0.3, info={SOURCE: SITE}))
        options = WorkerOptions(threads=4, per_endpoint=4, lease=LEASE, poll_seconds=0.02)
        return Worker(made[-1], due.vault, make_transport(connections=4), options)

    yield make
    for database in made:
        database.dispose()

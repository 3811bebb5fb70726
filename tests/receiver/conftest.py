"""ELMS under test: its database, factories, and fake sites that respond and count."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import select, text, update
from sqlalchemy.orm import joinedload

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, Event, UnknownEvent
from contract.problems import Problem, ProblemType
from contract.signatures import Secret
from contract.tokens import CourseToken, Token
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver import services
from receiver.app import create_app
from receiver.config import Settings
from receiver.course_advice import ClaimFailure, FailedClaim
from receiver.course_state import Fact
from receiver.gradebook.base import ScoreCounts
from receiver.models import API, SCHEMA, Base, Entry, Source
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources import store as sources
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpClient
from receiver.sources.store import WebhookSource
from receiver.sync.fetcher import FetchLimits
from receiver.sync.run import SyncOptions
from receiver.webhooks import inbox
from receiver.webhooks.inbox import WebhookOutcome
from tests.faults.processes import wait_until
from tests.loopback import Handler, served
from tests.receiver.moodle.fake import FakeMoodle, serving

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
SITE = "eassessment.example.ac.uk"
WEBHOOK = Actor(ActorKind.WEBHOOK, "msg_1")
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def now() -> datetime:
    """The time of the tests."""
    return NINE


@pytest.fixture
def database_url(make_database_url: Callable[[Schema], str]) -> str:
    """The URL of an empty database."""
    return make_database_url(SCHEMA)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database."""
    opened = Database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def vault() -> Vault:
    """A vault with the key of the app."""
    return Vault(SecretStr(ENCRYPTION_KEY))


@pytest.fixture
def other_vault() -> Vault:
    """A vault with another key."""
    return Vault(SecretStr("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="))


@pytest.fixture
def make_app_on() -> Iterator[Callable[..., Flask]]:
    """Return a function that makes an app on a database, without `.env`; closed at the end."""
    made: list[Flask] = []

    def make(url: str, **overrides: Any) -> Flask:
        given = {"encryption_keys": ENCRYPTION_KEY, "log_format": "json", **overrides}
        made.append(create_app(Settings(_env_file=None, database_url=url, **given)))
        return made[-1]

    yield make
    for app in made:
        services.of(app).database.dispose()


@pytest.fixture
def make_app(make_app_on: Callable[..., Flask], database_url: str) -> Callable[..., Flask]:
    """Return a function that makes an app on the database."""
    return lambda **overrides: make_app_on(database_url, **overrides)


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """ELMS on an empty database."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the app."""
    return app.test_client()


def make_deleted(version: int = 4, course_id: str = "CS101", source: str = "one") -> CourseDeleted:
    """Return the deletion of a course."""
    data = CourseDeletedData(source=source, course_id=course_id, course_version=version)
    return CourseDeleted(timestamp=NINE, data=data)


def make_heartbeat() -> UnknownEvent:
    """Return an hourly heartbeat."""
    return make_ping(3600, is_heartbeat=True)


def make_ping(heartbeat_seconds: int, *, is_heartbeat: bool = False) -> UnknownEvent:
    """Return a ping of a person, or a heartbeat; 0 seconds mean that no heartbeats are sent."""
    raw = events.dump_ping(
        "one", NINE, heartbeat_seconds=heartbeat_seconds, is_heartbeat=is_heartbeat
    )
    event = events.load(raw.encode())
    assert isinstance(event, UnknownEvent)
    return event


@dataclass(frozen=True)
class Store:
    """ELMS's database, as tests fill and read it."""

    database: Database
    vault: Vault

    def add_source(
        self,
        name: str = SITE,
        url: str = "http://127.0.0.1:9",
        secrets: tuple[Secret, ...] = (),
        kind: str = API,
    ) -> Source:
        """Add a source with its secrets."""
        with self.database.writing() as session:
            source = sources.add(session, name, url, kind, now=NINE)
            for secret in secrets:
                sources.add_secret(session, source, secret, vault=self.vault, now=NINE)
            session.refresh(source)
            session.expunge_all()
            return source

    def source(self, name: str) -> Source:
        """Return a source, which is added if there is none of this name."""
        with self.database.reading() as session:
            known = {source.name: source for source in sources.list_all(session)}
        return known.get(name) or self.add_source(name)

    def add_course(
        self,
        course_id: str = "CS101",
        *facts: Fact,
        source: str = "one",
        token: Token | None = None,
    ) -> Entry:
        """Add a course to the grade sync and apply facts to it as a webhook does."""
        found = self.source(source)
        with self.database.writing() as session:
            registry.add(
                session,
                found,
                course_id,
                token or CourseToken.generate(),
                vault=self.vault,
                actor=Actor(ActorKind.ADMINISTRATOR, "ada@elms"),
                now=NINE,
            )
        self.apply(course_id, *facts, source=source)
        return self.entry(course_id, source)

    def apply(
        self, course_id: str, *facts: Fact, source: str = "one", actor: Actor = WEBHOOK
    ) -> list[bool]:
        """Apply facts to a course, which need not be in the registry; return which changed it."""
        found = self.source(source)
        with self.database.writing() as session:
            return [
                registry.apply(session, found.id, course_id, fact, actor=actor, now=NINE)
                for fact in facts
            ]

    def receive(
        self,
        webhook_id: str,
        event: Event | UnknownEvent,
        *,
        source: str = "one",
        at: datetime = NINE,
    ) -> WebhookOutcome:
        """Accept a webhook in a transaction of its own."""
        verified = WebhookSource(self.source(source).id, source, ())
        raw = b"{}" if isinstance(event, UnknownEvent) else events.dump(event).encode()
        with self.database.writing() as session:
            return inbox.accept(session, verified, webhook_id, event, raw, now=at)

    def add_run(
        self,
        *results: CourseResult,
        at: datetime = NINE,
        partial: bool = False,
        ended: bool = True,
        not_recorded: tuple[CourseResult, ...] = (),
        known_deleted: int = 0,
        unattended: bool = False,
        **overrides: Any,
    ) -> int:
        """Record a run that took two seconds, or, if not `ended`, one in progress or killed."""
        every = (*results, *not_recorded)
        failed = any(one.outcome is CourseOutcome.FAILED for one in every)
        numbers = {"requests": 2, "statements": 7, "seconds": 1.25, "exit_code": int(failed)}
        with self.database.writing() as session:
            run_id = runs.begin(
                session,
                "ada@elms",
                partial=partial,
                unattended=unattended,
                deleted=known_deleted,
                now=at,
            )
            runs.record(session, run_id, results)
            if ended:
                result = RunResult(run_id, every, ScoreCounts(4, 5, 6), **numbers | overrides)
                runs.end(session, result, now=at + timedelta(seconds=2))
        return run_id

    def claim_from(self, source: str) -> None:
        """Let ELMS have claimed tokens from a source."""
        source_id = self.source(source).id
        with self.database.writing() as session:
            sources.record_claim(session, source_id, now=NINE)

    def fail_claim(self, entry: Entry, why: str) -> None:
        """Let the claim of the current token of an entry be refused."""
        with self.database.writing() as session:
            claim = FailedClaim(ClaimFailure.REFUSED, why, NINE)
            registry.store_failed_claims(session, {entry: claim})

    def update(self, entry: Entry, **columns: Any) -> None:
        """Change columns of an entry."""
        with self.database.writing() as session:
            session.execute(update(Entry).where(Entry.id == entry.id).values(columns))

    def entry(self, course_id: str = "CS101", source: str | None = None) -> Entry:
        """Return the entry of a course, added or not, with its source."""
        query = select(Entry).join(Source).where(Entry.course_id == course_id)
        query = query.options(joinedload(Entry.source))
        with self.database.reading() as session:
            named = query.where(Source.name == source) if source else query
            return session.scalars(named).one()

    def rows(self, model: type[Any]) -> list[Any]:
        """Return a whole table."""
        with self.database.reading() as session:
            return list(session.scalars(select(model)))

    def everything(self, without: type[Base] | None = None) -> str:
        """Return all rows of all tables as one text, or of all but one."""
        with self.database.reading() as session:
            return "\n".join(
                str(tuple(row))
                for table in SCHEMA.metadata.sorted_tables
                if without is None or table is not without.__table__
                for row in session.execute(select(table))
            )


@pytest.fixture
def store(database: Database, vault: Vault) -> Store:
    """ELMS's database, as tests fill and read it."""
    return Store(database, vault)


# Whether a session waits for a lock.
_WAITING = text(
    "SELECT count(*) > 0 FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
def while_locked_by_id(store: Store) -> Callable[[Callable[[], object]], None]:
    """Return a function that does something while another transaction locks all entries by id."""

    def is_waited_for() -> bool:
        with store.database.reading() as session:
            return bool(session.scalar(_WAITING))

    def run(action: Callable[[], object]) -> None:
        first, *others = sorted(entry.id for entry in store.rows(Entry))
        with ThreadPoolExecutor(1) as pool:
            with store.database.writing() as session:
                session.get_one(Entry, first, with_for_update=True)
                acting = pool.submit(action)
                wait_until(is_waited_for, "the action waits")
                for other in others:
                    session.get_one(Entry, other, with_for_update=True)
            acting.result()

    return run


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that the fake site received."""

    course_id: str
    headers: dict[str, str]


@dataclass
class FakeSite:
    """An eAssessment on loopback with prepared responses; it counts requests.

    It does not support batches, like an older release.
    """

    url: str = ""
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)

    def answer(
        self, course_id: str, status: int, body: bytes | dict[str, Any] = b"", **headers: str
    ) -> None:
        """Respond with this from now on; `_` in the name of a header means `-`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        def send(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)

        self.answers[course_id] = send

    def grades(
        self, course_id: str, token: CourseToken, *scores: dict[str, Any], **more: Any
    ) -> None:
        """Respond with grades."""
        etag = more.pop("etag", '"1"')
        body = {
            "course_id": course_id,
            "course_version": 1,
            "token_id": token.token_id,
            "scores": list(scores),
            **more,
        }
        self.answer(course_id, 200, body, ETag=etag, Content_Type="application/json")
        whole = self.answers[course_id]

        def conditional(handler: BaseHTTPRequestHandler) -> None:
            if handler.headers.get("If-None-Match") == etag:
                handler.send_response(304)
                handler.end_headers()
            else:
                whole(handler)

        self.answers[course_id] = conditional

    def refuse(self, course_id: str, kind: ProblemType, /, **facts: Any) -> None:
        """Respond with a problem document."""
        problem = Problem(kind, f"refused: {kind}", "Contact the administrator.", facts)
        self.answer(
            course_id, problem.status, problem.document(), Content_Type="application/problem+json"
        )

    def gone(self, course_id: str, version: int = 4) -> None:
        """Respond that the course was deleted."""
        self.refuse(
            course_id,
            ProblemType.COURSE_DELETED,
            course_id=course_id,
            course_version=version,
            deleted_at=NINE.isoformat(),
        )

    def regenerated(self, course_id: str, present: str, version: int = 5) -> None:
        """Respond that the token was regenerated."""
        self.refuse(
            course_id,
            ProblemType.TOKEN_REGENERATED,
            course_id=course_id,
            course_version=version,
            token_id=present,
            regenerated_at=NINE.isoformat(),
        )


@pytest.fixture
def fake_site() -> Iterator[FakeSite]:
    """An eAssessment on loopback; a course without a prepared response is unknown."""
    site = FakeSite()

    class SiteHandler(Handler, BaseHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            site.connections += 1

        def do_GET(self) -> None:
            course_id = unquote(self.path.removeprefix("/api/v1/courses/").removesuffix("/grades"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            site.requests.append(ReceivedRequest(course_id, headers))
            if course_id not in site.answers:
                site.refuse(course_id, ProblemType.COURSE_UNKNOWN)
            site.answers[course_id](self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with served(SiteHandler) as site.url:
        yield site


@pytest.fixture
def site(fake_site: FakeSite, store: Store) -> FakeSite:
    """A site on loopback, which is the source `one`."""
    store.add_source("one", fake_site.url)
    return fake_site


@pytest.fixture
def http_client() -> Iterator[HttpClient]:
    """An HTTP client with short time-outs."""
    opened = HttpClient(connect_timeout=0.5, read_timeout=0.5, total=1.0)
    yield opened
    opened.close()


@pytest.fixture
def api_client(http_client: HttpClient) -> EAssessmentClient:
    """A client with short time-outs and without batches."""
    return EAssessmentClient(http_client, max_queries=1)


@dataclass(frozen=True)
class Clients:
    """Opens one client for every source, or that of its name."""

    client: Any
    http_client: HttpClient | None = None

    @property
    def _senders(self) -> list[Any]:
        clients = self.client if isinstance(self.client, dict) else {"": self.client}
        return [self.http_client] if self.http_client else list(clients.values())

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        return sum(sender.requests for sender in self._senders)

    def cancel(self) -> None:
        """Cancel the requests in progress."""
        for sender in self._senders:
            sender.cancel()

    def open(self, source: Source) -> Any:
        """Return the client of a source."""
        return self.client[source.name] if isinstance(self.client, dict) else self.client


@pytest.fixture
def clients(api_client: EAssessmentClient, http_client: HttpClient) -> Clients:
    """Opens the client of every source of our own kind."""
    return Clients(api_client, http_client)


@pytest.fixture
def moodle() -> Iterator[FakeMoodle]:
    """A fake Moodle without prepared responses."""
    with serving() as there:
        yield there


@pytest.fixture
def make_options() -> Callable[..., SyncOptions]:
    """Return a function that makes the options of a run."""

    def make(**overrides: Any) -> SyncOptions:
        given = {"holder": "ada@elms", "lease": timedelta(minutes=5), "concurrency": 1}
        given |= {"retry_waits": (), **overrides}
        names = {one.name for one in fields(FetchLimits)} & given.keys()
        limits = {name: given.pop(name) for name in names}
        return SyncOptions(**given, limits=FetchLimits(**limits))

    return make


@pytest.fixture
def make_score() -> Callable[..., dict[str, Any]]:
    """Return a function that makes the JSON document of a score."""

    def make(user_id: str = "ada", given: str | None = "7.5", **overrides: Any) -> dict[str, Any]:
        return {
            "userId": user_id,
            "scoreGiven": given,
            "scoreMaximum": "10",
            "timestamp": "2026-11-22T09:00:00.000000Z",
            "activityProgress": "Completed",
            "gradingProgress": "FullyGraded",
            **overrides,
        }

    return make

"""Fixtures of eAssessment: its database, factories, and HTTP servers that receive webhooks."""

import functools
import secrets
import shutil
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import Select, inspect, select, text

from contract.grades import Score
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.audit import Actor, Channel
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http import dialer
from foundation.http.ssrf import Guard
from foundation.import_result import ImportResult
from notifier import signals
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import (
    SCHEMA,
    SOURCE,
    Attempt,
    Course,
    Delivery,
    DeliveryStatus,
    Endpoint,
    Event,
)
from notifier.webhooks import circuit_breaker, deliveries, delivery_queries, endpoints, outbox
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed, Finished, Settlement
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Decision, WebhookResponse
from notifier.worker import batch, claims
from notifier.worker.reporter import WorkerTotals
from notifier.worker.worker import Worker
from tests.faults.server import LoopbackServer, RawSink

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
SITE = "eassessment.example.ac.uk"
MINUTE = timedelta(minutes=1)
ADA = Actor("ada", Channel.COMMAND)
# The receivers of the tests are on this machine.
LOOPBACK = Guard(loopback=True)

BODY = '{"type":"course.deleted"}'

# For PostgreSQL; TRUNCATE … RESTART IDENTITY takes many times as long as this and DELETE.
RESTART_IDS = """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE schemaname = current_schema()
"""

T = TypeVar("T")
S = TypeVar("S", bound="Sink | RawSink")


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """Read the certificates of the system once, not for each client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialer, "tls_context", functools.cache(dialer.tls_context))
        yield


@pytest.fixture(scope="session")
def shared_database(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[Callable[[str], Database]]:
    """Return a function that opens the one database of a kind; each statement compiles once."""

    @functools.cache
    def opened(kind: str) -> Database:
        if kind == "postgresql":
            url = request.getfixturevalue("postgres").database_for(SCHEMA)
        else:
            path = tmp_path_factory.mktemp("shared") / "notifier.db"
            shutil.copy(sqlite_templates(SCHEMA), path)
            url = f"sqlite:///{path}"
        database = Database(url, info={SOURCE: SITE})
        stack.callback(database.dispose)
        return database

    with ExitStack() as stack:
        yield opened


@pytest.fixture
def database(database_kind: str, shared_database: Callable[[str], Database]) -> Database:
    """eAssessment's database, empty."""
    shared = shared_database(database_kind)
    restart_ids = "DELETE FROM sqlite_sequence" if shared.is_sqlite else RESTART_IDS
    with shared.writing() as session:
        for table in reversed(SCHEMA.metadata.sorted_tables):
            session.execute(table.delete())
        session.execute(text(restart_ids))
    return shared


@pytest.fixture
def database_url(database: Database) -> str:
    """The URL of eAssessment's database, empty."""
    return database.engine.url.render_as_string(hide_password=False)


@pytest.fixture
def vault() -> Vault:
    """A vault with one key."""
    return Vault(SecretStr(Fernet.generate_key().decode()))


@pytest.fixture(autouse=True)
def subscribed() -> Iterator[None]:
    """Connect the outbox before and after each test."""
    outbox.subscribe()
    yield
    outbox.subscribe()


@pytest.fixture
def no_subscriber() -> None:
    """Disconnect the outbox from the signals; `subscribed` connects it again."""
    signals.course_deleted.disconnect(outbox.on_course_deleted)
    signals.course_restored.disconnect(outbox.on_course_restored)
    signals.token_regenerated.disconnect(outbox.on_token_regenerated)
    signals.endpoint_disabled.disconnect(outbox.on_endpoint_disabled)
    signals.deliveries_dead.disconnect(outbox.on_deliveries_dead)
    signals.changes_complete.disconnect(outbox.on_changes_complete)


@dataclass(frozen=True)
class Registered:
    """A registered endpoint with its secret."""

    id: int
    url: str
    secret: Secret


@dataclass(frozen=True)
class Store:
    """eAssessment's database, and shortcuts to fill it, to call the core and to read rows.

    Everything happens at `NINE` unless `now` says otherwise.
    """

    database: Database
    vault: Vault

    def write(self, act: Callable[..., T], *args: Any, **options: Any) -> T:
        """Return the result of a function of the core, called in a transaction of its own."""
        with self.database.writing() as session:
            return act(session, *args, **options)

    def read(self, act: Callable[..., T], *args: Any, **options: Any) -> T:
        """Return the result of a function of the core that only reads."""
        with self.database.reading() as session:
            return act(session, *args, **options)

    def all(self, query: Any) -> list[Any]:
        """Return what a query finds, or every row of a model in the order of its key."""
        if not isinstance(query, Select):
            query = select(query).order_by(*inspect(query).primary_key)
        with self.database.reading() as session:
            return list(session.scalars(query))

    def rows(self) -> dict[str, list[str]]:
        """Return every row by table, to see whether anything was changed."""
        with self.database.reading() as session:
            return {
                table.name: sorted(map(repr, session.execute(select(table)).all()))
                for table in SCHEMA.metadata.sorted_tables
            }

    def count_statements(self, act: Callable[[], object]) -> int:
        """Return how many statements a call sends."""
        before = self.database.statements
        act()
        return self.database.statements - before

    def add_course(self, course_id: str = "CS101", **overrides: Any) -> CourseToken:
        """Add a course and return its token."""
        given = {"title": "Introduction to Programming", "now": NINE, **overrides}
        return self.write(courses.add_course, course_id, **given)

    def add_courses(self, course_ids: Iterable[str]) -> None:
        """Add courses in one transaction."""
        with self.database.writing() as session:
            for course_id in course_ids:
                courses.add_course(session, course_id, "a course", now=NINE)

    def course(self, course_id: str = "CS101") -> Course:
        """Return a course."""
        return self.read(courses.get_course, course_id)

    def load(self, scores: dict[str, list[Score]], *, now: datetime = NINE) -> ImportResult:
        """Load scores by course id."""
        return self.write(grades.load, scores, now=now)

    def add_endpoint(
        self, url: str | None = None, *, disabled: bool = False, **overrides: Any
    ) -> Registered:
        """Register an endpoint, and disable it if wanted."""
        url = url or f"https://elms.example.ac.uk/webhooks/{secrets.token_hex(4)}"
        given = {"vault": self.vault, "guard": LOOPBACK, "now": NINE, **overrides}
        endpoint, secret = self.write(endpoints.register, url, **given)
        if disabled:
            self.write(endpoints.disable, endpoint.id, "out of order", now=NINE)
        return Registered(endpoint.id, url, secret)

    def endpoint(self, endpoint_id: int) -> Endpoint:
        """Return an endpoint."""
        return self.read(endpoints.get, endpoint_id)

    def set_state(self, endpoint_id: int, state: BreakerState) -> None:
        """Write an endpoint's breaker state."""
        self.write(circuit_breaker.write_states, {endpoint_id: state})

    def add_delivery(self, endpoint_id: int, **overrides: Any) -> int:
        """Write an event with one delivery, due at `NINE`; return the delivery's id."""
        return self.add_deliveries(endpoint_id, 1, **overrides)[0]

    def add_deliveries(self, endpoint_id: int, number: int, **overrides: Any) -> list[int]:
        """Write events with one delivery each in one transaction; return the deliveries' ids."""
        with self.database.writing() as session:
            rows = [new_delivery(endpoint_id, **overrides) for _ in range(number)]
            session.add_all(rows)
            session.flush()
            return [row.id for row in rows]

    def add_attempt(self, delivery_id: int, **overrides: Any) -> None:
        """Write an attempt of a delivery, by default one that is retried."""
        given = {"started_at": NINE, "milliseconds": 31, "decided": "retry", **overrides}
        with self.database.writing() as session:
            session.add(Attempt(delivery_id=delivery_id, **given))

    def delivery(self, delivery_id: int) -> Delivery:
        """Return a delivery with its event."""
        return self.read(delivery_queries.get, delivery_id)

    def statuses(self, *delivery_ids: int) -> list[str]:
        """Return the status of each delivery."""
        return [self.delivery(one).status for one in delivery_ids]

    def attempts(self, delivery_id: int) -> list[Attempt]:
        """Return the attempts of a delivery, the oldest first."""
        return self.read(delivery_queries.attempts_of, delivery_id)

    def claim(
        self,
        *,
        now: datetime = NINE,
        lease: timedelta = MINUTE,
        number: int = 100,
        newest: bool = False,
    ) -> list[Claimed]:
        """Settle what expired, and claim up to `number` due deliveries of each endpoint."""
        with self.database.writing() as session:
            batch.settle(session, [], disable_after=timedelta(days=5), now=now)
            due, _ = claims.find_due(session, 0, now=now)
            numbers = dict.fromkeys(due, number)
            return [
                *claims.claim(session, numbers, newest=newest, lease=lease, now=now),
                *claims.claim_suspect(session, lease=lease, now=now),
            ]

    def settle(self, *settled: tuple[Claimed, Decision]) -> None:
        """Settle claims in one transaction, a second after nine."""
        settlements = [
            Settlement(Finished(claimed, NINE, 12, WebhookResponse(200)), decision)
            for claimed, decision in settled
        ]
        self.write(deliveries.settle, settlements, now=NINE + timedelta(seconds=1))


def new_delivery(endpoint_id: int, **overrides: Any) -> Delivery:
    """Return a new delivery with its event, due at `NINE`."""
    event = {
        "id": outbox.new_webhook_id(),
        "type": "course.deleted",
        "course_id": "CS101",
        "course_version": 2,
        "body": BODY,
        "occurred_at": NINE,
    }
    delivery = {"stored_status": DeliveryStatus.PENDING, "attempts": 0, "due_at": NINE}
    if "status" in overrides:
        delivery["stored_status"] = overrides.pop("status")
    for name, value in overrides.items():
        (event if name in event else delivery)[name] = value
    delivery.setdefault("created_at", event["occurred_at"])
    return Delivery(event=Event(**event), endpoint_id=endpoint_id, **delivery)


@pytest.fixture
def store(database: Database, vault: Vault) -> Store:
    """eAssessment's database, empty, with shortcuts."""
    return Store(database, vault)


def make_score(**overrides: Any) -> Score:
    """Return Ada's score, 7.5 of 10, with overrides."""
    given = {
        "user_id": "ada",
        "score_given": Decimal("7.5"),
        "score_maximum": Decimal(10),
        "timestamp": NINE,
        **overrides,
    }
    return Score(**given)


@pytest.fixture
def make_transport() -> Iterator[Callable[..., Transport]]:
    """Return a function that makes a transport; its connections are closed after the test."""
    given = {"connect_timeout": 2.0, "deadline": 5.0, "connections": 8, "guard": LOOPBACK}
    with ExitStack() as stack:
        yield lambda **overrides: stack.enter_context(closing(Transport(**{**given, **overrides})))


@dataclass(frozen=True)
class ReceivedRequest:
    """A request with its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """A response of a sink, sent once `after` is set."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"outcome":"applied"}'
    after: threading.Event | None = None


class Sink:
    """A webhook receiver on loopback that records requests and sends prepared replies.

    Replies for a path come before those for any path; without one the response is 200. A function
    replaces all of them.
    """

    def __init__(self) -> None:
        self.received: list[ReceivedRequest] = []
        self._replies: defaultdict[str | None, deque[Reply]] = defaultdict(deque)
        self._always: dict[str | None, Reply] = {}
        self._respond: Callable[[ReceivedRequest], Reply] | None = None
        self._changed = threading.Condition()
        self._server = LoopbackServer(self._serve)

    def url(self, path: str = "/webhooks") -> str:
        """Return the URL of a path of this sink."""
        return f"http://127.0.0.1:{self._server.port}{path}"

    def answer(self, *replies: Reply, path: str | None = None) -> None:
        """Prepare replies for the next requests, one each."""
        self._replies[path].extend(replies)

    def always(self, reply: Reply, path: str | None = None) -> None:
        """Prepare the reply for every request that has no other one."""
        self._always[path] = reply

    def respond(self, respond: Callable[[ReceivedRequest], Reply]) -> None:
        """Have a function return the reply to every request."""
        self._respond = respond

    @property
    def connections(self) -> int:
        """The number of connections that were opened."""
        return self._server.connections

    def wait_for(self, count: int, path: str | None = None) -> list[ReceivedRequest]:
        """Return the requests to a path once there are `count`; fail after ten seconds."""

        def of_path() -> list[ReceivedRequest]:
            return [one for one in self.received if path is None or one.path == path]

        with self._changed:
            assert self._changed.wait_for(lambda: len(of_path()) >= count, timeout=10)
            return of_path()

    def stop(self) -> None:
        """Close the sink and its connections."""
        for reply in (*self._always.values(), *(r for q in self._replies.values() for r in q)):
            if reply.after is not None:
                reply.after.set()
        self._server.stop()

    def _record(self, one: ReceivedRequest) -> Reply:
        with self._changed:
            self.received.append(one)
            self._changed.notify_all()
            if self._respond is not None:
                return self._respond(one)
            for path in (one.path, None):
                if self._replies[path]:
                    return self._replies[path].popleft()
            return self._always.get(one.path) or self._always.get(None) or Reply()

    def _serve(self, request: socket.socket, _: int) -> None:
        record, stopped = self._record, self._server.stopped

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                reply = record(ReceivedRequest(self.command, self.path, headers, body))
                if reply.after is not None and not reply.after.wait(10):
                    stopped.wait(10)
                self.send_response_only(reply.status)
                for name, value in {
                    "Date": self.date_time_string(),
                    "Content-Length": str(len(reply.body)),
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        Handler(request, ("127.0.0.1", 0), self._server)


@contextmanager
def stopping(server: S) -> Iterator[S]:
    """Stop a server at the end."""
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def make_sink() -> Iterator[Callable[[], Sink]]:
    """Return a function that opens a sink; closed after the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(stopping(Sink()))


@pytest.fixture
def sink(make_sink: Callable[[], Sink]) -> Sink:
    """An open sink."""
    return make_sink()


@pytest.fixture
def make_raw_sink() -> Iterator[Callable[..., RawSink]]:
    """Return a function that opens a raw listener with a behaviour; closed after the test."""
    with ExitStack() as stack:
        yield lambda behave: stack.enter_context(stopping(RawSink(behave)))


@contextmanager
def running(one: Worker) -> Iterator[Future[WorkerTotals]]:
    """Run a worker in a thread; stop it at the end and raise its failure."""
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(one.run)
        try:
            yield ran
        finally:
            one.stop()
            ran.result(timeout=20)  # its failure is why the test fails

"""Fixtures of eAssessment: its database, factories, and HTTP servers that receive webhooks."""

import secrets
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy.orm import Session

from contract.grades import Score
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier import signals
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import SCHEMA, SOURCE, Attempt, Delivery, DeliveryStatus, Endpoint, Event
from notifier.webhooks import circuit_breaker, endpoints, outbox
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.http_client import Transport
from notifier.worker import claims
from notifier.worker.claims import ClaimLimits, EndpointLimit
from notifier.worker.reporter import WorkerTotals
from notifier.worker.worker import Worker
from tests.faults.server import LoopbackServer, RawSink

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
SITE = "eassessment.example.ac.uk"
MINUTE = timedelta(minutes=1)
# The receivers of the tests are on this machine.
LOOPBACK = Guard(loopback=True)

BODY = '{"type":"course.deleted"}'


@pytest.fixture
def database_url(make_database_url: Callable[[Schema], str]) -> str:
    """The URL of an empty, migrated database, for tests that open it more than once."""
    return make_database_url(SCHEMA)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """eAssessment's database, empty."""
    opened = Database(database_url, info={SOURCE: SITE})
    yield opened
    opened.dispose()


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
    signals.token_regenerated.disconnect(outbox.on_token_regenerated)
    signals.endpoint_disabled.disconnect(outbox.on_endpoint_disabled)
    signals.deliveries_dead.disconnect(outbox.on_deliveries_dead)


MakeCourse = Callable[..., CourseToken]


@pytest.fixture
def make_course(database: Database) -> MakeCourse:
    """Return a function that adds a course, and returns its token."""

    def make(course_id: str = "CS101-2026", **overrides: Any) -> CourseToken:
        given = {"title": "Introduction to Programming", "now": NINE, **overrides}
        with database.writing() as session:
            return courses.add_course(session, course_id, **given)

    return make


@pytest.fixture
def load(database: Database) -> Callable[..., grades.LoadResult]:
    """Return a function that loads scores by course id, at nine, in a transaction of its own."""

    def store(scores: dict[str, list[Score]], *, now: datetime = NINE) -> grades.LoadResult:
        with database.writing() as session:
            return grades.load(session, scores, now=now)

    return store


@dataclass(frozen=True)
class Registered:
    """A registered endpoint with its secret."""

    id: int
    url: str
    secret: Secret


MakeEndpoint = Callable[..., Registered]


@pytest.fixture
def make_endpoint(database: Database, vault: Vault) -> MakeEndpoint:
    """Return a function that registers an endpoint and may disable it."""

    def make(url: str | None = None, *, disabled: bool = False, **overrides: Any) -> Registered:
        if url is None:
            url = f"https://elms.example.ac.uk/webhooks/{secrets.token_hex(4)}"
        with database.writing() as session:
            given = {"vault": vault, "guard": LOOPBACK, "now": NINE, **overrides}
            endpoint, secret = endpoints.register(session, url, **given)
            if disabled:
                endpoints.disable(session, endpoint.id, "out of order", now=NINE)
            return Registered(endpoint.id, url, secret)

    return make


MakeDelivery = Callable[..., int]


@pytest.fixture
def make_delivery(database: Database) -> MakeDelivery:
    """Return a function that writes an event with one delivery, due at `NINE`; returns its id."""

    def make(endpoint_id: int, **overrides: Any) -> int:
        event = {
            "id": outbox.new_webhook_id(),
            "type": "course.deleted",
            "course_id": "CS101-2026",
            "course_version": 2,
            "body": BODY,
            "occurred_at": NINE,
        }
        delivery = {
            "status": DeliveryStatus.PENDING,
            "attempts": 0,
            "due_at": NINE,
            "created_at": NINE,
        }
        for name, value in overrides.items():
            (event if name in event and name != "id" else delivery)[name] = value
        if "created_at" not in overrides:
            delivery["created_at"] = event["occurred_at"]
        with database.writing() as session:
            session.add(Event(**event))
            session.flush()
            row = Delivery(event_id=event["id"], endpoint_id=endpoint_id, **delivery)
            session.add(row)
            session.flush()
            return row.id

    return make


@pytest.fixture
def delivery_of(database: Database) -> Callable[[int], Delivery]:
    """Return a function that reads a delivery from the database."""

    def read(delivery_id: int) -> Delivery:
        with database.reading() as session:
            return session.get_one(Delivery, delivery_id)

    return read


@pytest.fixture
def attempts_of(database: Database) -> Callable[[int], list[Attempt]]:
    """Return a function that reads the attempts of a delivery, the oldest first."""

    def read(delivery_id: int) -> list[Attempt]:
        with database.reading() as session:
            query = session.query(Attempt).filter_by(delivery_id=delivery_id)
            return list(query.order_by(Attempt.id))

    return read


@pytest.fixture
def endpoint_of(database: Database) -> Callable[[int], Endpoint]:
    """Return a function that reads an endpoint from the database."""

    def read(endpoint_id: int) -> Endpoint:
        with database.reading() as session:
            return session.get_one(Endpoint, endpoint_id)

    return read


@pytest.fixture
def claim(database: Database) -> Callable[..., list[Claimed]]:
    """Return a function that reclaims and claims all that is due, at `NINE` for a minute."""

    def take(*, now: datetime = NINE, lease: timedelta = MINUTE, **overrides: Any) -> list[Claimed]:
        with database.writing() as session:
            claims.reclaim_expired(session, now=now)
            return claims.claim(session, limits_in(session, **overrides), lease=lease, now=now)

    return take


def limits_in(session: Session, *, endpoint: int = 1000, **overrides: int) -> ClaimLimits:
    """Return limits that allow everything for each enabled endpoint, except for the overrides."""
    most = {"total": 1000, "retry": 1000, "isolated": 1000, **overrides}
    by_endpoint = {
        endpoint_id: EndpointLimit(endpoint, endpoint)
        for endpoint_id in circuit_breaker.read_states(session)
    }
    return ClaimLimits(by_endpoint=by_endpoint, **most)


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
    made: list[Transport] = []

    def make(**overrides: Any) -> Transport:
        given = {"connect_timeout": 2.0, "deadline": 5.0, "connections": 8, "guard": LOOPBACK}
        made.append(Transport(**{**given, **overrides}))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@dataclass(frozen=True)
class ReceivedRequest:
    """A request with its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Reply:
    """A response of a sink, sent once `after` is set."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"outcome":"applied"}'
    after: threading.Event | None = None


class Sink:
    """A webhook receiver on loopback that records requests and sends prepared replies.

    Replies for a path come before those for any path; without one the response is 200.
    """

    def __init__(self) -> None:
        self.received: list[ReceivedRequest] = []
        self._replies: defaultdict[str | None, deque[Reply]] = defaultdict(deque)
        self._always: dict[str | None, Reply] = {}
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
            for path in (one.path, None):
                if self._replies[path]:
                    return self._replies[path].popleft()
            return self._always.get(one.path) or self._always.get(None) or Reply()

    def _serve(self, request: socket.socket, number: int) -> None:
        record, stopped = self._record, self._server.stopped

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                reply = record(ReceivedRequest(self.command, self.path, headers, body, number))
                if reply.after is not None and not reply.after.wait(10):
                    stopped.wait(10)
                self.send_response(reply.status)
                for name, value in {
                    "Content-Length": str(len(reply.body)),
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        Handler(request, ("127.0.0.1", 0), self._server)


@pytest.fixture
def make_sink() -> Iterator[Callable[[], Sink]]:
    """Return a function that opens a sink; closed after the test."""
    made: list[Sink] = []

    def make() -> Sink:
        made.append(Sink())
        return made[-1]

    yield make
    for sink in made:
        sink.stop()


@pytest.fixture
def sink(make_sink: Callable[[], Sink]) -> Sink:
    """An open sink."""
    return make_sink()


@pytest.fixture
def make_raw_sink() -> Iterator[Callable[..., RawSink]]:
    """Return a function that opens a raw listener with a behaviour; closed after the test."""
    made: list[RawSink] = []

    def make(behave: Callable[[socket.socket, threading.Event], None]) -> RawSink:
        made.append(RawSink(behave))
        return made[-1]

    yield make
    for raw in made:
        raw.stop()


@contextmanager
def running(one: Worker) -> Iterator[Future[WorkerTotals]]:
    """Run a worker in a thread; stop it at the end and raise its failure."""
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(one.run)
        try:
            yield ran
        finally:
            one.stop()
        ran.result(timeout=20)

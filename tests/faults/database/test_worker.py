"""Workers whose database is away, locked, full or cut off: they go on and lose nothing."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import SCHEMA, SOURCE, Attempt, Delivery, Event
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.http_client import Transport
from notifier.worker.claims import SUSPECT_AFTER
from notifier.worker.worker import Worker, WorkerOptions
from tests.faults.database.commands import SITE
from tests.faults.database.conftest import VAULT, MakeProxy, count, file_of
from tests.faults.postgres_proxy import DISK_FULL, SERIALIZATION, SHUTDOWN, Break, ErrorResponse
from tests.faults.processes import wait_until
from tests.notifier.conftest import LOOPBACK, Reply, Sink, running

on_postgres = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


@dataclass
class Outbox:
    """Events for one sink, read and written without the faults."""

    url: str
    database: Database
    sink: Sink

    def add(self, number: int) -> None:
        """Add events: the deletion of a course each."""
        with self.database.writing() as session:
            now, known = datetime.now(UTC), count(session, Event)
            for course_id in (f"C{known + one}" for one in range(number)):
                courses.add_course(session, course_id, "Algorithms", now=now)
                courses.delete_course(session, course_id, now=now)

    def read(self, query: Any) -> list[Any]:
        with self.database.reading() as session:
            return list(session.scalars(query))

    def wait_delivered(self) -> None:
        """Return once every event is delivered, and check that the sink received it."""
        wait_until(
            lambda: set(self.read(select(Delivery.status))) == {"delivered"}, "all is delivered"
        )
        received = {one.headers["webhook-id"] for one in self.sink.received}
        assert received == set(self.read(select(Event.id)))


@pytest.fixture
def due(make_database_url: Callable[[Schema], str], sink: Sink) -> Iterator[Outbox]:
    """An empty outbox whose endpoint is the sink."""
    outbox.subscribe()
    url = make_database_url(SCHEMA)
    database = Database(url, info={SOURCE: SITE})
    with database.writing() as session:
        now = datetime.now(UTC)
        endpoints.register(session, sink.url(), vault=VAULT, guard=LOOPBACK, now=now)
    yield Outbox(url, database, sink)
    database.dispose()


@pytest.fixture
def make_worker(make_transport: Callable[..., Transport]) -> Iterator[Callable[[str], Worker]]:
    """Return a function that makes a worker on a database; time-outs and its lease are short."""
    made: list[Database] = []

    def make(url: str) -> Worker:
        made.append(Database(url, timeout=0.2, statement_timeout=0.3, info={SOURCE: SITE}))
        options = WorkerOptions(
            threads=4, per_endpoint=4, lease=timedelta(seconds=1), poll_seconds=0.02
        )
        return Worker(made[-1], VAULT, make_transport(connections=4), options)

    yield make
    for database in made:
        database.dispose()


FAULTS = [
    pytest.param("COMMIT", Break.BEFORE, id="cut before COMMIT"),
    pytest.param("COMMIT", Break.AFTER, id="cut after COMMIT"),
    pytest.param("COMMIT", Break.SILENCE, id="silence at COMMIT"),
    pytest.param("COMMIT", SERIALIZATION, id="serialization failure"),
    pytest.param("UPDATE deliveries", Break.IN_RESPONSE, id="cut in a response"),
    pytest.param("UPDATE deliveries", SHUTDOWN, id="shutdown"),
    pytest.param("UPDATE deliveries", DISK_FULL, id="disk full"),
]


@on_postgres
@pytest.mark.parametrize(("words", "happens"), FAULTS)
def test_claim_that_fails_loses_nothing(
    due: Outbox,
    make_proxy: MakeProxy,
    make_worker: Callable[[str], Worker],
    words: str,
    happens: Break | ErrorResponse,
) -> None:
    due.add(3)
    proxy = make_proxy(due.url)
    fault = proxy.on(words, happens)

    with running(make_worker(proxy.url)):
        due.wait_delivered()

    assert fault.met.is_set()
    assert due.read(select(Delivery.lease_token)) == [None] * 3


@on_postgres
@pytest.mark.parametrize(("words", "happens"), FAULTS)
def test_result_whose_transaction_fails_is_recorded_once(
    due: Outbox,
    sink: Sink,
    make_proxy: MakeProxy,
    make_worker: Callable[[str], Worker],
    words: str,
    happens: Break | ErrorResponse,
) -> None:
    respond = threading.Event()
    due.add(1)
    proxy = make_proxy(due.url)

    with running(make_worker(proxy.url)):
        due.wait_delivered()  # a new endpoint would get one at a time
        sink.always(Reply(after=respond))
        due.add(3)
        sink.wait_for(4)
        fault = proxy.on(words, happens)
        respond.set()
        due.wait_delivered()

    assert fault.met.is_set()
    attempts = due.read(select(Attempt).where(Attempt.status == 200))
    recorded = Counter((one.delivery_id, one.started_at) for one in attempts)
    assert {delivery_id for delivery_id, _ in recorded} == set(due.read(select(Delivery.id)))
    assert set(recorded.values()) == {1}


@on_postgres
def test_suspect_whose_commit_has_no_response_keeps_no_other_waiting(
    due: Outbox, sink: Sink, make_proxy: MakeProxy, make_worker: Callable[[str], Worker]
) -> None:
    respond = threading.Event()
    sink.always(Reply(after=respond))
    due.add(2)
    with due.database.writing() as session:
        session.execute(update(Delivery).values(lost_claims=SUSPECT_AFTER))
    proxy = make_proxy(due.url)

    with running(make_worker(proxy.url)):
        sink.wait_for(1)
        fault = proxy.on("COMMIT", Break.AFTER)
        respond.set()
        due.wait_delivered()

    assert fault.met.is_set()


@on_postgres
def test_terminated_connections_lose_nothing(
    due: Outbox, sink: Sink, make_worker: Callable[[str], Worker]
) -> None:
    due.add(40)
    terminated = 0

    with running(make_worker(due.url)):
        for received in range(0, 40, 4):
            sink.wait_for(received + 1)
            # On the only connection that is not the worker's.
            with due.database.reading() as session:
                ended = session.connection().exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                terminated += len(ended.all())
        due.wait_delivered()

    assert terminated > 0


@on_postgres
def test_worker_goes_on_when_the_server_is_back(
    due: Outbox, make_proxy: MakeProxy, make_worker: Callable[[str], Worker]
) -> None:
    proxy = make_proxy(due.url)
    due.add(2)

    with running(make_worker(proxy.url)):
        due.wait_delivered()
        proxy.go_away()
        due.add(2)
        seen = proxy.connections
        wait_until(lambda: proxy.connections >= seen + 2, "the worker has tried again")
        proxy.come_back()
        due.wait_delivered()


@on_sqlite
def test_worker_goes_on_when_the_file_is_back(
    due: Outbox, make_worker: Callable[[str], Worker]
) -> None:
    due.add(2)
    folder = file_of(due.url).parent
    aside = folder.with_name("aside")

    with capture_logs() as lines, running(make_worker(due.url)):
        due.wait_delivered()
        due.add(2)
        folder.rename(aside)
        wait_until(
            lambda: "database unavailable, worker backs off" in [one["event"] for one in [*lines]],
            "the worker backs off",
        )
        aside.rename(folder)
        due.wait_delivered()

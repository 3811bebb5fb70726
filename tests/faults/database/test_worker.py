"""The worker while its database is away, locked, full or cut off: it goes on and loses nothing."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select
from structlog.testing import capture_logs

from foundation.database import Database
from foundation.schema import Schema
from foundation.vault import Vault
from notifier import courses, endpoints, outbox
from notifier.db import SOURCE
from notifier.models import SCHEMA, Attempt, Delivery, Event
from notifier.transport import Transport
from notifier.worker import Options, Tally, Worker
from tests.faults.database.conftest import ENCRYPTION_KEY, SITE, file_of
from tests.faults.postgres_proxy import (
    DEADLOCK,
    DISK_FULL,
    LOCKED,
    SERIALIZATION,
    SHUTDOWN,
    Break,
    PostgresProxy,
    Says,
)
from tests.notifier.conftest import Reply, Sink

MakeProxy = Callable[[str], PostgresProxy]
LEASE = timedelta(seconds=1)
"""So short that what is left to a lease is made again within the test."""


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Return once something is so; fail after twenty seconds."""
    tick = threading.Event()
    for _ in range(1000):
        if reached():
            return
        tick.wait(0.02)
    pytest.fail(f"within twenty seconds it was not so that {what}")


@dataclass(frozen=True)
class Outbox:
    """Events of deleted courses, due at a sink, and how their deliveries stand."""

    url: str
    sink: Sink
    vault: Vault

    def add(self, count: int) -> None:
        """Delete so many courses."""
        database = Database(self.url, info={SOURCE: SITE})
        with database.writing() as session:
            now = datetime.now(UTC)
            known = session.scalar(select(func.count()).select_from(Event)) or 0
            for number in range(known, known + count):
                courses.add_course(session, f"C{number}", "Algorithms", now=now)
                courses.delete_course(session, f"C{number}", now=now)
        database.dispose()

    def read(self, query: Any) -> list[Any]:
        """Return what a query finds, past every fault."""
        database = Database(self.url)
        try:
            with database.reading() as session:
                return list(session.scalars(query))
        finally:
            database.dispose()

    def counts(self) -> dict[str, int]:
        """Return how many deliveries stand how."""
        return dict(Counter(self.read(select(Delivery.status))))

    def wait_until_delivered(self, count: int) -> None:
        """Return once so many are delivered; fail after twenty seconds."""
        wait_until(lambda: self.counts() == {"delivered": count}, "all is delivered")

    def heard(self) -> set[str]:
        """Return the ids of the events that the sink heard."""
        return {one.headers["webhook-id"] for one in self.sink.heard}


@pytest.fixture
def due(make_database_url: Callable[[Schema], str], sink: Sink) -> Outbox:
    """An outbox whose endpoint is the sink; nothing is in it yet."""
    outbox.subscribe()
    made = Outbox(make_database_url(SCHEMA), sink, Vault(SecretStr(ENCRYPTION_KEY)))
    database = Database(made.url)
    with database.writing() as session:
        endpoints.register(session, sink.url(), vault=made.vault, now=datetime.now(UTC))
    database.dispose()
    return made


@pytest.fixture
def make_worker(make_transport: Callable[..., Transport]) -> Iterator[Callable[..., Worker]]:
    """Return what makes a worker on the database of a URL, with little patience."""
    made: list[Database] = []

    def make(due: Outbox, url: str) -> Worker:
        made.append(Database(url, timeout=0.2, answer=0.3, info={SOURCE: SITE}))
        options = Options(threads=4, per_endpoint=4, lease=LEASE, poll_seconds=0.02)
        return Worker(made[-1], due.vault, make_transport(connections=4), options)

    yield make
    for database in made:
        database.dispose()


@contextmanager
def running(worker: Worker) -> Iterator[Future[Tally]]:
    """Run a worker beside the test; stopped at the end, and what it raised is raised."""
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(worker.run)
        try:
            yield ran
        finally:
            worker.stop()
        ran.result(timeout=20)


def backs_off(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a log line says that the worker waits for its database."""
    return any(line["event"] == "database unavailable, worker backs off" for line in list(lines))


FAULTS = [
    pytest.param("COMMIT", Break.BEFORE, id="cut before COMMIT"),
    pytest.param("COMMIT", Break.AFTER, id="cut after COMMIT"),
    pytest.param("COMMIT", Break.SILENCE, id="silence at COMMIT"),
    pytest.param("COMMIT", SERIALIZATION, id="serialization failure"),
    pytest.param("UPDATE deliveries", Break.BEFORE, id="cut before a statement"),
    pytest.param("UPDATE deliveries", Break.IN_ANSWER, id="cut in an answer"),
    pytest.param("UPDATE deliveries", SHUTDOWN, id="shut down"),
    pytest.param("UPDATE deliveries", DISK_FULL, id="disk full"),
    pytest.param("UPDATE deliveries", LOCKED, id="locked by another"),
    pytest.param("UPDATE deliveries", DEADLOCK, id="deadlock"),
]


@pytest.mark.parametrize(("words", "happens"), FAULTS)
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_claim_that_breaks_off_loses_nothing(
    due: Outbox,
    make_proxy: MakeProxy,
    make_worker: Callable[..., Worker],
    words: str,
    happens: Break | Says,
) -> None:
    """A claim that fails, or of which nobody knows, is made again by the same worker.

    (F28, I1)
    """
    due.add(6)
    proxy = make_proxy(due.url)
    fault = proxy.on(words, happens)

    with running(make_worker(due, proxy.url)):
        due.wait_until_delivered(6)

    assert fault.met.is_set()
    assert due.heard() == set(due.read(select(Event.id)))
    assert due.read(select(Delivery.lease_token)) == [None] * 6


@pytest.mark.parametrize(("words", "happens"), FAULTS)
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_settling_that_breaks_off_loses_nothing(
    due: Outbox,
    make_proxy: MakeProxy,
    make_worker: Callable[..., Worker],
    words: str,
    happens: Break | Says,
) -> None:
    """What came of an attempt is kept until it is settled, or the attempt is made again.

    (F28, I1)
    """
    answered = threading.Event()
    due.sink.always(Reply(after=answered))
    due.add(3)
    proxy = make_proxy(due.url)

    with running(make_worker(due, proxy.url)):
        due.sink.wait_for(3)
        fault = proxy.on(words, happens)
        answered.set()
        due.wait_until_delivered(3)

    assert fault.met.is_set()
    assert due.heard() == set(due.read(select(Event.id)))
    attempts = Counter(due.read(select(Attempt.delivery_id).where(Attempt.status == 200)))
    assert len(attempts) == 3


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_backends_that_are_terminated_again_and_again_lose_nothing(
    due: Outbox, make_worker: Callable[..., Worker]
) -> None:
    """An operator who ends every backend of a working worker costs time and no event (F28, I1)."""
    due.add(60)
    worker = make_worker(due, due.url)
    operator = Database(due.url)
    terminated = 0

    with running(worker):
        for _ in range(20):
            due.sink.wait_for(min(60, len(due.sink.heard) + 1))
            with operator.reading() as session:
                ended = session.connection().exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                terminated += len(ended.all())
            if due.counts() == {"delivered": 60}:
                break
        due.wait_until_delivered(60)
    operator.dispose()

    assert terminated > 0
    assert due.heard() == set(due.read(select(Event.id)))


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_worker_goes_on_by_itself_once_the_server_is_back(
    due: Outbox, make_proxy: MakeProxy, make_worker: Callable[..., Worker]
) -> None:
    """A server that is away when the worker starts, and again later, is waited for (F28)."""
    due.add(2)
    proxy = make_proxy(due.url)
    proxy.go_away()

    with running(make_worker(due, proxy.url)):
        wait_until(lambda: proxy.connections >= 2, "the worker tried again")
        proxy.come_back()
        due.wait_until_delivered(2)
        proxy.go_away()
        due.add(2)
        seen = proxy.connections
        wait_until(lambda: proxy.connections >= seen + 2, "the worker tried again")
        proxy.come_back()
        due.wait_until_delivered(4)

    assert due.heard() == set(due.read(select(Event.id)))


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_file_that_is_away_for_a_while_loses_nothing(
    due: Outbox, make_worker: Callable[..., Worker]
) -> None:
    """A worker whose database is moved away waits until it is back (F28, I1)."""
    due.add(2)
    path = file_of(due.url)
    aside = path.parent.with_name("aside")

    with capture_logs() as lines, running(make_worker(due, due.url)):
        due.wait_until_delivered(2)
        due.add(2)
        path.parent.rename(aside)
        wait_until(lambda: backs_off(lines), "the worker backs off")
        aside.rename(path.parent)
        due.wait_until_delivered(4)

    assert due.heard() == set(due.read(select(Event.id)))

"""The worker while its database is away, locked, full or cut off: it goes on and loses nothing."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from structlog.testing import capture_logs

from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA, Attempt, Delivery, Event
from notifier.worker.worker import Worker
from tests.faults.database.conftest import ENCRYPTION_KEY, file_of
from tests.faults.database.outbox import Outbox, wait_until
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
from tests.notifier.conftest import Reply, Sink, running

MakeProxy = Callable[[str], PostgresProxy]
AllHeard = Callable[[], bool]


@pytest.fixture
def due(make_database_url: Callable[[Schema], str], sink: Sink) -> Outbox:
    """An outbox whose endpoint is the sink; nothing is in it yet."""
    made = Outbox(make_database_url(SCHEMA), Vault(SecretStr(ENCRYPTION_KEY)))
    made.register(sink.url())
    return made


@pytest.fixture
def all_heard(due: Outbox, sink: Sink) -> Callable[[], bool]:
    """Return what tells whether the sink heard each event at least once, and nothing else."""
    return lambda: (
        {one.headers["webhook-id"] for one in sink.received} == set(due.read(select(Event.id)))
    )


def backs_off(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a log line says that the worker waits for its database."""
    return any(line["event"] == "database unavailable, worker backs off" for line in list(lines))


FAULTS = [
    pytest.param("COMMIT", Break.BEFORE, id="cut before COMMIT"),
    pytest.param("COMMIT", Break.AFTER, id="cut after COMMIT"),
    pytest.param("COMMIT", Break.SILENCE, id="silence at COMMIT"),
    pytest.param("COMMIT", SERIALIZATION, id="serialization failure"),
    pytest.param("BEGIN", Break.BEFORE, id="cut at BEGIN"),
    pytest.param("FROM deliveries", Break.IN_ANSWER, id="cut while it looks"),
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
    sink: Sink,
    all_heard: AllHeard,
    make_proxy: MakeProxy,
    make_worker: Callable[..., Worker],
    words: str,
    happens: Break | Says,
) -> None:
    due.add(6)
    proxy = make_proxy(due.url)
    fault = proxy.on(words, happens)

    with running(make_worker(due, proxy.url)):
        due.wait_until_delivered(6)

    assert fault.met.is_set()
    assert all_heard()
    assert due.read(select(Delivery.lease_token)) == [None] * 6


@pytest.mark.parametrize(("words", "happens"), FAULTS)
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_settling_that_breaks_off_loses_nothing(
    due: Outbox,
    sink: Sink,
    all_heard: AllHeard,
    make_proxy: MakeProxy,
    make_worker: Callable[..., Worker],
    words: str,
    happens: Break | Says,
) -> None:
    answered = threading.Event()
    sink.always(Reply(after=answered))
    due.add(3)
    proxy = make_proxy(due.url)

    with running(make_worker(due, proxy.url)):
        sink.wait_for(3)
        fault = proxy.on(words, happens)
        answered.set()
        due.wait_until_delivered(3)

    assert fault.met.is_set()
    assert all_heard()
    attempts = Counter(due.read(select(Attempt.delivery_id).where(Attempt.status == 200)))
    assert len(attempts) == 3


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_backends_that_are_terminated_again_and_again_lose_nothing(
    due: Outbox, sink: Sink, all_heard: AllHeard, make_worker: Callable[..., Worker]
) -> None:
    due.add(60)
    worker = make_worker(due, due.url)
    operator = Database(due.url)
    terminated = 0

    with running(worker):
        for _ in range(20):
            sink.wait_for(min(60, len(sink.received) + 1))
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
    assert all_heard()


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_worker_goes_on_by_itself_once_the_server_is_back(
    due: Outbox, all_heard: AllHeard, make_proxy: MakeProxy, make_worker: Callable[..., Worker]
) -> None:
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

    assert all_heard()


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_file_that_is_away_for_a_while_loses_nothing(
    due: Outbox, sink: Sink, all_heard: AllHeard, make_worker: Callable[..., Worker]
) -> None:
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

    assert all_heard()

"""The worker and failing endpoints: pauses, other endpoints, limited rate."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Delivery, DeliveryStatus, Endpoint, Lane
from notifier.webhooks.circuit_breaker import PAUSED_AFTER
from notifier.webhooks.http_client import Transport
from notifier.worker.reporter import WorkerTotals
from notifier.worker.worker import Worker, WorkerOptions
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint, Reply, Sink, running

MINUTE = timedelta(minutes=1)
SLOTS = 4

MakeWorker = Callable[..., Worker]


@pytest.fixture
def make_worker(
    database: Database, vault: Vault, make_transport: Callable[..., Transport]
) -> MakeWorker:
    """Return a function that makes a worker of eight threads, half of them for one endpoint."""

    def make(**overrides: Any) -> Worker:
        given = {"per_endpoint": SLOTS, "poll_seconds": 0.01, **overrides}
        options = WorkerOptions(threads=8, lease=MINUTE, **given)
        return Worker(database, vault, make_transport(), options, jitter=lambda: 0.0)

    return make


def end_pause(database: Database) -> None:
    """End all pauses."""
    with database.writing() as session:
        now = db.now(session)
        session.execute(update(Endpoint).values(paused_until=now))


def count(database: Database, *conditions: Any) -> int:
    """Return the number of deliveries that match."""
    with database.reading() as session:
        return session.scalar(select(func.count(Delivery.id)).where(*conditions)) or 0


@pytest.fixture
def held_reply() -> Reply:
    """A reply that is sent once its event is set."""
    return Reply(after=threading.Event())


def test_backlog_is_sent_at_a_limited_rate_after_an_outage(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
) -> None:
    """One attempt tries the endpoint, then concurrency grows up to its limit (F24)."""
    endpoint = make_endpoint(sink.url())
    for _ in range(60):
        make_delivery(endpoint.id)
    sink.always(Reply(503))
    make_worker().run(once=True)
    with database.writing() as session:
        session.execute(update(Delivery).values(due_at=NINE))
    down, before = len(sink.received), sink.connections
    end_pause(database)
    sink.always(Reply())

    tried = make_worker(per_endpoint=1).run(once=True)
    rest = make_worker().run(once=True)

    assert tried.delivered + rest.delivered == 60
    assert count(database, Delivery.status == DeliveryStatus.DELIVERED) == 60
    assert len({one.headers["webhook-id"] for one in sink.received[down:]}) == 60
    assert sink.connections - before <= 1 + SLOTS


def test_retries_do_not_starve_new_events(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    held_reply: Reply,
) -> None:
    """First attempts get through while retries use all slots that they may use (F25)."""
    stormy = [make_endpoint(sink.url(f"/stormy/{number}")) for number in range(3)]
    for endpoint in stormy:
        for _ in range(20):
            make_delivery(endpoint.id, lane=Lane.RETRY, attempts=2, due_at=NINE - MINUTE)
        sink.always(held_reply, endpoint.url.removeprefix(sink.url("")))
    fresh = make_endpoint(sink.url("/fresh"))

    with running(make_worker()):
        sink.wait_for(6)  # of eight places two are reserved
        for number in range(1, 11):
            make_delivery(fresh.id)
            sink.wait_for(number, "/fresh")
        waiting = sum(one.path != "/fresh" for one in sink.received)
        assert held_reply.after is not None
        held_reply.after.set()

    assert waiting == 6


def test_failing_endpoint_does_not_affect_another(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
) -> None:
    """The failing endpoint is paused; the other one gets all its deliveries (F25)."""
    dead, healthy = make_endpoint(sink.url("/dead")), make_endpoint(sink.url("/healthy"))
    for _ in range(30):
        make_delivery(dead.id, due_at=NINE - MINUTE)
        make_delivery(healthy.id)
    sink.always(Reply(500), "/dead")

    totals = make_worker().run(once=True)

    assert totals.delivered == 30
    assert totals.to_retry <= PAUSED_AFTER + SLOTS


def test_run_with_once_sends_everything_despite_the_rate(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, make_worker: MakeWorker, sink: Sink
) -> None:
    """A rate slows a run with `once` down, and everything is sent (F24)."""
    endpoint = make_endpoint(sink.url())
    for _ in range(30):
        make_delivery(endpoint.id)

    totals = make_worker(per_endpoint_rate=20.0).run(once=True)

    assert totals == WorkerTotals(delivered=30)

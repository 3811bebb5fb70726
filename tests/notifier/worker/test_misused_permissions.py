"""What was found by trying to break eAssessment stays mended."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, make_url, text

from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.models import Delivery, Endpoint
from notifier.webhooks import endpoints
from notifier.webhooks import replay as replays
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchSettings, Finished
from notifier.worker.claims import ClaimLimits
from notifier.worker.worker import Worker, WorkerOptions
from tests.notifier.conftest import MakeDelivery, MakeEndpoint


def _worker(database: Database, vault: Vault) -> Worker:
    transport = Transport(connect_timeout=1, deadline=1, connections=1, guard=Guard())
    return Worker(database, vault, transport, WorkerOptions(1, 1, timedelta(seconds=60), 0.05))


def test_late_410_does_not_disable(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    endpoint_of: Callable[[int], Endpoint],
    delivery_of: Callable[[int], Delivery],
) -> None:
    """A worker that has lost its lease disables no endpoint: a late failure does not count (F6)."""
    endpoint = make_endpoint("https://elms.example/webhooks")
    delivery_id = make_delivery(endpoint.id)
    moment = datetime.now(UTC)
    (late,) = claim(now=moment, lease=timedelta(seconds=1))
    (present,) = claim(now=moment + timedelta(seconds=2))
    terms = BatchSettings(timedelta(seconds=60), timedelta(days=5), lambda: 0.0)

    for claimed, answer in ((present, WebhookResponse(200)), (late, WebhookResponse(410))):
        with database.writing() as session:
            finished = Finished(claimed, moment, 1, answer)
            batch.process_batch(
                session, [finished], lambda _: ClaimLimits(0, 0, 0, {}), terms, now=moment
            )

    assert endpoint_of(endpoint.id).disabled_at is None
    assert delivery_of(delivery_id).status == "delivered"


def test_worker_stops_without_the_database(
    database: Database,
    database_kind: str,
    vault: Vault,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
) -> None:
    if database_kind != "sqlite":
        pytest.skip("a lock of the whole file is SQLite's")
    make_delivery(make_endpoint("https://elms.example/webhooks").id)
    (claimed,) = claim(now=datetime.now(UTC))
    impatient = Database(database.engine.url.render_as_string(), timeout=0.1)
    worker = _worker(impatient, vault)
    worker._unsettled = [Finished(claimed, datetime.now(UTC), 1, WebhookResponse(200))]
    worker.stop()

    with database.writing():
        running = threading.Thread(target=worker.run)
        running.start()
        running.join(20)

    stopped = not running.is_alive()
    worker.transport.close()
    impatient.dispose()
    assert stopped


def test_replay_during_a_disable_waits_and_is_refused(
    database: Database,
    database_kind: str,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
) -> None:
    if database_kind == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    endpoint = make_endpoint("https://elms.example/webhooks")
    delivery_id = make_delivery(endpoint.id)
    refused: list[Exception] = []

    def replay() -> None:
        try:
            with database.writing() as session:
                replays.replay(session, [delivery_id], by="ops", now=db.now(session))
        except Exception as error:  # noqa: BLE001 - handed to the test
            refused.append(error)

    replaying = threading.Thread(target=replay)
    with database.writing() as session:
        endpoints.disable(session, endpoint.id, "gone", now=db.now(session))
        replaying.start()
        replaying.join(0.3)
        waited = replaying.is_alive()
    replaying.join(10)

    assert waited
    assert [type(error).__name__ for error in refused] == ["ReplayRefusedError"]
    assert delivery_of(delivery_id).status == "held"


def test_read_only_database_is_unavailable(database: Database, database_kind: str) -> None:
    """A server that has become read-only is away, not a fault that nobody foresaw (F10)."""
    if database_kind == "sqlite":
        pytest.skip("a read-only server is PostgreSQL's")
    url = make_url(str(database.engine.url.render_as_string(hide_password=False)))
    engine = create_engine(url, connect_args={"options": "-c default_transaction_read_only=on"})

    with engine.connect() as connection, pytest.raises(db.UNAVAILABLE):
        connection.execute(text("CREATE TABLE refused (id int)"))
    engine.dispose()

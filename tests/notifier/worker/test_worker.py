"""The worker against real receivers: delivery, retries, stopping, database failures."""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError
from standardwebhooks.webhooks import Webhook

from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import Attempt, Delivery, Endpoint, Event
from notifier.webhooks import deliveries, endpoints
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import MAX_ATTEMPTS
from notifier.worker.reporter import WorkerTotals
from notifier.worker.worker import Worker, WorkerOptions
from tests.notifier.conftest import (
    NINE,
    SITE,
    MakeCourse,
    MakeDelivery,
    MakeEndpoint,
    Reply,
    Sink,
    running,
)

MINUTE = timedelta(minutes=1)

MakeWorker = Callable[..., Worker]
DeliveryOf = Callable[[int], Delivery]
AttemptsOf = Callable[[int], list[Attempt]]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Send log lines through the standard library as JSON, and capture them."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger("INFO"),
    )
    caplog.set_level(logging.INFO, logger="notifier")
    yield caplog
    structlog.reset_defaults()


@pytest.fixture
def make_worker(
    database: Database, vault: Vault, make_transport: Callable[..., Transport]
) -> MakeWorker:
    """Return a function that makes a worker of four threads that adds no jitter."""

    def make(**overrides: Any) -> Worker:
        options = {
            "threads": 4,
            "per_endpoint": 2,
            "lease": MINUTE,
            "poll_seconds": 0.01,
        }
        given: dict[str, Any] = {"database": database, "vault": vault, "jitter": lambda: 0.0}
        for name, value in overrides.items():
            (options if name in options else given)[name] = value
        given.setdefault("transport", make_transport(connections=options["threads"]))
        return Worker(options=WorkerOptions(**options), **given)

    return make


def wait_until(reached: Callable[[], bool]) -> None:
    """Return once a condition is true; fail after ten seconds."""
    tick = threading.Event()
    for _ in range(1000):
        if reached():
            return
        tick.wait(0.01)
    pytest.fail("what the test waits for did not come in ten seconds")


def lines(logged: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    read = [json.loads(record.getMessage()) for record in logged.records]
    return [line for line in read if line["event"] == event]


def test_change_arrives_signed_at_the_receiver(
    database: Database,
    make_course: MakeCourse,
    make_endpoint: MakeEndpoint,
    make_worker: MakeWorker,
    sink: Sink,
) -> None:
    endpoint = make_endpoint(sink.url())
    make_course("Größe-1")
    with database.writing() as session:
        courses.delete_course(session, "Größe-1", now=NINE)

    totals = make_worker().run(once=True)

    (received,) = sink.received
    with database.reading() as session:
        event = session.scalars(select(Event)).one()
    assert totals == WorkerTotals(delivered=1)
    assert received.body == event.body.encode()
    assert received.headers["webhook-id"] == event.id
    assert abs(int(received.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 10
    assert Webhook(endpoint.secret.reveal()).verify(received.body, received.headers) == {
        "type": "course.deleted",
        "timestamp": "2026-11-22T09:00:00.123456Z",
        "data": {"source": SITE, "course_id": "Größe-1", "course_version": 2},
    }


def test_both_secrets_sign_while_one_is_rotated(
    database: Database,
    vault: Vault,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
) -> None:
    """During the overlap the old and the new secret both verify (F22)."""
    endpoint = make_endpoint(sink.url())
    make_delivery(endpoint.id)
    with database.writing() as session:
        new = endpoints.rotate_secret(
            session, endpoint.id, overlap=MINUTE, vault=vault, now=datetime.now(UTC)
        )

    make_worker().run(once=True)

    (received,) = sink.received
    assert len(received.headers["webhook-signature"].split(" ")) == 2
    for secret in (endpoint.secret, new):
        assert Webhook(secret.reveal()).verify(received.body, received.headers)


def test_delivered_event_is_settled_and_logged(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    logged: pytest.LogCaptureFixture,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url("/w?key=1")).id)

    make_worker().run(once=True)

    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.lease_token) == ("delivered", 1, None)
    (attempt,) = attempts_of(delivery_id)
    assert (attempt.status, attempt.failure, attempt.decided) == (200, None, "delivered")
    assert attempt.detail == '{"outcome":"applied"}'
    (line,) = lines(logged, "event delivered")
    assert {"trace_id", "span_id"} <= line.keys()
    assert line | {"milliseconds": 0, "trace_id": "", "span_id": ""} == {
        "trace_id": "",
        "span_id": "",
        "event": "event delivered",
        "delivery_id": delivery_id,
        "endpoint_id": row.endpoint_id,
        "webhook_id": row.event_id,
        "event_type": "course.deleted",
        "course_id": "CS101-2026",
        "url": sink.url("/w"),
        "attempt": 1,
        "milliseconds": 0,
        "status": 200,
    }


@pytest.mark.parametrize(
    ("reply", "wait"),
    [
        pytest.param(Reply(302, {"Location": "/"}), timedelta(seconds=5), id="302"),
        pytest.param(Reply(429, {"Retry-After": "120"}), timedelta(seconds=120), id="429"),
    ],
)
def test_failure_is_retried_by_the_schedule(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    logged: pytest.LogCaptureFixture,
    reply: Reply,
    wait: timedelta,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    sink.answer(reply)

    totals = make_worker().run(once=True)

    assert (totals, len(sink.received)) == (WorkerTotals(to_retry=1), 1)
    row = delivery_of(delivery_id)
    (attempt,) = attempts_of(delivery_id)
    assert (row.status, row.attempts, attempt.decided) == ("pending", 1, "retry")
    assert wait <= row.due_at - attempt.started_at < wait + timedelta(seconds=5)
    (line,) = lines(logged, "attempt failed, will be retried")
    assert (line["status"], line["attempt"]) == (reply.status, 1)


def test_failure_is_logged_with_advice(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    make_sink: Callable[[], Sink],
    logged: pytest.LogCaptureFixture,
) -> None:
    gone = make_sink()
    gone.stop()
    make_delivery(make_endpoint(gone.url()).id)

    make_worker().run(once=True)

    (line,) = lines(logged, "attempt failed, will be retried")
    assert line["failure"] == "refused"
    assert line["next_step"] == "Check that the receiver is running and listens on this port."


def test_retry_has_the_same_id_and_body_and_a_new_signature(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
) -> None:
    endpoint = make_endpoint(sink.url())
    delivery_id = make_delivery(endpoint.id)
    sink.answer(Reply(503))
    make_worker().run(once=True)
    with database.writing() as session:
        deliveries.restart(session, [delivery_id], now=NINE)

    make_worker().run(once=True)

    first, second = sink.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    for received in (first, second):
        assert Webhook(endpoint.secret.reveal()).verify(received.body, received.headers)


@pytest.mark.parametrize(
    ("attempts", "reply", "reason"),
    [
        pytest.param(
            0,
            Reply(422, body=b'{"detail":"course_version"}'),
            "the receiver responded with 422: a retry would not help",
            id="refused",
        ),
        pytest.param(
            MAX_ATTEMPTS - 1,
            Reply(503, body=b'{"detail":"course_version"}'),
            "10 attempts failed, the last with status 503",
            id="the last attempt",
        ),
    ],
)
def test_final_failure_is_dead_with_its_reason(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    logged: pytest.LogCaptureFixture,
    attempts: int,
    reply: Reply,
    reason: str,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url()).id, attempts=attempts)
    sink.answer(reply)

    totals = make_worker().run(once=True)

    assert totals == WorkerTotals(dead=1)
    row = delivery_of(delivery_id)
    assert (row.status, row.reason) == ("dead", reason)
    assert attempts_of(delivery_id)[-1].detail == '{"detail":"course_version"}'
    (line,) = lines(logged, "delivery is dead")
    assert (line["reason"], line["detail"]) == (reason, '{"detail":"course_version"}')
    assert line["action"] == f"deliveries replay {delivery_id}"


def test_410_disables_the_endpoint_and_holds_the_rest(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: DeliveryOf,
    endpoint_of: Callable[[int], Endpoint],
    logged: pytest.LogCaptureFixture,
) -> None:
    """A 410 disables the endpoint, holds its deliveries and logs an error (F12)."""
    gone, other = make_endpoint(sink.url("/gone")), make_endpoint(sink.url("/other"))
    first, second = make_delivery(gone.id), make_delivery(gone.id)
    healthy = make_delivery(other.id)
    sink.always(Reply(410), "/gone")

    totals = make_worker(per_endpoint=1).run(once=True)

    assert totals == WorkerTotals(delivered=1, held=1)
    assert [received.path for received in sink.received].count("/gone") == 1
    statuses = [delivery_of(one).status for one in (first, second, healthy)]
    assert statuses == ["held", "held", "delivered"]
    endpoint = endpoint_of(gone.id)
    assert endpoint.disabled_at is not None
    assert endpoint.disabled_reason == "the receiver no longer accepts events (410 Gone)"
    (line,) = lines(logged, "endpoint disabled, its deliveries held")
    assert line["action"] == f"endpoints enable {gone.id}"


def test_enabling_sends_held_deliveries(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
) -> None:
    """Enabling sends all held deliveries under the same ids (F12)."""
    endpoint = make_endpoint(sink.url())
    for _ in range(3):
        make_delivery(endpoint.id)
    sink.answer(Reply(410))
    make_worker(per_endpoint=1).run(once=True)
    with database.writing() as session:
        endpoints.enable(session, endpoint.id, now=NINE)

    totals = make_worker().run(once=True)

    assert totals == WorkerTotals(delivered=3)
    ids = [received.headers["webhook-id"] for received in sink.received]
    assert (len(ids), len(set(ids))) == (4, 3)


def test_slow_endpoint_does_not_delay_another(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, make_worker: MakeWorker, sink: Sink
) -> None:
    """Another endpoint gets all its deliveries while a slow one uses its slots (F25)."""
    slow, quick = make_endpoint(sink.url("/slow")), make_endpoint(sink.url("/quick"))
    for _ in range(6):
        make_delivery(slow.id, due_at=NINE - MINUTE)
    for _ in range(20):
        make_delivery(quick.id)
    answered = threading.Event()
    sink.always(Reply(after=answered), "/slow")

    with running(make_worker(threads=4, per_endpoint=2)):
        sink.wait_for(20, "/quick")
        waiting = len(sink.wait_for(2, "/slow"))
        answered.set()
        sink.wait_for(6, "/slow")

    assert waiting == 2
    assert len(sink.received) == 26


def test_stop_finishes_attempts_and_claims_no_more(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: DeliveryOf,
) -> None:
    """`stop` settles attempts in progress and leaves everything else (F8)."""
    endpoint = make_endpoint(sink.url())
    ids = [make_delivery(endpoint.id) for _ in range(5)]
    answered = threading.Event()
    sink.always(Reply(after=answered))
    one = make_worker(per_endpoint=2)

    with running(one) as ran:
        sink.wait_for(2)
        one.stop()
        ended_early = ran.done()
        answered.set()
        totals = ran.result(timeout=10)

    assert not ended_early
    assert (totals, len(sink.received)) == (WorkerTotals(delivered=2), 2)
    rows = [delivery_of(each) for each in ids]
    assert [(row.status, row.attempts, row.lease_token) for row in rows] == [
        *[("delivered", 1, None)] * 2,
        *[("pending", 0, None)] * 3,
    ]


def test_stop_of_an_idle_worker_is_prompt(database: Database, make_worker: MakeWorker) -> None:
    one = make_worker(poll_seconds=60)

    with running(one) as ran:
        wait_until(lambda: database.statements > 0)
        one.stop()
        assert ran.result(timeout=5) == WorkerTotals()


def test_worker_polls_for_new_deliveries(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, make_worker: MakeWorker, sink: Sink
) -> None:
    endpoint = make_endpoint(sink.url())

    with running(make_worker()):
        for number in (1, 2):
            make_delivery(endpoint.id)
            sink.wait_for(number)

    assert len(sink.received) == 2


def test_expired_claim_is_sent_by_the_next_worker(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    claim: Callable[..., Any],
    attempts_of: AttemptsOf,
) -> None:
    """A delivery that was claimed and never settled is sent by another worker (F3, F4)."""
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    claim(lease=MINUTE)

    totals = make_worker().run(once=True)

    assert (totals, len(sink.received)) == (WorkerTotals(delivered=1), 1)
    decided = [(one.failure, one.decided) for one in attempts_of(delivery_id)]
    assert decided == [("worker-lost", "retry"), (None, "delivered")]


def test_unreadable_secret_is_a_failed_attempt(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
) -> None:
    strange = Vault(SecretStr(Fernet.generate_key().decode()))
    encrypted = make_delivery(make_endpoint(sink.url("/sealed"), vault=strange).id)
    healthy = make_delivery(make_endpoint(sink.url("/healthy")).id)

    totals = make_worker().run(once=True)

    assert totals == WorkerTotals(delivered=1, to_retry=1)
    assert [received.path for received in sink.received] == ["/healthy"]
    assert [delivery_of(one).status for one in (encrypted, healthy)] == ["pending", "delivered"]
    (attempt,) = attempts_of(encrypted)
    assert (attempt.status, attempt.failure) == (None, "secret-unreadable")
    assert attempt.detail == (
        "a stored secret was encrypted with a key that is not in the settings; "
        "Add the key that encrypted it to the list of encryption keys again."
    )


def test_unexpected_error_is_a_failed_attempt(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    attempts_of: AttemptsOf,
    logged: pytest.LogCaptureFixture,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    with database.writing() as session:
        session.execute(update(endpoints.EndpointSecret).values(expires_at=NINE))

    totals = make_worker().run(once=True)

    assert (totals, sink.connections) == (WorkerTotals(to_retry=1), 0)
    (attempt,) = attempts_of(delivery_id)
    assert (attempt.failure, attempt.detail) == ("internal", "ValueError")
    assert len(lines(logged, "attempt failed unexpectedly")) == 1


def test_secret_is_neither_logged_nor_stored(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    attempts_of: AttemptsOf,
    logged: pytest.LogCaptureFixture,
) -> None:
    endpoint = make_endpoint(sink.url())
    delivery_id = make_delivery(endpoint.id)
    secret = endpoint.secret.reveal()
    sink.answer(Reply(422, body=f"I know {secret}".encode()))

    make_worker().run(once=True)

    (attempt,) = attempts_of(delivery_id)
    assert attempt.detail == "I know [redacted]"
    assert secret.removeprefix("whsec_") not in logged.text


@pytest.fixture
def locked(database_url: str) -> Iterator[Callable[[], None]]:
    """Lock the SQLite file from another connection; return a function that unlocks it."""
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield lambda: other.execute("ROLLBACK") and None
    other.close()


@pytest.fixture
def impatient(database_url: str, database: Database) -> Iterator[Database]:
    """The same database with a time-out of 0.05 s."""
    opened = Database(database_url, timeout=0.05)
    yield opened
    opened.dispose()


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_worker_waits_for_a_locked_database(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    impatient: Database,
    sink: Sink,
    request: pytest.FixtureRequest,
    delivery_of: DeliveryOf,
    logged: pytest.LogCaptureFixture,
) -> None:
    """The worker backs off while the database is locked, then continues (F27)."""
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    unlock = request.getfixturevalue("locked")

    with running(make_worker(database=impatient)):
        wait_until(lambda: bool(lines(logged, "database unavailable, worker backs off")))
        sent_before = len(sink.received)
        unlock()
        sink.wait_for(1)

    assert sent_before == 0
    assert delivery_of(delivery_id).status == "delivered"
    line = lines(logged, "database unavailable, worker backs off")[0]
    assert (line["cause"], line["seconds"]) == ("database is locked", 0.5)
    assert line["next_step"] == "Check that the database is running; nothing is lost meanwhile."


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_result_survives_a_locked_database(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    impatient: Database,
    sink: Sink,
    request: pytest.FixtureRequest,
    delivery_of: DeliveryOf,
    logged: pytest.LogCaptureFixture,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    answered = threading.Event()
    sink.always(Reply(after=answered))

    with running(make_worker(database=impatient)):
        sink.wait_for(1)
        unlock = request.getfixturevalue("locked")
        answered.set()
        wait_until(lambda: bool(lines(logged, "database unavailable, worker backs off")))
        unlock()
        wait_until(lambda: delivery_of(delivery_id).status == "delivered")

    assert len(sink.received) == 1


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_locked_database_ends_a_run_with_once(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    impatient: Database,
    sink: Sink,
    request: pytest.FixtureRequest,
) -> None:
    make_delivery(make_endpoint(sink.url()).id)
    request.getfixturevalue("locked")

    with pytest.raises(OperationalError, match="database is locked"):
        make_worker(database=impatient).run(once=True)

    assert sink.received == []


def test_worker_survives_a_missing_table(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    logged: pytest.LogCaptureFixture,
) -> None:
    """A missing table is a database error and does not end the worker (F28)."""
    make_delivery(make_endpoint(sink.url()).id)
    with database.writing() as session:
        session.execute(text("ALTER TABLE deliveries RENAME TO elsewhere"))

    with running(make_worker()):
        try:
            wait_until(lambda: bool(lines(logged, "database unavailable, worker backs off")))
        finally:
            with database.writing() as session:
                session.execute(text("ALTER TABLE elsewhere RENAME TO deliveries"))
        sink.wait_for(1)

    assert len(sink.received) == 1


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_worker_stops_without_the_database(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    impatient: Database,
    sink: Sink,
    request: pytest.FixtureRequest,
    logged: pytest.LogCaptureFixture,
) -> None:
    make_delivery(make_endpoint(sink.url()).id)
    answered = threading.Event()
    sink.always(Reply(after=answered))
    worker = make_worker(database=impatient)

    with running(worker) as ran:
        sink.wait_for(1)
        request.getfixturevalue("locked")
        answered.set()
        wait_until(lambda: bool(lines(logged, "database unavailable, worker backs off")))
        worker.stop()
        totals = ran.result(timeout=10)

    (line,) = lines(logged, "stopped without the database, attempts left to their leases")
    assert (totals, line["unsettled"]) == (WorkerTotals(), 1)

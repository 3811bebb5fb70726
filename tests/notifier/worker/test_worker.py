"""The worker against real receivers: delivery, retries, stopping, database failures."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError
from standardwebhooks.webhooks import Webhook

from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import EndpointSecret, Event
from notifier.webhooks import deliveries, endpoints
from notifier.webhooks.circuit_breaker import SHORTEST_PAUSE, BreakerState
from notifier.worker.reporter import WorkerTotals
from tests.faults.processes import wait_until
from tests.notifier.conftest import MINUTE, NINE, SITE, Reply, Sink, Store, running
from tests.notifier.worker.conftest import LinesOf, MakeWorker

BACKS_OFF = "database unavailable, worker backs off"


def test_change_arrives_signed_at_the_receiver(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    endpoint = store.add_endpoint(sink.url())
    store.add_course("Größe-1")
    store.write(courses.delete_course, "Größe-1", now=NINE)

    totals = make_worker().run(once=True)

    (received,), (event,) = sink.received, store.all(Event)
    assert totals == WorkerTotals(delivered=1)
    assert received.body == event.body.encode()
    assert received.headers["webhook-id"] == event.id
    assert abs(int(received.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 10
    assert Webhook(endpoint.secret.reveal()).verify(received.body, received.headers) == {
        "type": "course.deleted",
        "timestamp": "2026-11-22T09:00:00.123456Z",
        "data": {"source": SITE, "course_id": "Größe-1", "course_version": 2},
    }


def test_delivered_event_is_settled_and_logged(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(sink.url("/w?key=1")).id)

    make_worker().run(once=True)

    row, (attempt,) = store.delivery(delivery_id), store.attempts(delivery_id)
    assert (row.status, row.attempts, row.lease_token) == ("delivered", 1, None)
    assert (attempt.status, attempt.failure, attempt.decided) == (200, None, "delivered")
    assert attempt.detail == '{"outcome":"applied"}'
    (line,) = lines_of("event delivered")
    assert {"trace_id", "span_id", "milliseconds"} <= line.keys()
    assert {
        "delivery_id": delivery_id,
        "endpoint_id": row.endpoint_id,
        "webhook_id": row.event_id,
        "event_type": "course.deleted",
        "course_id": "CS101",
        "url": sink.url("/w"),
        "attempt": 1,
        "status": 200,
    }.items() <= line.items()


def test_failure_is_retried_by_the_schedule_and_logged(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    sink.answer(Reply(429, {"Retry-After": "120"}))

    totals = make_worker().run(once=True)

    row, (attempt,) = store.delivery(delivery_id), store.attempts(delivery_id)
    assert (totals, len(sink.received)) == (WorkerTotals(to_retry=1), 1)
    assert (row.status, row.attempts, attempt.decided) == ("pending", 1, "retry")
    assert timedelta(seconds=120) <= row.due_at - attempt.started_at < timedelta(seconds=125)
    (line,) = lines_of("attempt failed, will be retried")
    assert (line["status"], line["attempt"]) == (429, 1)
    assert line["next_step"].startswith("The receiver limits the rate")


def test_retry_has_the_same_id_and_body_and_a_new_signature(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    endpoint = store.add_endpoint(sink.url())
    delivery_id = store.add_delivery(endpoint.id)
    sink.answer(Reply(503))
    make_worker().run(once=True)
    store.write(deliveries.restart, [delivery_id], now=NINE)

    make_worker().run(once=True)

    first, second = sink.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    for received in (first, second):
        assert Webhook(endpoint.secret.reveal()).verify(received.body, received.headers)


def test_final_failure_is_dead_with_its_reason(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    sink.answer(Reply(422, body=b'{"detail":"course_version"}'))

    totals = make_worker().run(once=True)

    row, (attempt,) = store.delivery(delivery_id), store.attempts(delivery_id)
    reason = "the receiver responded with 422: a retry would not help"
    assert totals == WorkerTotals(dead=1)
    assert (row.status, row.reason) == ("dead", reason)
    assert attempt.detail == '{"detail":"course_version"}'
    (line,) = lines_of("delivery is dead")
    assert (line["reason"], line["detail"]) == (reason, attempt.detail)
    assert line["action"] == f"deliveries replay {delivery_id}"


def test_410_disables_the_endpoint_and_holds_the_rest(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    """A 410 disables the endpoint and logs an error; enabling sends what was held (F12)."""
    gone, other = store.add_endpoint(sink.url("/gone")), store.add_endpoint(sink.url("/other"))
    held = store.add_deliveries(gone.id, 2)
    healthy = store.add_delivery(other.id)
    sink.answer(Reply(410), path="/gone")

    totals = make_worker(per_endpoint=1).run(once=True)
    statuses, endpoint = store.statuses(*held, healthy), store.endpoint(gone.id)
    store.write(endpoints.enable, gone.id, now=NINE)
    totals_once_enabled = make_worker().run(once=True)

    assert (totals, statuses) == (
        WorkerTotals(delivered=1, held=1),
        ["held", "held", "delivered"],
    )
    assert endpoint.disabled_at is not None
    assert endpoint.disabled_reason == "the receiver no longer accepts events (410 Gone)"
    (line,) = lines_of("endpoint disabled, its deliveries held")
    assert line["action"] == f"endpoints enable {gone.id}"
    assert totals_once_enabled == WorkerTotals(delivered=2)
    sent = [one.headers["webhook-id"] for one in sink.received if one.path == "/gone"]
    assert (len(sent), len(set(sent))) == (3, 2)


def test_slow_endpoint_does_not_delay_another(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """Another endpoint gets all its deliveries while a slow one uses its slots (F25)."""
    slow, quick = store.add_endpoint(sink.url("/slow")), store.add_endpoint(sink.url("/quick"))
    first = store.add_delivery(slow.id)
    answered = threading.Event()

    with running(make_worker(threads=4, per_endpoint=2)):
        wait_until(lambda: store.statuses(first) == ["delivered"], "it is not new")
        sink.always(Reply(after=answered), "/slow")
        store.add_deliveries(slow.id, 6, due_at=NINE - MINUTE)
        store.add_deliveries(quick.id, 20)
        sink.wait_for(20, "/quick")
        waiting = len(sink.wait_for(3, "/slow")) - 1
        answered.set()
        sink.wait_for(7, "/slow")

    assert waiting == 2


def test_endpoints_with_nothing_due_do_not_delay_another(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """They fill a page of the search, and the worker does not wait for its next poll."""
    for _ in range(64):
        store.add_delivery(store.add_endpoint(disabled=True).id)
    store.add_deliveries(store.add_endpoint(sink.url()).id, 6)

    with running(make_worker(per_endpoint=1, poll_seconds=60)):
        received = sink.wait_for(6)

    assert len(received) == 6


def test_neither_a_backlog_nor_new_events_wait_for_the_others(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """A turn claims what has been due for longest or what became due last, as chance decides."""
    endpoint = store.add_endpoint(sink.url())
    ids = [store.add_delivery(endpoint.id, due_at=NINE + n * MINUTE) for n in range(99)]
    sink.always(Reply(503))  # nothing is claimed ahead for an endpoint that fails

    for _ in range(5):
        make_worker().run(once=True)
        store.set_state(endpoint.id, BreakerState())

    assert store.attempts(ids[0])
    assert store.attempts(ids[-1])


def test_single_attempt_tries_an_endpoint_after_its_pause(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    endpoint, now = store.add_endpoint(sink.url()), datetime.now(UTC)
    store.set_state(endpoint.id, BreakerState(5, now, now, now))
    store.add_deliveries(endpoint.id, 9)
    sink.always(Reply(503))

    totals = make_worker().run(once=True)

    row = store.endpoint(endpoint.id)
    assert (totals, len(sink.received)) == (WorkerTotals(to_retry=1), 1)
    assert (row.failures, row.paused_until) == (6, row.failed_at + SHORTEST_PAUSE)


def test_stop_finishes_attempts_and_claims_no_more(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """`stop` settles attempts in progress and leaves everything else (F8)."""
    both = [store.add_endpoint(sink.url(path)).id for path in ("/one", "/other")]
    ids = [one for endpoint_id in both for one in store.add_deliveries(endpoint_id, 3)]
    answered = threading.Event()
    for path in ("/one", "/other"):
        sink.always(Reply(after=answered), path)
    one = make_worker()

    with running(one) as ran:
        sink.wait_for(2)
        one.stop()
        ended_early = ran.done()
        answered.set()
        totals = ran.result(timeout=10)

    assert not ended_early
    assert (totals, len(sink.received)) == (WorkerTotals(delivered=2), 2)
    rows = [store.delivery(each) for each in ids]
    assert sorted((row.status, row.attempts, row.lease_token) for row in rows) == [
        *[("delivered", 1, None)] * 2,
        *[("pending", 0, None)] * 4,
    ]


def test_stop_of_an_idle_worker_is_prompt(store: Store, make_worker: MakeWorker) -> None:
    one, before = make_worker(poll_seconds=60), store.database.statements

    with running(one) as ran:
        wait_until(lambda: store.database.statements > before, "the worker looks for work")
        one.stop()
        assert ran.result(timeout=5) == WorkerTotals()


def test_expired_claim_is_sent_by_the_next_worker(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    """A delivery that was claimed and never settled is sent by another worker (F3, F4)."""
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    store.claim()

    totals = make_worker().run(once=True)

    assert (totals, len(sink.received)) == (WorkerTotals(delivered=1, to_retry=1), 1)
    decided = [(one.failure, one.decided) for one in store.attempts(delivery_id)]
    assert decided == [("worker-lost", "retry"), (None, "delivered")]
    assert [line["failure"] for line in lines_of("attempt failed, will be retried")] == [
        "worker-lost"
    ]


def test_suspects_are_sent_one_at_a_time(store: Store, make_worker: MakeWorker, sink: Sink) -> None:
    """One of them may end the worker, and would take the others with it (F9)."""
    suspected, other = store.add_endpoint(sink.url("/suspected")), store.add_endpoint(sink.url("/"))
    suspects = store.add_deliveries(suspected.id, 3, lost_claims=2)
    answered = threading.Event()
    sink.always(Reply(after=answered), "/suspected")

    with running(make_worker()):
        sink.wait_for(1, "/suspected")
        store.add_deliveries(other.id, 9)
        sink.wait_for(9, "/")
        sent_at_once = len(sink.wait_for(1, "/suspected"))
        answered.set()
        wait_until(lambda: store.statuses(*suspects) == ["delivered"] * 3, "all are delivered")

    assert sent_at_once == 1


def test_unreadable_secret_is_a_failed_attempt(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    strange = Vault(SecretStr(Fernet.generate_key().decode()))
    encrypted = store.add_delivery(store.add_endpoint(sink.url("/encrypted"), vault=strange).id)
    healthy = store.add_delivery(store.add_endpoint(sink.url("/healthy")).id)

    totals = make_worker().run(once=True)

    assert totals == WorkerTotals(delivered=1, to_retry=1)
    assert [received.path for received in sink.received] == ["/healthy"]
    assert store.statuses(encrypted, healthy) == ["pending", "delivered"]
    (attempt,) = store.attempts(encrypted)
    assert (attempt.status, attempt.failure) == (None, "secret-unreadable")
    assert attempt.detail == (
        "a stored secret was encrypted with a key that is not in the settings; "
        "Add the key that encrypted it to the list of encryption keys again."
    )


def test_unexpected_error_is_a_failed_attempt(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    no_secret = update(EndpointSecret).values(expires_at=NINE)
    store.write(lambda session: session.execute(no_secret))

    totals = make_worker().run(once=True)

    assert (totals, sink.connections) == (WorkerTotals(to_retry=1), 0)
    (attempt,) = store.attempts(delivery_id)
    assert (attempt.failure, attempt.detail) == ("internal", "ValueError")
    assert len(lines_of("attempt failed unexpectedly")) == 1


def lock(url: str) -> sqlite3.Connection:
    """Lock a SQLite file until the returned connection is closed."""
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


@pytest.fixture
def impatient(database_url: str) -> Iterator[Database]:
    """The same database with a time-out of 0.05 s."""
    opened = Database(database_url, timeout=0.05)
    yield opened
    opened.dispose()


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_worker_waits_for_a_locked_database(
    store: Store,
    make_worker: MakeWorker,
    impatient: Database,
    sink: Sink,
    database_url: str,
    lines_of: LinesOf,
) -> None:
    """The worker backs off while the database is locked, then claims and settles (F27)."""
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    answered = threading.Event()
    sink.always(Reply(after=answered))

    with closing(lock(database_url)) as held, running(make_worker(database=impatient)):
        wait_until(lambda: lines_of(BACKS_OFF), "the worker backs off")
        sent_while_locked = len(sink.received)
        held.close()
        sink.wait_for(1)
        before = len(lines_of(BACKS_OFF))
        with closing(lock(database_url)):
            answered.set()
            wait_until(lambda: len(lines_of(BACKS_OFF)) > before, "the worker backs off")
        wait_until(lambda: store.statuses(delivery_id) == ["delivered"], "it is delivered")

    assert (sent_while_locked, len(sink.received)) == (0, 1)
    line = lines_of(BACKS_OFF)[0]
    assert (line["cause"], line["seconds"]) == ("database is locked", 0.5)
    assert line["next_step"] == "Check that the database is running; nothing is lost meanwhile."


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_locked_database_ends_a_run_with_once(
    store: Store, make_worker: MakeWorker, impatient: Database, sink: Sink, database_url: str
) -> None:
    store.add_delivery(store.add_endpoint(sink.url()).id)

    with closing(lock(database_url)), pytest.raises(OperationalError, match="database is locked"):
        make_worker(database=impatient).run(once=True)

    assert sink.received == []


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_worker_stops_without_the_database(
    store: Store,
    make_worker: MakeWorker,
    impatient: Database,
    sink: Sink,
    database_url: str,
    lines_of: LinesOf,
) -> None:
    store.add_delivery(store.add_endpoint(sink.url()).id)
    answered = threading.Event()
    sink.always(Reply(after=answered))
    worker = make_worker(database=impatient)

    with running(worker) as ran:
        sink.wait_for(1)
        with closing(lock(database_url)):
            answered.set()
            wait_until(lambda: lines_of(BACKS_OFF), "the worker backs off")
            worker.stop()
            totals = ran.result(timeout=10)

    (line,) = lines_of("stopped without the database, attempts left to their leases")
    assert (totals, line["unsettled"]) == (WorkerTotals(), 1)


def test_worker_survives_a_missing_table(
    store: Store, make_worker: MakeWorker, sink: Sink, lines_of: LinesOf
) -> None:
    """A missing table is a database error and does not end the worker (F28)."""

    def rename(old: str, new: str) -> None:
        statement = text(f"ALTER TABLE {old} RENAME TO {new}")
        store.write(lambda session: session.execute(statement))

    store.add_delivery(store.add_endpoint(sink.url()).id)
    rename("deliveries", "elsewhere")

    with running(make_worker()):
        try:
            wait_until(lambda: lines_of(BACKS_OFF), "the worker backs off")
        finally:
            rename("elsewhere", "deliveries")
        sink.wait_for(1)

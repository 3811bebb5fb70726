"""Heartbeats: when one is due, that a fleet sends each once, and what a failed one leaves."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest
from sqlalchemy import update

from foundation.db import counters
from foundation.db import session as db
from notifier.config import Settings
from notifier.models import CounterShard, DeliveryStatus, Endpoint, EndpointPing
from notifier.monitoring.endpoint_status import EndpointStatus, status_details
from notifier.services import Services
from notifier.webhooks import endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.worker.heartbeat import Heartbeats, take_due
from tests.faults.processes import wait_until
from tests.notifier.conftest import NINE, SITE, Reply, Sink, Store, running
from tests.notifier.worker.conftest import LinesOf, MakeWorker

HOUR = timedelta(hours=1)
MakeHeartbeats = Callable[[], Heartbeats]


@pytest.fixture
def make_heartbeats(store: Store) -> MakeHeartbeats:
    """Return a function that makes hourly heartbeats of a site that may send to this machine."""

    def make() -> Heartbeats:
        settings = Settings(
            _env_file=None,
            admin_key="x" * 32,
            encryption_keys="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            allow_loopback=True,
            source=SITE,
            attempt_deadline=30.0,
            connect_timeout=30.0,
        )
        return Heartbeats(Services(settings, store.database, store.vault), HOUR)

    return make


def take(store: Store, now: datetime, *, interval: timedelta = HOUR, jitter: float = 1.0) -> int:
    """Return the number of heartbeats that are due."""
    return len(store.write(take_due, interval, jitter=lambda: jitter, now=now))


def test_heartbeat_is_due_once_in_an_interval_and_the_first_after_one(store: Store) -> None:
    store.add_endpoint()

    due = [take(store, NINE + HOUR * hours) for hours in (0.0, 0.99, 1.0, 1.1, 1.89, 1.9, 2.0)]

    assert due == [0, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(("jitter", "hours"), [(0.0, 0.8), (1.0, 0.9)], ids=["least", "most"])
def test_jitter_makes_it_earlier(store: Store, jitter: float, hours: float) -> None:
    made = store.add_endpoint()

    take(store, NINE + HOUR, jitter=jitter)

    assert store.endpoint(made.id).heartbeat_due_at == NINE + HOUR + HOUR * hours


def tell(store: Store, endpoint_id: int, seconds: int = 3600) -> None:
    """Let a heartbeat with this interval be accepted."""
    values = update(Endpoint).where(Endpoint.id == endpoint_id).values(heartbeat_seconds=seconds)
    store.write(lambda session: session.execute(values))


def test_event_that_was_delivered_is_a_heartbeat(store: Store) -> None:
    made, delivered = store.add_endpoint(), {"status": DeliveryStatus.DELIVERED}
    tell(store, made.id)
    store.add_delivery(made.id, occurred_at=NINE + HOUR / 2, **delivered)
    store.add_delivery(made.id, occurred_at=NINE + HOUR, status=DeliveryStatus.PENDING)

    due = [take(store, NINE + HOUR * hours) for hours in (1.0, 1.39, 1.41)]

    assert due == [0, 0, 1]


@pytest.mark.parametrize("told", [None, 1800], ids=["never told", "told another"])
def test_event_is_no_heartbeat_until_the_interval_is_told(store: Store, told: int | None) -> None:
    made = store.add_endpoint()
    if told:
        tell(store, made.id, told)
    store.add_delivery(made.id, occurred_at=NINE + HOUR, status=DeliveryStatus.DELIVERED)

    before = take(store, NINE + HOUR)
    tell(store, made.id)
    store.add_delivery(made.id, occurred_at=NINE + 1.9 * HOUR, status=DeliveryStatus.DELIVERED)

    assert (before, take(store, NINE + 1.9 * HOUR)) == (1, 0)


def test_interval_is_told_again_after_a_rotation(store: Store) -> None:
    made = store.add_endpoint()
    tell(store, made.id)
    store.add_delivery(made.id, occurred_at=NINE + HOUR, status=DeliveryStatus.DELIVERED)

    store.write(endpoints.rotate_secret, made.id, overlap=HOUR, vault=store.vault, now=NINE)

    assert take(store, NINE + HOUR) == 1


def test_longer_interval_is_told_before_the_shorter_one_is_over(store: Store) -> None:
    made = store.add_endpoint()
    tell(store, made.id)
    take(store, NINE + HOUR)

    due = [take(store, NINE + HOUR * hours, interval=6 * HOUR) for hours in (1.8, 1.9, 2.7, 2.8)]
    tell(store, made.id, 6 * 3600)
    due += [take(store, NINE + HOUR * hours, interval=6 * HOUR) for hours in (3.7, 8.9, 9.1)]

    assert due == [0, 1, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("disabled", [True, False], ids=["disabled", "removed"])
def test_only_enabled_endpoints_are_sent_heartbeats(store: Store, disabled: bool) -> None:
    made = store.add_endpoint(disabled=disabled)
    if not disabled:
        store.write(endpoints.remove, made.id, by="ada", now=NINE)

    assert take(store, NINE + 9 * HOUR) == 0


def test_shorter_interval_counts_at_once(store: Store) -> None:
    store.add_endpoint()
    take(store, NINE + HOUR)

    assert take(store, NINE + HOUR, interval=HOUR / 60) == 1


def test_workers_do_not_send_the_same_heartbeat(
    store: Store, make_heartbeats: MakeHeartbeats
) -> None:
    expected = sorted(store.add_endpoint().id for _ in range(20))
    start = threading.Barrier(4)

    def take_all(one: Heartbeats) -> list[int]:
        start.wait()
        return [endpoint_id for _ in range(20) for endpoint_id in one.take_due()]

    with ThreadPoolExecutor(4) as pool:
        taken = [*pool.map(take_all, [make_heartbeats() for _ in range(4)])]

    assert sorted(one for some in taken for one in some) == expected


def test_heartbeat_says_its_interval_and_a_failed_one_is_a_failed_ping(
    store: Store,
    make_worker: MakeWorker,
    make_heartbeats: MakeHeartbeats,
    sink: Sink,
    lines_of: LinesOf,
) -> None:
    made = store.add_endpoint(sink.url())
    sink.answer(Reply(401, body=b"no secret matches"))
    worker = make_worker()
    worker.heartbeats = make_heartbeats()

    with running(worker):
        wait_until(lambda: store.all(EndpointPing), "the heartbeat is stored")

    counted = store.read(counters.read, CounterShard)
    assert counted["notifier_heartbeats_total", "failed"] == 1
    (received,), (ping,) = sink.received, store.all(EndpointPing)
    assert json.loads(received.body)["type"] == "endpoint.ping"
    assert json.loads(received.body)["data"] == {"source": SITE, "heartbeat_seconds": 3600}
    assert (ping.status, ping.accepted) == (401, False)
    assert status_details(store.endpoint(made.id)).status is EndpointStatus.FAILING
    (line,) = lines_of("heartbeat not accepted")
    assert (line["log_level"], line["cause"]) == ("warning", "401 no secret matches")
    assert "secret" in line["next_step"]


def test_slow_endpoint_does_not_hold_up_deliveries(
    store: Store, make_worker: MakeWorker, make_heartbeats: MakeHeartbeats, sink: Sink
) -> None:
    slow, released = store.add_endpoint(sink.url("/slow")), threading.Event()
    sink.always(Reply(after=released), "/slow")
    worker = make_worker()
    worker.heartbeats = make_heartbeats()

    with running(worker):
        sink.wait_for(1, "/slow")
        delivery_id = store.add_delivery(store.add_endpoint(sink.url(), now=datetime.now(UTC)).id)
        worker.wake()
        wait_until(lambda: store.statuses(delivery_id) == ["delivered"], "the delivery")
        unfinished = store.all(EndpointPing)
        released.set()

    assert unfinished == []
    assert [ping.endpoint_id for ping in store.all(EndpointPing)] == [slow.id]


def test_failing_endpoints_that_time_out_do_not_hold_up_heartbeats(
    store: Store, make_worker: MakeWorker, make_heartbeats: MakeHeartbeats, sink: Sink
) -> None:
    released = threading.Event()
    for number in range(10):
        sink.always(Reply(after=released), f"/slow/{number}")
        slow = store.add_endpoint(sink.url(f"/slow/{number}"))
        store.set_state(slow.id, BreakerState(1, NINE, NINE))
    healthy = store.add_endpoint(sink.url())
    worker = make_worker()
    worker.heartbeats = make_heartbeats()

    with running(worker):
        wait_until(lambda: store.all(EndpointPing), "the heartbeat of the healthy endpoint")
        accepted = [ping.endpoint_id for ping in store.all(EndpointPing)]
        released.set()

    assert accepted == [healthy.id]


def test_single_run_sends_no_heartbeats(
    store: Store, make_worker: MakeWorker, make_heartbeats: MakeHeartbeats, sink: Sink
) -> None:
    store.add_endpoint(sink.url())
    worker = make_worker()
    worker.heartbeats = make_heartbeats()

    worker.run(once=True)

    assert sink.received == []
    assert take(store, store.read(db.now)) == 1


def test_shortage_of_threads_costs_the_heartbeats_of_one_check(
    store: Store, make_heartbeats: MakeHeartbeats, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(16):
        store.add_endpoint()
    heartbeats = make_heartbeats()
    monkeypatch.setattr(heartbeats._stopped, "wait", lambda _: heartbeats.stop())
    monkeypatch.setattr(ThreadPoolExecutor, "submit", Mock(side_effect=RuntimeError))

    heartbeats._run(is_failing=False)

    assert take(store, store.read(db.now)) == 8

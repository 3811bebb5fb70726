"""The whole retry schedule, more than 75 hours, to the microsecond."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from notifier.worker.worker import Worker, WorkerOptions
from tests.faults.model import WAITS
from tests.notifier.conftest import (  # noqa: F401 - fixtures
    NINE,
    Reply,
    Sink,
    Store,
    database,
    make_sink,
    make_transport,
    shared_database,
    sink,
    store,
    subscribed,
    vault,
)

DUE = [NINE + one for one in accumulate(WAITS, initial=timedelta(0))]
INSTANT = timedelta(microseconds=1)
LEASE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    """A clock that only a test moves; PostgreSQL has its own, so it needs SQLite."""
    with freeze_time(NINE) as frozen:
        yield frozen


@pytest.fixture
def worker(
    store: Store,  # noqa: F811
    make_transport: Callable[..., Transport],  # noqa: F811
) -> Worker:
    """A worker without jitter."""
    options = WorkerOptions(threads=2, per_endpoint=2, lease=LEASE, poll_seconds=0.01)
    return Worker(store.database, store.vault, make_transport(connections=2), options, lambda: 0.0)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("status", [pytest.param(500, id="retried"), pytest.param(422, id="dead")])
def test_worker_keeps_the_schedule(
    store: Store,  # noqa: F811
    worker: Worker,
    sink: Sink,  # noqa: F811
    clock: FrozenDateTimeFactory,
    status: int,
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    sink.always(Reply(status))
    sent_before = []

    for due in DUE:
        clock.move_to(due - INSTANT)
        worker.run(once=True)
        sent_before.append(len(sink.received))
        clock.move_to(due)
        worker.run(once=True)

    expected = DUE if status == 500 else DUE[:1]
    row = store.delivery(delivery_id)
    assert [one.started_at for one in store.attempts(delivery_id)] == expected
    assert sent_before == [min(number, len(expected)) for number in range(10)]
    assert (row.status, row.attempts, row.settled_at) == ("dead", len(expected), expected[-1])
    assert timedelta(hours=75) < DUE[-1] - NINE < timedelta(hours=76)


def test_schedule_follows_the_database_clock(store: Store) -> None:  # noqa: F811
    endpoint_id = store.add_endpoint().id
    delivery_id = store.add_delivery(endpoint_id)
    claimed: list[Any] = []

    def claims_at(now: datetime, *finished: Finished) -> int:
        def limits(states: Any) -> ClaimLimits:
            paused = states[endpoint_id].is_paused(now)
            return ClaimLimits(1, 1, 1, {} if paused else {endpoint_id: EndpointLimit(1, 1)})

        terms = BatchSettings(LEASE, timedelta(days=5), lambda: 0.0)
        claimed[:] = store.write(batch.process_batch, finished, limits, terms, now=now).claimed
        return len(claimed)

    counts = []
    for now in DUE:
        counts.append((claims_at(now - INSTANT), claims_at(now)))
        claims_at(now, Finished(claimed[0], now.astimezone(UTC), 1, WebhookResponse(500)))

    row = store.delivery(delivery_id)
    assert counts == [(0, 1)] * 10
    assert (row.status, row.attempts, row.settled_at) == ("dead", 10, DUE[-1])

"""The whole retry schedule, more than 75 hours, to the microsecond."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from foundation.db.session import Database
from notifier.models import Attempt, Delivery
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from notifier.worker.worker import Worker, WorkerOptions
from tests.faults.model import WAITS
from tests.notifier.conftest import (  # noqa: F401 - fixtures
    NINE,
    MakeDelivery,
    MakeEndpoint,
    Reply,
    Sink,
    attempts_of,
    database,
    database_url,
    delivery_of,
    make_delivery,
    make_endpoint,
    make_sink,
    make_transport,
    sink,
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
    database: Database,  # noqa: F811
    vault: Any,  # noqa: F811
    make_transport: Callable[..., Transport],  # noqa: F811
) -> Worker:
    """A worker without jitter."""
    options = WorkerOptions(threads=2, per_endpoint=2, lease=LEASE, poll_seconds=0.01)
    return Worker(database, vault, make_transport(connections=2), options, lambda: 0.0)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("status", [pytest.param(500, id="retried"), pytest.param(422, id="dead")])
def test_worker_keeps_the_schedule(
    make_endpoint: MakeEndpoint,  # noqa: F811
    make_delivery: MakeDelivery,  # noqa: F811
    worker: Worker,
    sink: Sink,  # noqa: F811
    delivery_of: Callable[[int], Delivery],  # noqa: F811
    attempts_of: Callable[[int], list[Attempt]],  # noqa: F811
    clock: FrozenDateTimeFactory,
    status: int,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    sink.always(Reply(status))
    sent_before = []

    for due in DUE:
        clock.move_to(due - INSTANT)
        worker.run(once=True)
        sent_before.append(len(sink.received))
        clock.move_to(due)
        worker.run(once=True)

    expected = DUE if status == 500 else DUE[:1]
    row = delivery_of(delivery_id)
    assert [one.started_at for one in attempts_of(delivery_id)] == expected
    assert sent_before == [min(number, len(expected)) for number in range(10)]
    assert (row.status, row.attempts, row.settled_at) == ("dead", len(expected), expected[-1])
    assert timedelta(hours=75) < DUE[-1] - NINE < timedelta(hours=76)


def test_schedule_follows_the_database_clock(
    database: Database,  # noqa: F811
    make_endpoint: MakeEndpoint,  # noqa: F811
    make_delivery: MakeDelivery,  # noqa: F811
    delivery_of: Callable[[int], Delivery],  # noqa: F811
) -> None:
    endpoint_id = make_endpoint().id
    delivery_id = make_delivery(endpoint_id)
    claimed: list[Any] = []

    def claims_at(now: datetime, *finished: Finished) -> int:
        def limits(states: Any) -> ClaimLimits:
            paused = states[endpoint_id].is_paused(now)
            return ClaimLimits(1, 1, 1, {} if paused else {endpoint_id: EndpointLimit(1, 1)})

        with database.writing() as session:
            terms = BatchSettings(LEASE, timedelta(days=5), lambda: 0.0)
            claimed[:] = batch.process_batch(session, finished, limits, terms, now=now).claimed
        return len(claimed)

    counts = []
    for now in DUE:
        counts.append((claims_at(now - INSTANT), claims_at(now)))
        claims_at(now, Finished(claimed[0], now.astimezone(UTC), 1, WebhookResponse(500)))

    row = delivery_of(delivery_id)
    assert counts == [(0, 1)] * 10
    assert (row.status, row.attempts, row.settled_at) == ("dead", 10, DUE[-1])

"""The whole retry schedule, 75 hours and more, to the second."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from foundation.db.session import Database
from notifier.models import Attempt, Delivery, Endpoint
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from notifier.worker.worker import Worker, WorkerOptions
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint, Reply, Sink

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LEASE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)

# Written out, not taken from the code: the waits of Standard Webhooks 1.0.
WAITS = tuple(
    timedelta(seconds=one) for one in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
)
WHOLE = timedelta(hours=75, minutes=35, seconds=5)
CAP = timedelta(hours=24)

FrozenClock = FrozenDateTimeFactory
MakeWorker = Callable[..., Worker]


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    """A clock that stands at nine and goes when it is told to."""
    with freeze_time(NINE) as frozen:
        yield frozen


@pytest.fixture
def make_worker(
    database: Database, vault: Any, make_transport: Callable[..., Transport]
) -> MakeWorker:
    """Return what makes a worker; without jitter, unless that is given."""

    def make(jitter: float = 0.0) -> Worker:
        options = WorkerOptions(threads=2, per_endpoint=2, lease=LEASE, poll_seconds=0.01)
        return Worker(database, vault, make_transport(connections=2), options, lambda: jitter)

    return make


def moments(attempts: list[Attempt]) -> list[timedelta]:
    """Return how long after nine each attempt was made."""
    return [one.started_at - NINE for one in attempts]


def sums(waits: tuple[timedelta, ...]) -> list[timedelta]:
    """Return when attempts come that are so far apart, from the first on."""
    return [sum(waits[:count], timedelta(0)) for count in range(len(waits) + 1)]


# SQLite's clock is this machine's, which can be frozen; PostgreSQL's is its own, told below.
on_a_frozen_clock = pytest.mark.parametrize("database_kind", ["sqlite"])


@on_a_frozen_clock
def test_schedule_is_kept_to_the_second(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: Callable[[int], Delivery],
    attempts_of: Callable[[int], list[Attempt]],
    endpoint_of: Callable[[int], Endpoint],
    clock: FrozenClock,
) -> None:
    """Ten attempts over 75 h 35 min 5 s, each at its instant, none before; then dead (F11).

    The endpoint's pauses, which begin with the fifth failure, shift none of them.
    """
    endpoint = make_endpoint(sink.url())
    delivery_id = make_delivery(endpoint.id)
    sink.always(Reply(500))
    worker = make_worker()
    early, paused = [], []

    for due in sums(WAITS):
        clock.move_to(NINE + due - INSTANT)
        worker.run(once=True)
        early.append(len(sink.heard))
        clock.move_to(NINE + due)
        worker.run(once=True)
        paused.append(endpoint_of(endpoint.id).paused_until is not None)

    assert early == list(range(10))
    assert moments(attempts_of(delivery_id)) == sums(WAITS)
    assert sums(WAITS)[-1] == WHOLE
    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.settled_at) == ("dead", 10, NINE + WHOLE)
    assert row.reason == "10 attempts failed, the last with status 500"
    assert [one.decided for one in attempts_of(delivery_id)] == ["retry"] * 9 + ["dead"]
    assert paused == [False] * 4 + [True] * 6


@on_a_frozen_clock
def test_each_attempt_is_signed_for_its_own_time(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    clock: FrozenClock,
) -> None:
    make_delivery(make_endpoint(sink.url()).id)
    sink.always(Reply(500))
    worker = make_worker()

    for due in sums(WAITS):
        clock.move_to(NINE + due)
        worker.run(once=True)

    stamps = [int(heard.headers["webhook-timestamp"]) for heard in sink.heard]
    assert stamps == [int((NINE + due).timestamp()) for due in sums(WAITS)]
    assert len({(heard.headers["webhook-id"], heard.body) for heard in sink.heard}) == 1
    assert len({heard.headers["webhook-signature"] for heard in sink.heard}) == 10


@on_a_frozen_clock
@pytest.mark.parametrize(
    "jitter", [pytest.param(0.5, id="half of it"), pytest.param(1.0, id="all of it")]
)
def test_jitter_is_only_added(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    attempts_of: Callable[[int], list[Attempt]],
    clock: FrozenClock,
    jitter: float,
) -> None:
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    sink.always(Reply(500))
    worker = make_worker(jitter)
    waits = tuple(wait * (1 + jitter / 10) for wait in WAITS)

    for due in sums(waits):
        clock.move_to(NINE + due - INSTANT)
        worker.run(once=True)
        clock.move_to(NINE + due)
        worker.run(once=True)

    assert moments(attempts_of(delivery_id)) == sums(waits)


RETRY_AFTER = [
    pytest.param(None, WAITS[0], id="none"),
    pytest.param("", WAITS[0], id="empty"),
    pytest.param("0", WAITS[0], id="nought"),
    pytest.param("4", WAITS[0], id="less than the schedule's wait"),
    pytest.param("120", timedelta(minutes=2), id="two minutes"),
    pytest.param("86400", CAP, id="a day"),
    pytest.param("86401", CAP, id="more than a day"),
    pytest.param("9" * 30, CAP, id="30 digits"),
    pytest.param("-1", WAITS[0], id="negative"),
    pytest.param("1.5", WAITS[0], id="a fraction"),
    pytest.param("1e300", WAITS[0], id="1e300"),
    pytest.param("inf", WAITS[0], id="inf"),
    pytest.param("nan", WAITS[0], id="nan"),
    pytest.param("soon", WAITS[0], id="a word"),
    pytest.param("120, 240", WAITS[0], id="two at once"),
    pytest.param("Sun, 22 Nov 2026 09:10:00 GMT", 600 * SECOND - NINE.microsecond * INSTANT,
                 id="a date"),
    pytest.param("Sunday, 22-Nov-26 09:10:00 GMT", 600 * SECOND - NINE.microsecond * INSTANT,
                 id="a date of RFC 850"),
    pytest.param(format_datetime(NINE - HOUR), WAITS[0], id="a date in the past"),
    pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", CAP, id="a date in the year 9999"),
    pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", CAP, id="a date that leaves the calendar"),
    pytest.param("Sun, 99 Nov 2026 99:99:99 GMT", WAITS[0], id="a date that is none"),
]  # fmt: skip


@on_a_frozen_clock
@pytest.mark.parametrize(("retry_after", "wait"), RETRY_AFTER)
def test_retry_after_pushes_out_and_never_pulls_in(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    attempts_of: Callable[[int], list[Attempt]],
    clock: FrozenClock,
    retry_after: str | None,
    wait: timedelta,
) -> None:
    """However `Retry-After` is written, the second attempt comes at its instant (F11)."""
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    sink.answer(Reply(429, headers))
    worker = make_worker()
    worker.run(once=True)

    clock.move_to(NINE + wait - INSTANT)
    worker.run(once=True)
    before = len(sink.heard)
    clock.move_to(NINE + wait)
    worker.run(once=True)

    assert before == 1
    assert moments(attempts_of(delivery_id)) == [timedelta(0), wait]
    assert [one.decided for one in attempts_of(delivery_id)] == ["retry", "delivered"]


@on_a_frozen_clock
@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_what_a_retry_cannot_help_is_never_tried_again(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    delivery_of: Callable[[int], Delivery],
    clock: FrozenClock,
    status: int,
) -> None:
    """A refusal of the event is its end, with the receiver's reason, for all of 76 hours (F14)."""
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    sink.answer(Reply(status, {"Retry-After": "1"}, b"no such course"))
    worker = make_worker()
    worker.run(once=True)

    for due in (*sums(WAITS)[1:], WHOLE + HOUR):
        clock.move_to(NINE + due)
        worker.run(once=True)

    row = delivery_of(delivery_id)
    assert (len(sink.heard), row.status) == (1, "dead")
    assert row.reason == f"the receiver responded with {status}: a retry would not help"


@on_a_frozen_clock
@pytest.mark.parametrize("status", [401, 403, 404, 408, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_worker: MakeWorker,
    sink: Sink,
    attempts_of: Callable[[int], list[Attempt]],
    clock: FrozenClock,
    status: int,
) -> None:
    """What somebody may mend is tried by the schedule, and can yet be delivered (F11, F14)."""
    delivery_id = make_delivery(make_endpoint(sink.url()).id)
    sink.answer(Reply(status), Reply(status), Reply(status))
    worker = make_worker()

    for due in sums(WAITS)[:4]:
        clock.move_to(NINE + due)
        worker.run(once=True)

    assert moments(attempts_of(delivery_id)) == sums(WAITS)[:4]
    assert [one.decided for one in attempts_of(delivery_id)] == ["retry"] * 3 + ["delivered"]


def test_schedule_is_kept_by_the_database_clock(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
) -> None:
    """On either database a turn claims at each instant of the schedule, never before it (F11)."""
    endpoint_id = make_endpoint().id
    delivery_id = make_delivery(endpoint_id)
    by_endpoint = {endpoint_id: EndpointLimit(1, 1)}
    terms = BatchSettings(LEASE, timedelta(days=5), lambda: 0.0)
    claimed = []

    def turn_at(now: datetime, *finished: Finished) -> int:
        def limits(states: Any) -> ClaimLimits:
            return ClaimLimits(1, 1, 1, {} if states[endpoint_id].is_paused(now) else by_endpoint)

        with database.writing() as session:
            claimed[:] = batch.process_batch(session, finished, limits, terms, now=now).claimed
        return len(claimed)

    counts = []
    for due in sums(WAITS):
        now = NINE + due
        counts.append((turn_at(now - INSTANT), turn_at(now)))
        turn_at(now, Finished(claimed[0], now.astimezone(UTC), 1, WebhookResponse(500)))

    assert counts == [(0, 1)] * 10
    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.settled_at) == ("dead", 10, NINE + WHOLE)

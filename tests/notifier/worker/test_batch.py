"""A batch of a worker: settlements, breaker states, operational events."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from contract.events import OPERATIONAL_TYPES
from foundation.db.session import Database
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event, Lane
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import PAUSED_AFTER, SHORTEST_PAUSE, BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import MAX_ATTEMPTS, Failure, WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchResult, BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from tests.notifier.conftest import NINE, SITE, MakeDelivery, MakeEndpoint

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)
SETTINGS = BatchSettings(MINUTE, 5 * DAY, lambda: 0.0)
REFUSED = Failure("refused", "connection refused")

Process = Callable[..., BatchResult]
DeliveryOf = Callable[[int], Delivery]
EndpointOf = Callable[[int], Endpoint]


def all_limits(states: Mapping[int, BreakerState]) -> ClaimLimits:
    """Return limits of one for half-open endpoints and 100 for others; none for paused ones."""
    by_endpoint = {
        endpoint_id: EndpointLimit(1, 1) if each.is_half_open(NINE) else EndpointLimit(100, 100)
        for endpoint_id, each in states.items()
        if not each.is_paused(NINE)
    }
    return ClaimLimits(100, 100, 100, by_endpoint)


def no_limits(_: Mapping[int, BreakerState]) -> ClaimLimits:
    """Return limits of zero."""
    return ClaimLimits(0, 0, 0, {})


@pytest.fixture
def process(database: Database) -> Process:
    """Return a function that processes a batch at nine with a result for each claim."""

    def one(
        *finished: tuple[Claimed, WebhookResponse | Failure], limits: Any = no_limits, **given: Any
    ) -> BatchResult:
        made = [Finished(claimed, NINE, 12, result) for claimed, result in finished]
        with database.writing() as session:
            return batch.process_batch(session, made, limits, SETTINGS, **{"now": NINE, **given})

    return one


@pytest.fixture
def operational_events(database: Database) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads the operational events that were written, oldest first."""

    def read() -> list[dict[str, Any]]:
        query = select(Event.body).where(Event.type.in_(OPERATIONAL_TYPES))
        with database.reading() as session:
            return [json.loads(body) for body in session.scalars(query.order_by(Event.id))]

    return read


def set_state(database: Database, endpoint_id: int, states: BreakerState) -> None:
    """Write an endpoint's breaker state."""
    with database.writing() as session:
        circuit_breaker.write_states(session, {endpoint_id: states})


def test_pause_uses_up_no_attempts(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
    endpoint_of: EndpointOf,
    delivery_of: DeliveryOf,
) -> None:
    """After five failures the other deliveries stay due and unattempted (F11)."""
    endpoint, well = make_endpoint(), make_endpoint()
    for _ in range(PAUSED_AFTER):
        make_delivery(endpoint.id)
    failed = claim()
    waiting, flowing = make_delivery(endpoint.id), make_delivery(well.id)

    done = process(*((one, REFUSED) for one in failed), limits=all_limits)

    row = endpoint_of(endpoint.id)
    assert (row.failures, row.failing_since) == (5, NINE)
    assert row.paused_until == NINE + SHORTEST_PAUSE
    assert [one.delivery_id for one in done.claimed] == [flowing]
    rested = delivery_of(waiting)
    assert (rested.status, rested.attempts, rested.due_at) == ("pending", 0, NINE)


def test_half_open_endpoint_gets_one_attempt(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, process: Process
) -> None:
    endpoint = make_endpoint()
    for _ in range(3):
        make_delivery(endpoint.id)
    set_state(database, endpoint.id, BreakerState(5, NINE - HOUR, NINE - MINUTE, NINE))

    first, second = process(limits=all_limits), process(limits=all_limits)

    assert (len(first.claimed), len(second.claimed)) == (1, 0)


def test_success_ends_the_pause(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    process: Process,
    endpoint_of: EndpointOf,
) -> None:
    endpoint = make_endpoint()
    for _ in range(3):
        make_delivery(endpoint.id)
    set_state(database, endpoint.id, BreakerState(5, NINE - HOUR, NINE - MINUTE, NINE))
    (tried,) = process(limits=all_limits).claimed

    done = process((tried, WebhookResponse(200)), limits=all_limits)

    assert len(done.claimed) == 2
    row = endpoint_of(endpoint.id)
    assert (row.failures, row.failing_since, row.paused_until) == (0, None, None)


def test_half_open_endpoint_without_deliveries_is_unchanged(
    database: Database, make_endpoint: MakeEndpoint, process: Process, endpoint_of: EndpointOf
) -> None:
    endpoint = make_endpoint()
    set_state(database, endpoint.id, BreakerState(5, NINE - HOUR, NINE - MINUTE, NINE))

    process(limits=all_limits)

    assert endpoint_of(endpoint.id).paused_until == NINE


@pytest.mark.parametrize("failing_for", [5 * DAY, 6 * DAY])
def test_days_of_failure_disable_the_endpoint(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    process: Process,
    endpoint_of: EndpointOf,
    delivery_of: DeliveryOf,
    failing_for: timedelta,
) -> None:
    """An endpoint that fails for days is disabled and its deliveries are held (F12)."""
    endpoint = make_endpoint()
    first, second = make_delivery(endpoint.id), make_delivery(endpoint.id)
    set_state(database, endpoint.id, BreakerState(40, NINE - failing_for, NINE - MINUTE, NINE))
    (tried,) = process(limits=all_limits).claimed

    done = process((tried, REFUSED), limits=all_limits)

    reason = f"it has been failing since {NINE - failing_for:%Y-%m-%d %H:%M} UTC"
    assert done.disabled == {endpoint.id: reason}
    row = endpoint_of(endpoint.id)
    assert (row.disabled_at, row.disabled_reason) == (NINE, reason)
    assert [delivery_of(one).status for one in (first, second)] == ["held", "held"]


def test_time_alone_disables_nothing(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    process: Process,
    endpoint_of: EndpointOf,
) -> None:
    endpoint = make_endpoint()
    make_delivery(endpoint.id)
    set_state(
        database, endpoint.id, BreakerState(40, NINE - 9 * DAY, NINE - 4 * DAY, NINE - 4 * DAY)
    )

    (tried,) = process(limits=all_limits).claimed
    done = process((tried, Failure("internal", "ValueError")))

    assert done.disabled == {}
    assert endpoint_of(endpoint.id).disabled_at is None


def test_subscriber_is_notified_of_a_disabled_endpoint(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
    operational_events: Callable[[], list[dict[str, Any]]],
) -> None:
    """The event is written in the transaction of its cause (F12)."""
    gone = make_endpoint("https://elms.example/webhooks?key=1")
    operations = make_endpoint(event_types=["endpoint.disabled"])
    make_delivery(gone.id)
    (claimed,) = claim()

    done = process((claimed, WebhookResponse(410)), limits=all_limits)

    (event,) = operational_events()
    assert event == {
        "type": "endpoint.disabled",
        "timestamp": "2026-11-22T09:00:00.123456Z",
        "data": {
            "source": SITE,
            "endpoint_id": gone.id,
            "url": "https://elms.example/webhooks",
            "reason": "the receiver no longer accepts events (410 Gone)",
        },
    }
    assert [one.endpoint_id for one in done.claimed] == [operations.id]


def test_subscriber_is_notified_of_dead_deliveries(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
    operational_events: Callable[[], list[dict[str, Any]]],
) -> None:
    """Each dead delivery is reported with its reason, including expired claims (F14, F9)."""
    endpoint = make_endpoint()
    make_endpoint(event_types=["delivery.dead"])
    refused = make_delivery(endpoint.id, course_id="CS1")
    lost = make_delivery(endpoint.id, course_id="CS2", attempts=MAX_ATTEMPTS - 1)
    claimed = claim(lease=MINUTE)

    process((claimed[0], WebhookResponse(422)), now=NINE)
    process(now=NINE + 2 * MINUTE)

    data = {one["data"]["delivery_id"]: one["data"] for one in operational_events()}
    assert set(data) == {refused, lost}
    assert (data[refused]["course_id"], data[refused]["reason"]) == (
        *("CS1", "the receiver responded with 422: a retry would not help"),
    )
    assert data[lost]["reason"] == "10 attempts failed, the last because its worker was lost"


def test_operational_event_without_subscriber_is_not_written(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
) -> None:
    make_delivery(make_endpoint().id)
    make_endpoint()
    (claimed,) = claim()

    process((claimed, WebhookResponse(422)))

    with database.reading() as session:
        assert list(session.scalars(select(Event.type))) == ["course.deleted"]


def test_dead_operational_event_causes_no_further_event(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
) -> None:
    operations = make_endpoint(event_types=list(OPERATIONAL_TYPES))
    make_delivery(operations.id, type="delivery.dead", course_id="")
    (claimed,) = claim()

    process((claimed, WebhookResponse(422)))

    with database.reading() as session:
        statuses = list(session.scalars(select(Delivery.status)))
    assert statuses == [DeliveryStatus.DEAD]


def test_statements_of_a_batch_do_not_grow(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
) -> None:
    endpoint = make_endpoint()
    make_endpoint(event_types=list(OPERATIONAL_TYPES))

    def statements_for(count: int) -> int:
        for _ in range(count):
            make_delivery(endpoint.id)
        claimed = [one for one in claim() if one.endpoint_id == endpoint.id]
        before = database.statements
        process(*((one, WebhookResponse(422)) for one in claimed))
        return database.statements - before

    assert statements_for(4) == statements_for(40)


def test_retried_delivery_changes_its_lane(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
    delivery_of: DeliveryOf,
) -> None:
    endpoint = make_endpoint()
    fresh = make_delivery(endpoint.id)
    suspect = make_delivery(endpoint.id, lane=Lane.ISOLATED, attempts=1)
    claimed = claim()

    process(*((one, WebhookResponse(500)) for one in claimed))

    assert [delivery_of(one).lane for one in (fresh, suspect)] == [Lane.RETRY, Lane.RETRY]


def test_database_clock_decides_when_a_retry_is_due(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
    delivery_of: DeliveryOf,
    attempts_of: Callable[[int], list[Attempt]],
) -> None:
    """A worker whose clock is an hour behind does not retry earlier (F18)."""
    delivery_id = make_delivery(make_endpoint().id)
    (claimed,) = claim()

    process((claimed, WebhookResponse(500)), now=NINE + HOUR)

    assert delivery_of(delivery_id).due_at == NINE + HOUR + 5 * SECOND
    assert attempts_of(delivery_id)[0].started_at == NINE


def test_subscriber_is_notified_once_of_a_manual_disable(
    database: Database,
    make_endpoint: MakeEndpoint,
    operational_events: Callable[[], list[dict[str, Any]]],
) -> None:
    endpoint = make_endpoint()
    make_endpoint(event_types=["endpoint.disabled"])

    for reason in ("by hand", "again"):
        with database.writing() as session:
            endpoints.disable(session, endpoint.id, reason, now=NINE)

    assert [one["data"]["reason"] for one in operational_events()] == ["by hand"]


def test_late_410_does_not_disable(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    process: Process,
    endpoint_of: EndpointOf,
    delivery_of: DeliveryOf,
) -> None:
    """A worker that lost its lease disables no endpoint (F6)."""
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id)
    (late,) = claim(lease=SECOND)
    (current,) = claim(now=NINE + MINUTE)

    process((current, WebhookResponse(200)))
    process((late, WebhookResponse(410)))

    assert endpoint_of(endpoint.id).disabled_at is None
    assert delivery_of(delivery_id).status == "delivered"

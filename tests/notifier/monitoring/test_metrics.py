"""Counters of batches, and gauges."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifier.models import DeliveryStatus
from notifier.monitoring import metrics
from notifier.webhooks import endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import MAX_ATTEMPTS, Failure, WebhookResponse
from notifier.worker import batch
from tests.notifier.conftest import NINE, Store

# The SQL of counters is tested in foundation/db.
pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
OK = WebhookResponse(200, None, "")

Numbers = Callable[[], dict[str, float]]
Result = WebhookResponse | Failure
Settle = Callable[..., None]


@pytest.fixture
def settle(store: Store) -> Settle:
    """Return a function that settles claims with a result each, at a given time."""

    def write(*results: tuple[Claimed, Result], now: Any = NINE + SECOND) -> None:
        finished = [Finished(claimed, NINE, 12, result) for claimed, result in results]
        with store.database.writing() as session:
            batch.settle(session, finished, disable_after=timedelta(days=5), now=now)

    return write


@pytest.fixture
def numbers(store: Store) -> Numbers:
    """Return a function that reads the metrics that are not zero, by name and labels."""

    def read() -> dict[str, float]:
        with store.database.reading() as session:
            return {
                " ".join(
                    [one.name.removeprefix("notifier_"), *filter(None, one.labels.values())]
                ): one.value
                for family in metrics.collect(session)
                for one in family.samples
                if one.value and "_bucket" not in one.name
            }

    return read


def chosen(found: dict[str, float], beginning: str) -> dict[str, float]:
    """Return the metrics whose names start with a prefix."""
    return {name: value for name, value in found.items() if name.startswith(beginning)}


def test_attempts_are_counted_by_status_class_or_failure(
    store: Store, settle: Settle, numbers: Numbers
) -> None:
    endpoint = store.add_endpoint()
    results = [
        OK,
        WebhookResponse(503, None, ""),
        WebhookResponse(400, None, ""),
        Failure("deadline", "silent"),
    ]
    for _ in results:
        store.add_delivery(endpoint.id)

    settle(*zip(store.claim(), results, strict=True))

    found = numbers()
    assert chosen(found, "attempts") == {
        "attempts_total 2xx": 1,
        "attempts_total 5xx": 1,
        "attempts_total 4xx": 1,
        "attempts_total none deadline": 1,
    }
    assert chosen(found, "deliveries_settled") == {
        "deliveries_settled_total delivered course.deleted": 1,
        "deliveries_settled_total dead course.deleted": 1,
    }
    assert chosen(found, "claim_to_settle") == {
        "claim_to_settle_seconds_count": 4,
        "claim_to_settle_seconds_sum": 4,
    }
    assert found["event_to_delivery_seconds_count"] == 1


def test_delivery_by_two_workers_is_counted_once(
    store: Store, settle: Settle, numbers: Numbers
) -> None:
    store.add_delivery(store.add_endpoint().id)
    (slow,) = store.claim()
    settle(now=NINE + HOUR)
    (successor,) = store.claim(now=NINE + HOUR)

    settle((slow, OK), now=NINE + HOUR + SECOND)
    settle((successor, OK), now=NINE + HOUR + SECOND)

    found = numbers()
    assert found["attempts_total none worker-lost"] == 1
    assert found["attempts_total 2xx"] == 2
    assert found["deliveries_settled_total delivered course.deleted"] == 1
    assert found["event_to_delivery_seconds_sum"] == pytest.approx(3601, abs=2)


def test_last_expired_claim_is_counted_as_dead(
    store: Store, settle: Settle, numbers: Numbers
) -> None:
    store.add_delivery(store.add_endpoint().id, attempts=MAX_ATTEMPTS - 1)
    store.claim()

    settle(now=NINE + HOUR)

    assert numbers()["deliveries_settled_total dead course.deleted"] == 1


def test_gauges_of_deliveries_and_endpoints(store: Store, numbers: Numbers) -> None:
    healthy, paused = store.add_endpoint(), store.add_endpoint()
    disabled = store.add_endpoint(disabled=True)
    until = datetime.now(UTC) + HOUR
    store.set_state(paused.id, BreakerState(5, NINE, NINE, paused_until=until))
    store.add_delivery(healthy.id, status=DeliveryStatus.DELIVERED)
    store.add_delivery(healthy.id, status=DeliveryStatus.DEAD)
    store.add_delivery(paused.id)
    store.add_delivery(disabled.id)
    store.write(endpoints.remove, store.add_endpoint().id, by="ada", now=NINE)
    store.write(endpoints.disable, store.add_endpoint().id, "moving", by="ada", now=NINE)

    found = numbers()

    assert found == {
        "deliveries pending": 1,
        "deliveries held": 1,
        "deliveries dead": 1,
        "endpoints healthy": 1,
        "endpoints paused": 1,
        "endpoints disabled": 1,
        "endpoints disabled_on_purpose": 1,
    }


def test_ended_pause_does_not_hide_the_oldest_due(store: Store, numbers: Numbers) -> None:
    endpoint = store.add_endpoint()
    store.set_state(endpoint.id, BreakerState(5, NINE, NINE, paused_until=NINE + MINUTE))
    store.add_delivery(endpoint.id)

    assert numbers()["oldest_due_seconds"] > 0


def test_oldest_due_includes_lost_deliveries(store: Store, numbers: Numbers) -> None:
    store.add_delivery(store.add_endpoint().id, lost_claims=2)

    assert numbers()["oldest_due_seconds"] > 0

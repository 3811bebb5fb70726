"""The state of deliveries: settling, and the results that come too late."""

import queue
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete

from foundation.db import wakeup
from notifier.courses import service as courses
from notifier.models import Delivery
from notifier.webhooks import deliveries, endpoints
from notifier.webhooks.retry_policy import MAX_ATTEMPTS, Dead, Decision, Delivered, RetryAt
from tests.notifier.conftest import MINUTE, NINE, Store

SECOND = timedelta(seconds=1)


def test_late_failure_is_fenced(store: Store) -> None:
    """A failure of a worker that lost its lease is recorded and changes nothing (F6)."""
    delivery_id = store.add_delivery(store.add_endpoint().id)
    (slow,) = store.claim()
    (successor,) = store.claim(now=NINE + MINUTE)

    store.settle((slow, Dead("status 400")))

    row = store.delivery(delivery_id)
    assert (row.status, row.lease_token) == ("pending", successor.lease_token)
    assert (row.attempts, row.due_at) == (2, NINE + MINUTE)
    assert [one.decided for one in store.attempts(delivery_id)] == ["retry", "too late"]


def test_failure_with_another_lease_is_fenced(store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id)
    (claimed,) = store.claim()

    store.settle((replace(claimed, lease_token="0" * 32), Dead("forged")))

    row = store.delivery(delivery_id)
    assert (row.status, row.lease_token) == ("pending", claimed.lease_token)


def test_result_of_a_delivery_that_is_gone_changes_nothing(store: Store) -> None:
    """As after an older copy of the database was restored under a worker."""
    gone, there = store.add_deliveries(store.add_endpoint().id, 2)
    claimed = store.claim()
    store.write(lambda session: session.execute(delete(Delivery).where(Delivery.id == gone)))

    store.settle(*((one, Delivered()) for one in claimed))

    assert store.statuses(there) == ["delivered"]


@pytest.mark.parametrize(
    ("order", "decided"),
    [
        pytest.param(1, ["delivered", "too late"], id="success first"),
        pytest.param(-1, ["dead", "delivered"], id="success last"),
    ],
)
def test_late_success_counts(store: Store, order: int, decided: list[str]) -> None:
    """A late success counts, and the failure of the lease holder then does not (F6)."""
    delivery_id = store.add_delivery(store.add_endpoint().id)
    (slow,) = store.claim()
    (successor,) = store.claim(now=NINE + MINUTE)

    store.settle(*[(slow, Delivered()), (successor, Dead("status 400"))][::order])

    row = store.delivery(delivery_id)
    assert (row.status, row.settled_at, row.reason) == ("delivered", NINE + SECOND, None)
    assert (row.attempts, row.lease_token) == (2, None)
    assert [one.decided for one in store.attempts(delivery_id)[1:]] == decided


def test_late_success_after_the_last_attempt_counts(store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id, attempts=MAX_ATTEMPTS - 1)
    (slow,) = store.claim()
    store.claim(now=NINE + MINUTE)
    given_up = store.statuses(delivery_id)

    store.settle((slow, Delivered()))

    assert (given_up, store.statuses(delivery_id)) == (["dead"], ["delivered"])


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        pytest.param(Delivered(), "delivered", id="delivered"),
        pytest.param(RetryAt(NINE + MINUTE), "held", id="retry"),
    ],
)
def test_attempt_of_a_held_delivery_is_settled(
    store: Store, outcome: Decision, status: str
) -> None:
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id)
    (claimed,) = store.claim()
    store.write(endpoints.disable, endpoint.id, "moved", now=NINE)

    store.settle((claimed, outcome))

    assert store.delivery(delivery_id).lease_token is None
    assert store.statuses(delivery_id) == [status]


def test_failure_of_the_old_schedule_is_fenced(store: Store) -> None:
    """A failure of the old schedule ends its lease and nothing else (F6, F12)."""
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id, attempts=MAX_ATTEMPTS - 1)
    (claimed,) = store.claim()
    store.write(endpoints.disable, endpoint.id, "moved", now=NINE)
    store.write(endpoints.enable, endpoint.id, now=NINE)

    store.settle((claimed, Dead("10 attempts failed, the last with status 503")))

    row = store.delivery(delivery_id)
    assert (row.status, row.attempts, row.due_at) == ("pending", 0, NINE)
    assert row.lease_token is None
    assert [one.decided for one in store.attempts(delivery_id)] == ["too late"]


@pytest.mark.parametrize(
    "make_due",
    [
        pytest.param(lambda store: store.write(courses.delete_course, "CS101", now=NINE), id="new"),
        pytest.param(lambda store: store.write(deliveries.release, 1, now=NINE), id="once more"),
    ],
)
def test_what_becomes_due_wakes_the_workers(
    store: Store, make_due: Callable[[Store], object]
) -> None:
    store.add_endpoint()
    store.add_course("CS101")
    wakes: queue.Queue[None] = queue.Queue()

    with wakeup.listen(store.database, deliveries.CHANNEL, lambda: wakes.put(None)):
        wakes.get(timeout=20)  # listening has begun
        make_due(store)

        wakes.get(timeout=20)

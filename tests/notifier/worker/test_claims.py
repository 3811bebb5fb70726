"""Claims: each due delivery once, within the limits; expired leases."""

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from notifier.models import DeliveryStatus, Lane
from notifier.webhooks import breaker_store
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import MAX_ATTEMPTS
from notifier.worker import claims
from notifier.worker.claims import ClaimLimits, EndpointLimit
from tests.notifier.conftest import BODY, MINUTE, NINE, Store

SECOND = timedelta(seconds=1)


def is_due(store: Store) -> bool:
    """Return True if there is anything to claim or reclaim at nine."""
    return store.read(claims.any_due, store.read(breaker_store.read_states), now=NINE)


def test_claim_takes_a_lease_and_holds_all_that_a_post_needs(store: Store) -> None:
    """A claim leases a delivery and counts the attempt before it is made (F3, F9)."""
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id, attempts=3, course_id="CS999")

    (claimed,) = store.claim(lease=MINUTE)

    row = store.delivery(delivery_id)
    assert (row.status, row.attempts, row.leased_until) == ("pending", 4, NINE + MINUTE)
    assert claimed == Claimed(
        delivery_id=delivery_id,
        endpoint_id=endpoint.id,
        webhook_id=row.event_id,
        event_type="course.deleted",
        course_id="CS999",
        url=endpoint.url,
        body=BODY,
        lane=Lane.FIRST,
        attempts=4,
        lease_token=row.lease_token or "",
        occurred_at=NINE,
        claimed_at=NINE,
        span=claimed.span,
    )


def test_leased_delivery_is_not_claimed_again(store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id)
    due_before = is_due(store)
    store.claim(lease=MINUTE)

    assert (due_before, is_due(store)) == (True, False)
    assert store.claim(now=NINE + MINUTE - SECOND) == []
    assert [one.delivery_id for one in store.claim(now=NINE + MINUTE)] == [delivery_id]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"due_at": NINE + SECOND}, id="not due yet"),
        pytest.param({"status": DeliveryStatus.DELIVERED}, id="delivered"),
        pytest.param({"status": DeliveryStatus.DEAD}, id="dead"),
        pytest.param({"status": DeliveryStatus.HELD}, id="held"),
    ],
)
def test_only_pending_and_due_deliveries_are_claimed(
    store: Store, overrides: dict[str, Any]
) -> None:
    store.add_delivery(store.add_endpoint().id, **overrides)

    assert (is_due(store), store.claim()) == (False, [])


def test_oldest_due_goes_first(store: Store) -> None:
    first, second = store.add_endpoint(), store.add_endpoint()
    minutes_ago = {
        store.add_delivery(endpoint.id, due_at=NINE - minutes * MINUTE): minutes
        for endpoint, minutes in ((first, 1), (second, 4), (second, 2), (first, 3), (first, 3))
    }
    wanted = sorted(minutes_ago, key=lambda one: (-minutes_ago[one], one))

    assert [one.delivery_id for one in store.claim(total=3)] == wanted[:3]
    assert [one.delivery_id for one in store.claim(total=3)] == wanted[3:]


@pytest.mark.parametrize(
    ("limit", "claimed"),
    [
        pytest.param(None, 0, id="paused"),
        pytest.param(EndpointLimit(2, 2), 2, id="two slots left"),
        pytest.param(EndpointLimit(-1, -1), 0, id="fewer than none left"),
    ],
)
def test_busy_endpoint_leaves_room_for_others(
    store: Store, limit: EndpointLimit | None, claimed: int
) -> None:
    """The limit of an endpoint applies to its own deliveries only (F25)."""
    crowded, quiet = store.add_endpoint(), store.add_endpoint()
    store.add_deliveries(crowded.id, 20, due_at=NINE - MINUTE)
    store.add_deliveries(quiet.id, 5)
    by_endpoint = {quiet.id: EndpointLimit(3, 3)} | ({crowded.id: limit} if limit else {})

    found = store.write(claims.claim, ClaimLimits(10, 10, 1, by_endpoint), lease=MINUTE, now=NINE)

    ids = [one.endpoint_id for one in found]
    assert ids == [crowded.id] * claimed + [quiet.id] * 3


@pytest.mark.parametrize(
    ("retries", "fresh", "claimed"),
    [
        pytest.param(20, 2, [Lane.RETRY] * 6 + [Lane.FIRST] * 2, id="both"),
        pytest.param(20, 0, [Lane.RETRY] * 6, id="only retries"),
        pytest.param(0, 10, [Lane.FIRST] * 8, id="only first attempts"),
    ],
)
def test_retries_leave_the_reserved_slots(
    store: Store, retries: int, fresh: int, claimed: list[Lane]
) -> None:
    """A first attempt gets a slot however many retries are waiting (F25)."""
    for endpoint in (store.add_endpoint(), store.add_endpoint()):
        for number in range(retries // 2):
            due_at = NINE - MINUTE - number * SECOND
            store.add_delivery(endpoint.id, lane=Lane.RETRY, attempts=1, due_at=due_at)
    store.add_deliveries(endpoint.id, fresh)

    assert [one.lane for one in store.claim(total=8, retry=6)] == claimed


def test_retries_leave_the_reserved_slots_of_their_endpoint(store: Store) -> None:
    endpoint = store.add_endpoint()
    for lane in (Lane.RETRY, Lane.ISOLATED, Lane.RETRY):
        store.add_delivery(endpoint.id, lane=lane, attempts=1, due_at=NINE - MINUTE)
    store.add_deliveries(endpoint.id, 2)
    limits = ClaimLimits(9, 9, 9, {endpoint.id: EndpointLimit(3, 2)})

    found = store.write(claims.claim, limits, lease=MINUTE, now=NINE)

    assert [one.lane for one in found] == [Lane.RETRY, Lane.ISOLATED, Lane.FIRST]


def test_isolated_deliveries_are_claimed_one_at_a_time(store: Store) -> None:
    """One isolated delivery of all endpoints is claimed in addition to others (F9)."""
    endpoint, other = store.add_endpoint(), store.add_endpoint()
    suspects = [*store.add_deliveries(endpoint.id, 2), store.add_delivery(other.id)]
    store.claim(lease=MINUTE)
    fresh = store.add_delivery(other.id, due_at=NINE + MINUTE)

    claimed = store.claim(now=NINE + 2 * MINUTE, isolated=1)

    assert [one.delivery_id for one in claimed] == [suspects[0], fresh]
    assert [one.lane for one in claimed] == [Lane.ISOLATED, Lane.FIRST]


def test_statements_of_a_claim_do_not_grow(store: Store) -> None:
    lost = {"lease_token": "gone", "leased_until": NINE}

    def claimed_in(endpoints: int) -> int:
        for _ in range(endpoints):
            endpoint_id = store.add_endpoint().id
            store.add_deliveries(endpoint_id, 2)
            store.add_delivery(endpoint_id, attempts=1, **lost)
            store.add_delivery(endpoint_id, attempts=MAX_ATTEMPTS, **lost)
        return store.count_statements(store.claim)

    assert claimed_in(1) == claimed_in(10)


def test_expired_lease_is_an_attempt(store: Store) -> None:
    """The attempt of a lost worker is recorded when the delivery is claimed again (F3, F9)."""
    delivery_id = store.add_delivery(store.add_endpoint().id)
    store.claim(lease=MINUTE)

    (again,) = store.claim(now=NINE + 2 * MINUTE)

    assert again.attempts == 2
    (lost,) = store.attempts(delivery_id)
    assert (lost.status, lost.failure, lost.decided) == (None, "worker-lost", "retry")
    assert lost.detail == "the lease expired before the attempt was settled"
    assert (lost.started_at, lost.milliseconds) == (NINE + MINUTE, 0)


def test_worker_lost_ten_times_makes_it_dead(store: Store) -> None:
    """A delivery that crashes its worker each time is dead after ten attempts (F9)."""
    endpoint = store.add_endpoint()
    poison = store.add_delivery(endpoint.id)
    for minutes in range(MAX_ATTEMPTS):
        store.claim(now=NINE + minutes * MINUTE)
    healthy = store.add_delivery(endpoint.id)

    claimed = store.claim(now=NINE + MAX_ATTEMPTS * MINUTE)

    assert [one.delivery_id for one in claimed] == [healthy]
    row = store.delivery(poison)
    assert (row.status, row.attempts, row.lease_token) == ("dead", 10, None)
    assert row.reason == "10 attempts failed, the last because its worker was lost"
    assert row.settled_at == NINE + MAX_ATTEMPTS * MINUTE
    assert [one.decided for one in store.attempts(poison)] == ["retry"] * 9 + ["dead"]


RACERS = """
import json, multiprocessing, sys
from datetime import datetime, timedelta
from foundation.db.session import Database
from notifier.webhooks import breaker_store
from notifier.worker import claims
from notifier.worker.claims import ClaimLimits, EndpointLimit

def race(url, now, start, won):
    database, ids, due = Database(url, timeout=30), [], True
    start.wait(20)
    while due:
        with database.writing() as session:
            states = breaker_store.read_states(session)
            limits = ClaimLimits(2, 2, 1, dict.fromkeys(states, EndpointLimit(2, 2)))
            claimed = claims.claim(session, limits, lease=timedelta(minutes=1), now=now)
        ids += [one.delivery_id for one in claimed]
        with database.reading() as session:
            due = claims.any_due(session, breaker_store.read_states(session), now=now)
    database.dispose()
    won.put(ids)

here = multiprocessing.get_context("fork")
start, won = here.Barrier(8), here.Queue()
url, now = sys.argv[1], datetime.fromisoformat(sys.argv[2])
racers = [here.Process(target=race, args=(url, now, start, won)) for _ in range(8)]
for racer in racers:
    racer.start()
print(json.dumps([won.get(timeout=30) for _ in racers]))
for racer in racers:
    racer.join()
"""


def test_eight_processes_claim_each_delivery_once(store: Store, database_url: str) -> None:
    """Eight processes compete for the same rows (F7)."""
    ids = store.add_deliveries(store.add_endpoint().id, 40)

    ran = subprocess.run(
        [sys.executable, "-c", RACERS, database_url, NINE.isoformat()],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr
    assert sorted(one for won in json.loads(ran.stdout) for one in won) == sorted(ids)

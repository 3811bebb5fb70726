"""Claims: each due delivery once, within the limits; expired leases."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from foundation.db.session import Database
from notifier.models import Attempt, Delivery, DeliveryStatus, Event, Lane
from notifier.webhooks import circuit_breaker
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import MAX_ATTEMPTS
from notifier.worker import claims
from notifier.worker.claims import ClaimLimits, EndpointLimit
from tests.notifier.conftest import BODY, NINE, MakeDelivery, MakeEndpoint

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

Claim = Callable[..., list[Claimed]]
DeliveryOf = Callable[[int], Delivery]
AttemptsOf = Callable[[int], list[Attempt]]


def stand(row: Delivery) -> tuple[str, int, bool]:
    """Return status, attempts, and whether there is a lease."""
    return row.status, row.attempts, row.lease_token is not None


def is_due(database: Database) -> bool:
    """Return True if there is anything to claim or reclaim at nine."""
    with database.reading() as session:
        return claims.any_due(session, circuit_breaker.read_states(session), now=NINE)


def test_claim_holds_all_that_a_post_needs(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id, attempts=3, course_id="CS999", body=BODY)

    (claimed,) = claim()

    with database.reading() as session:
        event = session.scalars(select(Event)).one()
        token = session.get_one(Delivery, delivery_id).lease_token
    assert token is not None
    assert claimed == Claimed(
        delivery_id=delivery_id,
        endpoint_id=endpoint.id,
        webhook_id=event.id,
        event_type="course.deleted",
        course_id="CS999",
        url=endpoint.url,
        body=BODY,
        lane=Lane.FIRST,
        attempts=4,
        lease_token=token,
        occurred_at=NINE,
        claimed_at=NINE,
        span=claimed.span,
    )


def test_claim_takes_a_lease_and_counts(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim, delivery_of: DeliveryOf
) -> None:
    """A claim leases a delivery and counts the attempt before it is made (F3, F9)."""
    delivery_id = make_delivery(make_endpoint().id)

    claim(lease=MINUTE)

    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.leased_until) == ("pending", 1, NINE + MINUTE)


def test_leased_delivery_is_not_claimed_again(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    claim(lease=MINUTE)

    assert claim(now=NINE + MINUTE - SECOND) == []
    assert [one.delivery_id for one in claim(now=NINE + MINUTE)] == [delivery_id]


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
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    overrides: dict[str, Any],
) -> None:
    make_delivery(make_endpoint().id, **overrides)

    assert is_due(database) is False
    assert claim() == []


def test_something_is_due_until_it_is_claimed(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    make_delivery(make_endpoint().id)

    before = is_due(database)
    claim()
    after = is_due(database)

    assert (before, after) == (True, False)


def test_oldest_due_goes_first(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    first, second = make_endpoint(), make_endpoint()
    minutes_ago = {
        make_delivery(endpoint.id, due_at=NINE - minutes * MINUTE): minutes
        for endpoint, minutes in ((first, 1), (second, 4), (second, 2), (first, 3), (first, 3))
    }
    wanted = sorted(minutes_ago, key=lambda one: (-minutes_ago[one], one))

    assert [one.delivery_id for one in claim(total=3)] == wanted[:3]
    assert [one.delivery_id for one in claim(total=3)] == wanted[3:]


def test_busy_endpoint_leaves_room_for_others(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """One endpoint with many due deliveries leaves slots for others (F25)."""
    crowded, quiet = make_endpoint(), make_endpoint()
    for _ in range(20):
        make_delivery(crowded.id, due_at=NINE - MINUTE)
    make_delivery(quiet.id)

    claimed = claim(total=10, endpoint=2)

    assert [one.endpoint_id for one in claimed] == [crowded.id, crowded.id, quiet.id]


@pytest.mark.parametrize(
    ("share", "taken"),
    [
        pytest.param(None, 0, id="none"),
        pytest.param(EndpointLimit(2, 2), 2, id="some"),
        pytest.param(EndpointLimit(-1, -1), 0, id="fewer than none left"),
    ],
)
def test_endpoint_limit_bounds_a_claim(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    share: EndpointLimit | None,
    taken: int,
) -> None:
    """The limit of an endpoint applies to its own deliveries only (F25)."""
    crowded, quiet = make_endpoint(), make_endpoint()
    for _ in range(5):
        make_delivery(crowded.id)
        make_delivery(quiet.id)
    by_endpoint = {quiet.id: EndpointLimit(3, 3)} | ({crowded.id: share} if share else {})

    with database.writing() as session:
        claimed = claims.claim(session, ClaimLimits(10, 10, 1, by_endpoint), lease=MINUTE, now=NINE)

    ids = [one.endpoint_id for one in claimed]
    assert (ids.count(crowded.id), ids.count(quiet.id)) == (taken, 3)


def test_retries_leave_the_reserved_slots(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """A first attempt gets a slot however many retries are waiting (F25)."""
    endpoint = make_endpoint()
    for _ in range(20):
        make_delivery(endpoint.id, lane=Lane.RETRY, attempts=1, due_at=NINE - MINUTE)
    fresh = [make_delivery(endpoint.id) for _ in range(2)]

    claimed = claim(total=8, retry=6)

    assert [one.lane for one in claimed] == [Lane.RETRY] * 6 + [Lane.FIRST] * 2
    assert [one.delivery_id for one in claimed[6:]] == fresh


def test_reserved_slots_stay_free_without_first_attempts(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    for endpoint in (make_endpoint(), make_endpoint()):
        for _ in range(4):
            make_delivery(endpoint.id, lane=Lane.RETRY, attempts=1)

    assert len(claim(total=8, retry=5)) == 5


def test_first_attempts_may_use_every_slot(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    endpoint = make_endpoint()
    for _ in range(10):
        make_delivery(endpoint.id)

    assert len(claim(total=8, retry=6)) == 8


def test_isolated_deliveries_are_claimed_one_at_a_time(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """One isolated delivery is claimed in addition to others (F9)."""
    endpoint = make_endpoint()
    suspects = [make_delivery(endpoint.id) for _ in range(3)]
    claim(lease=MINUTE)
    fresh = make_delivery(endpoint.id, due_at=NINE + MINUTE)

    claimed = claim(now=NINE + 2 * MINUTE, isolated=1)

    assert [one.delivery_id for one in claimed] == [suspects[0], fresh]
    assert [one.lane for one in claimed] == [Lane.ISOLATED, Lane.FIRST]


def test_statements_of_a_claim_do_not_grow(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    def claimed_in(endpoints: int, rows: int) -> int:
        for _ in range(endpoints):
            endpoint = make_endpoint()
            for number in range(rows):
                lost = {"lease_token": "gone", "leased_until": NINE} if number % 2 else {}
                attempts = MAX_ATTEMPTS if number % 4 == 1 else 1
                make_delivery(endpoint.id, attempts=attempts if lost else 0, **lost)
        before = database.statements
        claim()
        return database.statements - before

    assert claimed_in(1, 4) == claimed_in(10, 4)


def test_expired_lease_is_an_attempt(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    attempts_of: AttemptsOf,
) -> None:
    """The attempt of a lost worker is recorded when the delivery is claimed again (F3, F9)."""
    delivery_id = make_delivery(make_endpoint().id)
    claim(lease=MINUTE)

    (again,) = claim(now=NINE + 2 * MINUTE)

    assert again.attempts == 2
    (lost,) = attempts_of(delivery_id)
    assert (lost.status, lost.failure, lost.decided) == (None, "worker-lost", "retry")
    assert lost.detail == "the lease expired before the attempt was settled"
    assert (lost.started_at, lost.milliseconds) == (NINE + MINUTE, 0)


def test_worker_lost_ten_times_makes_it_dead(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
) -> None:
    """A delivery that crashes its worker each time is dead after ten attempts (F9)."""
    endpoint = make_endpoint()
    poison = make_delivery(endpoint.id)
    numbers = []
    for minutes in range(MAX_ATTEMPTS):
        numbers += [one.attempts for one in claim(now=NINE + minutes * MINUTE)]
    healthy = make_delivery(endpoint.id)

    claimed = claim(now=NINE + MAX_ATTEMPTS * MINUTE)

    assert numbers == list(range(1, 11))
    assert [one.delivery_id for one in claimed] == [healthy]
    row = delivery_of(poison)
    assert stand(row) == ("dead", 10, False)
    assert row.reason == "10 attempts failed, the last because its worker was lost"
    assert row.settled_at == NINE + MAX_ATTEMPTS * MINUTE
    assert [one.decided for one in attempts_of(poison)] == ["retry"] * 9 + ["dead"]


RACERS = """
import json, multiprocessing, sys
from datetime import datetime, timedelta
from foundation.db.session import Database
from notifier.webhooks import circuit_breaker
from notifier.worker import claims
from notifier.worker.claims import ClaimLimits, EndpointLimit

def race(url, now, start, won):
    database, ids, due = Database(url, timeout=30), [], True
    start.wait(20)
    while due:
        with database.writing() as session:
            states = circuit_breaker.read_states(session)
            limits = ClaimLimits(2, 2, 1, dict.fromkeys(states, EndpointLimit(2, 2)))
            claimed = claims.claim(session, limits, lease=timedelta(minutes=1), now=now)
        ids += [one.delivery_id for one in claimed]
        with database.reading() as session:
            due = claims.any_due(session, circuit_breaker.read_states(session), now=now)
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


def test_eight_processes_claim_each_delivery_once(
    database_url: str, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    """Eight processes compete for the same rows (F7)."""
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id) for _ in range(40)]

    ran = subprocess.run(
        [sys.executable, "-c", RACERS, database_url, NINE.isoformat()],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr
    assert sorted(one for won in json.loads(ran.stdout) for one in won) == sorted(ids)

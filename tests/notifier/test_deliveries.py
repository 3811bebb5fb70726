"""Deliveries: claimed once under a lease, settled by its holder, held and released."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from foundation.database import Database
from notifier import deliveries
from notifier.deliveries import Claimed, Settlement
from notifier.models import Attempt, Delivery, DeliveryStatus, Endpoint, Event
from notifier.retry import MAX_ATTEMPTS, Dead, Delivered, Disable, Outcome, RetryAt
from tests.notifier.conftest import BODY, NINE, MakeDelivery, MakeEndpoint

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

Claim = Callable[..., list[Claimed]]
DeliveryOf = Callable[[int], Delivery]
AttemptsOf = Callable[[int], list[Attempt]]


@pytest.fixture
def settle(database: Database) -> Callable[..., None]:
    """Return what settles claims in one transaction, a second after nine."""

    def write(*settlements: tuple[Claimed, Outcome], **overrides: Any) -> None:
        given = {"status": 500, "detail": "said", **overrides}
        with database.writing() as session:
            deliveries.settle(
                session,
                [
                    Settlement(claimed, NINE, 12, outcome, **given)
                    for claimed, outcome in settlements
                ],
                now=NINE + SECOND,
            )

    return write


def stand(row: Delivery) -> tuple[str, int, bool]:
    """Return where a delivery stands: status, attempts, whether somebody holds a lease."""
    return row.status, row.attempts, row.lease_token is not None


def test_claim_says_all_that_a_post_needs(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """A claim carries the event's id and exact body, the URL, and which attempt this is."""
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
        attempts=4,
        lease_token=token,
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
    """A lease keeps others away until it ends, and not an instant longer."""
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
def test_only_what_is_pending_and_due_is_claimed(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    overrides: dict[str, Any],
) -> None:
    """What is not due, settled or held is not claimed, and does not count as due."""
    make_delivery(make_endpoint().id, **overrides)

    with database.reading() as session:
        assert deliveries.any_due(session, now=NINE) is False
    assert claim() == []


def test_something_is_due_until_it_is_claimed(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """`any_due` tells whether a claim can take anything."""
    make_delivery(make_endpoint().id)

    with database.reading() as session:
        before = deliveries.any_due(session, now=NINE)
    claim()
    with database.reading() as session:
        after = deliveries.any_due(session, now=NINE)

    assert (before, after) == (True, False)


def test_disabled_endpoint_is_not_claimed_for(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """Even a pending delivery of a disabled endpoint is not claimed."""
    endpoint = make_endpoint()
    make_delivery(endpoint.id)
    with database.writing() as session:
        session.execute(update(Endpoint).values(disabled_at=NINE))

    assert claim() == []


def test_oldest_due_goes_first(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """Claims come in the order in which they are due, over all endpoints; ids break a tie."""
    first, second = make_endpoint(), make_endpoint()
    minutes_ago = {
        make_delivery(endpoint.id, due_at=NINE - minutes * MINUTE): minutes
        for endpoint, minutes in ((first, 1), (second, 4), (second, 2), (first, 3), (first, 3))
    }
    wanted = sorted(minutes_ago, key=lambda one: (-minutes_ago[one], one))

    assert [one.delivery_id for one in claim(limit=3)] == wanted[:3]
    assert [one.delivery_id for one in claim(limit=3)] == wanted[3:]


def test_limit_bounds_a_claim(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """A claim takes no more than its limit, over all endpoints together."""
    for endpoint in (make_endpoint(), make_endpoint()):
        for _ in range(3):
            make_delivery(endpoint.id)

    assert [len(claim(limit=4)), len(claim(limit=4)), len(claim(limit=4))] == [4, 2, 0]


def test_one_endpoint_takes_no_more_than_its_places(
    make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """However much is due for an endpoint, others get their places in the same claim (F25)."""
    crowded, quiet = make_endpoint(), make_endpoint()
    for _ in range(20):
        make_delivery(crowded.id, due_at=NINE - MINUTE)
    make_delivery(quiet.id)

    claimed = claim(limit=10, per_endpoint=2)

    assert [one.endpoint_id for one in claimed] == [crowded.id, crowded.id, quiet.id]


@pytest.mark.parametrize(
    ("busy", "taken"),
    [
        pytest.param(0, 3, id="none"),
        pytest.param(2, 1, id="some"),
        pytest.param(3, 0, id="all"),
        pytest.param(4, 0, id="more than all"),
    ],
)
def test_attempts_under_way_take_places(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    busy: int,
    taken: int,
) -> None:
    """What a worker has under way at an endpoint counts against that endpoint's places alone."""
    crowded, quiet = make_endpoint(), make_endpoint()
    for _ in range(5):
        make_delivery(crowded.id)
        make_delivery(quiet.id)

    claimed = claim(per_endpoint=3, busy={crowded.id: busy})

    ids = [one.endpoint_id for one in claimed]
    assert (ids.count(crowded.id), ids.count(quiet.id)) == (taken, 3)


def test_statements_of_a_claim_do_not_grow(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """A claim of 40 for 10 endpoints, lost and exhausted ones among them, is as cheap as of 4."""

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


def test_statements_of_a_settlement_do_not_grow(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
) -> None:
    """Settling 40 with every outcome in turn takes as many statements as settling 4."""
    outcomes = [Delivered(), RetryAt(NINE + MINUTE), Dead("refused"), Disable("gone")]
    endpoint = make_endpoint()

    def settled_in(rounds: int) -> int:
        for _ in range(rounds * len(outcomes)):
            make_delivery(endpoint.id)
        claimed = claim()
        before = database.statements
        settle(*zip(claimed, outcomes * rounds, strict=True))
        return database.statements - before

    assert settled_in(1) == settled_in(10)


@pytest.mark.parametrize(
    ("outcome", "status", "settled_at", "reason", "decided"),
    [
        pytest.param(Delivered(), "delivered", NINE + SECOND, None, "delivered", id="delivered"),
        pytest.param(
            Dead("status 400, hopeless"),
            "dead",
            NINE + SECOND,
            "status 400, hopeless",
            "dead",
            id="dead",
        ),
        pytest.param(Disable("410"), "held", None, None, "disable", id="disable"),
        pytest.param(RetryAt(NINE + MINUTE), "pending", None, None, "retry", id="retry"),
    ],
)
def test_holder_of_the_lease_settles(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    outcome: Outcome,
    status: str,
    settled_at: object,
    reason: str | None,
    decided: str,
) -> None:
    """Settling writes the attempt and the next step together, and ends the lease."""
    delivery_id = make_delivery(make_endpoint().id)
    (claimed,) = claim()

    settle((claimed, outcome))

    row = delivery_of(delivery_id)
    assert (row.status, row.settled_at, row.reason) == (status, settled_at, reason)
    assert (row.attempts, row.lease_token, row.leased_until) == (1, None, None)
    (attempt,) = attempts_of(delivery_id)
    assert (attempt.started_at, attempt.milliseconds) == (NINE, 12)
    assert (attempt.status, attempt.failure, attempt.detail) == (500, None, "said")
    assert attempt.decided == decided


def test_retry_is_due_when_it_was_decided(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
) -> None:
    """A delivery that is to be retried is claimed again when it is due, as the next attempt."""
    make_delivery(make_endpoint().id)
    (claimed,) = claim()
    settle((claimed, RetryAt(NINE + 5 * SECOND)))

    too_soon = claim(now=NINE + 4 * SECOND)
    (again,) = claim(now=NINE + 5 * SECOND)

    assert too_soon == []
    assert (again.webhook_id, again.attempts) == (claimed.webhook_id, 2)
    assert again.lease_token != claimed.lease_token


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(RetryAt(NINE + MINUTE), id="a failure"),
        pytest.param(Dead("status 400"), id="a refusal"),
        pytest.param(Disable("410"), id="a 410"),
    ],
)
def test_late_failure_is_fenced(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    late: Outcome,
) -> None:
    """A failure of a worker that lost its lease is recorded and changes nothing (F6)."""
    delivery_id = make_delivery(make_endpoint().id)
    (slow,) = claim()
    (successor,) = claim(now=NINE + MINUTE)

    settle((slow, late))

    row = delivery_of(delivery_id)
    assert (row.status, row.lease_token) == ("pending", successor.lease_token)
    assert (row.attempts, row.due_at) == (2, NINE)
    assert [one.decided for one in attempts_of(delivery_id)] == ["retry", "too late"]


def test_late_success_counts(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
) -> None:
    """A success counts whoever holds the lease, and the successor's failure then does not (F6)."""
    delivery_id = make_delivery(make_endpoint().id)
    (slow,) = claim()
    (successor,) = claim(now=NINE + MINUTE)

    settle((slow, Delivered()))
    settle((successor, Dead("status 400")))

    row = delivery_of(delivery_id)
    assert stand(row) == ("delivered", 2, False)
    assert row.reason is None
    assert [one.decided for one in attempts_of(delivery_id)] == ["retry", "delivered", "too late"]


@pytest.mark.parametrize("order", [1, -1], ids=["the late one first", "the late one last"])
@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(RetryAt(NINE + MINUTE), id="retry"),
        pytest.param(Dead("status 400"), id="dead"),
        pytest.param(Disable("410"), id="disable"),
    ],
)
def test_success_counts_in_whatever_order_two_attempts_are_settled(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    order: int,
    failure: Outcome,
) -> None:
    """Where a late success and a failure are settled at once, the delivery is delivered."""
    delivery_id = make_delivery(make_endpoint().id)
    (slow,) = claim()
    (successor,) = claim(now=NINE + MINUTE)

    settle(*[(slow, Delivered()), (successor, failure)][::order])

    row = delivery_of(delivery_id)
    assert stand(row) == ("delivered", 2, False)
    assert (row.settled_at, row.reason) == (NINE + SECOND, None)


def test_late_success_raises_the_dead(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
) -> None:
    """A dead delivery that turns out to have been taken is delivered, without a reason."""
    delivery_id = make_delivery(make_endpoint().id)
    (slow,) = claim()
    (successor,) = claim(now=NINE + MINUTE)
    settle((successor, Dead("status 400")))

    settle((slow, Delivered()))

    row = delivery_of(delivery_id)
    assert (row.status, row.reason) == ("delivered", None)


def test_lease_that_ran_out_is_an_attempt(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    attempts_of: AttemptsOf,
) -> None:
    """An attempt whose worker was lost is recorded when another claims the delivery (F3, F9)."""
    delivery_id = make_delivery(make_endpoint().id)
    claim(lease=MINUTE)

    (again,) = claim(now=NINE + 2 * MINUTE)

    assert again.attempts == 2
    (lost,) = attempts_of(delivery_id)
    assert (lost.status, lost.failure, lost.decided) == (None, "worker-lost", "retry")
    assert lost.detail == "the lease ran out before the attempt was settled"
    assert (lost.started_at, lost.milliseconds) == (NINE + MINUTE, 0)


def test_worker_lost_ten_times_makes_it_dead(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
) -> None:
    """A delivery that ends its worker each time is dead after ten, and others flow (F9)."""
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


def test_late_success_of_a_lost_worker_counts(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
) -> None:
    """A worker that comes back after its delivery was buried may still say it was delivered."""
    delivery_id = make_delivery(make_endpoint().id, attempts=MAX_ATTEMPTS - 1)
    (slow,) = claim()
    claim(now=NINE + MINUTE)
    assert delivery_of(delivery_id).status == "dead"

    settle((slow, Delivered()))

    assert delivery_of(delivery_id).status == "delivered"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        pytest.param(Delivered(), "delivered", id="delivered"),
        pytest.param(RetryAt(NINE + MINUTE), "held", id="retry"),
        pytest.param(Dead("status 400"), "dead", id="dead"),
        pytest.param(Disable("410"), "held", id="disable"),
    ],
)
def test_held_delivery_is_settled_by_its_attempt(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    outcome: Outcome,
    status: str,
) -> None:
    """An attempt under way while its delivery is held settles it; a retry stays held."""
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id)
    (claimed,) = claim()
    with database.writing() as session:
        deliveries.hold(session, endpoint.id)

    settle((claimed, outcome))

    assert stand(delivery_of(delivery_id)) == (status, 1, False)


def test_hold_and_release_touch_one_endpoint(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
) -> None:
    """What is held and released is one endpoint's; its settled deliveries stay as they are."""
    one, other = make_endpoint(), make_endpoint()
    mine = [
        make_delivery(one.id, status=status, attempts=4)
        for status in ("pending", "delivered", "dead")
    ]
    foreign = make_delivery(other.id)

    with database.writing() as session:
        deliveries.hold(session, one.id)
    held = [delivery_of(each).status for each in (*mine, foreign)]
    with database.writing() as session:
        released = deliveries.release(session, one.id, now=NINE + MINUTE)

    assert held == ["held", "delivered", "dead", "pending"]
    assert released == 1
    row = delivery_of(mine[0])
    assert (row.status, row.attempts, row.due_at) == ("pending", 0, NINE + MINUTE)
    assert [delivery_of(each).attempts for each in mine[1:]] == [4, 4]


def test_eight_threads_claim_each_delivery_once(
    database_url: str,
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
) -> None:
    """Eight workers that race for the same rows claim each of them once (F7)."""
    one, other = make_endpoint(), make_endpoint()
    ids = [make_delivery(endpoint.id) for endpoint in (one, other) for _ in range(20)]
    start = threading.Barrier(8)

    def race(_: int) -> list[int]:
        mine = Database(database_url, timeout=30)
        won: list[int] = []
        due = True
        start.wait()
        while due:
            with mine.writing() as session:
                claimed = deliveries.claim(
                    session, limit=3, per_endpoint=3, busy={}, lease=MINUTE, now=NINE
                )
            won += [one.delivery_id for one in claimed]
            with mine.reading() as session:
                due = deliveries.any_due(session, now=NINE)
        mine.dispose()
        return won

    with ThreadPoolExecutor(8) as pool:
        won = [one for each in pool.map(race, range(8)) for one in each]

    assert sorted(won) == sorted(ids)
    with database.reading() as session:
        counted = session.execute(select(Delivery.attempts, func.count()).group_by("attempts"))
        assert counted.tuples().all() == [(1, 40)]


RACERS = """
import json, multiprocessing, sys
from datetime import datetime, timedelta
from foundation.database import Database
from notifier import deliveries

def race(url, now, start, won):
    database, ids, due = Database(url, timeout=30), [], True
    start.wait(20)
    while due:
        with database.writing() as session:
            claimed = deliveries.claim(
                session, limit=2, per_endpoint=2, busy={}, lease=timedelta(minutes=1), now=now
            )
        ids += [one.delivery_id for one in claimed]
        with database.reading() as session:
            due = deliveries.any_due(session, now=now)
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
    """Eight processes that race for the same rows claim each of them once (F7)."""
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


def test_claim_that_is_rolled_back_takes_nothing(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery, claim: Claim
) -> None:
    """A claim whose transaction fails leaves its deliveries due, uncounted and unleased."""
    make_delivery(make_endpoint().id)

    with database.reading() as session:  # which is rolled back at its end
        taken = deliveries.claim(session, limit=1, per_endpoint=1, busy={}, lease=MINUTE, now=NINE)

    assert len(taken) == 1
    assert [one.attempts for one in claim()] == [1]


def test_settlement_with_a_forged_lease_is_fenced(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
) -> None:
    """Only the lease's own token settles a failure; any other changes nothing."""
    delivery_id = make_delivery(make_endpoint().id)
    (claimed,) = claim()

    settle((replace(claimed, lease_token="0" * 32), Dead("forged")))

    assert stand(delivery_of(delivery_id)) == ("pending", 1, True)

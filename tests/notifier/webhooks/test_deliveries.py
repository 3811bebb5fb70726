"""The state of deliveries: settling, fencing, holding, releasing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from foundation.db.session import Database
from notifier.models import Attempt, Delivery
from notifier.webhooks import deliveries
from notifier.webhooks.deliveries import Claimed, Settlement
from notifier.webhooks.retry_policy import MAX_ATTEMPTS, Dead, Decision, Delivered, Disable, RetryAt
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

Claim = Callable[..., list[Claimed]]
DeliveryOf = Callable[[int], Delivery]
AttemptsOf = Callable[[int], list[Attempt]]


@pytest.fixture
def settle(database: Database) -> Callable[..., None]:
    """Return a function that settles claims in one transaction, a second after nine."""

    def write(*settlements: tuple[Claimed, Decision], **overrides: Any) -> None:
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
    """Return status, attempts, and whether there is a lease."""
    return row.status, row.attempts, row.lease_token is not None


def test_statements_of_a_settlement_do_not_grow(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
) -> None:
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
def test_lease_holder_settles(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    outcome: Decision,
    status: str,
    settled_at: object,
    reason: str | None,
    decided: str,
) -> None:
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


def test_retry_is_due_as_decided(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
) -> None:
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
    late: Decision,
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
    """A late success counts, and the failure of the lease holder then does not (F6)."""
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
def test_success_counts_in_any_order(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    order: int,
    failure: Decision,
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    (slow,) = claim()
    (successor,) = claim(now=NINE + MINUTE)

    settle(*[(slow, Delivered()), (successor, failure)][::order])

    row = delivery_of(delivery_id)
    assert stand(row) == ("delivered", 2, False)
    assert (row.settled_at, row.reason) == (NINE + SECOND, None)


def test_late_success_after_the_last_attempt_counts(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
) -> None:
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
    outcome: Decision,
    status: str,
) -> None:
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id)
    (claimed,) = claim()
    with database.writing() as session:
        deliveries.hold(session, endpoint.id)

    settle((claimed, outcome))

    assert stand(delivery_of(delivery_id)) == (status, 1, False)


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(RetryAt(NINE + 24 * 60 * MINUTE), id="a retry in a day"),
        pytest.param(Dead("10 attempts failed, the last with status 503"), id="dead"),
        pytest.param(Disable("gone"), id="gone"),
    ],
)
def test_attempt_of_the_old_schedule_is_fenced(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
    attempts_of: AttemptsOf,
    outcome: Decision,
) -> None:
    """A failure of the old schedule ends its lease and nothing else (F6, F12)."""
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id, attempts=MAX_ATTEMPTS - 1)
    (claimed,) = claim()
    with database.writing() as session:
        deliveries.hold(session, endpoint.id)
        deliveries.release(session, endpoint.id, now=NINE)

    settle((claimed, outcome))

    row = delivery_of(delivery_id)
    assert (stand(row), row.due_at) == (("pending", 0, False), NINE)
    assert [one.decided for one in attempts_of(delivery_id)] == ["too late"]


def test_hold_and_release_change_one_endpoint(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
) -> None:
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


def test_settlement_with_a_forged_lease_is_fenced(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    settle: Callable[..., None],
    delivery_of: DeliveryOf,
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    (claimed,) = claim()

    settle((replace(claimed, lease_token="0" * 32), Dead("forged")))

    assert stand(delivery_of(delivery_id)) == ("pending", 1, True)

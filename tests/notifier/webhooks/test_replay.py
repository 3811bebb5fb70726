"""Replay: which deliveries match, what becomes due, and the audit."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from foundation.db.session import Database
from notifier.errors import DeliveryUnknownError, ReplayRefusedError
from notifier.models import Delivery, DeliveryStatus, Replay
from notifier.webhooks import deliveries, delivery_queries
from notifier.webhooks import replay as replays
from notifier.webhooks.deliveries import Claimed, Settlement
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.retry_policy import Dead, Decision, Delivered
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint

TEN = NINE + timedelta(hours=1)
MINUTE = timedelta(minutes=1)

Claim = Callable[..., list[Claimed]]
DeliveryOf = Callable[[int], Delivery]

VERBS: dict[str, Callable[..., list[int]]] = {
    "replay": lambda session, ids: replays.replay(session, ids, by="ada", now=TEN),
    "check": replays.check,
}


@pytest.fixture
def replay(database: Database) -> Callable[..., list[int]]:
    """Return a function that replays deliveries by id, at ten."""

    def again(*ids: int, by: str = "ada@console") -> list[int]:
        with database.writing() as session:
            return replays.replay(session, ids, by=by, now=TEN)

    return again


@pytest.fixture
def replayable(database: Database) -> Callable[..., list[int]]:
    """Return a function that finds the ids that a replay by filter would replay."""

    def find(limit: int | None = None, **wanted: Any) -> list[int]:
        with database.reading() as session:
            return replays.replayable(session, DeliveryFilter(**wanted), limit)

    return find


def settle(database: Database, claimed: Claimed, outcome: Decision) -> None:
    """Settle one claim a minute after nine."""
    with database.writing() as session:
        deliveries.settle(
            session, [Settlement(claimed, NINE, 1, outcome, status=500)], now=NINE + MINUTE
        )


def audit(database: Database) -> list[tuple[int, object, str, str]]:
    """Return every audit row: delivery, time, user, previous status."""
    with database.reading() as session:
        return [
            (row.delivery_id, row.replayed_at, row.replayed_by, row.previous_status)
            for row in session.scalars(select(Replay).order_by(Replay.id))
        ]


@pytest.mark.parametrize("status", ["dead", "delivered", "pending"])
def test_replay_makes_a_delivery_due(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
    status: str,
) -> None:
    delivery_id = make_delivery(
        make_endpoint().id,
        status=status,
        attempts=10,
        due_at=NINE + timedelta(days=1),
        settled_at=NINE,
        reason="10 attempts failed",
    )
    webhook_id = delivery_of(delivery_id).event_id

    assert replay(delivery_id) == [delivery_id]

    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.due_at) == ("pending", 0, TEN)
    assert (row.settled_at, row.reason, row.lease_token) == (None, None, None)
    (claimed,) = claim(now=TEN)
    assert (claimed.webhook_id, claimed.attempts) == (webhook_id, 1)
    assert audit(database) == [(delivery_id, TEN, "ada@console", status)]


def test_replay_keeps_earlier_attempts(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    replay: Callable[..., list[int]],
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    settle(database, *claim(), Dead("status 400"))
    replay(delivery_id)
    settle(database, *claim(now=TEN), Delivered())

    with database.reading() as session:
        attempts, replayed = delivery_queries.history(session, delivery_id)

    assert [one.decided for one in attempts] == ["dead", "delivered"]
    assert [one.previous_status for one in replayed] == ["dead"]


def test_replaying_twice_sends_once(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    replay: Callable[..., list[int]],
) -> None:
    """Two replays leave one due delivery and two audit rows (F32)."""
    delivery_id = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)

    replay(delivery_id, by="ada@console")
    replay(delivery_id, by="grace@console")

    assert [one.delivery_id for one in claim(now=TEN)] == [delivery_id]
    assert claim(now=TEN) == []
    assert audit(database) == [
        (delivery_id, TEN, "ada@console", "dead"),
        (delivery_id, TEN, "grace@console", "pending"),
    ]


def test_replay_fences_the_failure_of_an_attempt_in_progress(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
) -> None:
    """An attempt in progress during a replay cannot make the replay fail (F32)."""
    delivery_id = make_delivery(make_endpoint().id)
    (in_progress,) = claim()
    replay(delivery_id)

    settle(database, in_progress, Dead("status 400"))

    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.reason) == ("pending", 0, None)
    assert [one.attempts for one in claim(now=TEN)] == [1]


def test_success_of_an_attempt_in_progress_settles_a_replay(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    (in_progress,) = claim()
    replay(delivery_id)

    settle(database, in_progress, Delivered())

    assert delivery_of(delivery_id).status == "delivered"
    assert claim(now=TEN) == []


def test_replay_skips_deliveries_that_left_their_status(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
) -> None:
    endpoint_id = make_endpoint().id
    delivery_id, other = make_delivery(endpoint_id), make_delivery(endpoint_id)
    (in_progress, _) = claim()
    settle(database, in_progress, Delivered())

    with database.writing() as session:
        replayed = replays.replay(
            session, [delivery_id, other], by="ada", now=TEN, statuses={DeliveryStatus.PENDING}
        )

    assert replayed == [other]
    assert delivery_of(delivery_id).status == "delivered"
    assert [row[0] for row in audit(database)] == [other]


@pytest.mark.parametrize("status", [None, *DeliveryStatus])
def test_replay_by_filter_replays_what_it_found(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    status: DeliveryStatus | None,
) -> None:
    endpoint_id = make_endpoint().id
    made = {one: make_delivery(endpoint_id, status=one) for one in DeliveryStatus}

    with database.writing() as session:
        wanted = DeliveryFilter(status=status)
        found = replays.replayable(session, wanted, None)
        replayed = replays.replay_found(session, wanted, None, by="ada", now=TEN)

    expected = {*DeliveryStatus} - {DeliveryStatus.DELIVERED} if status is None else {status}
    assert replayed == found == sorted(made[one] for one in expected)


@pytest.mark.parametrize("verb", VERBS)
def test_replay_refuses_disabled_endpoint(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
    verb: str,
) -> None:
    good = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)
    disabled = make_endpoint(disabled=True)
    held = make_delivery(disabled.id, status=DeliveryStatus.HELD)

    with pytest.raises(ReplayRefusedError) as refused, database.writing() as session:
        VERBS[verb](session, [good, held])

    assert str(refused.value) == (
        f"delivery {held} is for endpoint {disabled.id}, which is disabled"
    )
    assert refused.value.advice.command == f"endpoints enable {disabled.id}"
    assert [delivery_of(one).status for one in (good, held)] == ["dead", "held"]
    assert audit(database) == []


@pytest.mark.parametrize("verb", VERBS)
def test_replay_refuses_unknown_delivery(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
    verb: str,
) -> None:
    good = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)

    with pytest.raises(DeliveryUnknownError) as refused, database.writing() as session:
        VERBS[verb](session, [998, good, 999])

    assert str(refused.value) == "there is no delivery 998, 999"
    assert delivery_of(good).status == "dead"
    assert audit(database) == []


def test_dry_run_changes_nothing(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
) -> None:
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(2)]

    with database.writing() as session:
        found = replays.check(session, [ids[1], ids[0], ids[1]])

    assert found == ids
    assert [delivery_of(one).status for one in ids] == ["dead", "dead"]
    assert audit(database) == []


def test_many_are_replayed_in_batches(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replays, "_BATCH", 2)
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(5)]

    with database.writing() as session:
        taken = replays.replay(session, ids[::-1], by="ada", now=TEN)

    assert taken == ids
    assert [row[0] for row in audit(database)] == ids


def test_statements_of_a_replay_do_not_grow(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replay: Callable[..., list[int]],
) -> None:
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(31)]
    counts = []
    for some in (ids[:1], ids[1:]):
        before = database.statements
        replay(*some)
        counts.append(database.statements - before)

    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({}, ["dead", "pending", "other type", "other course", "later"], id="all"),
        pytest.param({"status": DeliveryStatus.PENDING}, ["pending"], id="status"),
        pytest.param({"status": DeliveryStatus.DELIVERED}, ["delivered"], id="delivered"),
        pytest.param({"status": DeliveryStatus.HELD}, [], id="held"),
    ],
)
def test_filter_matches_what_can_be_replayed(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replayable: Callable[..., list[int]],
    wanted: dict[str, Any],
    found: list[str],
) -> None:
    endpoint, disabled = make_endpoint(), make_endpoint(disabled=True)
    dead = {"status": DeliveryStatus.DEAD}
    made = {
        make_delivery(endpoint.id, **dead): "dead",
        make_delivery(endpoint.id): "pending",
        make_delivery(endpoint.id, status=DeliveryStatus.DELIVERED): "delivered",
        make_delivery(endpoint.id, type="token.regenerated", **dead): "other type",
        make_delivery(endpoint.id, course_id="CS999", **dead): "other course",
        make_delivery(endpoint.id, occurred_at=TEN, **dead): "later",
        make_delivery(disabled.id, status=DeliveryStatus.HELD): "held",
        make_delivery(disabled.id, **dead): "dead of a disabled endpoint",
    }

    assert [made[one] for one in replayable(**wanted)] == found


def test_held_deliveries_are_counted(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    disabled = make_endpoint(disabled=True)
    for status in ("held", "dead", "delivered"):
        make_delivery(disabled.id, status=status)
    make_delivery(make_endpoint().id, status="dead")

    with database.reading() as session:
        assert replays.count_held(session, DeliveryFilter()) == 2
        assert replays.count_held(session, DeliveryFilter(status=DeliveryStatus.DEAD)) == 1
        assert replays.count_held(session, DeliveryFilter(course_id="CS999")) == 0

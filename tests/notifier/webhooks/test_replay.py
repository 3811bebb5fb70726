"""Replay: which deliveries match, what becomes due, and the audit."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from foundation.db import audit
from foundation.db.audit import Actor, Channel
from notifier.errors import DeliveryUnknownError, ReplayRefusedError
from notifier.models import DeliveryStatus, Replay
from notifier.webhooks import delivery_queries, endpoints
from notifier.webhooks import replay as replays
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.retry_policy import Dead, Decision, Delivered
from tests.notifier.conftest import ADA, NINE, Store

TEN = NINE + timedelta(hours=1)
LATER = TEN + timedelta(microseconds=1)
GRACE = Actor("grace", Channel.PAGE)
DEAD = DeliveryStatus.DEAD


def replay(store: Store, *ids: int, **options: Any) -> list[int]:
    """Replay deliveries by id, at ten."""
    return store.write(replays.replay, ids, by=ADA, now=TEN, **options)


def recorded(store: Store, delivery_id: int) -> list[tuple[datetime, str, str]]:
    """Return the replays of a delivery: time, previous status, by whom."""
    return [
        (row.replayed_at, row.previous_status, row.entry.actor if row.entry else "")
        for row in store.read(delivery_queries.replays_of, delivery_id)
    ]


@pytest.mark.parametrize("status", ["dead", "delivered", "pending"])
def test_replay_makes_a_delivery_due(store: Store, status: str) -> None:
    delivery_id = store.add_delivery(
        store.add_endpoint().id,
        status=status,
        attempts=10,
        due_at=NINE + timedelta(days=1),
        settled_at=NINE,
        reason="10 attempts failed",
    )

    replayed = replay(store, delivery_id)

    row = store.delivery(delivery_id)
    assert replayed == [delivery_id]
    assert (row.status, row.attempts, row.due_at) == ("pending", 0, TEN)
    assert (row.settled_at, row.reason, row.lease_token) == (None, None, None)
    (claimed,) = store.claim(now=TEN)
    assert (claimed.webhook_id, claimed.attempts) == (row.event_id, 1)
    assert recorded(store, delivery_id) == [(TEN, status, "ada")]


def test_replaying_twice_sends_once(store: Store) -> None:
    """Two replays leave one due delivery, and both are recorded (F32)."""
    delivery_id, other = (store.add_delivery(store.add_endpoint().id, status=DEAD) for _ in "12")

    replay(store, delivery_id)
    store.write(replays.replay, [delivery_id, other], by=GRACE, now=LATER)

    assert store.claim(now=LATER)[0].delivery_id == delivery_id
    assert recorded(store, delivery_id) == [(TEN, "dead", "ada"), (LATER, "pending", "grace")]
    assert recorded(store, other) == [(LATER, "dead", "grace")]


def test_replay_whose_audit_entry_was_pruned_is_still_recorded(store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id, status=DEAD)
    replay(store, delivery_id)

    store.write(audit.prune, LATER, 10)

    assert recorded(store, delivery_id) == [(TEN, "dead", "")]


@pytest.mark.parametrize(
    ("outcome", "status", "sent_again"),
    [
        pytest.param(Dead("status 400"), "pending", 1, id="failure"),
        pytest.param(Delivered(), "delivered", 0, id="success"),
    ],
)
def test_only_a_success_of_an_attempt_in_progress_settles_a_replay(
    store: Store, outcome: Decision, status: str, sent_again: int
) -> None:
    """An attempt in progress during a replay cannot make the replay fail (F32)."""
    delivery_id = store.add_delivery(store.add_endpoint().id)
    (in_progress,) = store.claim()
    replay(store, delivery_id)

    store.settle((in_progress, outcome))

    assert store.statuses(delivery_id) == [status]
    assert [one.attempts for one in store.claim(now=TEN)] == [1] * sent_again


def test_replay_skips_deliveries_that_left_their_status(store: Store) -> None:
    delivered, pending = store.add_deliveries(store.add_endpoint().id, 2)
    store.settle((store.claim()[0], Delivered()))

    replayed = replay(store, delivered, pending, statuses={DeliveryStatus.PENDING})

    assert replayed == [pending]
    assert store.statuses(delivered) == ["delivered"]
    assert [row.delivery_id for row in store.all(Replay)] == [pending]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({}, ["dead", "pending", "other course", "later"], id="all"),
        pytest.param({"status": DeliveryStatus.PENDING}, ["pending"], id="status"),
        pytest.param({"status": DeliveryStatus.DELIVERED}, ["delivered"], id="delivered"),
        pytest.param({"status": DeliveryStatus.HELD}, [], id="held"),
        pytest.param({"course_id": "CS999"}, ["other course"], id="course"),
    ],
)
def test_replay_by_filter_replays_what_it_found(
    store: Store, wanted: dict[str, Any], found: list[str]
) -> None:
    endpoint, disabled = store.add_endpoint(), store.add_endpoint(disabled=True)
    made = {
        store.add_delivery(endpoint.id, status=DEAD): "dead",
        store.add_delivery(endpoint.id): "pending",
        store.add_delivery(endpoint.id, status=DeliveryStatus.DELIVERED): "delivered",
        store.add_delivery(endpoint.id, course_id="CS999", status=DEAD): "other course",
        store.add_delivery(endpoint.id, occurred_at=TEN, status=DEAD): "later",
        store.add_delivery(disabled.id): "held",
        store.add_delivery(disabled.id, status=DEAD): "dead of a disabled endpoint",
    }
    criteria = DeliveryFilter(**wanted)

    replayable = store.read(replays.find_replayable, criteria, None)
    replayed = store.write(replays.replay_found, criteria, None, by=ADA, now=TEN)

    assert [made[one] for one in replayable] == found
    assert replayed == sorted(replayable)


def test_replay_refuses_disabled_endpoint(store: Store) -> None:
    good = store.add_delivery(store.add_endpoint().id, status=DEAD)
    disabled = store.add_endpoint(disabled=True)
    held = store.add_delivery(disabled.id)

    with pytest.raises(ReplayRefusedError) as refused:
        replay(store, good, held)

    assert str(refused.value) == (
        f"delivery {held} is for endpoint {disabled.id}, which is disabled"
    )
    assert refused.value.advice.command == f"endpoints enable {disabled.id}"
    assert (store.statuses(good, held), store.all(Replay)) == (["dead", "held"], [])


def test_replay_refuses_removed_endpoint(store: Store) -> None:
    endpoint = store.add_endpoint()
    dead = store.add_delivery(endpoint.id, status=DEAD)
    store.write(endpoints.remove, endpoint.id, by="ada", now=NINE)

    with pytest.raises(ReplayRefusedError) as refused:
        replay(store, dead)

    assert str(refused.value) == f"delivery {dead} is for endpoint {endpoint.id}, which was removed"
    assert (store.statuses(dead), store.all(Replay)) == (["dead"], [])


def test_replay_refuses_unknown_delivery(store: Store) -> None:
    good = store.add_delivery(store.add_endpoint().id, status=DEAD)

    with pytest.raises(DeliveryUnknownError) as refused:
        replay(store, 998, good, 999)

    assert str(refused.value) == "there is no delivery 998, 999"
    assert (store.statuses(good), store.all(Replay)) == (["dead"], [])


def test_dry_run_changes_nothing(store: Store) -> None:
    ids = store.add_deliveries(store.add_endpoint().id, 2, status=DEAD)

    found = store.write(replays.check, [ids[1], ids[0], ids[1]])

    assert found == ids
    assert (store.statuses(*ids), store.all(Replay)) == (["dead", "dead"], [])


def test_many_are_replayed_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_BATCH", 2)
    ids = store.add_deliveries(store.add_endpoint().id, 5, status=DEAD)

    replayed = replay(store, *ids[::-1])

    assert replayed == ids
    assert [row.delivery_id for row in store.all(Replay)] == ids


def test_statements_of_a_replay_do_not_grow(store: Store) -> None:
    one, *many = store.add_deliveries(store.add_endpoint().id, 31, status=DEAD)

    counts = [store.count_statements(lambda ids=ids: replay(store, *ids)) for ids in ([one], many)]

    assert counts[0] == counts[1]


def test_held_deliveries_are_counted(store: Store) -> None:
    disabled = store.add_endpoint(disabled=True)
    for status in ("pending", "dead", "delivered"):
        store.add_delivery(disabled.id, status=status)
    store.add_delivery(store.add_endpoint().id, status="dead")

    counts = [
        store.read(replays.count_held, DeliveryFilter(**wanted))
        for wanted in ({}, {"status": DEAD}, {"course_id": "CS999"})
    ]

    assert counts == [2, 1, 0]

"""The statistics on the overview: hours, delays, dead deliveries by reason."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from notifier.models import Delivery, DeliveryStatus
from notifier.monitoring import statistics
from notifier.webhooks import replay
from tests.notifier.conftest import ADA, NINE, Store

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
# Ten minutes into the current hour.
NOON = NINE + timedelta(hours=3, minutes=10)

MakeSettled = Callable[..., int]


@pytest.fixture
def settled(store: Store) -> MakeSettled:
    """Return a function that writes a settled delivery, by default a delivered one."""
    endpoint = store.add_endpoint()

    def make(at: datetime, **overrides: Any) -> int:
        given = {"status": DeliveryStatus.DELIVERED, "created_at": at - SECOND, **overrides}
        return store.add_delivery(given.pop("endpoint_id", endpoint.id), settled_at=at, **given)

    return make


def dead(reason: str = "10 attempts failed", **overrides: Any) -> dict[str, Any]:
    """Return what makes a delivery dead."""
    return {"status": DeliveryStatus.DEAD, "reason": reason, **overrides}


def test_hours_are_counted_separately(store: Store, settled: MakeSettled) -> None:
    twelve = NOON.replace(minute=0, second=0, microsecond=0)
    settled(twelve)
    settled(twelve - timedelta(microseconds=1))
    settled(twelve - timedelta(microseconds=1), **dead())
    settled(twelve - 23 * HOUR)
    settled(twelve - 23 * HOUR - timedelta(microseconds=1))

    hours = store.read(statistics.day, now=NOON)

    assert [hour.begins_at for hour in hours] == [twelve - n * HOUR for n in range(23, -1, -1)]
    assert [(n, hour.delivered, hour.dead) for n, hour in enumerate(hours) if hour.delivered] == [
        (0, 1, 0),
        (22, 1, 1),
        (23, 1, 0),
    ]


def test_delays_are_from_event_to_delivery(store: Store, settled: MakeSettled) -> None:
    settled(NOON, created_at=NOON - 3 * SECOND)
    settled(NOON - SECOND, created_at=NOON - 3 * SECOND)
    settled(NOON, **dead())
    settled(NOON - 5 * HOUR, created_at=NOON - 7 * HOUR)

    delays = [list(hour.delays) for hour in store.read(statistics.day, now=NOON)]

    assert delays[23] == [3 * SECOND, 2 * SECOND]
    assert delays[18] == [2 * HOUR]
    assert delays[22] == []


def test_delay_of_a_replay_is_from_the_replay(store: Store, settled: MakeSettled) -> None:
    delivery_id = settled(NOON - 3 * HOUR, **dead())
    store.write(replay.replay, [delivery_id], by=ADA, now=NOON - HOUR)
    store.write(replay.replay, [delivery_id], by=ADA, now=NOON - 4 * SECOND)
    with store.database.writing() as session:
        row = session.get_one(Delivery, delivery_id)
        row.stored_status, row.settled_at = DeliveryStatus.DELIVERED, NOON

    last = store.read(statistics.day, now=NOON)[-1]

    assert list(last.delays) == [4 * SECOND]


def test_failed_attempts_of_an_outage_are_counted_in_their_hour(
    store: Store, settled: MakeSettled
) -> None:
    pending = store.add_delivery(store.add_endpoint().id)
    for at, decided in (
        (NOON, "retry"),
        (NOON, "disable"),
        (NOON, "delivered"),
        (NOON, "dead"),
        (NOON - HOUR, "retry"),
    ):
        store.add_attempt(pending, started_at=at, decided=decided)

    hours = store.read(statistics.day, now=NOON)

    assert [hour.failed for hour in hours[-3:]] == [0, 1, 2]


def test_response_times_are_those_of_the_last_attempts(
    store: Store, settled: MakeSettled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESPONSES", 2)
    monkeypatch.setattr(statistics, "_LATEST", 2)
    quiet, busy, unused = (store.add_endpoint().id for _ in range(3))
    for endpoint_id, milliseconds, decided in (
        (quiet, 3, "delivered"),
        (busy, 10, "delivered"),
        (busy, 20, "delivered"),
        (busy, 5000, "retry"),
    ):
        overrides = {} if decided == "delivered" else {"status": DeliveryStatus.PENDING}
        delivery_id = settled(NOON, endpoint_id=endpoint_id, **overrides)
        store.add_attempt(delivery_id, milliseconds=milliseconds, decided=decided)

    found = store.read(statistics.response_times, [quiet, busy, unused])

    assert {
        endpoint_id: [(one.milliseconds, one.accepted) for one in times]
        for endpoint_id, times in found.items()
    } == {quiet: [(3, True)], busy: [(20, True), (5000, False)]}


def test_busy_hour_is_sampled(
    store: Store, settled: MakeSettled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "SAMPLE", 2)
    for number in range(4):
        settled(NOON + number * SECOND, created_at=NOON)

    last = store.read(statistics.day, now=NOON + HOUR / 2)[-1]

    assert last.delivered == 4
    assert list(last.delays) == [3 * SECOND, 2 * SECOND]


def test_dead_deliveries_are_grouped_by_endpoint_and_reason(
    store: Store, settled: MakeSettled
) -> None:
    other = store.add_endpoint()
    settled(NOON - HOUR, **dead("status 500"))
    settled(NOON - 2 * HOUR, **dead("status 500"))
    settled(NOON - 3 * HOUR, **dead("refused"))
    settled(NOON, **dead("refused", endpoint_id=other.id))
    settled(NOON - timedelta(days=8), **dead("long ago"))

    found = store.read(statistics.dead_deliveries, now=NOON)

    assert [(one.endpoint.url == other.url, one.reason, one.count) for one in found] == [
        (True, "refused", 1),
        (False, "status 500", 2),
        (False, "refused", 1),
    ]
    assert found[1].newest_at == NOON - HOUR


def test_dead_ids_are_those_of_one_group(store: Store, settled: MakeSettled) -> None:
    other = store.add_endpoint()
    old = settled(NOON - HOUR, **dead("status 500"))
    new = settled(NOON, **dead("status 500"))
    settled(NOON, **dead("refused"))
    settled(NOON, **dead("status 500", endpoint_id=other.id))
    settled(NOON - timedelta(days=8), **dead("status 500"))
    endpoint_id = other.id - 1

    group = endpoint_id, "status 500"
    found = store.read(statistics.dead_ids, *group, limit=9, now=NOON)
    first = store.read(statistics.dead_ids, *group, limit=1, now=NOON)

    assert found == [new, old]
    assert first == [new]

"""The statistics on the overview: hours, delays, dead deliveries by reason."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from notifier.models import DeliveryStatus
from notifier.monitoring import statistics
from tests.notifier.conftest import NINE, Store

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

    found = store.read(statistics.dead_letters, now=NOON)

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

"""Filters of deliveries: correct results in order, always through an index."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import joinedload

from foundation.db.session import Database
from notifier.models import Delivery, DeliveryStatus
from notifier.webhooks import delivery_filter
from notifier.webhooks.delivery_filter import DeliveryFilter
from tests.notifier.conftest import MINUTE, NINE, Store, new_delivery

TYPES = ("course.deleted", "token.regenerated", "delivery.dead")


def matches(row: Delivery, wanted: DeliveryFilter) -> bool:
    """Return True if a filter matches a delivery."""
    return (
        wanted.status in (None, row.status)
        and wanted.event_type in (None, row.event.type)
        and wanted.endpoint_id in (None, row.endpoint_id)
        and wanted.course_id in (None, row.event.course_id)
        and (wanted.matching or "").lower() in row.event.course_id.lower()
        and wanted.webhook_id is None
        and (wanted.since is None or row.created_at >= wanted.since)
        and (wanted.until is None or row.created_at < wanted.until)
    )


@pytest.fixture
def rows(store: Store) -> list[Delivery]:
    """Deliveries of all kinds, some with the same time, in the order of their events."""
    chance = random.Random(11)
    store.add_courses([f"CS{number}" for number in range(4)])
    endpoint_ids = [store.add_endpoint(disabled=number == 2).id for number in range(3)]
    stored = [one for one in DeliveryStatus if one is not DeliveryStatus.HELD]
    made = [
        new_delivery(
            chance.choice(endpoint_ids),
            status=chance.choice(stored),
            type=chance.choices(TYPES, weights=(10, 5, 1))[0],
            course_id=f"CS{number % 4}",
            occurred_at=NINE + MINUTE * (number // 3),
        )
        for number in range(60)
    ]
    store.write(lambda session: session.add_all(made))
    return store.all(select(Delivery).options(joinedload(Delivery.event)).order_by(Delivery.id))


@pytest.fixture(params=[2000, 3], ids=["few events", "many events"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of events up to which they are looked up one by one, not scanned in order."""
    monkeypatch.setattr(delivery_filter, "_FEW_EVENTS", request.param)


@contextmanager
def no_scan(database: Database) -> Iterator[None]:
    """Check the plans of all queries on SQLite; PostgreSQL scans tables that are so small."""
    plans: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def plan(_: object, cursor: object, statement: str, given: object, *rest: object) -> None:
        if database.is_sqlite and statement.startswith("SELECT"):
            raw = cursor.connection.cursor()  # type: ignore[attr-defined]
            plans.extend(row[-1] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", given))

    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", plan)
    assert [one for one in plans if one.startswith(("SCAN deliveries", "SCAN events"))] == []


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({}, id="all"),
        pytest.param({"status": DeliveryStatus.DEAD}, id="status"),
        pytest.param({"status": DeliveryStatus.PENDING}, id="pending"),
        pytest.param({"status": DeliveryStatus.HELD}, id="held"),
        pytest.param(
            {"status": DeliveryStatus.HELD, "event_type": "course.deleted"}, id="held and type"
        ),
        pytest.param({"endpoint_id": 2}, id="endpoint"),
        pytest.param({"endpoint_id": 99}, id="unknown endpoint"),
        pytest.param({"event_type": "course.deleted"}, id="type"),
        pytest.param({"event_type": "endpoint.disabled"}, id="type without events"),
        pytest.param({"event_type": "course.deleted", "endpoint_id": 1}, id="type and endpoint"),
        pytest.param({"course_id": "CS3"}, id="course"),
        pytest.param({"matching": "s3"}, id="part of a course id"),
        pytest.param({"matching": "cs"}, id="part of every course id"),
        pytest.param({"matching": "_"}, id="wildcard of LIKE"),
        pytest.param({"matching": "s3", "event_type": "course.deleted"}, id="part and type"),
        pytest.param({"webhook_id": "nowhere"}, id="unknown event"),
        pytest.param({"since": NINE + 4 * MINUTE, "until": NINE + 9 * MINUTE}, id="period"),
        pytest.param(
            {"event_type": "course.deleted", "until": NINE + 9 * MINUTE}, id="type and until"
        ),
        pytest.param(
            {
                "event_type": "token.regenerated",
                "status": DeliveryStatus.DEAD,
                "since": NINE + MINUTE,
            },
            id="type, status and since",
        ),
    ],
)
def test_filter_finds_what_matches_through_an_index(
    store: Store, rows: list[Delivery], few: None, conditions: dict[str, object]
) -> None:
    wanted = DeliveryFilter(**conditions)
    found = [row for row in rows if matches(row, wanted)]
    expected = [row.id for row in found]

    with store.database.reading() as session, no_scan(store.database):
        scope = delivery_filter.scope_of(session, wanted)
        assert delivery_filter.oldest(session, scope, limit=None) == expected
        assert delivery_filter.newest(session, scope, limit=None) == expected[::-1]
        for mark in (rows[0].id, rows[20].id, rows[59].id):
            later = [one for one in expected if one > mark]
            earlier = [one for one in expected if one < mark]
            assert delivery_filter.oldest(session, scope, after=mark, limit=4) == later[:4]
            assert delivery_filter.newest(session, scope, before=mark, limit=4) == earlier[::-1][:4]
        assert Counter((row.endpoint_id, row.status) for row in found) == {
            (endpoint_id, status): number
            for endpoint_id, counts in delivery_filter.count(session, scope).items()
            for status, number in counts.items()
            if number
        }


def test_scope_leaves_out_statuses(store: Store, rows: list[Delivery]) -> None:
    delivered = DeliveryFilter(status=DeliveryStatus.DELIVERED)
    but = {DeliveryStatus.DELIVERED}

    disabled = store.read(delivery_filter.scope_of, DeliveryFilter(), disabled=True)
    enabled = store.read(delivery_filter.scope_of, DeliveryFilter(), disabled=False, leave_out=but)
    requested = store.read(delivery_filter.scope_of, delivered, leave_out=but)

    assert (disabled.endpoint_ids, enabled.endpoint_ids) == ([3], [1, 2])
    assert DeliveryStatus.DELIVERED not in enabled.statuses
    assert requested.statuses == [DeliveryStatus.DELIVERED]


def test_webhook_id_finds_the_deliveries_of_one_event(store: Store, rows: list[Delivery]) -> None:
    wanted = DeliveryFilter(webhook_id=rows[7].event_id, status=rows[7].status)
    scope = store.read(delivery_filter.scope_of, wanted)

    assert scope.is_cheap_to_count
    assert store.read(delivery_filter.newest, scope, limit=None) == [rows[7].id]


def test_count_is_bounded(store: Store, rows: list[Delivery]) -> None:
    scope = store.read(delivery_filter.scope_of, DeliveryFilter())

    counted = store.read(delivery_filter.count, scope, limit=2)

    assert {number for counts in counted.values() for number in counts.values()} <= {0, 1, 2}


def test_deleted_cursor_keeps_its_position(store: Store, rows: list[Delivery]) -> None:
    scope = store.read(delivery_filter.scope_of, DeliveryFilter())

    assert store.read(delivery_filter.newest, scope, before=10_000, limit=1) == [rows[-1].id]
    assert store.read(delivery_filter.oldest, scope, after=10_000, limit=1) == []


def test_deliveries_are_ordered_by_event(store: Store) -> None:
    endpoint_id = store.add_endpoint().id
    late, early, between = (
        store.add_delivery(endpoint_id, occurred_at=NINE + minutes * MINUTE)
        for minutes in (2, 0, 1)
    )
    scope = store.read(delivery_filter.scope_of, DeliveryFilter())

    found = store.read(delivery_filter.newest, scope, limit=None)
    after = store.read(delivery_filter.newest, scope, before=between, limit=None)

    assert (found, after) == ([late, between, early], [early])

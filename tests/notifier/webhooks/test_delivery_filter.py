"""Filters of deliveries: correct results in order, always through an index."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event

from foundation.db.session import Database
from notifier.models import DeliveryStatus
from notifier.webhooks import delivery_filter
from notifier.webhooks.delivery_filter import DeliveryFilter
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint

MINUTE = timedelta(minutes=1)
TYPES = ("course.deleted", "token.regenerated", "delivery.dead")
WAYS = {"few events": 2000, "many events": 3}
"""So many events are few, and which way is then taken with the rows below."""


@dataclass(frozen=True)
class Row:
    """A delivery as the tests know it."""

    id: int
    endpoint_id: int
    status: DeliveryStatus
    type: str
    course_id: str
    at: datetime

    def matches(self, wanted: DeliveryFilter) -> bool:
        """Return True if the filter matches this row."""
        return (
            wanted.status in (None, self.status)
            and wanted.event_type in (None, self.type)
            and wanted.endpoint_id in (None, self.endpoint_id)
            and wanted.course_id in (None, self.course_id)
            and (wanted.since is None or self.at >= wanted.since)
            and (wanted.until is None or self.at < wanted.until)
        )


@pytest.fixture
def rows(make_endpoint: MakeEndpoint, make_delivery: MakeDelivery) -> list[Row]:
    """Deliveries of all kinds, some with the same time, in the order of their events."""
    chance = random.Random(11)
    endpoint_ids = [make_endpoint(disabled=number == 2).id for number in range(3)]
    rows = []
    for number in range(60):
        row = {
            "status": chance.choice(list(DeliveryStatus)),
            "type": chance.choices(TYPES, weights=(10, 5, 1))[0],
            "course_id": f"CS{number % 4}",
        }
        at, endpoint_id = NINE + MINUTE * (number // 3), chance.choice(endpoint_ids)
        delivery_id = make_delivery(endpoint_id, occurred_at=at, **row)
        rows.append(Row(delivery_id, endpoint_id, at=at, **row))
    return rows


CONDITIONS = [
    pytest.param({}, id="all"),
    pytest.param({"status": DeliveryStatus.DEAD}, id="status"),
    pytest.param({"status": DeliveryStatus.DELIVERED}, id="delivered"),
    pytest.param({"endpoint_id": 2}, id="endpoint"),
    pytest.param({"endpoint_id": 99}, id="an endpoint that there is not"),
    pytest.param({"event_type": "course.deleted"}, id="type"),
    pytest.param({"event_type": "delivery.dead"}, id="rare type"),
    pytest.param({"event_type": "endpoint.disabled"}, id="a type that never was"),
    pytest.param(
        {"event_type": "token.regenerated", "status": DeliveryStatus.HELD}, id="type and status"
    ),
    pytest.param({"event_type": "course.deleted", "endpoint_id": 1}, id="type and endpoint"),
    pytest.param({"course_id": "CS3"}, id="course"),
    pytest.param({"course_id": "CS3", "event_type": "course.deleted"}, id="course and type"),
    pytest.param({"since": NINE + 7 * MINUTE}, id="since"),
    pytest.param({"until": NINE + 7 * MINUTE}, id="until"),
    pytest.param({"since": NINE + 4 * MINUTE, "until": NINE + 9 * MINUTE}, id="between"),
    pytest.param({"event_type": "course.deleted", "until": NINE + 9 * MINUTE}, id="type and until"),
    pytest.param(
        {"event_type": "token.regenerated", "status": DeliveryStatus.DEAD, "since": NINE + MINUTE},
        id="type, status and since",
    ),
    pytest.param(
        {"since": NINE + 99 * MINUTE, "event_type": "course.deleted"}, id="later than all"
    ),
]


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether events are looked up one by one or scanned in order."""
    monkeypatch.setattr(delivery_filter, "_FEW", WAYS[request.param])
    return str(request.param)


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_filter_finds_what_it_means(
    database: Database, rows: list[Row], way: str, conditions: dict[str, object]
) -> None:
    wanted = DeliveryFilter(**conditions)
    expected = [row.id for row in rows if row.matches(wanted)]

    with database.reading() as session:
        scope = delivery_filter.scope_of(session, wanted)
        assert delivery_filter.oldest(session, scope, limit=None) == expected
        assert delivery_filter.newest(session, scope, limit=None) == expected[::-1]
        for mark in (rows[0].id, rows[20].id, rows[59].id):
            later = [one for one in expected if one > mark]
            earlier = [one for one in expected if one < mark]
            assert delivery_filter.oldest(session, scope, after=mark, limit=4) == later[:4]
            assert delivery_filter.newest(session, scope, before=mark, limit=4) == earlier[::-1][:4]
        counted = Counter((row.endpoint_id, row.status) for row in rows if row.matches(wanted))
        assert dict(counted) == {
            (endpoint_id, status): number
            for endpoint_id, counts in delivery_filter.count(session, scope).items()
            for status, number in counts.items()
            if number
        }


def test_scope_leaves_out_statuses(database: Database, rows: list[Row]) -> None:
    but = {DeliveryStatus.DELIVERED}
    with database.reading() as session:
        disabled = delivery_filter.scope_of(session, DeliveryFilter(), disabled=True)
        enabled = delivery_filter.scope_of(session, DeliveryFilter(), disabled=False, leave_out=but)
        asked = delivery_filter.scope_of(
            session, DeliveryFilter(status=DeliveryStatus.DELIVERED), leave_out=but
        )

    assert (disabled.endpoint_ids, enabled.endpoint_ids) == ([3], [1, 2])
    assert DeliveryStatus.DELIVERED not in enabled.statuses
    assert asked.statuses == [DeliveryStatus.DELIVERED]
    assert len(rows) == 60


def test_count_is_bounded(database: Database, rows: list[Row], way: str) -> None:
    with database.reading() as session:
        scope = delivery_filter.scope_of(session, DeliveryFilter())
        counted = delivery_filter.count(session, scope, limit=2)

    assert {number for counts in counted.values() for number in counts.values()} <= {0, 1, 2}
    assert sum(counts.total() for counts in counted.values()) < len(rows)


def test_deleted_cursor_keeps_its_position(database: Database, rows: list[Row]) -> None:
    with database.reading() as session:
        scope = delivery_filter.scope_of(session, DeliveryFilter())
        assert delivery_filter.newest(session, scope, before=10_000, limit=1) == [rows[-1].id]
        assert delivery_filter.oldest(session, scope, after=10_000, limit=1) == []
        assert delivery_filter.newest(session, scope, before=rows[0].id, limit=1) == []


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_no_query_scans_a_table(
    database: Database, rows: list[Row], way: str, conditions: dict[str, object]
) -> None:
    if not database.is_sqlite:
        pytest.skip("a planner that knows how small the tables are scans them for that reason")
    plans = watched(database)

    with database.reading() as session:
        scope = delivery_filter.scope_of(session, DeliveryFilter(**conditions))
        delivery_filter.newest(session, scope, before=rows[30].id, limit=5)
        delivery_filter.oldest(session, scope, limit=5)
        delivery_filter.count(session, scope, limit=5)

    steps = [step for step in plans() if step.startswith("SCAN")]
    assert [step for step in steps if "deliveries" in step or "events" in step] == []


def watched(database: Database) -> Callable[[], list[str]]:
    """Return a function that returns the query plans of everything that is read from now on."""
    read: list[tuple[str, object]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_conn: object, _cursor: object, statement: str, given: object, *_: object) -> None:
        if statement.startswith("SELECT"):
            read.append((statement, given))

    def steps() -> list[str]:
        seen = list(read)
        with database.engine.connect() as connection:
            return [
                str(step[-1])
                for statement, given in seen
                for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
            ]

    return steps


def test_deliveries_are_ordered_by_event(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint_id = make_endpoint().id
    moments = [NINE + 2 * MINUTE, NINE, NINE + MINUTE]
    late, early, between = (make_delivery(endpoint_id, occurred_at=at) for at in moments)

    with database.reading() as session:
        scope = delivery_filter.scope_of(session, DeliveryFilter())
        found = delivery_filter.newest(session, scope, limit=None)
        after = delivery_filter.newest(session, scope, before=between, limit=None)

    assert [late, between, early] == found
    assert [early] == after

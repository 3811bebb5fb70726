"""Claims: each due delivery once, within the limits; expired leases."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, update

from foundation.db import bulk
from notifier.models import DeliveryStatus, Endpoint
from notifier.webhooks import deliveries
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import MAX_ATTEMPTS, MAX_LOST_CLAIMS
from notifier.worker import claims
from tests.notifier.conftest import BODY, MINUTE, NINE, Store

SECOND = timedelta(seconds=1)


def is_due(store: Store) -> bool:
    """Return True if there is anything to claim or settle at nine."""
    due, _ = store.read(claims.find_due, 0, now=NINE)
    return bool(due) or store.read(claims.any_lost, now=NINE)


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
        encrypted_secrets=claimed.encrypted_secrets,
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
    ],
)
def test_only_pending_and_due_deliveries_are_claimed(
    store: Store, overrides: dict[str, Any]
) -> None:
    store.add_delivery(store.add_endpoint().id, **overrides)

    assert (is_due(store), store.claim()) == (False, [])


def test_nothing_is_claimed_for_an_endpoint_that_was_disabled_since_it_was_found(
    store: Store,
) -> None:
    disabled, enabled = store.add_endpoint(disabled=True), store.add_endpoint()
    store.add_delivery(disabled.id)
    sent = store.add_delivery(enabled.id)
    found = {disabled.id: 9, enabled.id: 9}

    claimed = store.write(claims.claim, found, newest=False, lease=MINUTE, now=NINE)

    assert [one.delivery_id for one in claimed] == [sent]


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_claims_read_no_backlog(store: Store) -> None:
    """The plans of SQLite, where no statistics help: each statement has its partial index."""
    plans: list[str] = []

    @event.listens_for(store.database.engine, "before_cursor_execute")
    def explain(_: object, cursor: Any, statement: str, values: Any, *__: object) -> None:
        if "FROM deliveries" in statement:
            raw = cursor.connection.cursor()
            plans.extend(row[-1] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    with store.database.writing() as session:
        claims.find_due(session, 0, now=NINE)
        claims.any_lost(session, now=NINE)
        claims.expired(session, now=NINE)
        claims.claim(session, {1: 9}, newest=False, lease=MINUTE, now=NINE)
        claims.claim(session, {1: 9}, newest=True, lease=MINUTE, now=NINE)
        claims.claim_suspect(session, lease=MINUTE, now=NINE)
    event.remove(store.database.engine, "before_cursor_execute", explain)

    reads = [one for one in plans if re.search(r"\bdeliveries\b", one)]
    by_index = r"INDEX ix_deliveries_(free|suspect|status_leased_until) \(status="
    assert len([one for one in reads if re.search(by_index, one)]) == 12
    assert [one for one in reads if not re.search(rf"{by_index}|PRIMARY KEY \(rowid=", one)] == []


def test_longest_or_latest_due_are_claimed(store: Store) -> None:
    """A backlog does not delay new events, and new events do not delay the backlog (F25)."""
    endpoint_id = store.add_endpoint().id
    ids = [store.add_delivery(endpoint_id, due_at=NINE - n * MINUTE) for n in range(9, 0, -1)]

    longest, latest = store.claim(number=3), store.claim(number=4, newest=True)

    assert [one.delivery_id for one in longest] == ids[:3]
    assert [one.delivery_id for one in latest] == ids[-4:]
    assert [one.delivery_id for one in store.claim()] == ids[3:5]


def test_room_is_for_each_endpoint(store: Store) -> None:
    """A backlog of one endpoint leaves room for others (F25)."""
    crowded, quiet, closed = (store.add_endpoint() for _ in range(3))
    store.add_deliveries(crowded.id, 20, due_at=NINE - MINUTE)
    store.add_deliveries(quiet.id, 5)
    store.add_delivery(closed.id)

    with store.database.writing() as session:
        due, after = claims.find_due(session, 0, now=NINE)
        numbers = {crowded.id: 2, quiet.id: 9, closed.id: 0}
        found = claims.claim(session, numbers, newest=False, lease=MINUTE, now=NINE)

    assert (list(due), after) == ([crowded.id, quiet.id, closed.id], 0)
    assert [one.endpoint_id for one in found] == [crowded.id] * 2 + [quiet.id] * 5


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"disabled_at": NINE}, id="disabled"),
        pytest.param({"paused_until": NINE + SECOND}, id="paused"),
    ],
)
def test_disabled_and_paused_endpoints_are_not_due(store: Store, state: dict[str, Any]) -> None:
    endpoint_id = store.add_endpoint().id
    store.add_delivery(endpoint_id)
    store.add_delivery(endpoint_id, lost_claims=2)
    changed = update(Endpoint).values(**state)
    store.write(lambda session: session.execute(changed))

    assert (is_due(store), store.claim()) == (False, [])


def test_many_endpoints_are_found_a_few_at_a_time(store: Store) -> None:
    now = {"created_at": NINE, "event_types": None}
    rows = [{"url": f"https://elms.example/{n}", **now} for n in range(150)]
    store.write(lambda session: bulk.insert(session, Endpoint, rows))
    ids = [one.id for one in store.all(Endpoint)]
    for endpoint_id in ids[::2]:
        store.add_delivery(endpoint_id)
    for endpoint_id in ids[1::2]:
        store.add_delivery(endpoint_id, due_at=NINE + SECOND)

    due, after = store.read(claims.find_due, 0, now=NINE)
    found = [list(due)]
    while after:
        due, after = store.read(claims.find_due, after, now=NINE)
        found.append(list(due))

    assert [one for some in found for one in some] == ids[::2]
    assert [len(one) for one in found] == [32, 32, 11]


def test_claims_that_are_given_back_do_not_count(store: Store) -> None:
    endpoint_id = store.add_endpoint().id
    back, kept, restarted = (store.add_delivery(endpoint_id, attempts=1) for _ in range(3))
    claimed = store.claim()
    store.write(deliveries.restart, [restarted], now=NINE)

    store.write(claims.give_back, [one for one in claimed if one.delivery_id != kept])

    rows = [store.delivery(one) for one in (back, kept, restarted)]
    assert [row.attempts for row in rows] == [1, 2, 0]
    assert [row.lease_token is None for row in rows] == [True, False, True]


def test_delivery_that_lost_two_workers_is_claimed_alone(store: Store) -> None:
    """It may be what ends the workers, and would take others with it (F9)."""
    endpoint = store.add_endpoint()
    poison, other = store.add_deliveries(endpoint.id, 2)
    store.claim()
    store.claim(now=NINE + MINUTE)
    fresh = store.add_delivery(endpoint.id, due_at=NINE + MINUTE)

    first, second = store.claim(now=NINE + 2 * MINUTE), store.claim(now=NINE + 2 * MINUTE)

    assert [one.delivery_id for one in first] == [fresh, poison]
    assert [one.delivery_id for one in second] == [other]


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


@pytest.mark.parametrize(
    ("attempts", "lost", "reason"),
    [
        pytest.param(0, MAX_LOST_CLAIMS, "3 attempts in a row lost their worker", id="in a row"),
        pytest.param(
            MAX_ATTEMPTS - 1,
            1,
            "10 attempts failed, the last because its worker was lost",
            id="last attempt",
        ),
    ],
)
def test_delivery_that_loses_its_workers_is_dead(
    store: Store, attempts: int, lost: int, reason: str
) -> None:
    """A delivery that crashes its worker each time ends dead; others are not affected (F9)."""
    endpoint = store.add_endpoint()
    poison = store.add_delivery(endpoint.id, attempts=attempts)
    for minutes in range(lost):
        store.claim(now=NINE + minutes * MINUTE)
    healthy = store.add_delivery(endpoint.id)

    claimed = store.claim(now=NINE + lost * MINUTE)

    assert [one.delivery_id for one in claimed] == [healthy]
    row = store.delivery(poison)
    assert (row.status, row.attempts, row.lease_token) == ("dead", attempts + lost, None)
    assert (row.reason, row.settled_at) == (reason, NINE + lost * MINUTE)
    assert [one.decided for one in store.attempts(poison)] == ["retry"] * (lost - 1) + ["dead"]


RACERS = """
import json, multiprocessing, sys
from datetime import datetime, timedelta
from foundation.db.session import Database
from notifier.worker import claims

def race(url, now, start, won):
    database, ids, due = Database(url, timeout=30), [], True
    start.wait(20)
    while due:
        with database.writing() as session:
            due, _ = claims.find_due(session, 0, now=now)
            numbers, lease = dict.fromkeys(due, 2), timedelta(minutes=1)
            claimed = claims.claim(session, numbers, newest=False, lease=lease, now=now)
        ids += [one.delivery_id for one in claimed]
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

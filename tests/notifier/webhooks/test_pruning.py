"""Pruning: which rows are deleted, next to replays and other prunings, by which index."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from foundation.db.pagination import Cursor
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.errors import DeliveryUnknownError
from notifier.models import Attempt, Delivery, DeliveryStatus, Event, Replay
from notifier.webhooks import deliveries, endpoints, pruning
from notifier.webhooks import replay as replays
from notifier.webhooks.pruning import Pruned
from tests.notifier.conftest import ADA, NINE, Store
from tests.notifier.webhooks.test_locks import wait_for_a_waiter

DAY = timedelta(days=1)
BEFORE = NINE + 10 * DAY
LONG_AGO: dict[str, Any] = {"status": DeliveryStatus.DELIVERED, "settled_at": NINE}
only_postgres = pytest.mark.parametrize("database_kind", ["postgresql"])  # SQLite has one writer


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def prune_all(store: Store, *, limit: int = 2) -> list[Pruned]:
    """Prune in transactions of `limit` rows until none are left."""
    every: list[Pruned] = []
    for step in (
        *(partial(pruning.prune_deliveries, status=status) for status in pruning.STATUSES),
        *(partial(pruning.prune_events, event_type=one) for one in pruning.TYPES),
    ):
        after: Cursor | None = None
        while pruned := store.write(step, before=BEFORE, after=after, limit=limit):
            every.append(pruned)
            after = pruned.until
    return every


def add_second_delivery(store: Store, delivery_id: int, endpoint_id: int, **columns: Any) -> int:
    """Add a delivery of the same event for another endpoint."""
    event_id = store.delivery(delivery_id).event_id
    with store.database.writing() as session:
        endpoint = store.endpoint(endpoint_id)
        deliveries.create(session, [event_id], [endpoint], now=NINE)
        row = session.query(Delivery).filter_by(event_id=event_id, endpoint_id=endpoint_id).one()
        for name, value in columns.items():
            setattr(row, name, value)
        return row.id


def test_only_what_was_delivered_long_ago_is_deleted(store: Store) -> None:
    one, two = store.add_endpoint().id, store.add_endpoint().id
    shared = store.add_delivery(one, **LONG_AGO)
    also_dead = add_second_delivery(store, shared, two, status=DeliveryStatus.DEAD, settled_at=NINE)
    replayed = store.add_delivery(one, **LONG_AGO)
    store.write(replays.replay, [replayed], by=ADA, now=BEFORE)
    sent_again = store.add_delivery(one, **LONG_AGO)
    store.write(replays.replay, [sent_again], by=ADA, now=NINE)
    with store.database.writing() as session:
        row = session.get_one(Delivery, sent_again)
        row.stored_status, row.settled_at = DeliveryStatus.DELIVERED, BEFORE
    kept = {
        also_dead,
        replayed,
        sent_again,
        store.add_delivery(one, status=DeliveryStatus.DELIVERED, settled_at=BEFORE),
        store.add_delivery(one),
    }
    gone = {shared, *store.add_deliveries(one, 4, **LONG_AGO)}
    with store.database.writing() as session:
        session.add(Replay(delivery_id=shared, replayed_at=NINE, previous_status="dead"))
    for delivery_id in (*gone, *kept):
        store.add_attempt(delivery_id)
        store.add_attempt(delivery_id)

    total = store.read(pruning.count, BEFORE)
    pruned = prune_all(store)

    assert total == len(gone) + len(gone | kept) - 1  # of two, the event is the same
    assert [one.deliveries for one in pruned if one.deliveries] == [2, 2, 1]
    assert sum(one.attempts for one in pruned) == 2 * len(gone)
    assert sum(one.events for one in pruned) == len(gone) - 1
    assert {row.id for row in store.all(Delivery)} == kept
    assert sorted(row.delivery_id for row in store.all(Attempt)) == sorted([*kept, *kept])
    assert {row.delivery_id for row in store.all(Replay)} == {replayed, sent_again}
    assert {row.id for row in store.all(Event)} == {row.event_id for row in store.all(Delivery)}


def test_settled_deliveries_of_a_removed_endpoint_are_deleted(store: Store) -> None:
    removed, enabled = store.add_endpoint().id, store.add_endpoint().id
    dead = {"status": DeliveryStatus.DEAD, "settled_at": NINE}
    store.add_delivery(removed, **dead)
    store.add_delivery(removed, status=DeliveryStatus.PENDING)
    store.write(endpoints.remove, removed, by="ada", now=NINE)
    kept = store.add_delivery(enabled, **dead)

    pruned = prune_all(store)

    assert sum(one.deliveries for one in pruned) == 2
    assert [row.id for row in store.all(Delivery)] == [kept]
    assert len(store.all(Event)) == 1


def test_event_that_never_had_a_delivery_is_deleted(store: Store) -> None:
    for course_id, at in (("CS1", NINE), ("CS2", BEFORE)):
        store.add_course(course_id)
        store.write(courses.delete_course, course_id, now=at)

    prune_all(store)

    assert [row.course_id for row in store.all(Event)] == ["CS2"]


def test_events_of_one_time_are_pruned_next_to_those_that_are_kept(store: Store) -> None:
    kept = store.add_deliveries(store.add_endpoint().id, 5, status=DeliveryStatus.PENDING)
    courses_without_delivery = [f"X{number}" for number in range(5)]
    store.write(endpoints.remove, store.add_endpoint().id, by="ada", now=NINE)
    store.write(endpoints.set_event_types, 1, ["token.regenerated"])
    store.add_courses(courses_without_delivery)
    store.write(courses.delete_courses, courses_without_delivery, now=NINE)

    prune_all(store, limit=2)

    assert {row.id for row in store.all(Event)} == {store.delivery(one).event_id for one in kept}


def test_secret_that_expired_long_ago_is_deleted(store: Store) -> None:
    endpoint_id = store.add_endpoint().id
    for overlap in (DAY, 10 * DAY):
        store.write(
            endpoints.rotate_secret, endpoint_id, overlap=overlap, vault=store.vault, now=NINE
        )

    number = store.write(pruning.prune_secrets, BEFORE)

    assert number == 1
    assert len(store.read(endpoints.secrets_of, endpoint_id)) == 2


@only_postgres
def test_delivery_that_is_being_replayed_is_skipped(store: Store) -> None:
    replayed, gone = store.add_deliveries(store.add_endpoint().id, 2, **LONG_AGO)

    with store.database.writing() as session:
        replays.replay(session, [replayed], by=ADA, now=BEFORE)
        pruned = prune_all(store)

    assert [one.deliveries for one in pruned if one.deliveries] == [1]
    assert [(row.id, row.status) for row in store.all(Delivery)] == [(replayed, "pending")]
    assert gone not in {row.id for row in store.all(Delivery)}


@only_postgres
def test_replay_of_a_delivery_that_is_being_pruned_is_refused(
    store: Store, other: ThreadPoolExecutor
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id, **LONG_AGO)

    with store.database.writing() as session:
        pruning.prune_deliveries(session, DeliveryStatus.DELIVERED, BEFORE, after=None, limit=10)
        replaying = other.submit(store.write, replays.replay, [delivery_id], by=ADA, now=BEFORE)
        wait_for_a_waiter(store)

    with pytest.raises(DeliveryUnknownError):
        replaying.result(10)
    assert store.all(Replay) == []


def explain(database: Database, session: Session) -> list[str]:
    """Return the plans of the statements that a pruning sends."""
    connection = session.connection()
    word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    plans: list[str] = []
    if not database.is_sqlite:  # its planner would read small tables as a whole
        session.execute(text("SET LOCAL enable_seqscan = off"))

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if statement.startswith(("SELECT", "DELETE")):
            rows = connection.exec_driver_sql(f"{word} {statement}", values)
            plans.extend(str(row[-1]) for row in rows)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        for status in pruning.STATUSES:
            pruning.prune_deliveries(session, status, BEFORE, after=(NINE,), limit=10)
        pruning.prune_events(session, "course.deleted", BEFORE, after=(NINE, ""), limit=10)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return plans


def test_pruning_reads_no_whole_table(store: Store) -> None:
    store.add_delivery(store.add_endpoint().id, **LONG_AGO)

    with store.database.writing() as session:
        plans = explain(store.database, session)

    tables = ("deliveries", "attempts", "replays", "events")
    assert any("ix_deliveries_status_settled_at" in step for step in plans)
    whole = [step for table in tables for step in plans if f"SCAN {table}" in step]
    assert whole == []
    assert [step for step in plans if "Seq Scan" in step or "Disabled" in step] == []

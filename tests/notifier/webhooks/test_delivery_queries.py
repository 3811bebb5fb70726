"""Lists of deliveries, their attempts, and the backlog."""

from datetime import timedelta

from notifier.courses import service as courses
from notifier.webhooks import deliveries, delivery_queries
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.delivery_queries import Backlog
from tests.notifier.conftest import MINUTE, NINE, Store

TEN = NINE + timedelta(hours=1)


def test_list_loads_events_and_endpoints_in_three_statements(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_deliveries(endpoint.id, 5)
    before = store.database.statements

    found = store.read(delivery_queries.find, DeliveryFilter())

    assert {(one.event.type, one.endpoint.url) for one in found} == {
        ("course.deleted", endpoint.url)
    }
    assert store.database.statements - before == 3


def test_last_attempts_are_the_latest(store: Store) -> None:
    tried, untried, foreign = store.add_deliveries(store.add_endpoint().id, 3)
    for delivery_id, status in ((tried, 500), (tried, 503), (foreign, 400)):
        store.add_attempt(delivery_id, status=status)

    found = store.read(delivery_queries.last_attempts, [tried, untried])

    assert {key: one.status for key, one in found.items()} == {tried: 503}


def test_attempts_are_counted_across_schedules(store: Store) -> None:
    tried, untried = store.add_deliveries(store.add_endpoint().id, 2)
    for _ in range(3):
        store.add_attempt(tried, status=500)
    store.write(deliveries.restart, [tried], now=TEN)

    found = store.read(delivery_queries.find, DeliveryFilter())
    shown = store.read(delivery_queries.get, tried)

    assert {one.id: one.attempt_count for one in found} == {tried: 3, untried: 0}
    assert (shown.attempt_count, shown.attempts) == (3, 0)


def test_backlog_counts_by_status(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_delivery(endpoint.id, due_at=TEN)
    store.add_delivery(endpoint.id, due_at=NINE + MINUTE)
    store.add_delivery(endpoint.id, status="dead")
    store.add_delivery(endpoint.id, status="delivered", due_at=NINE - MINUTE)

    found = store.read(delivery_queries.backlog, now=TEN)

    assert found == Backlog({"pending": 2, "dead": 1}, NINE + MINUTE)


def test_deliveries_are_counted_by_course_and_status(store: Store) -> None:
    store.add_endpoint()
    store.add_endpoint(disabled=True)
    store.add_courses(["CS101", "CS102", "CS103"])
    store.write(courses.regenerate_token, "CS101", now=NINE)
    store.write(courses.delete_courses, ["CS101", "CS102"], now=TEN)

    found = store.read(delivery_queries.count_by_course, "course.deleted", ["CS101", "CS103"])

    assert found == {"CS101": {"pending": 1, "held": 1}}

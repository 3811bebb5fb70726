"""Lists of deliveries, their attempts, and the backlog."""

from datetime import timedelta

import pytest

from foundation.db.session import Database
from notifier.errors import DeliveryUnknownError
from notifier.models import Attempt
from notifier.webhooks import delivery_queries
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.delivery_queries import Backlog
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint

TEN = NINE + timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def test_list_is_newest_first_page_by_page(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint(disabled=True)
    ids = [make_delivery(endpoint.id) for _ in range(5)]

    with database.reading() as session:
        first = delivery_queries.find(session, DeliveryFilter(), limit=2)
        then = delivery_queries.find(session, DeliveryFilter(), before=first[-1].id, limit=2)

    assert [one.id for one in (*first, *then)] == [ids[4], ids[3], ids[2], ids[1]]


def test_list_loads_events_and_endpoints_in_three_statements(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    for _ in range(5):
        make_delivery(endpoint.id)
    before = database.statements

    with database.reading() as session:
        found = delivery_queries.find(session, DeliveryFilter())
        shown = {(one.event.type, one.endpoint.url) for one in found}

    assert shown == {("course.deleted", endpoint.url)}
    assert database.statements - before == 3


def test_get_returns_a_delivery_or_refuses(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id, course_id="CS999")

    with database.reading() as session:
        found = delivery_queries.get(session, delivery_id)
        assert (found.event.course_id, found.endpoint.url) == ("CS999", endpoint.url)
        with pytest.raises(DeliveryUnknownError) as refused:
            delivery_queries.get(session, delivery_id + 1)

    assert str(refused.value) == f"there is no delivery {delivery_id + 1}"


def test_last_attempts_are_the_latest(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    tried, untried, foreign = (make_delivery(endpoint.id) for _ in range(3))
    with database.writing() as session:
        for delivery_id, status in ((tried, 500), (tried, 503), (foreign, 400)):
            session.add(
                Attempt(
                    delivery_id=delivery_id,
                    started_at=NINE,
                    milliseconds=1,
                    status=status,
                    decided="retry",
                )
            )

    with database.reading() as session:
        found = delivery_queries.last_attempts(session, [tried, untried])

    assert {key: one.status for key, one in found.items()} == {tried: 503}


def test_backlog_counts_by_status(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    make_delivery(endpoint.id, due_at=TEN)
    make_delivery(endpoint.id, due_at=NINE + MINUTE)
    make_delivery(endpoint.id, status="dead")
    make_delivery(endpoint.id, status="delivered", due_at=NINE - MINUTE)

    with database.reading() as session:
        found = delivery_queries.backlog(session, now=TEN)

    assert found == Backlog({"pending": 2, "dead": 1}, NINE + MINUTE)

"""The order of locks on PostgreSQL: no transactions wait for each other in a circle."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import SOURCE, Delivery, Endpoint
from notifier.webhooks import circuit_breaker, deliveries, endpoints
from notifier.webhooks import replay as replays
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.conftest import (
    NINE,
    SITE,
    MakeCourse,
    MakeDelivery,
    MakeEndpoint,
    make_score,
)

HOUR = timedelta(hours=1)
ILL = BreakerState(5, NINE - HOUR, NINE, NINE + HOUR)

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])  # SQLite has one writer


@pytest.fixture
def impatient(database_url: str, database: Database) -> Iterator[Database]:
    """The same database, with a lock time-out of one second."""
    opened = Database(database_url, timeout=1.0, info={SOURCE: SITE})
    yield opened
    opened.dispose()


def wait_for_a_waiter(database: Database) -> None:
    """Return once a session waits for a lock; fail after ten seconds."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    tick = threading.Event()
    for _ in range(500):
        with database.reading() as session:
            if session.execute(query).scalar_one():
                return
        tick.wait(0.02)
    pytest.fail("nobody came to wait for a lock in ten seconds")


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(
            lambda session, one: circuit_breaker.read_states(session, lock=True), id="a turn"
        ),
        pytest.param(lambda session, one: endpoints.disable(session, one, "", now=NINE), id="off"),
        pytest.param(lambda session, one: endpoints.enable(session, one, now=NINE), id="on"),
        pytest.param(lambda session, one: endpoints.try_now(session, one, now=NINE), id="try"),
    ],
)
def test_delivery_is_written_for_an_endpoint_that_another_holds(
    database: Database,
    impatient: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    lock: Callable[..., object],
) -> None:
    endpoint = make_endpoint()
    other = make_endpoint()
    delivery_id = make_delivery(other.id)

    with database.writing() as holding, impatient.writing() as writing:
        lock(holding, endpoint.id)
        event_id = writing.get_one(Delivery, delivery_id).event_id
        deliveries.create(writing, [event_id], [writing.get_one(Endpoint, endpoint.id)], now=NINE)

    with database.reading() as session:
        assert session.query(Delivery).filter_by(endpoint_id=endpoint.id).count() == 1


def test_replay_locks_endpoints_in_their_order(
    database: Database,
    impatient: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
) -> None:
    first, second = make_endpoint(), make_endpoint()
    delivery_id = make_delivery(second.id)
    with database.writing() as session:
        circuit_breaker.write_states(session, {second.id: ILL})

    def replay() -> None:
        with database.writing() as session:
            replays.replay(session, [delivery_id], by="ada", now=NINE)

    replaying = threading.Thread(target=replay)
    with impatient.writing() as session:
        circuit_breaker.read_states(session, only=[first.id], lock=True)
        replaying.start()
        wait_for_a_waiter(database)
        locked = circuit_breaker.read_states(session, only=[second.id], lock=True)
    replaying.join(10)

    assert locked == {second.id: ILL}
    assert not replaying.is_alive()
    with database.reading() as session:
        assert circuit_breaker.read_states(session)[second.id].paused_until == NINE


def test_courses_are_locked_in_the_order_in_which_grades_are_loaded(
    database: Database, impatient: Database, make_course: MakeCourse
) -> None:
    make_course("ZOO1")
    make_course("ART1")

    def delete() -> None:
        with database.writing() as session:
            courses.delete_courses(session, ["ART1", "ZOO1"], now=NINE)

    deleting = threading.Thread(target=delete)
    with impatient.writing() as session:
        grades.load(session, {"ZOO1": [make_score()]}, now=NINE)
        deleting.start()
        wait_for_a_waiter(database)
        loaded = grades.load(session, {"ART1": [make_score()]}, now=NINE)
    deleting.join(10)

    assert loaded.added == 1
    assert not deleting.is_alive()
    with database.reading() as session:
        assert all(row.deleted_at == NINE for row in courses.list_courses(session))


def test_replay_during_a_disable_waits_and_is_refused(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
) -> None:
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id)
    refused: list[Exception] = []

    def replay() -> None:
        try:
            with database.writing() as session:
                replays.replay(session, [delivery_id], by="ops", now=NINE)
        except Exception as error:  # noqa: BLE001 - handed to the test
            refused.append(error)

    replaying = threading.Thread(target=replay)
    with database.writing() as session:
        endpoints.disable(session, endpoint.id, "gone", now=NINE)
        replaying.start()
        replaying.join(0.3)
        waited = replaying.is_alive()
    replaying.join(10)

    assert waited
    assert [type(error).__name__ for error in refused] == ["ReplayRefusedError"]
    assert delivery_of(delivery_id).status == "held"

"""The order of locks on PostgreSQL: no transactions wait for each other in a circle."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.errors import ClaimsNotAllowedError, CourseNotDeletedError, ReplayRefusedError
from notifier.models import SOURCE, Course, Delivery, Endpoint, Grade
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks import replay as replays
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import AttemptResult, WebhookResponse
from notifier.worker import batch
from tests.notifier.conftest import ADA, NINE, SITE, Store, make_score

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GONE = WebhookResponse(410)
PAUSED = BreakerState(5, NINE - HOUR, NINE, NINE + HOUR)

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])  # SQLite has one writer


@pytest.fixture
def impatient(database_url: str) -> Iterator[Database]:
    """The same database, with a lock time-out of one second."""
    opened = Database(database_url, timeout=1.0, info={SOURCE: SITE})
    yield opened
    opened.dispose()


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def wait_for_a_waiter(store: Store) -> None:
    """Return once a session waits for a lock; fail after ten seconds."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    tick = threading.Event()
    for _ in range(500):
        if store.read(lambda session: session.execute(query).scalar_one()):
            return
        tick.wait(0.02)
    pytest.fail("no session waited for a lock within ten seconds")


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(lambda session, one: circuit_breaker.lock_states(session, [one]), id="batch"),
        pytest.param(
            lambda session, one: endpoints.disable(session, one, "", now=NINE), id="disable"
        ),
        pytest.param(lambda session, one: endpoints.enable(session, one, now=NINE), id="enable"),
        pytest.param(lambda session, one: endpoints.try_now(session, one, now=NINE), id="try"),
    ],
)
def test_course_is_deleted_while_another_holds_an_endpoint(
    store: Store, impatient: Database, lock: Callable[..., object]
) -> None:
    endpoint = store.add_endpoint()
    store.add_course("CS101")

    with store.database.writing() as holding, impatient.writing() as writing:
        lock(holding, endpoint.id)
        courses.delete_course(writing, "CS101", now=NINE)

    assert [one.endpoint_id for one in store.all(Delivery)] == [endpoint.id]


def settle(session: Session, *finished: tuple[Claimed, AttemptResult]) -> None:
    """Settle attempts as a worker does."""
    made = [Finished(claimed, NINE, 12, result) for claimed, result in finished]
    batch.settle(session, made, disable_after=5 * DAY, now=NINE)


def test_endpoint_that_is_gone_is_locked_before_its_deliveries(
    store: Store, impatient: Database, other: ThreadPoolExecutor
) -> None:
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id)
    (claimed,) = store.claim()
    store.write(endpoints.disable, endpoint.id, "moved", by="ada", now=NINE)

    with impatient.writing() as session:
        session.get_one(Endpoint, endpoint.id, with_for_update=True)
        settling = other.submit(store.write, settle, (claimed, GONE))
        wait_for_a_waiter(store)
        endpoints.enable(session, endpoint.id, now=NINE)

    settling.result(timeout=10)
    assert store.endpoint(endpoint.id).disabled_at is None
    assert store.statuses(delivery_id) == ["pending"]


@pytest.mark.parametrize("removed_first", [True, False])
def test_endpoint_that_is_removed_meanwhile_has_nothing_pending(
    store: Store, other: ThreadPoolExecutor, removed_first: bool
) -> None:
    observer = store.add_endpoint(event_types=["endpoint.disabled"])
    changes: list[Callable[[Session], object]] = [
        lambda session: endpoints.remove(session, observer.id, by="ada", now=NINE),
        lambda session: endpoints.disable(session, store.add_endpoint().id, "gone", now=NINE),
    ]
    first, second = changes if removed_first else reversed(changes)

    with store.database.writing() as session:
        first(session)
        changing = other.submit(store.write, second)
        if removed_first:
            changing.result(timeout=10)
        else:
            wait_for_a_waiter(store)

    changing.result(timeout=10)
    statuses = [one.status for one in store.all(Delivery)]
    assert statuses == ([] if removed_first else ["cancelled"])


def test_replay_locks_endpoints_in_their_order(
    store: Store, impatient: Database, other: ThreadPoolExecutor
) -> None:
    first, second = store.add_endpoint(), store.add_endpoint()
    delivery_id = store.add_delivery(second.id)
    store.set_state(second.id, PAUSED)

    with impatient.writing() as session:
        circuit_breaker.lock_states(session, [first.id])
        replaying = other.submit(store.write, replays.replay, [delivery_id], by=ADA, now=NINE)
        wait_for_a_waiter(store)
        locked = circuit_breaker.lock_states(session, [second.id])

    assert locked == {second.id: PAUSED}
    assert replaying.result(timeout=10) == [delivery_id]
    assert store.endpoint(second.id).paused_until == NINE


def test_courses_are_locked_in_the_order_in_which_grades_are_loaded(
    store: Store, impatient: Database, other: ThreadPoolExecutor
) -> None:
    store.add_course("ZOO1")
    store.add_course("ART1")

    with impatient.writing() as session:
        grades.load(session, {"ZOO1": [make_score()]}, now=NINE)
        deleting = other.submit(store.write, courses.delete_courses, ["ART1", "ZOO1"], now=NINE)
        wait_for_a_waiter(store)
        loaded = grades.load(session, {"ART1": [make_score()]}, now=NINE)

    deleting.result(timeout=10)
    assert loaded.added == 1
    assert {row.deleted_at for row in store.all(Course)} == {NINE}


def test_replay_during_a_removal_waits_and_is_refused(
    store: Store, other: ThreadPoolExecutor
) -> None:
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id)

    with store.database.writing() as session:
        endpoints.remove(session, endpoint.id, by="ada", now=NINE)
        replaying = other.submit(store.write, replays.replay, [delivery_id], by=ADA, now=NINE)
        wait_for_a_waiter(store)

    with pytest.raises(ReplayRefusedError):
        replaying.result(timeout=10)
    assert store.statuses(delivery_id) == ["cancelled"]


def test_endpoint_is_forbidden_after_its_claim(store: Store, other: ThreadPoolExecutor) -> None:
    endpoint = store.add_endpoint(may_claim_tokens=True)
    (secret,) = store.read(endpoints.secrets_of, endpoint.id)

    with store.database.writing() as session:
        assert endpoints.lock_claimant(session, secret) is None
        forbidding = other.submit(
            store.write, endpoints.set_token_claims, endpoint.id, allowed=False
        )
        wait_for_a_waiter(store)

    forbidding.result(timeout=10)
    assert isinstance(store.write(endpoints.lock_claimant, secret), ClaimsNotAllowedError)


def test_course_that_is_restored_meanwhile_keeps_its_grades(
    store: Store, other: ThreadPoolExecutor
) -> None:
    store.add_course("CS101")
    store.load({"CS101": [make_score()]})
    store.write(courses.delete_course, "CS101", now=NINE)
    later = NINE + timedelta(days=2)

    with store.database.writing() as session:
        courses.restore_course(session, "CS101", grace=timedelta(days=3), now=later)
        forgetting = other.submit(store.write, grades.forget_deleted_courses, later, limit=9)
        wait_for_a_waiter(store)

    assert forgetting.result(timeout=10) == 0
    assert len(store.all(Grade)) == 1


def test_course_is_restored_once(store: Store, other: ThreadPoolExecutor) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=NINE)
    grace = timedelta(days=1)

    with store.database.writing() as session:
        courses.restore_course(session, "CS101", grace=grace, now=NINE)
        again = other.submit(store.write, courses.restore_course, "CS101", grace=grace, now=NINE)
        wait_for_a_waiter(store)

    with pytest.raises(CourseNotDeletedError):
        again.result(timeout=10)
    assert store.course("CS101").version == 3

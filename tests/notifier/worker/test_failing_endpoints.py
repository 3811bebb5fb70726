"""The worker and failing endpoints: pauses, other endpoints, limited rate."""

import threading

from sqlalchemy import update

from foundation.db import session as db
from notifier.models import Delivery, Endpoint
from notifier.webhooks.circuit_breaker import PAUSED_AFTER
from notifier.worker.reporter import WorkerTotals
from tests.notifier.conftest import MINUTE, NINE, Reply, Sink, Store, running
from tests.notifier.worker.conftest import MakeWorker

SLOTS = 4  # of one endpoint


def end_outage(store: Store) -> None:
    """Make every delivery due and end all pauses."""
    with store.database.writing() as session:
        session.execute(update(Delivery).values(due_at=NINE))
        session.execute(update(Endpoint).values(paused_until=db.now(session)))


def test_backlog_is_sent_at_a_limited_rate_after_an_outage(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """One attempt tries the endpoint, then concurrency grows up to its limit (F24)."""
    ids = store.add_deliveries(store.add_endpoint(sink.url()).id, 30)
    sink.always(Reply(503))
    make_worker().run(once=True)
    end_outage(store)
    before, connected = len(sink.received), sink.connections
    sink.always(Reply())

    tried = make_worker(per_endpoint=1).run(once=True)
    rest = make_worker().run(once=True)

    assert tried.delivered + rest.delivered == 30
    assert store.statuses(*ids) == ["delivered"] * 30
    assert len({one.headers["webhook-id"] for one in sink.received[before:]}) == 30
    assert sink.connections - connected <= 1 + SLOTS


def test_claims_ahead_are_not_sent_to_an_endpoint_that_was_paused(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """A quick endpoint has many claims ahead when it begins to fail (F24)."""
    store.add_deliveries(store.add_endpoint(sink.url()).id, 200)
    sink.answer(*(Reply() for _ in range(60)))
    sink.always(Reply(500))

    make_worker(threads=1).run(once=True)

    assert len(sink.received) - 60 == PAUSED_AFTER


def test_slow_endpoints_do_not_delay_another(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """Slow endpoints could use all threads; those that wait let others start (F33)."""
    answered, slow = threading.Event(), list[int]()
    for number in range(8):
        path = f"/slow/{number}"
        endpoint_id = store.add_endpoint(sink.url(path)).id
        slow = [*slow, *store.add_deliveries(endpoint_id, 3, due_at=NINE - MINUTE)]
        sink.always(Reply(after=answered), path)
    fresh = store.add_endpoint(sink.url("/fresh"))

    with running(make_worker()):
        sink.wait_for(8)
        for number in range(1, 4):
            store.add_delivery(fresh.id)
            sink.wait_for(number, "/fresh")
        ended = [store.attempts(one) for one in slow]
        answered.set()

    assert not any(ended)


def test_pages_of_slow_endpoints_do_not_delay_another(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """They fill pages of the search, and the worker does not wait for its next poll (F33)."""
    answered = threading.Event()
    for number in range(3 * 64):
        store.add_delivery(store.add_endpoint(sink.url(f"/slow/{number}")).id)
    store.add_delivery(store.add_endpoint(sink.url("/fresh")).id)
    sink.always(Reply(after=answered))
    sink.always(Reply(), "/fresh")

    with running(make_worker(poll_seconds=60)):
        try:
            sink.wait_for(1, "/fresh")
        finally:
            answered.set()


def test_failing_endpoint_does_not_affect_another(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """The failing endpoint is paused; the other one gets all its deliveries (F25)."""
    failing, healthy = store.add_endpoint(sink.url("/failing")), store.add_endpoint(sink.url())
    store.add_deliveries(failing.id, 30, due_at=NINE - MINUTE)
    store.add_deliveries(healthy.id, 30)
    sink.always(Reply(500), "/failing")

    totals = make_worker().run(once=True)

    assert totals.delivered == 30
    assert totals.to_retry <= PAUSED_AFTER + SLOTS


def test_run_with_once_sends_everything_despite_the_rate(
    store: Store, make_worker: MakeWorker, sink: Sink
) -> None:
    """A rate slows a run with `once` down, and everything is sent (F24)."""
    store.add_deliveries(store.add_endpoint(sink.url()).id, 30)

    totals = make_worker(per_endpoint_rate=20.0).run(once=True)

    assert totals == WorkerTotals(delivered=30)

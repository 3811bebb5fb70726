"""Pings: signed, sent without an open session, stored, and their effect."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from foundation.db import session as db
from notifier.errors import EndpointDisabledError, EndpointUnknownError
from notifier.models import EndpointPing
from notifier.services import Services
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker.heartbeat import take_due
from notifier.worker.ping import PingResult, send_ping
from tests.notifier.conftest import Reply, Sink, Store

HOUR = timedelta(hours=1)


def add_paused(store: Store, url: str) -> int:
    """Register an endpoint that is paused for an hour, and return its id."""
    endpoint_id, now = store.add_endpoint(url).id, store.read(db.now)
    store.set_state(endpoint_id, BreakerState(9, now - 2 * HOUR, now, now + HOUR))
    return endpoint_id


def test_endpoint_that_accepts_a_ping_is_tried_at_once(
    here: Services, store: Store, sink: Sink
) -> None:
    endpoint_id = add_paused(store, sink.url())
    store.add_delivery(endpoint_id, due_at=datetime.now(UTC) + 2 * HOUR)

    result = send_ping(here, endpoint_id)

    (ping,), paused_until = store.all(EndpointPing), store.endpoint(endpoint_id).paused_until
    assert result == PingResult(
        sink.url(), WebhookResponse(200, None, '{"outcome":"applied"}'), True, 1
    )
    assert (ping.status, ping.failure, ping.accepted) == (200, None, True)
    assert ping.detail == '{"outcome":"applied"}'
    assert 0 <= ping.milliseconds < 60_000
    assert paused_until is not None
    assert paused_until <= ping.started_at


def test_endpoint_that_refuses_a_ping_stays_paused_and_only_the_last_ping_is_stored(
    here: Services, store: Store, sink: Sink
) -> None:
    sink.answer(Reply(500, body=b"down"), Reply(503, body=b"busy"))
    endpoint_id = add_paused(store, sink.url())
    before = store.endpoint(endpoint_id).paused_until

    accepted = [send_ping(here, endpoint_id).accepted for _ in range(2)]

    (ping,) = store.all(EndpointPing)
    assert accepted == [False, False]
    assert (ping.status, ping.detail, ping.accepted) == (503, "busy", False)
    assert store.endpoint(endpoint_id).paused_until == before


def test_failed_ping_is_stored_with_its_failure(here: Services, store: Store) -> None:
    made = store.add_endpoint("http://127.0.0.1:9/")

    result = send_ping(here, made.id)

    (ping,) = store.all(EndpointPing)
    assert isinstance(result.result, Failure)
    assert (ping.status, ping.failure, ping.accepted) == (None, "refused", False)
    assert ping.detail == "127.0.0.1:9: Connection refused"


def test_no_session_is_open_during_a_ping(here: Services, store: Store, sink: Sink) -> None:
    made, answered = store.add_endpoint(sink.url()), Event()
    sink.always(Reply(after=answered))

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send_ping, here, made.id)
        sink.wait_for(1)
        checked_out = store.database.engine.pool.checkedout()  # type: ignore[attr-defined]
        answered.set()

    assert sent.result().accepted
    assert checked_out == 0


@pytest.mark.parametrize(
    ("endpoint_id", "error", "message"),
    [
        pytest.param(1, EndpointDisabledError, "endpoint 1 is disabled", id="disabled"),
        pytest.param(2, EndpointUnknownError, "there is no endpoint 2", id="unknown"),
    ],
)
def test_disabled_or_unknown_endpoint_is_refused(
    here: Services, store: Store, sink: Sink, endpoint_id: int, error: type[Exception], message: str
) -> None:
    store.add_endpoint(sink.url(), disabled=True)

    with pytest.raises(error) as refused:
        send_ping(here, endpoint_id)

    assert str(refused.value) == message
    assert sink.received == []


def test_ping_and_heartbeat_state_the_interval(here: Services, store: Store, sink: Sink) -> None:
    settings = here.settings.model_copy(update={"heartbeat_interval": 0})
    endpoint_id = store.add_endpoint(sink.url()).id

    send_ping(here, endpoint_id)
    told = store.endpoint(endpoint_id).heartbeat_seconds
    send_ping(here, endpoint_id, is_heartbeat=True)
    send_ping(Services(settings, store.database, store.vault), endpoint_id)

    assert (told, store.endpoint(endpoint_id).heartbeat_seconds) == (3600, 0)
    bodies = [json.loads(one.body) for one in sink.received]
    assert [one["data"]["heartbeat_seconds"] for one in bodies] == [3600, 3600, 0]
    assert [one.get("test") for one in bodies] == [True, None, True]


def test_ping_does_not_delay_the_next_heartbeat(here: Services, store: Store, sink: Sink) -> None:
    endpoint_id = store.add_endpoint(sink.url()).id
    now = store.read(db.now)

    send_ping(here, endpoint_id)

    due = store.write(take_due, HOUR, jitter=lambda: 1.0, now=now)
    assert due == [endpoint_id]

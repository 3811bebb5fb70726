"""Pings: signed, sent without an open session, stored, and their effect."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from notifier.config import Settings
from notifier.errors import EndpointDisabledError, EndpointUnknownError
from notifier.models import Endpoint, EndpointPing
from notifier.services import Services
from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker.ping import PingResult, send_ping
from tests.notifier.conftest import MakeDelivery, MakeEndpoint, Reply, Sink


@pytest.fixture
def here(database: Database, vault: Vault) -> Services:
    """Services that may send to this machine."""
    settings = Settings(
        _env_file=None,
        admin_key="x" * 32,
        encryption_keys="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        allow_loopback=True,
    )
    return Services(settings, database, vault)


@pytest.fixture
def stored_ping(database: Database) -> Callable[[int], EndpointPing | None]:
    """Return a function that reads the last ping of an endpoint."""

    def read(endpoint_id: int) -> EndpointPing | None:
        with database.reading() as session:
            return session.get(EndpointPing, endpoint_id)

    return read


@pytest.fixture
def make_paused(database: Database, make_endpoint: MakeEndpoint) -> Callable[[str], int]:
    """Return a function that registers an endpoint that is paused for an hour; returns its id."""

    def make(url: str) -> int:
        made = make_endpoint(url)
        with database.writing() as session:
            now = db.now(session)
            later = now + timedelta(hours=1)
            circuit_breaker.write_states(
                session, {made.id: BreakerState(9, now - timedelta(hours=2), now, later)}
            )
        return made.id

    return make


def test_what_takes_a_ping_is_tried_at_once(
    here: Services,
    sink: Sink,
    make_paused: Callable[[str], int],
    make_delivery: MakeDelivery,
    endpoint_of: Callable[[int], Endpoint],
    stored_ping: Callable[[int], EndpointPing | None],
) -> None:
    endpoint_id = make_paused(sink.url())
    make_delivery(endpoint_id, due_at=datetime.now(UTC) + timedelta(hours=2))

    result = send_ping(here, endpoint_id)

    ping, endpoint = stored_ping(endpoint_id), endpoint_of(endpoint_id)
    assert result == PingResult(
        sink.url(), WebhookResponse(200, None, '{"outcome":"applied"}'), True, 1
    )
    assert ping is not None
    assert (ping.status, ping.failure, ping.accepted) == (200, None, True)
    assert ping.detail == '{"outcome":"applied"}'
    assert 0 <= ping.milliseconds < 60_000
    assert endpoint.paused_until is not None
    assert endpoint.paused_until <= ping.started_at


def test_what_refuses_a_ping_stays_paused(
    here: Services,
    sink: Sink,
    make_paused: Callable[[str], int],
    endpoint_of: Callable[[int], Endpoint],
    stored_ping: Callable[[int], EndpointPing | None],
) -> None:
    sink.always(Reply(503, body=b"busy"))
    endpoint_id = make_paused(sink.url())
    before = endpoint_of(endpoint_id).paused_until

    result = send_ping(here, endpoint_id)

    ping = stored_ping(endpoint_id)
    assert not result.accepted
    assert ping is not None
    assert (ping.status, ping.detail, ping.accepted) == (503, "busy", False)
    assert endpoint_of(endpoint_id).paused_until == before


def test_the_last_ping_alone_is_noted(
    here: Services,
    sink: Sink,
    make_endpoint: MakeEndpoint,
    stored_ping: Callable[[int], EndpointPing | None],
) -> None:
    made = make_endpoint(sink.url())
    sink.answer(Reply(500, body=b"trouble"), Reply(204, body=b""))

    send_ping(here, made.id)
    send_ping(here, made.id)

    ping = stored_ping(made.id)
    assert ping is not None
    assert (ping.status, ping.failure, ping.detail, ping.accepted) == (204, None, None, True)


def test_a_ping_that_nobody_hears_is_noted_with_its_failure(
    here: Services, make_endpoint: MakeEndpoint, stored_ping: Callable[[int], EndpointPing | None]
) -> None:
    made = make_endpoint("http://127.0.0.1:9/")

    result = send_ping(here, made.id)

    ping = stored_ping(made.id)
    assert isinstance(result.result, Failure)
    assert ping is not None
    assert (ping.status, ping.failure, ping.accepted) == (None, "refused", False)
    assert ping.detail == "127.0.0.1:9: connection refused"


def test_no_session_is_open_while_a_ping_is_under_way(
    here: Services, database: Database, sink: Sink, make_endpoint: MakeEndpoint
) -> None:
    made, answered = make_endpoint(sink.url()), Event()
    sink.always(Reply(after=answered))

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send_ping, here, made.id)
        sink.wait_for(1)
        held = database.engine.pool.checkedout()  # type: ignore[attr-defined]
        answered.set()

    assert sent.result().accepted
    assert held == 0


@pytest.mark.parametrize(
    ("disabled", "error", "message"),
    [
        pytest.param(True, EndpointDisabledError, "endpoint 1 is disabled", id="disabled"),
        pytest.param(False, EndpointUnknownError, "there is no endpoint 2", id="unknown"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    here: Services,
    sink: Sink,
    make_endpoint: MakeEndpoint,
    disabled: bool,
    error: type[Exception],
    message: str,
) -> None:
    made = make_endpoint(sink.url(), disabled=disabled)

    with pytest.raises(error) as refused:
        send_ping(here, made.id if disabled else made.id + 1)

    assert str(refused.value) == message
    assert sink.received == []

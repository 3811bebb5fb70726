"""TLS connections that are refused before the body is sent, and those that hang."""

import socket
import ssl
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from notifier.webhooks import failure_advice
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.faults.certificate_authority import Authority
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE, MakeRawSink, MakeTransport
from tests.faults.server import FINE, OK, Behaviour, black_hole, drips, over_tls, says, sips
from tests.notifier.conftest import Sink

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the transport does not know."""
    return Authority(tmp_path_factory.mktemp("stranger"), "Stranger CA")


def test_deliveries_share_a_tls_connection(
    authority: Authority, make_raw_sink: MakeRawSink, make_trusting: MakeTransport
) -> None:
    log: list[bytes] = []
    raw = make_raw_sink(over_tls(authority.server(), says(FINE, FINE), log))
    transport = make_trusting()

    responses = [transport.post(raw.url("https"), HEADERS, BODY) for _ in range(2)]

    assert responses == [WebhookResponse(200, None, "well")] * 2
    assert log == [b"handshake done"]


@pytest.mark.parametrize(
    ("signer", "fault", "kind", "step"),
    [
        pytest.param(
            "authority", {"ends": -DAY / 2}, "tls-expired", "renew the certificate", id="expired"
        ),
        pytest.param(
            "authority", {"starts": DAY / 2}, "tls-not-yet-valid", "Check the clock", id="too new"
        ),
        pytest.param(
            "authority",
            {"self_signed": True},
            "tls-self-signed",
            "NOTIFIER_CA_BUNDLE",
            id="self-signed",
        ),
        pytest.param(
            "authority", {"host": "127.0.0.9"}, "tls-wrong-host", "Register the host", id="host"
        ),
        pytest.param(
            "stranger", {}, "tls-unknown-ca", "NOTIFIER_CA_BUNDLE", id="unknown authority"
        ),
    ],
)
def test_invalid_certificate_is_refused_with_a_next_step(
    request: pytest.FixtureRequest,
    make_raw_sink: MakeRawSink,
    make_trusting: MakeTransport,
    signer: str,
    fault: dict[str, Any],
    kind: str,
    step: str,
) -> None:
    log: list[bytes] = []
    context = request.getfixturevalue(signer).server(**fault)
    raw = make_raw_sink(over_tls(context, says(FINE), log))

    failure = make_trusting().post(raw.url("https"), HEADERS, BODY)
    raw.stop()

    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert failure.detail.startswith(f"127.0.0.1:{raw.port}: the certificate is not trusted: ")
    assert step in str(failure_advice.advice_for(failure.kind, None, 1))
    assert log == [b"handshake refused"]


def test_plain_server_at_an_https_url_receives_nothing(
    sink: Sink, make_transport: MakeTransport
) -> None:
    failure = make_transport().post(sink.url().replace("http:", "https:"), HEADERS, BODY)

    assert isinstance(failure, Failure)
    assert failure.kind == "tls"
    assert "TLS failed: " in failure.detail
    assert sink.received == []


def test_tls_before_version_1_2_is_refused(
    authority: Authority, make_raw_sink: MakeRawSink, make_trusting: MakeTransport
) -> None:
    context = authority.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    log: list[bytes] = []
    raw = make_raw_sink(over_tls(context, says(FINE), log))

    failure = make_trusting().post(raw.url("https"), HEADERS, BODY)
    raw.stop()

    assert isinstance(failure, Failure)
    assert failure.kind == "tls"
    assert log == [b"handshake refused"]


def drips_handshake(connection: socket.socket, stopped: threading.Event) -> None:
    """Respond to the greeting with a record that comes a byte at a time."""
    connection.recv(65536)
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
    while not stopped.wait(0.05):
        connection.sendall(b"\x00")


@pytest.mark.parametrize("behave", [black_hole, drips_handshake])
@pytest.mark.parametrize(
    ("limits", "kind", "detail"),
    [
        pytest.param(
            {"connect_timeout": 0.3},
            "connect-timeout",
            "no TLS handshake within 0.3 s",
            id="time-out",
        ),
        pytest.param(
            {"deadline": 0.3}, "deadline", "too slow: no response within 0.3 s", id="deadline"
        ),
    ],
)
def test_handshake_that_hangs_ends_in_time(
    make_raw_sink: MakeRawSink,
    make_transport: MakeTransport,
    behave: Behaviour,
    limits: dict[str, float],
    kind: str,
    detail: str,
) -> None:
    raw = make_raw_sink(behave)

    started = time.monotonic()
    failure = make_transport(**limits).post(raw.url("https"), HEADERS, BODY)

    assert failure == Failure(kind, f"127.0.0.1:{raw.port}: {detail}")
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(drips(OK + b"X-"), id="slow response"),
        pytest.param(sips, id="request read slowly"),
    ],
)
def test_deadline_holds_over_tls(
    authority: Authority,
    make_raw_sink: MakeRawSink,
    make_trusting: MakeTransport,
    behave: Behaviour,
) -> None:
    raw = make_raw_sink(over_tls(authority.server(), behave, []))

    started = time.monotonic()
    failure = make_trusting(deadline=0.5).post(raw.url("https"), HEADERS, b"x" * 5_000_000)

    assert isinstance(failure, Failure)
    assert failure.kind == "deadline"
    assert time.monotonic() - started < PATIENCE

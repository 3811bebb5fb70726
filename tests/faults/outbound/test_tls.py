"""TLS that is not good: refused before anything of the body, with which fault and what to do."""

import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from notifier.webhooks import failure_advice
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.faults.authority import Authority
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE
from tests.faults.server import (
    FINE,
    OK,
    Behaviour,
    RawSink,
    black_hole,
    drips,
    drips_handshake,
    over_tls,
    says,
    says_each,
    sips,
)
from tests.notifier.conftest import Sink

MakeTransport = Callable[..., Transport]
MakeRawSink = Callable[[Behaviour], RawSink]

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that these tests' installation trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def make_trusting(make_transport: MakeTransport, authority: Authority) -> MakeTransport:
    """Return what makes a transport that trusts the authority."""

    def make(**overrides: Any) -> Transport:
        return make_transport(bundle=str(authority.bundle), **overrides)

    return make


def test_tls_carries_deliveries_over_a_kept_connection(
    authority: Authority, make_raw_sink: MakeRawSink, make_trusting: MakeTransport
) -> None:
    log: list[bytes] = []
    raw = make_raw_sink(over_tls(authority.server(), says_each(FINE, FINE), log))
    transport = make_trusting()

    answers = [transport.post(raw.url("https"), HEADERS, BODY) for _ in range(2)]

    assert answers == [WebhookResponse(200, None, "well")] * 2
    assert raw.connections == 1
    assert b"".join(log).count(BODY) == 2


STRANGER = "unable to get local issuer certificate"


@pytest.mark.parametrize(
    ("fault", "kind", "words", "step"),
    [
        pytest.param(
            {"starts": -2 * DAY, "ends": -DAY},
            "tls-expired",
            "certificate has expired",
            "to renew the certificate",
            id="expired",
        ),
        pytest.param(
            {"starts": DAY, "ends": 2 * DAY},
            "tls-not-yet-valid",
            "certificate is not yet valid",
            "Check the clock",
            id="not yet valid",
        ),
        pytest.param(
            {"self_signed": True},
            "tls-self-signed",
            "self-signed certificate",
            "NOTIFIER_CA_BUNDLE",
            id="self-signed",
        ),
        pytest.param(
            {"host": "127.0.0.9"},
            "tls-wrong-host",
            "certificate is not valid for '127.0.0.1'",
            "Register the host name of the certificate",
            id="wrong host",
        ),
    ],
)
def test_certificate_that_is_not_good_is_refused(
    authority: Authority,
    make_raw_sink: MakeRawSink,
    make_trusting: MakeTransport,
    fault: dict[str, Any],
    kind: str,
    words: str,
    step: str,
) -> None:
    """The failure says which fault and what to do; by its own log the server got nothing (F16)."""
    log: list[bytes] = []
    raw = make_raw_sink(over_tls(authority.server(**fault), says(FINE), log))

    answer = make_trusting().post(raw.url("https"), HEADERS, BODY)
    raw.stop()

    assert isinstance(answer, Failure)
    assert answer.kind == kind
    assert answer.detail.startswith(f"127.0.0.1:{raw.port}: the certificate is not trusted: ")
    assert words in answer.detail
    assert step in str(failure_advice.advice_for(answer.kind, None, 1))
    assert log == [b"handshake refused"]


def test_certificate_of_an_unknown_authority_is_refused(
    tmp_path: Path, make_raw_sink: MakeRawSink, make_trusting: MakeTransport
) -> None:
    """An authority that nobody here trusts signs for nobody, and the failure says so (F16)."""
    log: list[bytes] = []
    stranger = Authority(tmp_path, "Stranger CA")
    raw = make_raw_sink(over_tls(stranger.server(), says(FINE), log))

    answer = make_trusting().post(raw.url("https"), HEADERS, BODY)
    raw.stop()

    assert answer == Failure(
        "tls-unknown-ca", f"127.0.0.1:{raw.port}: the certificate is not trusted: {STRANGER}"
    )
    assert log == [b"handshake refused"]


def test_plain_server_behind_an_https_url_is_a_failure_of_tls(
    sink: Sink, make_transport: MakeTransport
) -> None:
    """Where an https URL leads to a plain server nothing is heard there (F16)."""
    answer = make_transport().post(sink.url().replace("http:", "https:"), HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "tls"
    assert "TLS failed: " in answer.detail
    assert sink.received == []


def test_old_tls_is_refused(
    authority: Authority, make_raw_sink: MakeRawSink, make_trusting: MakeTransport
) -> None:
    """A server that speaks nothing newer than TLS 1.1 is not spoken to (F16)."""
    context = authority.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    log: list[bytes] = []
    raw = make_raw_sink(over_tls(context, says(FINE), log))

    answer = make_trusting().post(raw.url("https"), HEADERS, BODY)
    raw.stop()

    assert isinstance(answer, Failure)
    assert answer.kind == "tls"
    assert log == [b"handshake refused"]


@pytest.mark.parametrize(
    "behave",
    [pytest.param(black_hole, id="silent"), pytest.param(drips_handshake, id="drips")],
)
def test_handshake_that_hangs_costs_the_connect_timeout(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, behave: Behaviour
) -> None:
    """A server that accepts and never shakes hands is not given the whole deadline (F16, I6)."""
    raw = make_raw_sink(behave)

    started = time.monotonic()
    answer = make_transport(connect_timeout=0.3).post(raw.url("https"), HEADERS, BODY)

    assert answer == Failure("tls-timeout", f"127.0.0.1:{raw.port}: no TLS handshake within 0.3 s")
    assert time.monotonic() - started < PATIENCE


def test_handshake_that_hangs_cannot_stretch_the_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    """A handshake ends with the deadline, where that is the shorter one (I6)."""
    raw = make_raw_sink(drips_handshake)

    started = time.monotonic()
    answer = make_transport(connect_timeout=5, deadline=0.3).post(raw.url("https"), HEADERS, BODY)

    assert answer == Failure("deadline", f"127.0.0.1:{raw.port}: no response within 0.3 s")
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(drips(OK + b"X-"), id="the answer drips"),
        pytest.param(black_hole, id="the request is not taken"),
        pytest.param(sips, id="the request is taken in sips"),
    ],
)
def test_tls_cannot_stretch_the_deadline(
    authority: Authority,
    make_raw_sink: MakeRawSink,
    make_trusting: MakeTransport,
    behave: Behaviour,
) -> None:
    """TLS keeps the total deadline as plain HTTP does, reading and writing (I6)."""
    raw = make_raw_sink(over_tls(authority.server(), behave, []))

    started = time.monotonic()
    answer = make_trusting(deadline=0.5).post(raw.url("https"), HEADERS, b"x" * 20_000_000)

    assert isinstance(answer, Failure)
    assert answer.kind == "deadline"
    assert time.monotonic() - started < PATIENCE

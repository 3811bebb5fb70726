"""Names that do not resolve, resolve slowly, change, or have blocked addresses."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from foundation.http.ssrf import Guard, parse_guard
from notifier.webhooks.retry_policy import Failure, RetryAt, WebhookResponse, decide
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE, MakeRawSink, MakeTransport
from tests.faults.server import FINE, says
from tests.notifier.conftest import NINE, Sink


class Dns:
    """A name server that responds to each lookup with the next of its lists; the last stays."""

    def __init__(self, *lists: list[str]) -> None:
        self._lists = list(lists)
        self.lookups = 0

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        """Respond as `socket.getaddrinfo` does."""
        self.lookups += 1
        addresses = self._lists.pop(0) if len(self._lists) > 1 else self._lists[0]
        return [row for one in addresses for row in socket.getaddrinfo(one, port, type=1)]


def url_of(sink: Sink) -> str:
    """Return the URL of a sink under another host name."""
    return sink.url().replace("127.0.0.1", "elms.example")


@pytest.fixture
def hang() -> Iterator[Callable[..., list[Any]]]:
    """A name server that does not respond until the test is over."""
    over = threading.Event()

    def resolve(*_: Any, **__: Any) -> list[Any]:
        over.wait(30)
        return []

    yield resolve
    over.set()


def fails(*_: Any, **__: Any) -> list[Any]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("code", "kind"), [(socket.EAI_NONAME, "dns"), (socket.EAI_AGAIN, "dns-timeout")]
)
def test_name_that_does_not_resolve_is_retried(
    make_transport: MakeTransport, code: int, kind: str
) -> None:
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(code, "why")

    failure = make_transport(resolve=fail).post("https://elms.example/w", HEADERS, BODY)

    assert failure == Failure(kind, "elms.example: the name cannot be resolved: why")
    assert isinstance(decide(failure, 1, now=NINE), RetryAt)


@pytest.mark.parametrize(
    ("connect_timeout", "deadline", "kind", "detail"),
    [
        pytest.param(
            0.2,
            5,
            "dns-timeout",
            "the name cannot be resolved: no response of the name server for 0.2 s",
            id="time-out",
        ),
        pytest.param(5, 0.2, "deadline", "too slow: no response within 0.2 s", id="deadline"),
    ],
)
def test_lookup_that_hangs_ends_in_time_and_is_retried(
    make_transport: MakeTransport,
    hang: Callable[..., list[Any]],
    connect_timeout: float,
    deadline: float,
    kind: str,
    detail: str,
) -> None:
    transport = make_transport(connect_timeout=connect_timeout, deadline=deadline, resolve=hang)

    started = time.monotonic()
    failure = transport.post("https://elms.example/w", HEADERS, BODY)

    assert failure == Failure(kind, f"elms.example: {detail}")
    assert time.monotonic() - started < PATIENCE
    assert isinstance(decide(failure, 1, now=NINE), RetryAt)
    # A process does not wait for daemon threads when it exits.
    assert {one.daemon for one in threading.enumerate() if one.name == "dns-lookup"} == {True}


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.2", "127.0.0.1"], id="blocked first"),
        pytest.param(["127.0.0.1", "127.0.0.2"], id="blocked last"),
    ],
)
def test_one_blocked_address_blocks_the_name(
    make_transport: MakeTransport, sink: Sink, addresses: list[str]
) -> None:
    guard = parse_guard("127.0.0.1", loopback=False)

    failure = make_transport(guard=guard, resolve=Dns(addresses)).post(url_of(sink), HEADERS, BODY)

    assert isinstance(failure, Failure)
    assert failure.kind == "blocked"
    assert "127.0.0.2 is loopback and not in" in failure.detail
    assert "NOTIFIER_ALLOWED_HOSTS" in failure.detail
    assert sink.connections == 0
    assert isinstance(decide(failure, 1, now=NINE), RetryAt)


def test_missing_route_is_named(make_transport: MakeTransport) -> None:
    guard = parse_guard("255.255.255.255", loopback=False)  # the kernel has no route for TCP to it
    transport = make_transport(guard=guard, resolve=Dns(["255.255.255.255"]))

    failure = transport.post("http://elms.example/w", HEADERS, BODY)

    assert failure == Failure("unreachable", "elms.example: Network is unreachable")


def test_rebinding_leads_to_no_unchecked_address(make_transport: MakeTransport, sink: Sink) -> None:
    dns = Dns(["127.0.0.2"], ["127.0.0.1"])
    transport = make_transport(guard=parse_guard("127.0.0.2", loopback=False), resolve=dns)

    first = transport.post(url_of(sink), HEADERS, BODY)
    lookups = dns.lookups
    second = transport.post(url_of(sink), HEADERS, BODY)

    assert lookups == 1
    assert isinstance(first, Failure)
    assert first.kind == "refused"  # by 127.0.0.2, where nothing listens
    assert isinstance(second, Failure)
    assert second.kind == "blocked"
    assert sink.connections == 0


def test_open_connection_needs_no_lookup(make_transport: MakeTransport, sink: Sink) -> None:
    dns = Dns(["127.0.0.1"], ["169.254.169.254"])
    transport = make_transport(resolve=dns)

    responses = [transport.post(url_of(sink), HEADERS, BODY) for _ in range(2)]

    assert [type(one) for one in responses] == [WebhookResponse, WebhookResponse]
    assert (sink.connections, dns.lookups) == (1, 1)


def test_address_of_the_connection_is_checked_too(
    make_transport: MakeTransport, make_raw_sink: MakeRawSink
) -> None:
    received: list[bytes] = []
    raw = make_raw_sink(lambda connection, _: received.append(connection.recv(100)))
    transport = make_transport(guard=parse_guard("0.0.0.0", loopback=False))

    failure = transport.post(raw.url(host="0.0.0.0"), HEADERS, BODY)
    raw.stop()

    assert isinstance(failure, Failure)
    assert failure.kind == "blocked"
    assert "127.0.0.1 is loopback" in failure.detail
    assert b"".join(received) == b""


@pytest.mark.parametrize("spelled", ["127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_other_spelling_of_a_blocked_address_is_blocked(
    make_transport: MakeTransport, sink: Sink, spelled: str
) -> None:
    url = sink.url().replace("127.0.0.1", spelled)

    failure = make_transport(guard=Guard()).post(url, HEADERS, BODY)

    assert isinstance(failure, Failure)
    assert failure.kind == "blocked"
    assert sink.connections == 0


def test_each_address_of_an_allowed_host_is_tried(
    make_transport: MakeTransport, make_raw_sink: MakeRawSink
) -> None:
    raw = make_raw_sink(says(FINE))
    guard = parse_guard("elms.example", loopback=False)
    transport = make_transport(guard=guard, resolve=Dns(["127.0.0.2", "127.0.0.1"]))

    response = transport.post(raw.url(host="elms.example"), HEADERS, BODY)

    assert response == WebhookResponse(200, None, "well")


def test_all_addresses_share_one_deadline(make_transport: MakeTransport, full_port: int) -> None:
    dns = Dns(["127.0.0.1"] * 50)
    transport = make_transport(connect_timeout=1, deadline=2.5, resolve=dns)

    started = time.monotonic()
    failure = transport.post(f"http://elms.example:{full_port}/w", HEADERS, BODY)

    assert failure == Failure(
        "deadline", f"elms.example:{full_port}: too slow: no response within 2.5 s"
    )
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    ("resolve", "kind", "detail"),
    [
        pytest.param(fails, "dns", "the name cannot be resolved: Name or service", id="unknown"),
        pytest.param(
            Dns(["127.0.0.1", "10.0.0.7"]),
            "blocked",
            "10.0.0.7 is a private address and not in NOTIFIER_ALLOWED_HOSTS",
            id="blocked",
        ),
    ],
)
def test_host_is_checked_without_a_connection(
    make_transport: MakeTransport, sink: Sink, resolve: Callable[..., Any], kind: str, detail: str
) -> None:
    failure = make_transport(resolve=resolve).check_host(url_of(sink))

    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert detail in failure.detail
    assert sink.connections == 0


def test_check_of_a_host_has_a_time_out(
    make_transport: MakeTransport, hang: Callable[..., Any]
) -> None:
    failure = make_transport(connect_timeout=0.2, resolve=hang).check_host("https://elms.example/")

    assert isinstance(failure, Failure)
    assert failure.kind == "dns-timeout"


def test_host_with_allowed_addresses_passes(make_transport: MakeTransport, sink: Sink) -> None:
    assert make_transport(resolve=Dns(["127.0.0.1"])).check_host(url_of(sink)) is None
    assert make_transport().check_host("http://[::1]/") is None
    assert sink.connections == 0

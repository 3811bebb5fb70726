"""Names that resolve to nothing, too late, to something else each time, or to barred addresses."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from foundation.http.ssrf import Guard, parse_guard
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure, RetryAt, WebhookResponse, decide
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE
from tests.faults.server import FINE, Behaviour, RawSink, says
from tests.notifier.conftest import NINE, Sink

MakeTransport = Callable[..., Transport]
MakeRawSink = Callable[[Behaviour], RawSink]


class Dns:
    """A name service that answers each look-up with the next of its lists; the last stays."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        """Answer as `socket.getaddrinfo` does."""
        self.asked.append(host)
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [row for one in addresses for row in socket.getaddrinfo(one, port, type=1)]


def port_of(sink: Sink) -> int:
    """Return a sink's port."""
    return int(sink.url("").rpartition(":")[2])


@pytest.fixture
def hang() -> Iterator[Callable[..., list[Any]]]:
    """A name service that answers nobody, until the test is over."""
    over = threading.Event()

    def resolve(*_: Any, **__: Any) -> list[Any]:
        over.wait(30)
        return []

    yield resolve
    over.set()


def test_name_that_does_not_exist_is_a_failure_of_dns(make_transport: MakeTransport) -> None:
    """A host that this machine's name service does not know is a failure of its name (F17)."""
    answer = make_transport().post("https://elms.invalid/w", HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "dns"
    assert answer.detail.startswith("elms.invalid:443: the name cannot be resolved: ")


def raises(error: Exception) -> Callable[..., list[Any]]:
    """Return a name service that fails."""

    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise error

    return resolve


@pytest.mark.parametrize(
    ("resolve", "words"),
    [
        pytest.param(
            raises(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
            "Name or service not known",
            id="no such name",
        ),
        pytest.param(
            raises(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")),
            "Temporary failure in name resolution",
            id="the name service is away",
        ),
        pytest.param(raises(UnicodeError("label too long")), "not a valid host name", id="no name"),
        pytest.param(Dns([]), "the name has no address", id="no address"),
    ],
)
def test_name_without_an_address_says_why(
    make_transport: MakeTransport, resolve: Callable[..., list[Any]], words: str
) -> None:
    """What the name service said stands in the failure, and the attempt is retried (F17)."""
    answer = make_transport(resolve=resolve).post("https://elms.example/w", HEADERS, BODY)

    assert answer == Failure("dns", f"elms.example:443: the name cannot be resolved: {words}")
    assert isinstance(decide(answer, 1, now=NINE), RetryAt)


@pytest.mark.parametrize(
    ("connect_timeout", "deadline", "kind", "words"),
    [
        pytest.param(0.2, 5, "dns-timeout", "the name was not resolved in 0.2 s", id="time-out"),
        pytest.param(5, 0.2, "deadline", "no response within 0.2 s", id="deadline"),
    ],
)
def test_name_service_that_hangs_cannot_stretch_the_deadline(
    make_transport: MakeTransport,
    hang: Callable[..., list[Any]],
    connect_timeout: float,
    deadline: float,
    kind: str,
    words: str,
) -> None:
    """A look-up has the time to connect, and ends with the deadline; it is retried (F17, I6)."""
    transport = make_transport(connect_timeout=connect_timeout, deadline=deadline, resolve=hang)

    started = time.monotonic()
    answer = transport.post("https://elms.example/w", HEADERS, BODY)

    assert answer == Failure(kind, f"elms.example:443: {words}")
    assert time.monotonic() - started < PATIENCE
    assert isinstance(decide(answer, 1, now=NINE), RetryAt)


def test_name_service_that_hangs_delays_nobody_else(
    make_transport: MakeTransport, sink: Sink
) -> None:
    """While one name hangs, others are resolved, and no thread is added by asking again (F17)."""
    over = threading.Event()

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host == "hangs.example":
            over.wait(30)
        return socket.getaddrinfo("127.0.0.1", port, type=1)

    transport = make_transport(connect_timeout=0.1, resolve=resolve)
    before = threading.active_count()
    for _ in range(5):
        transport.post("http://hangs.example/w", HEADERS, BODY)
    hanging = threading.active_count() - before

    answer = transport.post(f"http://elms.example:{port_of(sink)}/w", HEADERS, BODY)
    over.set()

    assert hanging == 1
    assert isinstance(answer, WebhookResponse)


_HANGS = """
import time
from foundation.http.ssrf import Guard
from notifier.webhooks.http_client import Transport

transport = Transport(
    connect_timeout=0.1, deadline=1, connections=1, guard=Guard(),
    resolve=lambda *_, **__: time.sleep(60),
)
print(transport.post("https://elms.example/", {}, b"").kind, flush=True)
"""


def test_name_service_that_hangs_does_not_delay_the_exit() -> None:
    """A process ends though a look-up of it still hangs (F17)."""
    done = subprocess.run(
        [sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stdout == "dns-timeout\n"


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(["127.0.0.1"], id="barred alone"),
        pytest.param(["127.0.0.1", "8.8.8.8"], id="barred first"),
        pytest.param(["8.8.8.8", "127.0.0.1"], id="barred last"),
        pytest.param(["2001:4860:4860::8888", "::ffff:127.0.0.1"], id="barred in disguise"),
    ],
)
def test_any_barred_record_bars_the_name(
    make_transport: MakeTransport, sink: Sink, records: list[str]
) -> None:
    """Where one of a name's addresses is barred none is connected to (F17)."""
    transport = make_transport(guard=Guard(), resolve=Dns(records))

    answer = transport.post(f"http://elms.example:{port_of(sink)}/w", HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "blocked"
    assert "127.0.0.1" in answer.detail
    assert "loopback (RFC 1122): blocked" in answer.detail
    assert "NOTIFIER_ALLOWED_HOSTS" in answer.detail
    assert sink.connections == 0
    assert isinstance(decide(answer, 1, now=NINE), RetryAt)


def test_barred_record_bars_the_good_ones_before_it(
    make_transport: MakeTransport, sink: Sink
) -> None:
    """A receiver that is allowed is not connected to while its name has a barred record (F17)."""
    guard = parse_guard("127.0.0.1", loopback=False)
    transport = make_transport(guard=guard, resolve=Dns(["127.0.0.1", "127.0.0.2"]))

    answer = transport.post(f"http://elms.example:{port_of(sink)}/w", HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "blocked"
    assert "127.0.0.2 is loopback" in answer.detail
    assert sink.connections == 0


def test_name_that_is_bound_anew_gains_nothing(make_transport: MakeTransport, sink: Sink) -> None:
    """A name is looked up once for a connection, and connected to is what was checked (F17)."""
    dns = Dns(["127.0.0.2"], ["127.0.0.1"])
    guard = parse_guard("127.0.0.2", loopback=False)
    transport = make_transport(guard=guard, resolve=dns)
    url = f"http://elms.example:{port_of(sink)}/w"

    first = transport.post(url, HEADERS, BODY)
    asked_once = list(dns.asked)
    second = transport.post(url, HEADERS, BODY)

    assert asked_once == ["elms.example"]
    assert isinstance(first, Failure)
    assert first.kind == "refused"  # of 127.0.0.2, where nobody listens
    assert isinstance(second, Failure)
    assert second.kind == "blocked"
    assert sink.connections == 0


def test_kept_connection_needs_no_name(make_transport: MakeTransport, sink: Sink) -> None:
    """A connection that is kept goes on to where it was made to, whatever its name is now (F17)."""
    dns = Dns(["127.0.0.1"], ["169.254.169.254"])
    transport = make_transport(resolve=dns)

    answers = [
        transport.post(f"http://elms.example:{port_of(sink)}/w", HEADERS, BODY) for _ in range(2)
    ]

    assert [type(one) for one in answers] == [WebhookResponse, WebhookResponse]
    assert (sink.connections, len(dns.asked)) == (1, 1)


def test_address_that_is_connected_to_is_checked_as_well(
    make_transport: MakeTransport, make_raw_sink: MakeRawSink
) -> None:
    """Where the system connects elsewhere than asked, nothing is sent there (F17)."""
    received: list[bytes] = []
    raw = make_raw_sink(lambda connection, _: received.append(connection.recv(100)))
    transport = make_transport(guard=parse_guard("0.0.0.0", loopback=False))

    answer = transport.post(raw.url(host="0.0.0.0"), HEADERS, BODY)
    raw.stop()

    assert isinstance(answer, Failure)
    assert answer.kind == "blocked"
    assert "127.0.0.1 is loopback" in answer.detail
    assert b"".join(received) == b""


@pytest.mark.parametrize(
    "spelled",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001", "[::ffff:127.0.0.1]"],
)
def test_spelling_of_a_barred_address_gains_nothing(
    make_transport: MakeTransport, sink: Sink, spelled: str
) -> None:
    """An endpoint that is stored is barred by what its host means, at each attempt (F17)."""
    answer = make_transport(guard=Guard()).post(
        f"http://{spelled}:{port_of(sink)}/w", HEADERS, BODY
    )

    assert isinstance(answer, Failure)
    assert answer.kind == "blocked"
    assert sink.connections == 0


@pytest.mark.parametrize(
    "allowed",
    [
        pytest.param("elms.example", id="by name"),
        pytest.param("10.0.0.0/8, 127.0.0.0/8", id="by network"),
        pytest.param("127.0.0.1", id="by address"),
    ],
)
def test_what_is_allowed_is_connected_to(
    make_transport: MakeTransport, sink: Sink, allowed: str
) -> None:
    guard = parse_guard(allowed, loopback=False)
    transport = make_transport(guard=guard, resolve=Dns(["127.0.0.1"]))

    answer = transport.post(f"http://elms.example:{port_of(sink)}/w", HEADERS, BODY)

    assert isinstance(answer, WebhookResponse)


def test_each_address_of_a_host_is_tried(
    make_transport: MakeTransport, make_raw_sink: MakeRawSink
) -> None:
    raw = make_raw_sink(says(FINE))
    transport = make_transport(resolve=Dns(["127.0.0.2", "127.0.0.1"]))

    answer = transport.post(raw.url(host="elms.example"), HEADERS, BODY)

    assert answer == WebhookResponse(200, None, "well")


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port on loopback that accepts no connection."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield int(full.getsockname()[1])
        for one in waiting:
            one.close()


def test_many_addresses_cannot_stretch_the_deadline(
    make_transport: MakeTransport, full_port: int
) -> None:
    """Addresses that do not accept are tried within the one deadline, all together (I6)."""
    dns = Dns(["127.0.0.1"] * 50)
    transport = make_transport(connect_timeout=0.2, deadline=0.5, resolve=dns)

    started = time.monotonic()
    answer = transport.post(f"http://elms.example:{full_port}/w", HEADERS, BODY)
    elapsed = time.monotonic() - started

    assert answer == Failure("deadline", f"elms.example:{full_port}: no response within 0.5 s")
    assert elapsed < PATIENCE


def test_slow_name_and_slow_connect_share_the_deadline(
    make_transport: MakeTransport, full_port: int
) -> None:
    """What a look-up took is not given to the connection a second time (I6, F17)."""

    def resolve(_: str, port: int, **__: Any) -> list[Any]:
        time.sleep(1.3)  # a name service that is slow, yet in time
        return socket.getaddrinfo("127.0.0.1", port, type=1)

    transport = make_transport(connect_timeout=1.5, deadline=1.5, resolve=resolve)

    started = time.monotonic()
    answer = transport.post(f"http://elms.example:{full_port}/w", HEADERS, BODY)
    elapsed = time.monotonic() - started

    assert answer == Failure("deadline", f"elms.example:{full_port}: no response within 1.5 s")
    assert elapsed < PATIENCE

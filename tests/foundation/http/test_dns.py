"""DNS lookups with a time-out."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from foundation.http import deadline, dialer
from foundation.http.dialer import BlockedAddressError, Dialer
from foundation.http.ssrf import Guard

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


class SlowNameServer:
    """A name server that responds when it is released."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.released = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.requested.append(host)
        self.released.wait(30)
        return [(IPV4, 1, 6, "", ("192.0.2.7", port))]


@pytest.fixture
def slow() -> Iterator[SlowNameServer]:
    """A slow name server, which is released at the end."""
    server = SlowNameServer()
    yield server
    server.released.set()


def look_up(resolver: Dialer, host: str = "elms.example") -> list[Any]:
    """Return the socket addresses of a host."""
    with deadline.Exchange(10):
        return [row[4] for row in resolver.look_up(host, 443)]


@pytest.mark.parametrize(
    ("host", "found"),
    [("192.0.2.7", ("192.0.2.7", 443)), ("2001:db8::7", ("2001:db8::7", 443, 0, 0))],
)
def test_address_is_its_own(host: str, found: tuple[Any, ...]) -> None:
    assert look_up(Dialer(5), host) == [found]


def test_every_address_of_a_name_is_returned() -> None:
    scoped, plain = ("fe80::1%eth0", 443, 0, 2), ("192.0.2.7", 443)
    rows = [(IPV6, 1, 6, "", scoped), (IPV4, 1, 6, "", plain)]

    assert look_up(Dialer(5, resolve=lambda *_, **__: rows)) == [scoped, plain]


def test_address_with_a_network_interface_is_checked() -> None:
    rows = [(IPV6, 1, 6, "", ("fe80::1%eth0", 443, 0, 2))]

    with pytest.raises(BlockedAddressError, match="fe80::1%eth0 is link-local"):
        look_up(Dialer(5, Guard(), resolve=lambda *_, **__: rows))


def test_number_of_hanging_lookups_is_limited(
    monkeypatch: pytest.MonkeyPatch, slow: SlowNameServer
) -> None:
    monkeypatch.setattr(dialer, "MAX_LOOKUPS", 3)
    resolver = Dialer(0.001, resolve=slow)
    for _ in range(3):
        with pytest.raises(socket.gaierror, match=r"no response .* for 0\.001 s"):
            look_up(resolver)

    with pytest.raises(socket.gaierror, match="3 other lookups hang"):
        look_up(resolver)

    assert len(slow.requested) == 3


def test_lookup_fails_while_the_system_has_no_thread_for_it(
    monkeypatch: pytest.MonkeyPatch, slow: SlowNameServer
) -> None:
    resolver = Dialer(5, resolve=slow)
    slow.released.set()
    look_up(resolver)
    no_more_threads = Mock(side_effect=RuntimeError("can't start new thread"))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(socket.gaierror, match="can't start new thread"):
            look_up(resolver)

    assert look_up(resolver) == [("192.0.2.7", 443)]


def test_lookup_is_not_cached() -> None:
    addresses = ["192.0.2.7", "192.0.2.8"]
    resolver = Dialer(5, resolve=lambda _, port, **__: [(IPV4, 1, 6, "", (addresses.pop(0), port))])

    assert [look_up(resolver) for _ in range(2)] == [[("192.0.2.7", 443)], [("192.0.2.8", 443)]]


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        pytest.param(
            socket.gaierror(socket.EAI_AGAIN, "try again"), socket.gaierror, "try again", id="DNS"
        ),
        pytest.param(
            UnicodeError("label too long"), socket.gaierror, "not a valid host name", id="IDNA"
        ),
        pytest.param(OSError("no thread"), OSError, "no thread", id="system"),
    ],
)
def test_error_of_a_lookup_is_raised(
    raised: Exception, expected: type[Exception], message: str
) -> None:
    resolve: Callable[..., Any] = Mock(side_effect=raised)

    with pytest.raises(expected, match=message):
        look_up(Dialer(5, resolve=resolve))

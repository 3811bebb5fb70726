"""DNS lookups with a time-out."""

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from unittest.mock import Mock

import pytest

from foundation.http import dns
from foundation.http.dns import LookupTimeoutError, ResolvedAddress, Resolver

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


@pytest.mark.parametrize(("host", "family"), [("192.0.2.7", IPV4), ("2001:db8::7", IPV6)])
def test_address_is_not_looked_up(host: str, family: int, slow: SlowNameServer) -> None:
    found = Resolver(slow).resolve(host, 443, seconds=1)

    assert found == [ResolvedAddress(ip_address(host), family, (host, 443))]
    assert slow.requested == []


def test_every_address_of_a_name_is_returned() -> None:
    scoped, plain = ("fe80::1%eth0", 443, 0, 2), ("192.0.2.7", 443)
    rows = [(IPV6, 1, 6, "", scoped), (IPV4, 1, 6, "", plain)]

    found = Resolver(lambda *_, **__: rows).resolve("elms.example", 443, seconds=1)

    assert found == [
        ResolvedAddress(ip_address("fe80::1"), IPV6, scoped),
        ResolvedAddress(ip_address("192.0.2.7"), IPV4, plain),
    ]


def test_concurrent_lookups_of_a_name_share_one(slow: SlowNameServer) -> None:
    resolver = Resolver(slow)
    for _ in range(3):
        with pytest.raises(LookupTimeoutError, match=r"no response of the name server for 0\.01 s"):
            resolver.resolve("elms.example", 443, seconds=0.01)
    threading.Timer(0.05, slow.released.set).start()

    (found,) = resolver.resolve("elms.example", 443, seconds=10)

    assert str(found.address) == "192.0.2.7"
    assert slow.requested == ["elms.example"]


def test_number_of_hanging_lookups_is_limited(slow: SlowNameServer) -> None:
    resolver = Resolver(slow)
    for number in range(dns.MAX_LOOKUPS):
        with pytest.raises(LookupTimeoutError):
            resolver.resolve(f"elms{number}.example", 443, seconds=0.001)

    with pytest.raises(LookupTimeoutError, match="128 lookups of other names hang"):
        resolver.resolve("elms.example", 443, seconds=10)

    assert len(slow.requested) == dns.MAX_LOOKUPS


def test_lookup_fails_while_the_system_has_no_thread_for_it(
    monkeypatch: pytest.MonkeyPatch, slow: SlowNameServer
) -> None:
    resolver = Resolver(slow)
    slow.released.set()
    no_more_threads = Mock(side_effect=RuntimeError("can't start new thread"))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(LookupTimeoutError, match="no thread for the lookup"):
            resolver.resolve("elms.example", 443, seconds=10)

    (found,) = resolver.resolve("elms.example", 443, seconds=10)

    assert str(found.address) == "192.0.2.7"


def test_finished_lookup_is_not_cached() -> None:
    addresses = ["192.0.2.7", "192.0.2.8"]
    resolver = Resolver(lambda _, port, **__: [(IPV4, 1, 6, "", (addresses.pop(0), port))])

    found = [resolver.resolve("elms.example", 443, seconds=10)[0] for _ in range(2)]

    assert [str(one.address) for one in found] == ["192.0.2.7", "192.0.2.8"]


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
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise raised

    with pytest.raises(expected, match=message):
        Resolver(fail).resolve("elms.example", 443, seconds=10)

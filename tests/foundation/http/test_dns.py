"""Tests of DNS lookups with a time-out."""

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from foundation.http import dns
from foundation.http.dns import LookupTimeoutError, ResolvedAddress, Resolver


class Slow:
    """A name service that answers when it is told to, with one address."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        """Answer as `socket.getaddrinfo` does, in time."""
        self.asked.append(host)
        self.go.wait(30)
        return socket.getaddrinfo("192.0.2.7", port, type=socket.SOCK_STREAM)


@pytest.fixture
def slow() -> Iterator[Slow]:
    """A slow name service, which lets go at the end."""
    service = Slow()
    yield service
    service.go.set()


def never(*_: Any, **__: Any) -> list[Any]:
    """Fail: nobody should ask."""
    raise AssertionError


@pytest.mark.parametrize(
    ("host", "family"),
    [("192.0.2.7", socket.AF_INET), ("2001:db8::7", socket.AF_INET6)],
)
def test_address_is_looked_up_by_nobody(host: str, family: int) -> None:
    threads = threading.active_count()

    places = Resolver(never).resolve(host, 443, seconds=1)

    assert places == [ResolvedAddress(ip_address(host), family, (host, 443))]
    assert threading.active_count() == threads


def test_every_address_of_a_name_is_a_place() -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6, 1, 6, "", ("fe80::1%eth0", 443, 0, 2)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.7", 443)),
        ]

    places = Resolver(resolve).resolve("elms.example", 443, seconds=1)

    assert [str(place.address) for place in places] == ["fe80::1", "192.0.2.7"]
    assert places[0].socket_address == ("fe80::1%eth0", 443, 0, 2)


def test_name_that_hangs_is_given_up(slow: Slow) -> None:
    with pytest.raises(LookupTimeoutError, match="the name server did not respond in time"):
        Resolver(slow).resolve("elms.example", 443, seconds=0.05)


def test_those_who_ask_for_a_name_wait_for_one_look_up(slow: Slow) -> None:
    service = Resolver(slow)
    found: list[list[ResolvedAddress]] = []
    asking = [
        threading.Thread(
            target=lambda: found.append(service.resolve("elms.example", 443, seconds=10))
        )
        for _ in range(5)
    ]

    for thread in asking:
        thread.start()
    slow.go.set()
    for thread in asking:
        thread.join(10)

    assert [str(places[0].address) for places in found] == ["192.0.2.7"] * 5
    assert 1 <= len(slow.asked) <= 5


def test_name_that_hangs_keeps_one_thread(slow: Slow) -> None:
    service = Resolver(slow)

    for _ in range(10):
        with pytest.raises(LookupTimeoutError):
            service.resolve("elms.example", 443, seconds=0.01)

    assert slow.asked == ["elms.example"]


def test_names_that_hang_keep_so_many_threads_and_no_more(slow: Slow) -> None:
    service = Resolver(slow)
    for number in range(dns.MAX_LOOKUPS):
        with pytest.raises(LookupTimeoutError):
            service.resolve(f"elms{number}.example", 443, seconds=0.001)

    with pytest.raises(LookupTimeoutError, match="128 lookups of other names hang"):
        service.resolve("elms.example", 443, seconds=10)

    assert len(slow.asked) == dns.MAX_LOOKUPS


def test_name_is_looked_up_anew_each_time() -> None:
    answers = ["192.0.2.7", "192.0.2.8"]

    def resolve(_: str, port: int, **__: Any) -> list[Any]:
        return socket.getaddrinfo(answers.pop(0), port, type=socket.SOCK_STREAM)

    service = Resolver(resolve)

    found = [service.resolve("elms.example", 443, seconds=10) for _ in range(2)]

    assert [str(places[0].address) for places in found] == ["192.0.2.7", "192.0.2.8"]


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        pytest.param(
            socket.gaierror(socket.EAI_AGAIN, "try again"), socket.gaierror, "try again", id="DNS"
        ),
        pytest.param(
            UnicodeError("label too long"), socket.gaierror, "not a valid host name", id="IDNA"
        ),
        pytest.param(OSError("no thread"), OSError, "no thread", id="the system"),
    ],
)
def test_what_went_wrong_reaches_whoever_asked(
    raised: Exception, expected: type[Exception], words: str
) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise raised

    service = Resolver(resolve)

    for _ in range(2):
        with pytest.raises(expected, match=words):
            service.resolve("elms.example", 443, seconds=10)

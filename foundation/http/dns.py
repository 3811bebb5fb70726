"""Names to addresses in time: a look-up that hangs keeps only a thread of its own."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from foundation.http.ssrf import Address

MAX_LOOKUPS = 128
"""How many look-ups may be under way: more than attempts at once, so only hung ones fill it."""

Resolve = Callable[..., list[Any]]
"""What looks a name up, with the arguments and the answer of `socket.getaddrinfo`."""


class LookupTimeoutError(TimeoutError):
    """The name service did not answer in time."""


@dataclass(frozen=True)
class Place:
    """Where a connection can be made to: an address, and how a socket wants to be told it."""

    address: Address
    family: int
    socket_address: tuple[Any, ...]


class Names:
    """Looks names up, each at most once at a time, by threads that no exit waits for.

    `getaddrinfo` knows no time-out and cannot be interrupted.
    """

    def __init__(self, resolve: Resolve = socket.getaddrinfo) -> None:
        self._resolve = resolve
        self._under_way: dict[tuple[str, int], Future[list[Place]]] = {}
        self._lock = threading.Lock()

    def places(self, host: str, port: int, *, seconds: float) -> list[Place]:
        """Return every place that a host resolves to; an address is its own place.

        Raises socket.gaierror, or LookupTimeoutError.
        """
        address = _address(host)
        if address is None:
            return self._look_up(host, port, seconds)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return [Place(address, family, (host, port))]

    def _look_up(self, host: str, port: int, seconds: float) -> list[Place]:
        with self._lock:
            found = self._under_way.get((host, port)) or self._begin(host, port)
        try:
            return found.result(seconds)
        except TimeoutError:
            raise LookupTimeoutError("the name service did not answer in time") from None

    def _begin(self, host: str, port: int) -> Future[list[Place]]:
        if len(self._under_way) >= MAX_LOOKUPS:
            raise LookupTimeoutError(f"{MAX_LOOKUPS} look-ups of other names hang")
        found: Future[list[Place]] = Future()
        thread = threading.Thread(
            target=self._ask, args=(host, port, found), name="look-up", daemon=True
        )
        thread.start()
        self._under_way[host, port] = found
        return found

    def _ask(self, host: str, port: int, found: Future[list[Place]]) -> None:
        try:
            rows = self._resolve(host, port, type=socket.SOCK_STREAM)
            outcome: list[Place] | Exception = [_place(row) for row in rows]
        except UnicodeError:
            outcome = socket.gaierror(socket.EAI_NONAME, "it cannot be a name")
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            outcome = error
        with self._lock:
            del self._under_way[host, port]
        if isinstance(outcome, Exception):
            found.set_exception(outcome)
        else:
            found.set_result(outcome)


def _address(host: str) -> Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _place(row: Any) -> Place:
    family, _, _, _, socket_address = row
    return Place(ip_address(socket_address[0].partition("%")[0]), family, socket_address)

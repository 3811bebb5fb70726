"""DNS lookups with a time-out.

`getaddrinfo` has no time-out and cannot be interrupted, so each lookup runs in a daemon thread.
"""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from foundation.http.ssrf import Address

# Concurrent lookups. Connections are kept, so that only lookups that hang reach it.
MAX_LOOKUPS = 128

# A function with the signature of `socket.getaddrinfo`.
Resolve = Callable[..., list[Any]]


class LookupTimeoutError(TimeoutError):
    """The name server did not respond in time, or nothing was free to wait for it."""


@dataclass(frozen=True)
class ResolvedAddress:
    """An address of a host, with what a socket needs to connect to it."""

    address: Address
    family: int
    socket_address: tuple[Any, ...]


class Resolver:
    """Resolves host names; concurrent lookups of one name share a thread."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._getaddrinfo = resolve or socket.getaddrinfo
        self._lookups: dict[tuple[str, int], Future[list[ResolvedAddress]]] = {}
        self._lock = threading.Lock()

    def resolve(self, host: str, port: int, *, seconds: float) -> list[ResolvedAddress]:
        """Return the addresses of a host, which may be an address itself.

        Raises:
            socket.gaierror, LookupTimeoutError
        """
        address = _address(host)
        if address is not None:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            return [ResolvedAddress(address, family, (host, port))]
        with self._lock:
            lookup = self._lookups.get((host, port)) or self._start(host, port)
        try:
            return lookup.result(seconds)
        except TimeoutError:
            raise LookupTimeoutError(f"no response of the name server for {seconds:g} s") from None

    def _start(self, host: str, port: int) -> Future[list[ResolvedAddress]]:
        if len(self._lookups) >= MAX_LOOKUPS:
            raise LookupTimeoutError(f"{MAX_LOOKUPS} lookups of other names hang")
        lookup: Future[list[ResolvedAddress]] = Future()
        try:
            threading.Thread(
                target=self._run, args=(host, port, lookup), name="dns-lookup", daemon=True
            ).start()
        except RuntimeError:  # the system has no more threads now
            raise LookupTimeoutError("no thread for the lookup can be started now") from None
        self._lookups[host, port] = lookup
        return lookup

    def _run(self, host: str, port: int, lookup: Future[list[ResolvedAddress]]) -> None:
        try:
            rows = self._getaddrinfo(host, port, type=socket.SOCK_STREAM)
            result: list[ResolvedAddress] | Exception = [_resolved(row) for row in rows]
        except UnicodeError:
            result = socket.gaierror(socket.EAI_NONAME, "not a valid host name")
        except Exception as error:  # noqa: BLE001 - re-raised in the threads that wait for it
            result = error
        with self._lock:
            del self._lookups[host, port]
        if isinstance(result, Exception):
            lookup.set_exception(result)
        else:
            lookup.set_result(result)


def _address(host: str) -> Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _resolved(row: Any) -> ResolvedAddress:
    family, _, _, _, socket_address = row
    return ResolvedAddress(ip_address(socket_address[0].partition("%")[0]), family, socket_address)

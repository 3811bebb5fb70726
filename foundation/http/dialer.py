"""Outgoing connections to addresses that were checked after a single DNS lookup."""

import contextlib
import errno
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from foundation.http.deadline import (
    DeadlineError,
    PlainSocket,
    check_expired,
    timeout,
    timeout_for,
)
from foundation.http.dns import LookupTimeoutError, Resolve, ResolvedAddress, Resolver
from foundation.http.ssrf import Address, Guard

_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES})

SocketOptions = Iterable[tuple[int, int, int | bytes]]


class BlockedAddressError(OSError):
    """The guard blocks an address of the host; `str()` names the address and the reason."""


class ConnectError(OSError):
    """No address of the host could be connected to; `str()` is the error that says most."""


class UnreachableError(ConnectError):
    """There is no route to any address of the host."""


class ConnectTimeoutError(TimeoutError):
    """No address of the host accepted a connection in time."""


class Dialer:
    """Connects to hosts whose addresses all pass a guard, or to any host without a guard.

    Each connection looks the name up once and connects only to the addresses that were checked,
    so a name that resolves differently the next time (DNS rebinding) gains nothing.
    """

    def __init__(self, guard: Guard | None = None, resolve: Resolve = socket.getaddrinfo) -> None:
        self._guard = guard
        self._resolver = Resolver(resolve)

    def dial(
        self, host: str, port: int, seconds: float, options: SocketOptions = ()
    ) -> socket.socket:
        """Return a socket that is connected to a host.

        Each step may take `seconds`, all together the deadline.

        Raises:
            socket.gaierror, LookupTimeoutError, BlockedAddressError, ConnectError,
            ConnectTimeoutError, DeadlineError
        """
        addresses = self._resolve(host, port, seconds)
        for one in addresses:
            self._check(host, one.address)
        connected = _connect_first(addresses, seconds, options)
        try:
            self._check(host, ip_address(connected.getpeername()[0].partition("%")[0]))
        except OSError:
            connected.close()
            raise
        return connected

    def _resolve(self, host: str, port: int, seconds: float) -> list[ResolvedAddress]:
        try:
            addresses = self._resolver.resolve(host, port, seconds=timeout(seconds))
        except LookupTimeoutError:
            timeout()  # raises DeadlineError if the total time is over
            raise
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return addresses

    def _check(self, host: str, address: Address) -> None:
        reason = self._guard.blocked_reason(host, address) if self._guard else None
        if reason is not None:
            raise BlockedAddressError(reason)


def _connect_first(
    addresses: list[ResolvedAddress], seconds: float, options: SocketOptions
) -> socket.socket:
    errors: list[OSError] = []
    for address in addresses:
        try:
            return _connect(address, seconds, options)
        except DeadlineError:
            raise
        except OSError as error:
            errors.append(error)
    # What the host itself said comes before silence, and before a missing route, such as that to
    # the IPv6 address of a host from a network without IPv6.
    failed = max(errors, key=lambda error: (error.errno not in _NO_ROUTE, error.errno is not None))
    if isinstance(failed, ConnectTimeoutError):
        raise failed
    kind = UnreachableError if failed.errno in _NO_ROUTE else ConnectError
    raise kind(failed.strerror or str(failed)) from failed


def _connect(address: ResolvedAddress, seconds: float, options: SocketOptions) -> socket.socket:
    with contextlib.ExitStack() as on_failure:
        connecting = PlainSocket(address.family, socket.SOCK_STREAM)
        on_failure.callback(connecting.close)
        for option in options:
            connecting.setsockopt(*option)
        connecting.settimeout(timeout_for(connecting, seconds))
        try:
            connecting.connect(address.socket_address)
        except TimeoutError as error:
            check_expired(error, ConnectTimeoutError("no connection was accepted in time"))
            raise
        connecting.settimeout(seconds)
        on_failure.pop_all()
    return connecting

"""Outgoing connections to addresses that were checked after a single DNS lookup."""

import contextlib
import errno
import socket
from ipaddress import ip_address

from foundation.http import deadline
from foundation.http.deadline import DeadlineError, PlainSocket
from foundation.http.dns import LookupTimeoutError, Resolve, ResolvedAddress, Resolver
from foundation.http.ssrf import Address, Guard

_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES})


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

    def __init__(
        self,
        connect_timeout: float,
        guard: Guard | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._seconds = connect_timeout
        self._guard = guard
        self._resolver = Resolver(resolve)

    def dial(self, host: str, port: int) -> socket.socket:
        """Return a socket that is connected to a host.

        The lookup, each connection and a TLS handshake that follows may take the connect
        time-out, all together the deadline.

        Raises:
            socket.gaierror, LookupTimeoutError, BlockedAddressError, ConnectError,
            ConnectTimeoutError, DeadlineError
        """
        addresses = self.look_up(host, port)
        connected = _connect_first(addresses, self._seconds)
        # A connection to 0.0.0.0, which the guard may allow, is one to 127.0.0.1.
        try:
            self._check(host, ip_address(connected.getpeername()[0].partition("%")[0]))
        except OSError:
            connected.close()
            raise
        return connected

    def look_up(self, host: str, port: int) -> list[ResolvedAddress]:
        """Return the addresses of a host, none of which is blocked.

        Raises:
            socket.gaierror, LookupTimeoutError, BlockedAddressError, DeadlineError
        """
        exchange = deadline.current()
        try:
            addresses = self._resolver.resolve(host, port, seconds=exchange.timeout(self._seconds))
        except LookupTimeoutError:
            exchange.timeout()  # raises DeadlineError if the total time is over
            raise
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        for one in addresses:
            self._check(host, one.address)
        return addresses

    def _check(self, host: str, address: Address) -> None:
        reason = self._guard.blocked_reason(host, address) if self._guard else None
        if reason is not None:
            raise BlockedAddressError(reason)


def _connect_first(addresses: list[ResolvedAddress], seconds: float) -> socket.socket:
    errors: list[OSError] = []
    for address in addresses:
        try:
            return _connect(address, seconds)
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


def _connect(address: ResolvedAddress, seconds: float) -> socket.socket:
    exchange = deadline.current()
    with contextlib.ExitStack() as on_failure:
        connecting = PlainSocket(address.family, socket.SOCK_STREAM)
        on_failure.callback(connecting.close)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange.wait_for(connecting, seconds)
        try:
            connecting.connect(address.socket_address)
        except TimeoutError as error:
            exchange.check_expired(error, ConnectTimeoutError("no connection was accepted in time"))
            raise
        connecting.settimeout(seconds)
        on_failure.pop_all()
    return connecting

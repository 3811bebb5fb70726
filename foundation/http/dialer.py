"""Connections outward: one look-up, every address checked, and one of just those connected to."""

import contextlib
import errno
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from foundation.http.deadline import DeadlineError, PlainSocket, patience, waiting
from foundation.http.dns import LookupTimeoutError, Names, Place, Resolve
from foundation.http.ssrf import Address, Guard

_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES})

SocketOptions = Iterable[tuple[int, int, int | bytes]]


class BarredError(OSError):
    """The host has an address that must not be connected to; `str()` names it and says why."""


class ConnectError(OSError):
    """None of the host's addresses could be connected to; `str()` says why not to the last."""


class UnreachableError(ConnectError):
    """No way leads to the host's last address."""


class ConnectTimeoutError(TimeoutError):
    """None of the host's addresses accepted a connection in time."""


class Dialler:
    """Connects to hosts, if all of their addresses pass a guard; without one, to any.

    A name is looked up once for each connection, and connected to is what was checked: a name
    that answers otherwise the next time gains nothing.
    """

    def __init__(self, guard: Guard | None = None, resolve: Resolve = socket.getaddrinfo) -> None:
        self._guard = guard
        self._names = Names(resolve)

    def dial(
        self, host: str, port: int, timeout: float, options: SocketOptions = ()
    ) -> socket.socket:
        """Return a socket connected to a host; each step has the time-out, all the deadline.

        Raises socket.gaierror, LookupTimeoutError, BarredError, ConnectError,
        ConnectTimeoutError, or DeadlineError.
        """
        places = self._places(host, port, timeout)
        for place in places:
            self._check(host, place.address)
        connected = _first_that_accepts(places, timeout, options)
        try:
            self._check(host, ip_address(connected.getpeername()[0].partition("%")[0]))
        except OSError:
            connected.close()
            raise
        return connected

    def _places(self, host: str, port: int, timeout: float) -> list[Place]:
        try:
            places = self._names.places(host, port, seconds=patience(timeout))
        except LookupTimeoutError:
            patience()  # was it the time-out, or the end of all patience?
            raise
        if not places:
            raise socket.gaierror(socket.EAI_NONAME, "it has no address")
        return places

    def _check(self, host: str, address: Address) -> None:
        why = self._guard.why_barred(host, address) if self._guard else None
        if why is not None:
            raise BarredError(why)


def _first_that_accepts(
    places: list[Place], timeout: float, options: SocketOptions
) -> socket.socket:
    failed: OSError = OSError("there is no address")
    for place in places:
        try:
            return _connect(place, timeout, options)
        except DeadlineError:
            raise
        except OSError as error:
            failed = error
    if isinstance(failed, TimeoutError):
        raise ConnectTimeoutError("no connection was accepted in time") from failed
    kind = UnreachableError if failed.errno in _NO_WAY else ConnectError
    raise kind(failed.strerror or str(failed)) from failed


def _connect(place: Place, timeout: float, options: SocketOptions) -> socket.socket:
    with contextlib.ExitStack() as unless_connected:
        connecting = PlainSocket(place.family, socket.SOCK_STREAM)
        unless_connected.callback(connecting.close)
        for option in options:
            connecting.setsockopt(*option)
        connecting.settimeout(waiting(connecting, timeout))
        try:
            connecting.connect(place.socket_address)
        except TimeoutError:
            patience()
            raise
        connecting.settimeout(timeout)
        unless_connected.pop_all()
    return connecting

"""Outgoing connections to addresses that were checked after a single DNS lookup; their TLS."""

import errno
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any

import certifi

from foundation.http import deadline
from foundation.http.ssrf import Guard

# Concurrent lookups. Connections are kept, so that only lookups that hang reach it.
MAX_LOOKUPS = 128
# Errors that say only that this machine has no route to an address.
NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES})

# A function with the signature of `socket.getaddrinfo`.
Resolve = Callable[..., list[Any]]


class BlockedAddressError(OSError):
    """The guard blocks an address of the host; `str()` names the address and the reason."""


class ConnectError(OSError):
    """There is no connection; `errno` and `strerror` say why. ETIMEDOUT: not in time."""


class Dialer:
    """Connects to hosts whose addresses all pass a guard, or to any host without a guard.

    Each connection looks the name up once and connects only to the addresses that were checked,
    so a name that resolves differently the next time (DNS rebinding) gains nothing.

    The lookup, each connection and the TLS handshake may take `connect_timeout` seconds. `bundle`
    is a file of additional CAs.
    """

    def __init__(
        self,
        connect_timeout: float,
        guard: Guard | None = None,
        resolve: Resolve | None = None,
        bundle: str = "",
    ) -> None:
        self._seconds = connect_timeout
        self._guard = guard
        self._getaddrinfo = resolve or socket.getaddrinfo
        self._free_lookups = threading.Semaphore(MAX_LOOKUPS)
        self._context = tls_context(bundle)

    def dial(self, host: str, port: int, *, tls: bool) -> socket.socket:
        """Return a socket that is connected to a host.

        Raises:
            socket.gaierror: The host has no address; EAI_AGAIN if that is not certain.
            BlockedAddressError, ConnectError, OSError
        """
        connected = self._connect_first(self.look_up(host, port))
        try:
            connected.settimeout(self._seconds)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A connection to 0.0.0.0, which the guard may allow, is one to 127.0.0.1.
            self._check(host, connected.getpeername()[0])
            if tls:
                connected = self._context.wrap_socket(
                    connected,
                    server_hostname=host.removesuffix("."),
                    do_handshake_on_connect=False,
                )
                deadline.current.get().attach(connected)
                connected.do_handshake()
        except TimeoutError as error:
            connected.close()
            why = f"no TLS handshake within {self._seconds:g} s"
            raise ConnectError(errno.ETIMEDOUT, why) from error
        except BaseException:
            connected.close()
            raise
        return connected

    def look_up(self, host: str, port: int) -> list[Any]:
        """Return the addresses of a host, none of which is blocked, as `getaddrinfo` does.

        Raises:
            socket.gaierror, BlockedAddressError
        """
        rows = self._rows(host, port)
        for *_, address in rows:
            self._check(host, address[0])
        return rows

    def _check(self, host: str, address: str) -> None:
        reason = self._guard and self._guard.blocked_reason(host, ip_address(address))
        if reason:
            raise BlockedAddressError(reason)

    def _rows(self, host: str, port: int) -> list[Any]:
        """Look a name up in a thread: `getaddrinfo` has no time-out and cannot be interrupted."""
        if not self._free_lookups.acquire(blocking=False):
            raise socket.gaierror(socket.EAI_AGAIN, f"{MAX_LOOKUPS} other lookups hang")
        lookup: Future[list[Any]] = Future()
        try:
            threading.Thread(
                target=self._run_lookup, args=(host, port, lookup), name="dns-lookup", daemon=True
            ).start()
            return lookup.result(min(self._seconds, deadline.current.get().seconds_left))
        except TimeoutError:
            code, why = socket.EAI_AGAIN, f"no response of the name server for {self._seconds:g} s"
        except UnicodeError:
            code, why = socket.EAI_NONAME, "not a valid host name"
        except RuntimeError as error:  # the system has no more threads now
            self._free_lookups.release()
            code, why = socket.EAI_AGAIN, str(error)
        raise socket.gaierror(code, why)

    def _run_lookup(self, host: str, port: int, lookup: Future[list[Any]]) -> None:
        try:
            lookup.set_result(self._getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - re-raised in the thread that waits for it
            lookup.set_exception(error)
        finally:
            self._free_lookups.release()

    def _connect_first(self, rows: list[Any]) -> socket.socket:
        exchange, failures = deadline.current.get(), list[OSError]()
        for *_, address in rows:
            exchange.check()
            try:
                seconds = min(self._seconds, exchange.seconds_left)
                return socket.create_connection(address[:2], seconds)
            except OSError as error:
                failures.append(error)
        # Not the missing route to its IPv6 address, from a network without IPv6.
        failed = next((one for one in failures if one.errno not in NO_ROUTE), failures[0])
        why = failed.strerror or f"the connection was not accepted within {self._seconds:g} s"
        raise ConnectError(failed.errno or errno.ETIMEDOUT, why) from failed


def tls_context(bundle: str = "") -> ssl.SSLContext:
    """Return a context that verifies certificates.

    It trusts the system's authorities, those of certifi, and those of `bundle`, a PEM file: a
    campus signs its own receivers, and others have public certificates.
    """
    context = ssl.create_default_context()
    # Pythons of distributions leave it to OpenSSL's configuration.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(certifi.where())
    if bundle:
        context.load_verify_locations(bundle)
    return context

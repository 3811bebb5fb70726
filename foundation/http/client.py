"""HTTP requests with connection pooling, an address guard and a deadline; errors as text."""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.client import HTTPResponse
from typing import Any, TypeVar

import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from foundation.http import deadline, tls
from foundation.http.dialer import Dialer
from foundation.http.strict_response import StrictResponse
from foundation.logging import redact
from foundation.text import printable

USER_AGENT = "course-webhooks/1"
# Hosts with open connections; those of the least recently used host are closed first.
MAX_HOSTS = 64
# Seconds for which a connection is kept: since it was opened, because a host's address may change,
# and since its last request, because firewalls forget idle connections.
MAX_AGE, MAX_IDLE = 600.0, 5.0
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]
_Value = TypeVar("_Value")


class _PlainConnection(HTTPConnection):
    """A connection that is opened by a dialer, with responses read strictly.

    A kept one may have been closed or forgotten by the peer or by a firewall. It is used again
    only for a limited time. If it then ends before any byte of the response, the request is sent
    once more over a new one: receivers recognise duplicates, and grades are written as values.
    """

    response_class: type[HTTPResponse] = StrictResponse

    def __init__(self, *args: Any, dialer: Dialer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dialer = dialer
        self._opened_at = 0.0
        self._requested_at: float | None = None
        self._resend: Callable[[], None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection can be used again; the pool closes it otherwise."""
        now = time.monotonic()
        is_recent = now - self._opened_at < MAX_AGE and now - (self._requested_at or now) < MAX_IDLE
        return is_recent and super().is_connected

    def _new_conn(self) -> Any:
        # The one hook of urllib3 for opening a connection. `_dns_host` is the host name as it was
        # given; `host` lacks the dot at its end.
        self._opened_at, self._requested_at = time.monotonic(), None
        seconds: float = self.timeout  # type: ignore[assignment]  # every request sets it
        return self._dialer.dial(self._dns_host, self.port, seconds, self.socket_options or ())

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        send = partial(super().request, *args, **kwargs)
        self._resend = None if self.is_closed or self._requested_at is None else send
        self._connect_timeout, self._bytes_left = self.timeout, deadline.bytes_left()
        try:
            send()
        except ConnectionError:
            raise  # urllib3 reads the response that may have come nevertheless
        except OSError as error:
            self._send_again(error)
        self._requested_at = time.monotonic()

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """Return the response."""
        try:
            return super().getresponse()
        except OSError as error:
            self._send_again(error)
            return super().getresponse()

    def _send_again(self, error: OSError) -> None:
        """Send the request over a new connection if the kept one has failed, or raise the error."""
        resend, self._resend = self._resend, None
        is_timeout = isinstance(error, TimeoutError) and error.errno is None
        if resend is None or is_timeout or deadline.bytes_left() < self._bytes_left:
            raise error
        self.close()
        read_timeout, self.timeout = self.timeout, self._connect_timeout
        resend()
        self.timeout = read_timeout


class _TlsConnection(_PlainConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """A requests adapter whose connections keep the limits of `deadline.within`.

    Use it without a `requests.Session`, which adds proxies, .netrc, cookies and redirects, and
    reads the whole body of a redirect even if it must not follow it.
    """

    def __init__(
        self, dialer: Dialer, *, connections: int = 10, hosts: int = MAX_HOSTS, bundle: str = ""
    ) -> None:
        self._dialer = dialer
        self._tls = tls.tls_context(bundle)
        super().__init__(pool_connections=hosts, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections are opened by the dialer."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_PlainPool, dialer=self._dialer),
            "https": partial(_TlsPool, dialer=self._dialer),
        }

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Verify with the authorities of the TLS context.

        requests would load a bundle again for every connection, which takes 20 ms.
        """
        conn.cert_reqs = "CERT_REQUIRED"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, also those that a library wrapped in an argument."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        wrapped = (getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__)
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)


def explain(
    error: BaseException, table: Mapping[ErrorTypes, _Value]
) -> tuple[_Value | None, BaseException]:
    """Return the value of the first table row that matches a cause of an error, and that cause.

    Without a match: None and the innermost cause.
    """
    chain = list(causes(error))
    for types, value in table.items():
        for cause in chain:
            if isinstance(cause, types):
                return value, cause
    return None, chain[-1]


def error_text(error: BaseException, max_bytes: int) -> str:
    """Return the message of an error, or its type's name if it has none."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message
    return safe_line(message, max_bytes) or type(error).__name__


def safe_line(text: str, max_bytes: int) -> str:
    """Return foreign text as one printable line of limited length, without secrets."""
    return _cut(redact(printable(" ".join(text.split()))), max_bytes)


def safe_body(body: bytes, max_bytes: int) -> str:
    """Return the beginning of a body as printable text of limited length, without secrets."""
    return _cut(redact(printable(body.decode("utf-8", errors="replace").strip())), max_bytes)


def _cut(text: str, max_bytes: int) -> str:
    return text.encode("utf-8", errors="replace")[:max_bytes].decode("utf-8", errors="ignore")

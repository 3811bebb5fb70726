"""HTTP requests with connection pooling, an address guard and a deadline; errors as text."""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, TypeVar

import requests
from requests import Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
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
# and since its last request began, because firewalls forget idle connections.
MAX_AGE, MAX_IDLE = 600.0, 5.0
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]
_Value = TypeVar("_Value")


class _PlainConnection(HTTPConnection):
    """A connection that is opened by a dialer, and whose responses are read strictly."""

    # http.client makes its responses of this class.
    response_class = StrictResponse

    def __init__(self, *args: Any, dialer: Dialer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dialer = dialer
        self._opened_at = self._requested_at = 0.0
        self._unsent: list[bytes] | None = None

    # Where urllib3 opens the TCP connection; it has no public method for that. `_dns_host` is the
    # host name as it was given; `host` lacks the dot at its end.
    def _new_conn(self) -> socket.socket:
        deadline.current().has_dialed = True
        self._opened_at = time.monotonic()
        return self._dialer.dial(self._dns_host, self.port, self.socket_options or ())

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection is recent and still open; the pool replaces it otherwise."""
        now = time.monotonic()
        is_recent = now - self._opened_at < MAX_AGE and now - self._requested_at < MAX_IDLE
        return is_recent and super().is_connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, head and body at once; remember when for `is_connected`."""
        self._requested_at = time.monotonic()
        self._unsent = []
        try:
            super().request(*args, **kwargs)
            request = b"".join(self._unsent)
        finally:
            self._unsent = None
        self.send(request)

    def send(self, data: Any) -> None:
        """Send data; within `request`, only collect it."""
        if self._unsent is None:
            super().send(data)
        else:
            self._unsent.append(data)


class _TlsConnection(_PlainConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """A requests adapter whose connections keep the limits of `deadline.within`.

    Use it without a `requests.Session`, which adds proxies, .netrc, cookies and redirects, and
    reads the whole body of a redirect even if it must not follow it. It overrides only methods
    that requests documents for this purpose.
    """

    def __init__(
        self, dialer: Dialer, *, connections: int = 10, hosts: int = MAX_HOSTS, bundle: str = ""
    ) -> None:
        self._dialer = dialer
        self._tls = tls.tls_context(bundle)
        super().__init__(pool_connections=hosts, pool_maxsize=connections)
        self._pool_of = lru_cache(hosts)(self.poolmanager.connection_from_url)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections are opened by the dialer."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_PlainPool, dialer=self._dialer),
            "https": partial(_TlsPool, dialer=self._dialer),
        }

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_: Any, **__: Any
    ) -> HTTPConnectionPool:
        """Return the pool of a request's host.

        requests would compute the key of the pool again, a tenth of the cost of a request.
        """
        pool: HTTPConnectionPool = self._pool_of("/".join(str(request.url).split("/", 3)[:3]))
        return pool

    def request_url(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> str:
        """Return the path and query of a request, which goes through no proxy."""
        return _path_of(str(request.url))

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> Response:
        """Return a response without cookies, and without a guess of its encoding."""
        response = Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw = resp
        response.url = str(req.url)
        response.request = req
        return response

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Leave it to the TLS context, whose sockets verify every certificate.

        requests would load a bundle again for every connection, which takes 20 ms.
        """

    def send(self, *args: Any, **kwargs: Any) -> Response:
        """Send a request, once more if a kept connection ended before any byte of the response.

        The peer or a firewall may have closed or forgotten it. The request may arrive twice:
        receivers recognise duplicates, and grades are written as values.
        """
        exchange = deadline.current()
        try:
            return super().send(*args, **kwargs)
        except requests.ConnectionError:
            if exchange.has_dialed or exchange.has_received:
                raise
        return super().send(*args, **kwargs)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool_of.cache_clear()
        super().close()


@lru_cache(maxsize=1024)
def _path_of(url: str) -> str:
    return requests.Request("GET", url).prepare().path_url


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

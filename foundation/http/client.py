"""HTTP requests with connection pooling, an address guard and a deadline; errors as text."""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import InvalidURL
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError, SSLError
from urllib3.util import Retry, parse_url

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
_NO_RETRIES = Retry(total=False)
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
    @property
    def is_connected(self) -> bool:
        """Also whether nothing is left of what was decrypted, which the socket does not tell."""
        return super().is_connected and not self.sock.pending()  # type: ignore[union-attr]  # TLS


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(BaseAdapter):
    """A requests adapter whose connections keep the limits of `deadline.within`.

    It does little but find the pool of a host: `requests.adapters.HTTPAdapter` serves proxies,
    cookies and certificates by request too, and costs a fifth of a request. Use it without a
    `requests.Session`, which adds .netrc and redirects, and reads the whole body of a redirect
    even if it must not follow it.
    """

    def __init__(
        self, dialer: Dialer, *, connections: int = 10, hosts: int = MAX_HOSTS, bundle: str = ""
    ) -> None:
        super().__init__()
        self._of_pool: dict[str, Any] = {"dialer": dialer, "maxsize": connections}
        self._of_tls_pool = self._of_pool | {"ssl_context": tls.tls_context(bundle)}
        # A pool that is no longer referred to closes its connections.
        self._pool_of = lru_cache(hosts)(self._open_pool)

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        """Send a request, once more if a kept connection ended before any byte of the response.

        The peer or a firewall may have closed or forgotten it. The request may arrive twice:
        receivers recognise duplicates, and grades are written as values. The body of the response
        is not read.

        Raises:
            urllib3.exceptions.HTTPError, OSError, ValueError
        """
        exchange = deadline.current()
        try:
            return self._send(request)
        except (ProtocolError, SSLError) as error:
            has_ended = not any(isinstance(cause, TimeoutError) for cause in causes(error))
            if exchange.has_dialed or exchange.has_received or not has_ended:
                raise
        return self._send(request)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool_of.cache_clear()

    def _open_pool(self, origin: str) -> HTTPConnectionPool:
        read = parse_url(origin)
        if read.host and read.scheme == "http":
            return _PlainPool(read.host, read.port or 80, **self._of_pool)
        if read.host and read.scheme == "https":
            return _TlsPool(read.host, read.port or 443, **self._of_tls_pool)
        raise InvalidURL(f"not a URL of HTTP: {origin}")

    def _send(self, request: PreparedRequest) -> Response:
        origin, path = _split(str(request.url))
        raw = self._pool_of(origin).urlopen(
            str(request.method),
            path,
            body=request.body,
            headers=request.headers,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            timeout=None,  # the sockets keep the limits of the exchange
            preload_content=False,
            decode_content=False,
        )
        response = Response()
        response.status_code, response.raw = raw.status, raw
        # Any mapping will do that ignores the case of names.
        response.headers = raw.headers  # type: ignore[assignment]  # as above
        response.url, response.request = str(request.url), request
        return response


@lru_cache(maxsize=1024)
def _split(url: str) -> tuple[str, str]:
    """Return the origin of a prepared request's URL, and its path with the query."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{path}?{parts.query}" if parts.query else path


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

"""HTTP requests with connection pooling, an address guard and a deadline; errors as text."""

import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import InvalidURL
from urllib3.util import parse_url, wait_for_read

from foundation.http import deadline, tls
from foundation.http.dialer import Dialer
from foundation.http.strict_response import StrictResponse
from foundation.logging import redact
from foundation.text import printable

USER_AGENT = "course-webhooks/1"
# Seconds for which a connection is kept: since it was opened, because a host's address may change,
# and since its last request began, because firewalls forget idle connections.
MAX_AGE, MAX_IDLE = 600.0, 5.0
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]
_Value = TypeVar("_Value")


class _Connection(HTTPConnection):
    """A connection to an origin, opened by a dialer, whose responses are read strictly."""

    # http.client makes its responses of this class.
    response_class = StrictResponse

    def __init__(self, origin: str, dialer: Dialer, context: ssl.SSLContext) -> None:
        parts = parse_url(origin)
        if parts.scheme not in {"http", "https"} or not parts.host:
            raise InvalidURL(f"not a URL of HTTP: {origin}")
        self.origin = origin
        self._dialer = dialer
        self._context = context if parts.scheme == "https" else None
        # The `Host` header has no default port.
        self.default_port = 443 if self._context else 80
        # The name server is asked with the dot at the end, the peer without it.
        self._dialed = parts.host.strip("[]")
        super().__init__(self._dialed.removesuffix("."), parts.port or self.default_port)
        self._opened_at = self._requested_at = 0.0
        self._parts: list[bytes] | None = None

    def connect(self) -> None:
        """Open the connection."""
        self._opened_at = time.monotonic()
        self.sock = self._dialer.dial(self._dialed, self.port)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)

    @property
    def is_recent(self) -> bool:
        """Whether it is open, and neither too old nor idle for too long."""
        now = time.monotonic()
        is_recent = now - self._opened_at < MAX_AGE and now - self._requested_at < MAX_IDLE
        return is_recent and self.sock is not None

    @property
    def is_usable(self) -> bool:
        """Whether it is recent, and nothing has come: neither its end nor a second response."""
        if not self.is_recent or wait_for_read(self.sock, timeout=0):
            return False
        # TLS may hold decrypted bytes that the socket does not show.
        return not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending())

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, head and body at once."""
        self._requested_at = time.monotonic()
        self._parts = []
        try:
            super().request(*args, **kwargs)
            request = b"".join(self._parts)
        finally:
            self._parts = None
        if self.sock is None:
            self.connect()
        # A peer may respond and close before it has read everything: "413 Content Too Large".
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send(request)

    def send(self, data: Any) -> None:
        """Send data; within `request`, only collect it."""
        if self._parts is None:
            super().send(data)
        else:
            self._parts.append(data)


class PooledResponse(Response):
    """A response whose connection is kept when it is closed, if all of its body was read."""

    raw: StrictResponse

    def __init__(self, adapter: "Adapter", connection: _Connection, request: PreparedRequest):
        super().__init__()
        self._adapter = adapter
        self._connection: _Connection | None = connection
        self.raw = raw = connection.getresponse()  # type: ignore[assignment]  # its class is ours
        self.status_code, self.url, self.request = raw.status, str(request.url), request
        self.headers = raw.headers  # type: ignore[assignment]  # made by StrictResponse

    def close(self) -> None:
        """Close the connection, or keep it for the next request."""
        connection, self._connection = self._connection, None
        if connection and self.raw.is_complete:
            self._adapter.keep(connection)
        elif connection:
            connection.close()
            self.raw.close()


class Adapter(BaseAdapter):
    """A requests adapter whose connections keep the limits of `deadline.within`.

    It does little but look for a kept connection: `requests.adapters.HTTPAdapter` and urllib3's
    pools serve proxies, cookies and certificates by request too, for more than half of the time of
    a request. Use it without a `requests.Session`, which adds .netrc and redirects, and reads the
    whole body of a redirect even if it must not follow it.

    At most `connections` are kept, of all hosts together.
    """

    def __init__(self, dialer: Dialer, *, connections: int = 10, bundle: str = "") -> None:
        super().__init__()
        self._dialer = dialer
        self._context = tls.tls_context(bundle)
        self._connections = connections
        self._kept: list[_Connection] = []
        self._lock = threading.Lock()

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> PooledResponse:
        """Send a request, once more if a kept connection ended before any byte of the response.

        The peer or a firewall may have closed or forgotten it. The request may arrive twice:
        receivers recognise duplicates, and grades are written as values. The body of the response
        is not read; the response must be closed.

        Raises:
            http.client.HTTPException, OSError, ValueError
        """
        exchange = deadline.current()
        origin, path = _split(str(request.url))
        connection = self._take(origin)
        if connection is not None:
            try:
                return self._send(request, path, connection)
            except (HTTPException, ConnectionError, ssl.SSLError):
                if exchange.has_received:
                    raise
        return self._send(request, path, _Connection(origin, self._dialer, self._context))

    def keep(self, connection: _Connection) -> None:
        """Keep a connection for the next request to its origin.

        Close the least recently used ones that are not recent, or above the limit.
        """
        with self._lock:
            self._kept.append(connection)
            while self._kept and (
                len(self._kept) > self._connections or not self._kept[0].is_recent
            ):
                self._kept.pop(0).close()

    def close(self) -> None:
        """Close the connections, those in use after their responses."""
        with self._lock:
            self._connections = 0
            while self._kept:
                self._kept.pop().close()

    def _take(self, origin: str) -> _Connection | None:
        """Return the connection to an origin that was used last, if one can be used."""
        while True:
            with self._lock:
                of_origin = (one for one in reversed(self._kept) if one.origin == origin)
                connection = next(of_origin, None)
                if connection is None:
                    return None
                self._kept.remove(connection)
            if connection.is_usable:
                return connection
            connection.close()

    def _send(self, request: PreparedRequest, path: str, connection: _Connection) -> PooledResponse:
        try:
            connection.request(str(request.method), path, request.body, request.headers)
            return PooledResponse(self, connection, request)
        except BaseException:
            connection.close()
            raise


@lru_cache(maxsize=1024)
def _split(url: str) -> tuple[str, str]:
    """Return the origin of a prepared request's URL, and its path with the query."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{path}?{parts.query}" if parts.query else path


def explain(
    error: BaseException, table: Mapping[ErrorTypes, _Value]
) -> tuple[_Value | None, BaseException]:
    """Return the value of the first table row that matches a cause of an error, and that cause.

    Without a match: None and the innermost cause.
    """
    chain = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
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

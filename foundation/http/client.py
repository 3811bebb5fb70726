"""HTTP requests with connection pooling, an address guard and a deadline; errors as text."""

import ssl
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import InvalidURL
from urllib3.util import parse_url, wait_for_read

from foundation.http import deadline
from foundation.http.dialer import Dialer
from foundation.http.strict_response import StrictResponse
from foundation.logging import redact
from foundation.text import printable

USER_AGENT = "course-webhooks/1"
# Seconds for which a connection is kept: since it was opened, because a host's address may change,
# and since its last request began, because firewalls forget idle connections.
MAX_AGE, MAX_IDLE = 600.0, 5.0


class _Connection(HTTPConnection):
    """A connection to an origin, opened by a dialer, whose responses are read strictly."""

    # http.client makes its responses of this class.
    response_class = StrictResponse

    def __init__(self, origin: str, dialer: Dialer) -> None:
        parts = parse_url(origin)
        if parts.scheme not in {"http", "https"} or not parts.host:
            raise InvalidURL(f"not a URL of HTTP: {origin}")
        # The `Host` header has no default port.
        self.default_port = 443 if parts.scheme == "https" else 80
        # The name server is asked with the dot at the end, the peer without it.
        host, port = parts.host.strip("[]"), parts.port or self.default_port
        super().__init__(host.removesuffix("."), port)
        self.origin = origin
        self._opened_at = self._requested_at = time.monotonic()
        self.sock = dialer.dial(host, port, tls=parts.scheme == "https")

    @property
    def is_usable(self) -> bool:
        """Whether it is recent, and nothing has come: neither its end nor a second response."""
        now = time.monotonic()
        is_recent = now - self._opened_at < MAX_AGE and now - self._requested_at < MAX_IDLE
        if not is_recent or wait_for_read(self.sock, timeout=0):
            return False
        # TLS may hold decrypted bytes that the socket does not show.
        return not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending())

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, head and body at once."""
        exchange = deadline.current.get()
        exchange.attach(self.sock)
        self.sock.settimeout(exchange.idle_timeout)
        self._requested_at = time.monotonic()
        self._request = b""
        super().request(*args, **kwargs)
        # A peer may respond and close before it has read everything: "413 Content Too Large".
        with suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(self._request)

    def send(self, data: Any) -> None:
        """Collect a part of the request."""
        self._request += data


class PooledResponse(Response):
    """A response whose connection is kept when it is closed, if all of its body was read."""

    raw: StrictResponse

    def __init__(self, adapter: "Adapter", connection: _Connection) -> None:
        super().__init__()
        self._adapter = adapter
        self._connection: _Connection | None = connection
        self.raw = raw = connection.getresponse()  # type: ignore[assignment]  # its class is ours
        self.status_code = raw.status
        self.headers = raw.headers  # type: ignore[assignment]  # made by StrictResponse

    def close(self) -> None:
        """Close the connection, or keep it for the next request."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        is_complete = self.raw.isclosed() and not self.raw.length and not self.raw.will_close
        if deadline.current.get().release() and is_complete:
            self._adapter.keep(connection)
        else:
            connection.close()
            self.raw.close()


class Adapter(BaseAdapter):
    """A requests adapter whose connections keep the limits of `deadline.Exchange`.

    It does little but look for a kept connection: `requests.adapters.HTTPAdapter` and urllib3's
    pools serve proxies, cookies and certificates by request too, for more than half of the time of
    a request. Use it without a `requests.Session`, which adds .netrc and redirects, and reads the
    whole body of a redirect even if it must not follow it.

    At most `connections` are kept, of all hosts together.
    """

    def __init__(self, dialer: Dialer, *, connections: int = 10) -> None:
        super().__init__()
        self._dialer = dialer
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
        parts = urlsplit(str(request.url))
        origin = f"{parts.scheme}://{parts.netloc}"
        if connection := self._take(origin):
            with suppress(RemoteDisconnected, ssl.SSLError):
                return self._send(request, connection)
        return self._send(request, _Connection(origin, self._dialer))

    def keep(self, connection: _Connection) -> None:
        """Keep a connection for the next request to its origin, in place of the oldest if full."""
        with self._lock:
            self._kept.append(connection)
            if len(self._kept) > self._connections:
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

    def _send(self, request: PreparedRequest, connection: _Connection) -> PooledResponse:
        try:
            connection.request(str(request.method), request.path_url, request.body, request.headers)
            return PooledResponse(self, connection)
        except BaseException:
            deadline.current.get().release()
            connection.close()
            raise


def error_text(error: Exception, max_bytes: int) -> str:
    """Return the message of an error, or its type's name if it has none."""
    message = getattr(error, "verify_message", None) or getattr(error, "strerror", None)
    return safe_line(message or str(error), max_bytes) or type(error).__name__


def safe_line(text: str, max_bytes: int) -> str:
    """Return foreign text as one printable line of limited length, without secrets."""
    line = redact(printable(" ".join(text.split())))
    return line.encode("utf-8", errors="replace")[:max_bytes].decode("utf-8", errors="ignore")

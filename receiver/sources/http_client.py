"""The HTTP client for sources and Moodle: a complete response in time, or the reason for none."""

import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException

import requests

from foundation import tracing
from foundation.errors import Advice
from foundation.http import client as http
from foundation.http import deadline, dialer
from foundation.http.deadline import DeadlineError
from foundation.tracing import Span

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
# The maximum length of a message from a site, or of an error, that is stored.
MAX_DETAIL = 300

# What to do if the response about one course is too large.
TOO_LARGE = Advice(
    "The course has more people and grade items than one response may contain. Remove what is no "
    "longer needed from the course, or split it."
)

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_CANCELLED = "cancelled, because the run ended"
_CHUNK_BYTES = 64 * 1024
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": http.USER_AGENT,
}


def is_temporary(status: int) -> bool:
    """Return True if a site responds with this status while it fails or is too busy."""
    return status >= 500 or status in {408, 425, 429}


@dataclass(frozen=True)
class HttpResponse:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """The seconds of `Retry-After`; a date is ignored."""
        seconds = self.headers.get("Retry-After", "")
        return float(seconds) if _SECONDS.fullmatch(seconds) else None


class RequestFailedError(Exception):
    """There is no complete response.

    `unreachable`: no connection was made. `timed_out`: the site took too long to respond.
    """

    def __init__(self, detail: str, *, unreachable: bool = False, timed_out: bool = False) -> None:
        super().__init__(detail)
        self.unreachable = unreachable
        self.timed_out = timed_out


class NotRetryableError(RequestFailedError):
    """The request cannot be sent, or its response not be accepted; a retry does not help."""


class ResponseTooLargeError(NotRetryableError):
    """The response is larger than the limit."""


class HttpClient:
    """Sends requests over a pool of connections; several threads use it at once.

    Args:
        connect_timeout: Seconds for a connection.
        read_timeout: Seconds without data while the response is read.
        total: Seconds for a whole request.
        bundle: A file of certificate authorities, or empty for the system's.
        connections: The maximum number of connections that are kept open.
        max_bytes: The maximum size of a response body.
        resolve: The function that resolves host names.
        span: The trace; each request is a child span of it.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        total: float,
        bundle: str = "",
        connections: int = 10,
        max_bytes: int = MAX_RESPONSE_BYTES,
        resolve: dialer.Resolve | None = None,
        span: Span | None = None,
    ) -> None:
        self._span = span or tracing.new_span()
        self._timeout = (min(connect_timeout, total), min(read_timeout, total))
        self.total = total
        self._max_bytes = max_bytes
        self._adapter = http.Adapter(
            dialer.Dialer(self._timeout[0], resolve=resolve, bundle=bundle), connections=connections
        )
        self._lock = threading.Lock()
        self._in_progress: set[deadline.Exchange] = set()
        self._cancelled = False
        self.requests = self.bytes_sent = self.bytes_received = 0

    def close(self) -> None:
        """Close the pooled connections."""
        self._adapter.close()

    def cancel(self) -> None:
        """Cancel the requests in progress, from any thread, and send no more."""
        with self._lock:
            self._cancelled = True
            for exchange in self._in_progress:
                exchange.cancel()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        max_seconds: float = float("inf"),
    ) -> HttpResponse:
        """Return the response, whatever its status, or raise RequestFailedError.

        Redirects are not followed. `max_seconds` shortens the time-outs of this request.
        """
        total = min(self.total, max_seconds)
        idle_timeout = min(self._timeout[1], max_seconds)
        with self._lock:
            if self._cancelled:
                raise RequestFailedError(_CANCELLED)
            self.requests += 1
            self.bytes_sent += len(body)
        traced = {tracing.HEADER: self._span.child().header}
        try:
            request = requests.Request(
                method, url, headers={**_HEADERS, **traced, **headers}, data=body or None
            ).prepare()
            with deadline.Exchange(total, idle_timeout=idle_timeout) as exchange:
                with self._lock:
                    self._in_progress.add(exchange)
                    if self._cancelled:
                        exchange.cancel()
                try:
                    response = self._send(request)
                finally:
                    with self._lock:
                        self._in_progress.discard(exchange)
        except requests.exceptions.InvalidURL as error:
            raise NotRetryableError(http.error_text(error, MAX_DETAIL)) from None
        except (HTTPException, OSError, ValueError) as error:
            raise self._failure(error, total, idle_timeout) from None
        with self._lock:
            self.bytes_received += len(response.body)
        return response

    def _send(self, request: requests.PreparedRequest) -> HttpResponse:
        body = bytearray()
        with self._adapter.send(request) as response:
            # In chunks, and at most one more than the limit, so that a large response costs no
            # memory.
            while len(body) <= self._max_bytes:
                chunk = response.raw.read(_CHUNK_BYTES)
                if not chunk:
                    return HttpResponse(response.status_code, response.headers, bytes(body))
                body += chunk
        raise ResponseTooLargeError(f"the response is larger than {self._max_bytes} bytes")

    def _failure(self, error: Exception, total: float, idle_timeout: float) -> RequestFailedError:
        if self._cancelled:
            return RequestFailedError(_CANCELLED)
        text, unreachable = next(
            row for types, row in _EXPLANATIONS.items() if isinstance(error, types)
        )
        why = http.error_text(error, MAX_DETAIL)
        detail = text.format(why=why, idle_timeout=idle_timeout, total=total)
        timed_out = type(error) in {DeadlineError, TimeoutError}
        return RequestFailedError(detail, unreachable=unreachable, timed_out=timed_out)


# What happened, and whether no connection was made, by the type of the error; the first match
# counts.
_EXPLANATIONS: dict[type | tuple[type, ...], tuple[str, bool]] = {
    DeadlineError: ("no complete response within {total:g} s", False),
    socket.gaierror: ("the host name was not resolved: {why}", True),
    ssl.SSLCertVerificationError: (
        "the certificate is not valid: {why}; set RECEIVER_CA_BUNDLE to trust its authority",
        True,
    ),
    dialer.ConnectError: ("no response: {why}", True),
    TimeoutError: ("no data for {idle_timeout:g} s", False),
    ConnectionError: ("no response: {why}", False),
    HTTPException: ("the response is not HTTP, or incomplete: {why}", False),
    Exception: ("no response: {why}", False),
}

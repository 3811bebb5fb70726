"""The one place in ELMS that sends requests: a whole answer in time, or why there is none."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException

import requests
from urllib3.exceptions import HTTPError

from foundation import tracing
from foundation.http import client as http
from foundation.http import deadline
from foundation.http.client import ErrorTypes
from foundation.http.deadline import DeadlineError, HandshakeTimeoutError
from foundation.http.dialer import ConnectError, ConnectTimeoutError, Dialer
from foundation.http.dns import LookupTimeoutError, Resolve
from foundation.tracing import Span

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_DETAIL = 300
"""How much of what a site says, or of what went wrong, is kept."""

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_BROKEN_OFF = "broken off, for the run was to end"
_PIECE_BYTES = 64 * 1024
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": http.USER_AGENT,
}


@dataclass(frozen=True)
class Answer:
    """What a site answered, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """The seconds that the site asks to be left alone for; a date is not looked at."""
        asked = self.headers.get("Retry-After", "")
        return float(asked) if _SECONDS.fullmatch(asked) else None


class ExchangeError(Exception):
    """No whole answer came. `unreachable`: not even a connection came about."""

    def __init__(self, detail: str, *, unreachable: bool = False) -> None:
        super().__init__(detail)
        self.unreachable = unreachable


class UnsendableError(ExchangeError):
    """The request cannot be sent, or its answer not be taken; trying again does not help."""


class TooLargeError(UnsendableError):
    """More was answered than is taken; the site is the right one."""


TOO_LARGE = (
    "The course has more people and grade items than one answer may hold: have what is no longer "
    "needed removed from it there, or the course split."
)
"""What to do where an answer about one course is too large."""


class Exchange:
    """Sends requests over connections that are kept, from several threads at once.

    Times are in seconds; `total` is what one request may take. `requests` counts what was sent,
    `received` the bytes of the bodies that came, `sent` those that went. Each request is a span
    of its own below `span`.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        total: float,
        bundle: str = "",
        connections: int = 10,
        most_bytes: int = MAX_ANSWER_BYTES,
        resolve: Resolve = socket.getaddrinfo,
        span: Span | None = None,
    ) -> None:
        self._span = span or tracing.new_span()
        self._timeout = (min(connect_timeout, total), min(read_timeout, total))
        self.total = total
        self._most_bytes = most_bytes
        self._adapter = http.Adapter(
            Dialer(resolve=resolve), connections=connections, bundle=bundle
        )
        self._counting = threading.Lock()
        self._under_way: set[deadline.Exchange] = set()
        self._broken_off = False
        self.requests = self.sent = self.received = 0

    def close(self) -> None:
        """Close the connections that are kept."""
        self._adapter.close()

    def cancel(self) -> None:
        """End what is under way, from whatever thread, and send nothing from now on."""
        with self._counting:
            self._broken_off = True
            for exchange in self._under_way:
                exchange.cancel()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Return what is answered, whatever that is, or raise ExchangeError; no redirects."""
        with self._counting:
            if self._broken_off:
                raise ExchangeError(_BROKEN_OFF)
            self.requests += 1
            self.sent += len(body)
        traced = {tracing.HEADER: self._span.child().header}
        try:
            request = requests.Request(
                method, url, headers={**_HEADERS, **traced, **headers}, data=body or None
            ).prepare()
            with self._bounded():
                answer = self._exchange(request)
        except requests.exceptions.InvalidURL as error:
            raise UnsendableError(http.error_text(error, MAX_DETAIL)) from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._failure(error) from None
        with self._counting:
            self.received += len(answer.body)
        return answer

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        # Heads and the frames of chunks come beside the body.
        with deadline.within(
            self.total, silence=self._timeout[1], max_bytes=2 * self._most_bytes
        ) as exchange:
            with self._counting:
                self._under_way.add(exchange)
                if self._broken_off:
                    exchange.cancel()
            try:
                yield
            finally:
                with self._counting:
                    self._under_way.discard(exchange)

    def _exchange(self, request: requests.PreparedRequest) -> Answer:
        response = self._adapter.send(request, stream=True, timeout=self._timeout, proxies={})
        body = bytearray()
        # A byte more than may be is read; in pieces, as it is needed.
        while len(body) <= self._most_bytes:
            piece = response.raw.read(_PIECE_BYTES, decode_content=False)
            if not piece:
                return Answer(response.status_code, response.headers, bytes(body))
            body += piece
        response.raw.close()
        raise TooLargeError(f"the answer is larger than {self._most_bytes} bytes")

    def _failure(self, error: Exception) -> ExchangeError:
        if self._broken_off:
            return ExchangeError(_BROKEN_OFF)
        explained, cause = http.explain(error, _EXPLAINED)
        said, unreachable = explained or ("no answer: {why}", False)
        connect, silence = self._timeout
        why = http.error_text(cause, MAX_DETAIL)
        detail = said.format(why=why, connect=connect, silence=silence, total=self.total)
        return ExchangeError(detail, unreachable=unreachable)


_EXPLAINED: dict[ErrorTypes, tuple[str, bool]] = {
    DeadlineError: ("no whole answer within {total:g} s", False),
    LookupTimeoutError: ("its host's name was not resolved within {connect:g} s", True),
    ConnectTimeoutError: ("the connection was not accepted within {connect:g} s", True),
    HandshakeTimeoutError: ("no TLS handshake came about within {connect:g} s", True),
    TimeoutError: ("silent for {silence:g} s", False),
    ssl.SSLCertVerificationError: (
        "its certificate is refused: {why}; RECEIVER_CA_BUNDLE can name its authority",
        True,
    ),
    (socket.gaierror, ConnectError): ("no answer: {why}", True),
    ConnectionError: ("no answer: {why}", False),
    HTTPException: ("what came is not HTTP, or broke off", False),
}
"""What went wrong, by what was raised, and whether the site was not even reached.

The first row of which something was raised counts.
"""

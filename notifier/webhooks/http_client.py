"""The one place that POSTs: an answer or a failure within the deadline, never an exception."""

import contextlib
import socket
import ssl
from http.client import HTTPException

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import parse_url

from foundation.http import client as http
from foundation.http import deadline
from foundation.http.client import ErrorTypes
from foundation.http.deadline import DeadlineError, HandshakeTimeoutError, TooMuchError
from foundation.http.dialer import (
    BlockedAddressError,
    ConnectError,
    ConnectTimeoutError,
    Dialer,
    UnreachableError,
)
from foundation.http.dns import LookupTimeoutError, Resolve
from foundation.http.ssrf import Guard
from notifier.webhooks.failures import FailureKind
from notifier.webhooks.retry_policy import Failure, WebhookResponse

MAX_ANSWER_BYTES = 4096
"""How much of an answer's body is read."""
MAX_EXCHANGE_BYTES = 64 * 1024
"""How much is received in all, heads and interim answers among it."""
MAX_KEPT_BYTES = 1024
"""How much of what was said is kept, in UTF-8."""
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": http.USER_AGENT,
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}
"""What every POST bears beside its signature."""


class Transport:
    """Sends signed bodies over connections that are kept and shared by all threads.

    It connects to nothing that `guard` bars. `bundle` names a file of further authorities.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        deadline: float,
        connections: int,
        guard: Guard,
        bundle: str = "",
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        self._connect_timeout = min(connect_timeout, deadline)
        self._deadline = deadline
        self._adapter = http.Adapter(Dialer(guard, resolve), connections=connections, bundle=bundle)

    def post(self, url: str, headers: dict[str, str], body: bytes) -> WebhookResponse | Failure:
        """POST a body; return the answer, or the failure if none came within the deadline.

        Redirects are answers, never followed: they would carry body and signature elsewhere.
        """
        seconds = self._deadline
        try:
            with deadline.within(seconds, silence=seconds, max_bytes=MAX_EXCHANGE_BYTES):
                return self._exchange(url, headers, body)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            return self._failure(error, url)

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()

    def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> WebhookResponse:
        prepared = requests.Request(
            "POST", url, headers={**HEADERS, **headers}, data=body
        ).prepare()
        timeout = (self._connect_timeout, self._deadline)
        response = self._adapter.send(prepared, stream=True, timeout=timeout, proxies={})
        said = _read(response)
        return WebhookResponse(response.status_code, response.headers.get("Retry-After"), said)

    def _failure(self, error: Exception, url: str) -> Failure:
        explained, cause = http.explain(error, _EXPLAINED)
        kind, words = explained or (FailureKind.CONNECTION_FAILED, "{why}")
        if isinstance(cause, ssl.SSLCertVerificationError):
            kind = _CERTIFICATE_KINDS.get(cause.verify_code, kind)
        why = http.error_text(cause, MAX_KEPT_BYTES)
        said = words.format(why=why, connect=self._connect_timeout, deadline=self._deadline)
        return Failure(kind, http.safe_line(f"{_where(url)}: {said}", MAX_KEPT_BYTES))


_EXPLAINED: dict[ErrorTypes, tuple[FailureKind, str]] = {
    DeadlineError: (FailureKind.DEADLINE, "no answer within {deadline:g} s"),
    (InvalidURL, InvalidSchema, MissingSchema, LocationParseError): (
        FailureKind.URL,
        "nothing can be sent to this URL",
    ),
    LookupTimeoutError: (FailureKind.DNS_TIMEOUT, "its name was not resolved in {connect:g} s"),
    socket.gaierror: (FailureKind.DNS, "its name cannot be resolved: {why}"),
    BlockedAddressError: (
        FailureKind.BLOCKED,
        "{why}: not connected to, unless NOTIFIER_ALLOWED_HOSTS allows it",
    ),
    ConnectTimeoutError: (FailureKind.CONNECT_TIMEOUT, "accepted no connection in {connect:g} s"),
    HandshakeTimeoutError: (FailureKind.TLS_TIMEOUT, "no TLS handshake came in {connect:g} s"),
    ssl.SSLCertVerificationError: (FailureKind.TLS, "its certificate is refused: {why}"),
    ssl.SSLError: (FailureKind.TLS, "TLS failed: {why}"),
    ConnectionRefusedError: (FailureKind.REFUSED, "nobody listens there"),
    UnreachableError: (FailureKind.UNREACHABLE, "no way leads there: {why}"),
    ConnectError: (FailureKind.CONNECTION_FAILED, "no connection could be made: {why}"),
    (ConnectionError, TimeoutError): (FailureKind.RESET, "the connection broke off: {why}"),
    (HTTPException, TooMuchError): (FailureKind.PROTOCOL, "what came is not HTTP: {why}"),
}
"""What went wrong, by what was raised; the first row of which something was raised counts."""

_CERTIFICATE_KINDS = {
    9: FailureKind.TLS_NOT_YET_VALID,
    10: FailureKind.TLS_EXPIRED,
    18: FailureKind.TLS_SELF_SIGNED,
    19: FailureKind.TLS_UNKNOWN_CA,
    20: FailureKind.TLS_UNKNOWN_CA,
    21: FailureKind.TLS_UNKNOWN_CA,
    62: FailureKind.TLS_WRONG_HOST,
    64: FailureKind.TLS_WRONG_HOST,
}
"""The kinds by OpenSSL's X509_V_ERR codes (X509_STORE_CTX_get_error(3))."""


def _read(response: requests.Response) -> str:
    """Return the beginning of the body as text; the status counts even if the body breaks off."""
    raw = b""
    with contextlib.suppress(OSError, ValueError, HTTPError):
        raw = response.raw.read(MAX_ANSWER_BYTES, decode_content=False) or b""
    if len(raw) == MAX_ANSWER_BYTES or not response.raw.isclosed():
        # There may be more of it, which nobody wants to read: this connection ends here.
        response.raw.close()
    return http.safe_body(raw, MAX_KEPT_BYTES)


def _where(url: str) -> str:
    """Return host and port as the library reads them that sends; of what is no URL, nothing."""
    with contextlib.suppress(LocationParseError):
        read = parse_url(url)
        if read.host:
            return f"{read.host}:{read.port or (443 if read.scheme == 'https' else 80)}"
    return "no host"

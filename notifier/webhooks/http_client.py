"""The HTTP client that posts webhooks: a response or a failure within the deadline."""

import contextlib
import errno
import socket
import ssl
from functools import lru_cache
from http.client import HTTPException, IncompleteRead

import requests
from requests import PreparedRequest
from requests.exceptions import RequestException
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from foundation.http import client as http
from foundation.http import deadline, dialer
from foundation.http.ssrf import Guard
from foundation.http.strict_response import StrictResponse
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import AttemptResult, Failure, WebhookResponse

# Bytes of a response's body that are read, and the seconds that it may take. The status is known
# by then: the body is a note for people, for which no other delivery has to wait.
MAX_BODY_BYTES = 4096
BODY_SECONDS = 0.2
# Bytes of a body or an error that are stored, in UTF-8.
MAX_STORED_BYTES = 1024
# The headers of every POST in addition to those of the signature.
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": http.USER_AGENT,
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}


class Transport:
    """Posts signed bodies over a pool of connections that all threads share.

    It connects to no address that `guard` blocks. `bundle` is a file of additional CAs.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        deadline: float,
        connections: int,
        guard: Guard,
        bundle: str = "",
        resolve: dialer.Resolve | None = None,
    ) -> None:
        self._deadline = deadline
        self._dialer = dialer.Dialer(min(connect_timeout, deadline), guard, resolve, bundle)
        self._adapter = http.Adapter(self._dialer, connections=connections)

    def post(self, url: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        """POST a body; return the response, or the failure if none came within the deadline.

        Redirects are never followed: they would send body and signature to another server.
        """
        request = PreparedRequest()
        # Any mapping will do; one that ignores the case of names costs 20 µs more.
        request.headers = {**HEADERS, **headers}  # type: ignore[assignment]  # as above
        try:
            request.method, request.url, request.body = "POST", _prepared_url(url), body
            with (
                deadline.Exchange(self._deadline) as exchange,
                self._adapter.send(request) as response,
            ):
                exchange.cut_after(BODY_SECONDS)
                excerpt = _read(response.raw)
        except (HTTPException, OSError, ValueError) as error:
            return self._failure(error, url)
        retry_after, date = response.headers.get("Retry-After"), response.headers.get("Date", "")
        return WebhookResponse(response.status_code, retry_after, excerpt, date)

    def check_host(self, url: str) -> Failure | None:
        """Look the host of a URL up, without connecting to it.

        Return why nothing can be sent to it now: it is not resolved, or an address is blocked.
        """
        try:
            read = parse_url(_prepared_url(url))
            with deadline.Exchange(self._deadline):
                self._dialer.look_up((read.host or "").strip("[]"), read.port or 443)
        except OSError as error:
            return self._failure(error, url)
        return None

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def _failure(self, error: Exception, url: str) -> Failure:
        kind, text = next(row for types, row in _EXPLANATIONS.items() if isinstance(error, types))
        if isinstance(error, ssl.SSLCertVerificationError):
            kind = _CERTIFICATE_KINDS.get(error.verify_code, kind)
        elif isinstance(error, (socket.gaierror, dialer.ConnectError)):
            kind = _ERRNO_KINDS.get(error.errno, kind)
        why = http.error_text(error, MAX_STORED_BYTES)
        detail = text.format(why=why, deadline=self._deadline)
        return Failure(kind, http.safe_line(f"{_host_and_port(url)}: {detail}", MAX_STORED_BYTES))


# Failures by the exceptions that cause them; the first match counts.
_EXPLANATIONS: dict[type | tuple[type, ...], tuple[FailureKind, str]] = {
    deadline.DeadlineError: (FailureKind.DEADLINE, "too slow: no response within {deadline:g} s"),
    RequestException: (FailureKind.URL, "invalid URL"),
    socket.gaierror: (FailureKind.DNS, "the name cannot be resolved: {why}"),
    dialer.BlockedAddressError: (FailureKind.BLOCKED, "{why} and not in NOTIFIER_ALLOWED_HOSTS"),
    ssl.SSLCertVerificationError: (FailureKind.TLS, "the certificate is not trusted: {why}"),
    ssl.SSLError: (FailureKind.TLS, "TLS failed: {why}"),
    (ConnectionError, TimeoutError): (FailureKind.RESET, "the connection was lost: {why}"),
    HTTPException: (FailureKind.PROTOCOL, "the response is not HTTP: {why}"),
    # `dialer.ConnectError` and what is not expected.
    Exception: (FailureKind.CONNECTION_FAILED, "{why}"),
}

# Failures to connect, by the number of the error.
_ERRNO_KINDS: dict[int | None, FailureKind] = {
    socket.EAI_AGAIN: FailureKind.DNS_TIMEOUT,
    errno.ECONNREFUSED: FailureKind.REFUSED,
    errno.ETIMEDOUT: FailureKind.CONNECT_TIMEOUT,
    **dict.fromkeys(dialer.NO_ROUTE, FailureKind.UNREACHABLE),
}

# Failures by OpenSSL's X509_V_ERR codes (X509_STORE_CTX_get_error(3)).
_CERTIFICATE_KINDS = {
    9: FailureKind.TLS_NOT_YET_VALID,
    10: FailureKind.TLS_EXPIRED,
    18: FailureKind.TLS_SELF_SIGNED,
    **dict.fromkeys((19, 20, 21), FailureKind.TLS_UNKNOWN_CA),
    **dict.fromkeys((62, 64), FailureKind.TLS_WRONG_HOST),
}


@lru_cache(maxsize=1024)
def _prepared_url(url: str) -> str:
    """Return a URL as it is sent, or raise an error of requests if it is not valid."""
    return str(requests.Request("POST", url).prepare().url)


def _read(raw: StrictResponse) -> str:
    """Return the beginning of the body as text; what is missing after a moment is left out."""
    try:
        body = raw.read(MAX_BODY_BYTES)
    except (OSError, HTTPException) as error:
        body = error.partial if isinstance(error, IncompleteRead) else b""
    return http.safe_line(body.decode("utf-8", errors="replace"), MAX_STORED_BYTES)


def _host_and_port(url: str) -> str:
    """Return the host, with the port if the URL names one, as the connection reads them."""
    with contextlib.suppress(LocationParseError):
        return parse_url(url).netloc or "no host"
    return "no host"

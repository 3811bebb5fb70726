"""The one place that POSTs: an answer or a failure within the deadline, never an exception."""

import contextlib
import socket
import ssl
from http.client import HTTPException

import requests
from urllib3.exceptions import HTTPError

from foundation import deadline, outbound
from foundation.deadline import DeadlineError
from foundation.logs import redact
from foundation.terminal import printable
from notifier.retry import Answer, Failure

MAX_ANSWER_BYTES = 4096
MAX_KEPT_CHARACTERS = 1000


class Transport:
    """Sends signed bodies over connections that are kept and shared by all threads."""

    def __init__(self, *, connect_timeout: float, deadline: float, connections: int) -> None:
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._adapter = outbound.Adapter(connections)

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer | Failure:
        """POST a body; return the answer, or the failure if none came within the deadline.

        Redirects are answers, never followed: they would carry body and signature elsewhere.
        """
        try:
            with deadline.within(self._deadline, silence=self._deadline):
                return self._exchange(url, headers, body)
        except (requests.RequestException, OSError, ValueError) as error:
            return _failure(error, self._deadline)

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()

    def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        prepared = requests.Request(
            "POST", url, headers={**_HEADERS, **headers}, data=body
        ).prepare()
        timeout = (min(self._connect_timeout, self._deadline), self._deadline)
        response = self._adapter.send(prepared, stream=True, timeout=timeout, proxies={})
        said = _read(response)
        return Answer(response.status_code, response.headers.get("Retry-After"), said)


_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": outbound.USER_AGENT,
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}


def _read(response: requests.Response) -> str:
    """Return the beginning of the body as text; the status counts even if the body breaks off."""
    raw = b""
    with contextlib.suppress(OSError, ValueError, HTTPError):
        raw = response.raw.read(MAX_ANSWER_BYTES, decode_content=False) or b""
    if len(raw) == MAX_ANSWER_BYTES or not response.raw.isclosed():
        # There may be more of it, which nobody wants to read: this connection ends here.
        response.raw.close()
    return _kept(raw)


def _kept(raw: bytes) -> str:
    text = raw.decode("utf-8", errors="replace").strip()
    return redact(printable(text))[:MAX_KEPT_CHARACTERS]


def _failure(error: Exception, seconds: float) -> Failure:
    causes = list(outbound.causes(error))
    if any(isinstance(cause, DeadlineError) for cause in causes):
        return Failure("deadline", f"no answer within {seconds:g} s")
    for cause in causes:
        match cause:
            case requests.Timeout() | TimeoutError():  # of a TLS handshake: a ReadTimeout as well
                return Failure("connect-timeout", "the connection was not accepted in time")
            case ssl.SSLError():
                return Failure("tls", _words(cause))
            case socket.gaierror():
                return Failure(
                    "dns",
                    f"the host's name cannot be resolved: {_words(cause)}",
                )
            case ConnectionRefusedError():
                return Failure("refused", "nobody listens there")
            case ConnectionError():
                return Failure("reset", _words(cause))
            case HTTPException():
                return Failure("protocol", f"what came is not HTTP: {type(cause).__name__}")
    return Failure("connection-failed", _words(error))


def _words(error: BaseException) -> str:
    return outbound.words(error, MAX_KEPT_CHARACTERS)

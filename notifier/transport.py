"""The one place that POSTs: an answer or a failure within the deadline, never an exception."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from foundation.logs import redact
from foundation.terminal import printable
from notifier.retry import Answer, Failure

MAX_ANSWER_BYTES = 4096
MAX_KEPT_CHARACTERS = 1000
USER_AGENT = "course-webhooks/1"

_attempt = threading.local()


class _DeadlineError(TimeoutError):
    """The attempt's total time is over, however lively the other side still drips."""


def _remaining() -> float:
    left = float(getattr(_attempt, "ends", float("inf"))) - time.monotonic()
    if left <= 0:
        raise _DeadlineError("the attempt's deadline has passed")
    return left


class _Deadline:
    """Bounds each read and write of a socket by what is left of this thread's attempt.

    A time-out of the socket's own begins anew with every byte, so a drip would stretch it.
    """

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_remaining())  # type: ignore[attr-defined]  # of the socket mixed in
        return int(super().recv_into(*args, **kwargs))  # type: ignore[misc]  # as above

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_remaining())  # type: ignore[attr-defined]  # of the socket mixed in
        super().sendall(*args, **kwargs)  # type: ignore[misc]  # as above


class _PlainSocket(_Deadline, socket.socket):
    pass


class _TlsSocket(_Deadline, ssl.SSLSocket):
    pass


def _bounded(raw: socket.socket) -> socket.socket:
    timeout = raw.gettimeout()
    bounded = _PlainSocket(raw.family, raw.type, raw.proto, fileno=raw.detach())
    bounded.settimeout(timeout)
    return bounded


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _bounded(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _bounded(super()._new_conn())


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Connections that keep the deadline, and one TLS context for all of them."""

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_connections=connections, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def cert_verify(self, conn: Any, *_: Any) -> None:
        # The context has the authorities already; naming a bundle here would load it anew for
        # every connection, at twenty milliseconds each.
        conn.cert_reqs = "CERT_REQUIRED"


class Transport:
    """Sends signed bodies over connections that are kept and shared by all threads."""

    def __init__(self, *, connect_timeout: float, deadline: float, connections: int) -> None:
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(_tls_context(), connections)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer | Failure:
        """POST a body; return the answer, or the failure if none came within the deadline.

        Redirects are answers, never followed: they would carry body and signature elsewhere.
        """
        _attempt.ends = time.monotonic() + self._deadline
        try:
            return self._exchange(url, headers, body)
        except requests.RequestException as error:
            return _failure(error, self._deadline)
        except (OSError, ValueError) as error:
            return Failure("connection-failed", _words(error))
        finally:
            del _attempt.ends

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        prepared = requests.Request(
            "POST", url, headers={**_HEADERS, **headers}, data=body
        ).prepare()
        response = self._session.send(
            prepared,
            stream=True,
            allow_redirects=False,
            timeout=(min(self._connect_timeout, self._deadline), self._deadline),
            proxies={},
        )
        said = _read(response)
        return Answer(response.status_code, response.headers.get("Retry-After"), said)


_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": USER_AGENT,
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}


def _tls_context() -> ssl.SSLContext:
    context = create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    context.sslsocket_class = _TlsSocket
    return context


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
    text = raw.decode("utf-8", errors="replace")[:MAX_KEPT_CHARACTERS]
    return redact(printable(text))


def _failure(error: requests.RequestException, deadline: float) -> Failure:
    for cause in _causes(error):
        match cause:
            case _DeadlineError() | requests.ReadTimeout():
                return Failure("deadline", f"no answer within {deadline:g} s")
            case requests.ConnectTimeout() | TimeoutError():
                return Failure("connect-timeout", "the connection was not accepted in time")
            case ssl.SSLError():
                return Failure("tls", _words(cause))
            case socket.gaierror():
                return Failure("dns", f"the host's name cannot be resolved: {_words(cause)}")
            case ConnectionRefusedError():
                return Failure("refused", "nobody listens there")
            case ConnectionError():
                return Failure("reset", _words(cause))
            case HTTPException():
                return Failure("protocol", f"what came is not HTTP: {type(cause).__name__}")
    return Failure("connection-failed", _words(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, as far down as its libraries wrapped it."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        wrapped = (getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__)
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)


def _words(error: BaseException) -> str:
    words = redact(printable(" ".join(str(error).split())))
    return words[:MAX_KEPT_CHARACTERS] or type(error).__name__

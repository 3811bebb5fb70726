"""HTTP requests with connection pooling, an address guard and a deadline; errors as text."""

import ssl
from collections.abc import Iterator, Mapping
from functools import partial
from http.client import HTTPResponse
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from foundation.http import tls
from foundation.http.dialer import Dialer
from foundation.http.strict_response import StrictResponse
from foundation.logging import redact
from foundation.text import printable

USER_AGENT = "course-webhooks/1"
# Hosts with open connections; those of the least recently used host are closed first.
MAX_HOSTS = 64
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]
_Value = TypeVar("_Value")


class _DialedConnection:
    """A connection that is opened by a dialer, with responses read strictly."""

    response_class: type[HTTPResponse] = StrictResponse

    def __init__(self, *args: Any, dialer: Dialer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dialer = dialer

    def _new_conn(self) -> Any:
        # The one hook of urllib3 for opening a connection. `_dns_host` is the host name as it was
        # given; `host` lacks the dot at its end.
        return self._dialer.dial(self._dns_host, self.port, self.timeout, self.socket_options)  # type: ignore[attr-defined]  # of the connection class mixed in


class _PlainConnection(_DialedConnection, HTTPConnection):
    pass


class _TlsConnection(_DialedConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """A requests adapter whose connections keep the limits of `deadline.within`.

    Use it without a `requests.Session`, which adds proxies, .netrc, cookies and redirects, and
    reads the whole body of a redirect even if it must not follow it.
    """

    def __init__(
        self, dialer: Dialer, *, connections: int = 10, hosts: int = MAX_HOSTS, bundle: str = ""
    ) -> None:
        self._dialer = dialer
        self._tls = tls.tls_context(bundle)
        super().__init__(pool_connections=hosts, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections are opened by the dialer."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_PlainPool, dialer=self._dialer),
            "https": partial(_TlsPool, dialer=self._dialer),
        }

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Verify with the authorities of the TLS context.

        requests would load a bundle again for every connection, which takes 20 ms.
        """
        conn.cert_reqs = "CERT_REQUIRED"


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

"""HTTP outward: kept connections that keep a deadline, and what went wrong in words."""

import ssl
from collections.abc import Iterator, Mapping
from functools import partial
from http.client import HTTPResponse
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from foundation.http import tls
from foundation.http.dialer import Dialler
from foundation.http.strict_response import Answer
from foundation.logging import redact
from foundation.text import printable

USER_AGENT = "course-webhooks/1"
Kinds = type[BaseException] | tuple[type[BaseException], ...]
_What = TypeVar("_What")
MAX_HOSTS = 64
"""To how many hosts connections are kept; those to the one used longest ago are closed first."""


class _Dialled:
    """A connection that a dialler makes, with answers read strictly."""

    response_class: type[HTTPResponse] = Answer

    def __init__(self, *args: Any, dialler: Dialler, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dialler = dialler

    def _new_conn(self) -> Any:
        # `_dns_host` is the name as it was given; `host` lacks its last dot.
        return self._dialler.dial(self._dns_host, self.port, self.timeout, self.socket_options)  # type: ignore[attr-defined]  # of the connection mixed in


class _PlainConnection(_Dialled, HTTPConnection):
    pass


class _TlsConnection(_Dialled, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """Kept connections whose every exchange ends by `deadline.within`.

    Used by itself, without a `requests.Session`: that one knows proxies, .netrc, cookies and
    redirects, and reads a redirect's whole body even when it is told not to follow it.
    """

    def __init__(
        self, dialler: Dialler, *, connections: int = 10, hosts: int = MAX_HOSTS, bundle: str = ""
    ) -> None:
        self._dialler = dialler
        self._tls = tls.tls_context(bundle)
        super().__init__(pool_connections=hosts, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make pools of connections that the dialler makes."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_PlainPool, dialler=self._dialler),
            "https": partial(_TlsPool, dialler=self._dialler),
        }

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Verify with the context's authorities.

        Naming a bundle here would load it anew for every connection, at twenty milliseconds each.
        """
        conn.cert_reqs = "CERT_REQUIRED"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, as far down as its libraries wrapped it."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        wrapped = (getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__)
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)


def explain(
    error: BaseException, table: Mapping[Kinds, _What]
) -> tuple[_What | None, BaseException]:
    """Return what a table has for an error, and the cause that it has it for.

    The first row of the table counts that any of the causes is of; without one it is None, and
    the cause the last one.
    """
    every = list(causes(error))
    for kinds, what in table.items():
        for cause in every:
            if isinstance(cause, kinds):
                return what, cause
    return None, every[-1]


def words(error: BaseException, most_bytes: int) -> str:
    """Return what an error says, or its name if it says nothing."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message
    return clean(told, most_bytes) or type(error).__name__


def clean(text: str, most_bytes: int) -> str:
    """Return what others said in one line, short, safe to print, and without any secret."""
    return _cut(redact(printable(" ".join(text.split()))), most_bytes)


def said(body: bytes, most_bytes: int) -> str:
    """Return the beginning of a body as text, its lines spelled out, safe and without secrets."""
    return _cut(redact(printable(body.decode("utf-8", errors="replace").strip())), most_bytes)


def _cut(text: str, most_bytes: int) -> str:
    return text.encode("utf-8", errors="replace")[:most_bytes].decode("utf-8", errors="ignore")

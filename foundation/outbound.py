"""HTTP outward: connections that keep a deadline, one TLS context, and what went wrong in words."""

from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter

from foundation import deadline
from foundation.logs import redact
from foundation.terminal import printable

USER_AGENT = "course-webhooks/1"


class Adapter(HTTPAdapter):
    """Kept connections whose every exchange ends by `deadline.within`.

    Used by itself, without a `requests.Session`: that one knows proxies, .netrc, cookies and
    redirects, and reads a redirect's whole body even when it is told not to follow it.
    """

    def __init__(self, connections: int = 10) -> None:
        super().__init__(pool_connections=connections, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make pools of connections that keep the deadline."""
        super().init_poolmanager(*args, ssl_context=deadline.tls_context(), **kwargs)
        self.poolmanager.pool_classes_by_scheme = deadline.POOLS

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


def words(error: BaseException, longest: int) -> str:
    """Return what an error says, or its name if it says nothing."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean(said, longest) or type(error).__name__


def clean(text: str, longest: int) -> str:
    """Return what others said in one line, short, safe to print, and without any secret."""
    return redact(printable(" ".join(text.split())))[:longest]

"""HTTP answers read strictly: whole heads, plain statuses, nothing left on a kept connection."""

import contextlib
import re
import socket
import ssl
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any

from foundation.http import deadline

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_LENGTH = re.compile(r"[0-9]+", re.ASCII)
_MAX_LINE = 65536


class BrokenHeadError(HTTPException):
    """The answer's head ended before its end."""


class UpgradeError(HTTPException):
    """The answer speaks another protocol from here on, which nobody asked for."""


class Answer(HTTPResponse):
    """An answer whose head is whole, and whose connection is kept only if nothing can be mistaken.

    What lies on a kept connection is read as the answer to the next request: so none is kept that
    has bytes left over, or whose answer has two lengths (RFC 9112, 6.3 and 9.3).
    """

    def __init__(self, connected: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(connected, *args, **kwargs)
        self._connected = connected

    def begin(self) -> None:
        """Read the head, past interim answers."""
        whole = self.fp
        self.fp = _Head(whole)  # type: ignore[assignment]  # it is only read by lines
        try:
            super().begin()
        finally:
            self.fp = whole
        if self._is_ambiguous():
            del self.headers["Content-Length"]
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        line = self.fp.readline(_MAX_LINE + 1)
        if not line:
            raise RemoteDisconnected("the connection was closed without an answer")
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise BadStatusLine(line[:80].decode("latin-1"))
        status = int(found[2])
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise UpgradeError("it switches protocols unasked")
        if status < HTTPStatus.OK:
            status = HTTPStatus.CONTINUE  # the one interim answer that http.client reads past
        return f"HTTP/{found[1].decode()}", status, (found[3] or b"").decode("latin-1")

    def _is_ambiguous(self) -> bool:
        codings = self.headers.get_all("Transfer-Encoding", [])
        lengths = self.headers.get_all("Content-Length", [])
        if codings:
            return bool(lengths) or [one.strip().lower() for one in codings] != ["chunked"]
        return len(lengths) > 1 or not all(_LENGTH.fullmatch(one.strip()) for one in lengths)

    def _close_conn(self) -> None:
        if not self.will_close and self._has_more():
            with contextlib.suppress(OSError):
                self._connected.shutdown(socket.SHUT_RDWR)  # the pool sees that, and takes no more
        super()._close_conn()  # type: ignore[misc]  # http.client does not show it

    def _has_more(self) -> bool:
        try:
            with deadline.without_waiting():
                return bool(self.fp.peek(1))
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True


class _Head:
    """Reads the lines of a head: each is whole, and only the first may be missing."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._begun = False

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(limit)
        if not line.endswith(b"\n") and (line or self._begun):
            raise BrokenHeadError("its head broke off, or has a line without end")
        self._begun = True
        return line

"""HTTP responses whose head is read strictly: complete, with a plain status line."""

import io
import re
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, HTTPResponse, RemoteDisconnected
from typing import BinaryIO

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_LENGTH = re.compile(r"[0-9]+", re.ASCII)
# Bytes of the head and of all interim responses before it.
_MAX_HEAD_BYTES = 64 * 1024


class IncompleteHeadError(HTTPException):
    """The head of the response ended before its last line, or is too long."""


class UpgradeError(HTTPException):
    """The server switches to another protocol, which was not requested."""


class StrictResponse(HTTPResponse):
    """A response whose head is complete and whose status line is as RFC 9112 defines it.

    http.client accepts a head that is cut off, status codes such as +200 and 2_0_0, and interim
    responses as final ones. A response whose length is ambiguous ends its connection (RFC 9112,
    6.3).
    """

    def begin(self) -> None:
        """Read and check the head, then have http.client parse it."""
        stream = self.fp
        self.fp = io.BytesIO(_read_head(stream))  # type: ignore[assignment]  # only lines are read
        try:
            super().begin()
        finally:
            self.fp = stream
        if self._has_ambiguous_length():
            del self.headers["Content-Length"]
            self.will_close = True

    def _has_ambiguous_length(self) -> bool:
        codings = self.headers.get_all("Transfer-Encoding", [])
        lengths = self.headers.get_all("Content-Length", [])
        if codings:
            return bool(lengths) or [one.strip().lower() for one in codings] != ["chunked"]
        return len(lengths) > 1 or not all(_LENGTH.fullmatch(one.strip()) for one in lengths)


def _read_head(stream: BinaryIO) -> bytes:
    """Return the head of the final response."""
    left, lines, status = _MAX_HEAD_BYTES, list[bytes](), 0
    while True:
        line = stream.readline(left)
        left -= len(line)
        if not line and not lines:
            raise RemoteDisconnected("the connection was closed without a response")
        if not line.endswith(b"\n"):
            raise IncompleteHeadError("the response head is incomplete or too long")
        if not lines:
            status = _read_status(line)
        lines.append(line)
        if line in {b"\r\n", b"\n"}:
            if status >= HTTPStatus.OK:
                return b"".join(lines)
            lines.clear()


def _read_status(line: bytes) -> int:
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadStatusLine(line[:80].decode("latin-1"))
    status = int(found[1])
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        raise UpgradeError("the server switches protocols without a request to do so")
    return status

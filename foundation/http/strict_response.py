"""HTTP responses whose head is read strictly: complete, with a plain status line."""

import re
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_LENGTH = re.compile(r"[0-9]+", re.ASCII)
_MAX_LINE_BYTES = 65536


class IncompleteHeadError(HTTPException):
    """The head of the response ended before its last line."""


class UpgradeError(HTTPException):
    """The server switches to another protocol, which was not requested."""


class StrictResponse(HTTPResponse):
    """A response whose head is complete and whose status line is as RFC 9112 defines it.

    http.client accepts a head that is cut off, and status codes such as +200 and 2_0_0. A response
    whose length is ambiguous ends its connection (RFC 9112, 6.3).
    """

    def begin(self) -> None:
        """Read the head and skip interim responses."""
        file = self.fp
        self.fp = _HeadReader(file)  # type: ignore[assignment]  # only its readline() is used
        try:
            super().begin()
        finally:
            self.fp = file
        if self._has_ambiguous_length():
            del self.headers["Content-Length"]
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        line = self.fp.readline(_MAX_LINE_BYTES + 1)
        if not line:
            raise RemoteDisconnected("the connection was closed without a response")
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise BadStatusLine(line[:80].decode("latin-1"))
        status = int(found[2])
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise UpgradeError("the server switches protocols without a request to do so")
        if status < HTTPStatus.OK:
            status = HTTPStatus.CONTINUE  # the one interim status that http.client skips
        return f"HTTP/{found[1].decode()}", status, (found[3] or b"").decode("latin-1")

    def _has_ambiguous_length(self) -> bool:
        codings = self.headers.get_all("Transfer-Encoding", [])
        lengths = self.headers.get_all("Content-Length", [])
        if codings:
            return bool(lengths) or [one.strip().lower() for one in codings] != ["chunked"]
        return len(lengths) > 1 or not all(_LENGTH.fullmatch(one.strip()) for one in lengths)


class _HeadReader:
    """Reads the lines of a head; each has to be complete, and only the first may be missing."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._has_begun = False

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(limit)
        if not line.endswith(b"\n") and (line or self._has_begun):
            raise IncompleteHeadError("the response head is incomplete")
        self._has_begun = True
        return line

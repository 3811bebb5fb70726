"""HTTP responses whose head is read strictly: complete, with a plain status line."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from http.client import (
    BadStatusLine,
    HTTPException,
    HTTPMessage,
    HTTPResponse,
    RemoteDisconnected,
)
from typing import BinaryIO

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
# A header field (RFC 9110, 5.1 and 5.5).
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
# Bytes of the head and of all interim responses before it.
_MAX_HEAD_BYTES = 64 * 1024
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class IncompleteHeadError(HTTPException):
    """The head of the response ended before its last line, or is too long."""


class UpgradeError(HTTPException):
    """The server switches to another protocol, which was not requested."""


class StrictResponse(HTTPResponse):
    """A response whose head is complete and whose status line is as RFC 9112 defines it.

    http.client accepts a head that is cut off, status codes such as +200 and 2_0_0, and interim
    responses as final ones; and it parses the head as an e-mail, which takes a fifth of the time
    of a request. A response whose length is ambiguous (RFC 9112, 6.3), or with a line that is no
    header field, ends its connection. Not for responses to HEAD.
    """

    def begin(self) -> None:
        """Read the head, and note how long the body is and whether the connection stays open."""
        status_line, lines = _read_head(self.fp)
        self.version = 11 if status_line[1] == b"1" else 10
        self.status = self.code = int(status_line[2])
        self.reason = (status_line[3] or b"").decode("latin-1").strip()
        self.headers = self.msg = HTTPMessage()
        is_plain = _add_fields(self.headers, lines)
        codings = _values(self.headers, "Transfer-Encoding")
        lengths = _values(self.headers, "Content-Length")
        has_body = self.status not in _WITHOUT_BODY
        self.chunked, self.chunk_left = has_body and codings[:1] == ["chunked"], None
        self.length = None if has_body else 0
        if lengths and has_body and not self.chunked and _LENGTH.fullmatch(lengths[0]):
            self.length = int(lengths[0])
        is_ambiguous = _is_ambiguous(codings, lengths) or bool(codings and self.version == 10)
        if is_ambiguous:  # urllib3 reads it again
            del self.headers["Content-Length"]
            if self.length is not None:
                self.headers["Content-Length"] = str(self.length)
        is_endless = self.length is None and not self.chunked
        self.will_close = is_ambiguous or is_endless or not is_plain or self._is_last()
        if self.length == 0:
            self.close()  # as if the body, which is empty, had been read

    # Where http.client reads the size of a chunk, in Python's notation of numbers: -1, 0x4, 1_0.
    def _read_next_chunk_size(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self.fp.readline(_MAX_HEAD_BYTES))
        if found is None:
            raise ValueError("not the size of a chunk")
        return int(found[1], 16)

    def _is_last(self) -> bool:
        """Return True if the server closes the connection (RFC 9112, 9.3)."""
        options = ",".join(_values(self.headers, "Connection"))
        return "close" in options if self.version == 11 else "keep-alive" not in options


def _values(headers: HTTPMessage, name: str) -> list[str]:
    return [value.lower() for value in headers.get_all(name, ())]


def _is_ambiguous(codings: list[str], lengths: list[str]) -> bool:
    if codings:
        return bool(lengths) or codings != ["chunked"]
    return len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths))


def _add_fields(headers: HTTPMessage, lines: Iterable[bytes]) -> bool:
    """Add header fields; return False if a line is none, and was left out."""
    is_plain = True
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            is_plain = False
        else:
            name, value = field.groups()
            headers[name.decode("ascii")] = value.strip(b" \t").decode("latin-1")
    return is_plain


def _read_head(stream: BinaryIO) -> tuple[re.Match[bytes], list[bytes]]:
    """Return the parsed status line of the final response, and the other lines of its head."""
    left, status_line, lines = _MAX_HEAD_BYTES, None, list[bytes]()
    while True:
        line = stream.readline(left)
        left -= len(line)
        if not line and status_line is None:
            raise RemoteDisconnected("the connection was closed without a response")
        if not line.endswith(b"\n"):
            raise IncompleteHeadError("the response head is incomplete or too long")
        if status_line is None:
            status_line = _parse_status_line(line)
        elif line not in {b"\r\n", b"\n"}:
            lines.append(line)
        elif int(status_line[2]) >= HTTPStatus.OK:
            return status_line, lines
        else:
            status_line, lines = None, []


def _parse_status_line(line: bytes) -> re.Match[bytes]:
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadStatusLine(line[:80].decode("latin-1"))
    if int(found[2]) == HTTPStatus.SWITCHING_PROTOCOLS:
        raise UpgradeError("the server switches protocols without a request to do so")
    return found

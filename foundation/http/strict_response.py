"""HTTP responses whose head is read strictly: complete, with a plain status line."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from http.client import (
    BadStatusLine,
    HTTPException,
    HTTPResponse,
    IncompleteRead,
    RemoteDisconnected,
)
from typing import BinaryIO

from requests.structures import CaseInsensitiveDict

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

    http.client accepts a head that is cut off, status codes such as +200 and 2_0_0, interim
    responses as final ones, and a body that is too short; and it parses the head as an e-mail,
    which takes a third of the time of a request. A response whose length is ambiguous (RFC 9112,
    6.3), or with a line that is no header field, ends its connection. Not for responses to HEAD.
    """

    headers: CaseInsensitiveDict[str]  # type: ignore[assignment]  # http.client uses only `get`

    def begin(self) -> None:
        """Read the head, and note how long the body is and whether the connection stays open."""
        status_line, lines = _read_head(self.fp)
        self.version = 11 if status_line[1] == b"1" else 10
        self.status = self.code = int(status_line[2])
        self.reason = (status_line[3] or b"").decode("latin-1").strip()
        self.headers, is_plain = _fields(lines)
        coding, length = (
            self.headers.get(name, "").lower() for name in ("Transfer-Encoding", "Content-Length")
        )
        has_body = self.status not in _WITHOUT_BODY
        self.chunked, self.chunk_left = has_body and coding.startswith("chunked"), None
        self.length = None if has_body else 0
        lengths = length.split(", ")
        if has_body and not self.chunked and _LENGTH.fullmatch(lengths[0]):
            self.length = int(lengths[0])
        is_ambiguous = _is_ambiguous(coding, length) or bool(coding and self.version == 10)
        is_endless = self.length is None and not self.chunked
        self.will_close = is_ambiguous or is_endless or not is_plain or self._is_last()
        if self.length == 0:
            self.close()  # as if the body, which is empty, had been read

    @property
    def is_complete(self) -> bool:
        """Whether all of the body was read, and another response may follow."""
        return self.isclosed() and not self.length and not self.will_close

    def read(self, amt: int | None = None) -> bytes:
        """Read up to this number of bytes, or raise IncompleteRead."""
        found = super().read(amt)
        if self.isclosed() and self.length:
            raise IncompleteRead(found, self.length)
        return found

    def read1(self, n: int = -1) -> bytes:
        """Read what has come, up to this number of bytes."""
        found = super().read1(n)
        if self.length == 0:
            self.close()  # not all versions of Python do
        return found

    # Where http.client reads the size of a chunk, in Python's notation of numbers: -1, 0x4, 1_0.
    def _read_next_chunk_size(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self.fp.readline(_MAX_HEAD_BYTES))
        if found is None:
            raise ValueError("not the size of a chunk")
        return int(found[1], 16)

    def _is_last(self) -> bool:
        """Return True if the server closes the connection (RFC 9112, 9.3)."""
        options = self.headers.get("Connection", "").lower()
        return "close" in options if self.version == 11 else "keep-alive" not in options


def _is_ambiguous(coding: str, length: str) -> bool:
    if coding:
        return bool(length) or coding != "chunked"
    return bool(length) and not _LENGTH.fullmatch(length)


def _fields(lines: Iterable[bytes]) -> tuple[CaseInsensitiveDict[str], bool]:
    """Return header fields; also False if a line is none, and was left out."""
    fields, is_plain = CaseInsensitiveDict[str](), True
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            is_plain = False
            continue
        name, value = field[1].decode("ascii"), field[2].strip(b" \t").decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields, is_plain


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

"""HTTP responses whose head is read strictly: complete, with a plain status line."""

import http.client
import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import takewhile
from typing import BinaryIO

from requests.structures import CaseInsensitiveDict

# Without 101: no other protocol is requested.
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) (?!101)([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
# A header field (RFC 9110, 5.1 and 5.5).
_FIELD = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)\r?$", re.MULTILINE)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
# Bytes of the head and of all interim responses before it.
_MAX_HEAD_BYTES = 64 * 1024
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class StrictResponse(http.client.HTTPResponse):
    """A response whose head is complete and whose status line is as RFC 9112 defines it.

    http.client accepts a head that is cut off, status codes such as +200 and 2_0_0, interim
    responses as final ones, and a body that is too short; and it parses the head as an e-mail,
    which takes a third of the time of a request. A response whose length is ambiguous (RFC 9112,
    6.3), with a line that is no header field, or of HTTP/1.0 ends its connection. Not for responses
    to HEAD.
    """

    headers: CaseInsensitiveDict[str]  # type: ignore[assignment]  # http.client uses only `get`

    def begin(self) -> None:
        """Read the head, and note how long the body is and whether the connection stays open.

        Raises:
            RemoteDisconnected: The connection ended before any byte of the response.
            HTTPException, OSError
        """
        try:
            beginning = self.fp.peek()
        except ConnectionError as error:
            raise http.client.RemoteDisconnected(error.strerror or str(error)) from error
        if not beginning:
            raise http.client.RemoteDisconnected("the connection was closed without a response")
        self.version, self.status, lines = _read_head(self.fp)
        fields = _FIELD.findall("".join(lines))
        self.headers = CaseInsensitiveDict()
        for name, padded in fields:
            value = padded.strip(" \t")
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        coding, length, options = (
            self.headers.get(name, "").lower()
            for name in ("Transfer-Encoding", "Content-Length", "Connection")
        )
        has_body = self.status not in _WITHOUT_BODY
        self.chunked, self.chunk_left = has_body and coding == "chunked", None
        self.length = None if has_body else 0
        first_length = length.partition(", ")[0]
        if has_body and not self.chunked and _LENGTH.fullmatch(first_length):
            self.length = int(first_length)
        if coding:
            has_clear_length = coding == "chunked" and not length
        else:
            has_clear_length = bool(_LENGTH.fullmatch(length)) or not (length or has_body)
        is_last = self.version == 10 or "close" in options
        self.will_close = is_last or not has_clear_length or len(fields) < len(lines)

    def read(self, amt: int | None = None) -> bytes:
        """Read up to this number of bytes, or raise http.client.IncompleteRead."""
        found = super().read(amt)
        if self.isclosed() and self.length:
            raise http.client.IncompleteRead(found, self.length)
        return found

    # The method of http.client reads sizes as Python writes numbers: -1, 0x4, 1_0.
    def _read_next_chunk_size(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self.fp.readline(_MAX_HEAD_BYTES))
        if found is None:
            raise ValueError("not the size of a chunk")
        return int(found[1], 16)


def _read_head(stream: BinaryIO) -> tuple[int, int, list[str]]:
    """Return version and status of the final response, and the other lines of its head."""
    lines = _lines(stream)
    while True:
        line = next(lines)
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise http.client.BadStatusLine(line[:80])
        version, status = 10 + int(found[1]), int(found[2])
        fields = list(takewhile(lambda line: line not in {"\r\n", "\n"}, lines))
        if status >= HTTPStatus.OK:
            return version, status, fields


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of the head; raise http.client.HTTPException if it ends, or is too long."""
    left = _MAX_HEAD_BYTES
    while (line := stream.readline(left)).endswith(b"\n"):
        yield line.decode("latin-1")
        left -= len(line)
    raise http.client.HTTPException("the response head is incomplete or too long")

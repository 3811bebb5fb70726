"""A receiver for machines without nginx: it answers 204, after a delay, and logs what it received.

`python -m benchmarks.python_receiver PORT LOG --delay-ms 50` writes a line for each webhook when it
is complete: seconds since 1970, path and webhook-id.
"""

import argparse
import asyncio
import re
import signal
import time
from pathlib import Path
from typing import IO

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]*)", re.IGNORECASE)
_RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
_FLUSH_SECONDS = 0.1
# The log is written in blocks of this many bytes.
_BUFFER_BYTES = 64 * 1024
_BACKLOG = 1024


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, log: IO[str], seconds: float) -> None:
        self._log = log
        self._seconds = seconds
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to respond on."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is a TCP connection
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Respond, after the delay, once a request is complete."""
        self._received += data
        head, end, body = self._received.partition(_HEAD_END)
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if not end or len(body) < size:
            return
        self._received = body[size:]
        if webhook_id := _ID.search(head):
            path = head.split(b" ", 2)[1].decode()
            self._log.write(f"{time.time():.6f} {path} {webhook_id[1].decode()}\n")
        if self._seconds:
            asyncio.get_running_loop().call_later(self._seconds, self._transport.write, _RESPONSE)
        else:
            self._transport.write(_RESPONSE)


async def serve(port: int, log: IO[str], seconds: float) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    server = await loop.create_server(
        lambda: Connection(log, seconds), "127.0.0.1", port, backlog=_BACKLOG
    )
    while not stopping.is_set():
        log.flush()
        try:
            await asyncio.wait_for(stopping.wait(), _FLUSH_SECONDS)
        except TimeoutError:
            continue
    server.close()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--delay-ms", type=int, default=0)
    given = parser.parse_args()
    with given.log.open("w", buffering=_BUFFER_BYTES) as log:
        asyncio.run(serve(given.port, log, given.delay_ms / 1000))


if __name__ == "__main__":
    main()

"""The web server behind `notifier serve` and `receiver serve`: waitress, one process of threads.

Waitress reads a whole request before it takes a thread and buffers the whole response, so clients
that stall cost a connection and nothing else.
"""

import gc
import logging as standard_logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from waitress.server import create_server
from werkzeug.wsgi import ClosingIterator

from foundation import logging
from foundation.cli import signals
from foundation.config import ServiceSettings, variable
from foundation.errors import Advice, Refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Bytes of the request line and all headers together.
MAX_HEAD_BYTES = 32 * 1024
# Open connections; below the usual limit of 1,024 open files for a process.
_MAX_CONNECTIONS = 800
# Seconds after which a connection without traffic is closed, and how often that is checked.
_IDLE_SECONDS, _IDLE_CHECK_SECONDS = 30, 5
# Bytes of responses that may wait in one connection's buffer before its thread waits as well.
_MAX_BUFFERED_BYTES = 64 * 1024 * 1024
# Seconds that requests have to finish after SIGTERM, and how often that is checked.
_STOP_SECONDS, _STOP_CHECK_SECONDS = 25.0, 0.2

_log = logging.get_logger(__name__)


class AddressError(Refusal):
    """The server cannot listen on its address."""


class RequestCounter:
    """WSGI middleware that counts the requests in progress."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._lock = threading.Lock()
        self.in_progress = 0

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Run the app; the request ends when its response is in the server's buffer."""
        self._add(1)
        try:
            response = self._app(environ, start_response)
        except BaseException:
            self._add(-1)
            raise
        return ClosingIterator(response, [lambda: self._add(-1)])

    def _add(self, number: int) -> None:
        with self._lock:
            self.in_progress += number


def serve(app: Flask, settings: ServiceSettings, *, max_body_bytes: int) -> None:
    """Serve the app until SIGTERM or SIGINT; raise AddressError if the address cannot be used.

    Requests in progress finish before it returns, within a limit; a second signal ends the
    process at once.
    """
    requests = RequestCounter(app)
    server = create_server(
        requests,
        sockets=_listen(settings),
        threads=settings.web_threads,
        ident=None,
        # The app itself decides whose X-Forwarded-For it believes.
        clear_untrusted_proxy_headers=False,
        connection_limit=_MAX_CONNECTIONS,
        channel_timeout=_IDLE_SECONDS,
        cleanup_interval=_IDLE_CHECK_SECONDS,
        max_request_header_size=MAX_HEAD_BYTES,
        max_request_body_size=max_body_bytes,
        outbuf_high_watermark=_MAX_BUFFERED_BYTES,
        asyncore_use_poll=True,  # select() fails on file descriptors above 1,023
    )
    # It logs a warning for each request that has to wait for a thread.
    standard_logging.getLogger("waitress.queue").setLevel(standard_logging.ERROR)
    _stop_on_signals(requests)
    # Long-lived objects are kept out of garbage collection, which would take a fifth of the time
    # of a large response.
    gc.freeze()
    _log.info("server started", url=f"http://{_address(settings)}", threads=settings.web_threads)
    server.run()
    _log.info("server stopped")


def _listen(settings: ServiceSettings) -> list[socket.socket]:
    try:
        resolved = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys((family, address) for family, *_, address in resolved)
        return [socket.create_server(address, family=family) for family, address in addresses]
    except OSError as error:
        # The text of create_server() repeats the address.
        cause = (
            error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        )
        names = [variable(type(settings), field) for field in ("host", "port")]
        raise AddressError(
            f"cannot listen on {_address(settings)}: {cause}",
            advice=Advice(
                f"Stop the program that uses this address, or set {names[0]} and {names[1]} to an "
                "address of this machine and a free port."
            ),
        ) from None


def _address(settings: ServiceSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _stop_on_signals(requests: RequestCounter) -> None:
    def stop(name: str) -> None:
        _log.info("server stopping", signal=name)
        ends_at = time.monotonic() + _STOP_SECONDS

        def check(*_: object) -> None:
            if not requests.in_progress or time.monotonic() >= ends_at:
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise SystemExit

        signal.signal(signal.SIGALRM, check)
        signal.setitimer(signal.ITIMER_REAL, _STOP_CHECK_SECONDS, _STOP_CHECK_SECONDS)

    signals.on_stop(stop)

"""`serve`: a service under gunicorn, with its logs in ours."""

import gc
import socket
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from foundation import logging
from foundation.config import ServiceSettings, variable
from foundation.db import session as db
from foundation.errors import Refusal
from foundation.web.arbiter import Attending, Attentive

_log = logging.get(__name__)


class AddressError(Refusal):
    """The address that `serve` should listen on cannot be had."""


class _OurLogs(Logger):
    """Gunicorn's own lines go the way of all others; requests are logged by the app."""

    def setup(self, cfg: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """Leave handlers and levels to the one configuration."""
        self.error_log.propagate = True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Server(BaseApplication):
    """Processes of threads that answer requests; SIGTERM lets what is in flight finish.

    `check` raises what keeps a process from starting, as a schema that is not ours.
    """

    def __init__(
        self,
        make_app: Callable[[], Flask],
        settings: ServiceSettings,
        check: Callable[[Flask], None] = lambda _: None,
    ) -> None:
        self._make_app = make_app
        self._check = check
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Hand our settings to gunicorn; files and variables of its own are not read."""
        options = {
            "bind": f"{_bracketed(self._settings.host)}:{self._settings.port}",
            "workers": self._settings.web_processes,
            "threads": self._settings.web_threads,
            "worker_class": Attentive,
            "worker_connections": 500,
            "graceful_timeout": 30,
            "keepalive": 15,
            "max_requests": 50_000,
            "max_requests_jitter": 5_000,
            "limit_request_line": 8190,
            # A header of 8 kB is for the doors to refuse; all of them have MAX_HEAD_BYTES.
            "limit_request_field_size": 16 * 1024,
            "limit_request_fields": 64,
            # Nobody in front of us may set a scheme or a path by a header of theirs.
            "forwarded_allow_ips": "",
            # A back door in the home folder, the same for both services, that nobody here needs.
            "control_socket_disable": True,
            "logger_class": _OurLogs,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Answer until stopped; raise AddressError at once if there is nowhere to listen.

        Gunicorn would try for five seconds, and say so in as many errors.
        """
        self._check_address()
        Attending(self).run()

    def _check_address(self) -> None:
        host, port = self._settings.host, self._settings.port
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            names = [variable(type(self._settings), field) for field in ("host", "port")]
            raise AddressError(
                f"{_bracketed(host)}:{port} cannot be listened on: {error.strerror}",
                next_step=f"Stop what listens there, or set {names[0]} and {names[1]} "
                "to an address of this machine and a port that is free.",
            ) from None

    def load(self) -> Any:  # a Flask; the stubs ask for their own shape of WSGI app
        """Make the app in each process, so that none shares a database connection.

        What refuses it stops the whole server, for the next process would be refused as well; a
        database that is away does not, for the doors say so until it is back.
        """
        try:
            app = self._make_app()
            self._check(app)
        except Refusal as refusal:
            _log.error("process cannot start", detail=str(refusal), next_step=refusal.advice)
            raise SystemExit(Arbiter.APP_LOAD_ERROR) from None
        except db.UNAVAILABLE as error:
            _log.warning("process starts without its database", cause=db.cause(error))
        # What is loaded by now stays; walked by the collector, it takes a fifth of a large answer.
        gc.freeze()
        return app

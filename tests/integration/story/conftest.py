"""eAssessment as it is served over loopback, and what it was asked for."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import unquote
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier import services
from notifier.app import create_app
from notifier.config import Settings
from notifier.models import SCHEMA

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class Quiet(WSGIRequestHandler):
    """Answers as any other, without a line for each request."""

    def log_message(self, *_: object) -> None:
        """Say nothing: the app has its own log."""


@dataclass
class EAssessment:
    """A served eAssessment; `asked` are the courses that requests spoke of, one after another."""

    database: Database
    url: str = ""
    asked: list[str] = field(default_factory=list)


@dataclass
class _Listening:
    """The app, with an ear at its door."""

    app: Any
    asked: list[str]

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(raw)
        if raw:
            self.asked += [one["course_id"] for one in json.loads(raw)["courses"]]
        else:
            self.asked.append(unquote(environ["PATH_INFO"].split("/")[-2]))
        told: Iterable[bytes] = self.app(environ, start)
        return told


@pytest.fixture
def eassessment(make_database_url: Callable[[Schema], str]) -> Iterator[EAssessment]:
    """An eAssessment on an empty database."""
    settings = Settings(
        _env_file=None,
        database_url=make_database_url(SCHEMA),
        encryption_keys=KEY,
        admin_key="planted-admin-key-0123456789abcdef",
        log_level="ERROR",
    )
    app = create_app(settings)
    there = EAssessment(services.of(app).database)
    listening: Any = _Listening(app, there.asked)
    server = make_server("127.0.0.1", 0, listening, handler_class=Quiet)
    there.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield there
    server.shutdown()
    thread.join()
    server.server_close()
    there.database.dispose()

"""eAssessment served over loopback, with the courses that were requested."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
ADMIN_KEY = "planted-admin-key-0123456789abcdef"


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served_app(app: Any) -> Iterator[str]:
    """Serve a WSGI app on loopback, and yield its URL."""
    server = make_server("127.0.0.1", 0, app, handler_class=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class EAssessment:
    """A served eAssessment, and the course of each request or of each item of a batch."""

    database: Database
    url: str = ""
    requested: list[str] = field(default_factory=list)


@pytest.fixture
def eassessment(make_database_url: Callable[[Schema], str]) -> Iterator[EAssessment]:
    """An eAssessment on an empty database."""
    settings = Settings(
        _env_file=None,
        database_url=make_database_url(SCHEMA),
        encryption_keys=KEY,
        admin_key=ADMIN_KEY,
        log_level="ERROR",
    )
    app = create_app(settings)
    served = EAssessment(services.of(app).database)

    def recorded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        if body:
            served.requested += [one["course_id"] for one in json.loads(body)["courses"]]
        else:
            served.requested.append(unquote(environ["PATH_INFO"].split("/")[-2]))
        return app(environ, start_response)

    with served_app(recorded) as served.url:
        yield served
    served.database.dispose()

"""Fixtures of eAssessment as an app, for the tests of its API and its pages.

`database` is the app's, so the factories of `tests.notifier.conftest` write into it.
"""

import logging as python_logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select, text
from werkzeug.test import TestResponse

from foundation import logging
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier import services
from notifier.app import create_app
from notifier.config import Settings
from notifier.models import SCHEMA

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
INGEST_SECRET = "planted-ingest-secret"

Rows = Callable[[], dict[str, list[Any]]]
Refused = Callable[..., dict[str, Any]]
Admin = Callable[..., TestResponse]


def new_app(**overrides: Any) -> Flask:
    """Return an app whose receivers may be on this machine."""
    given = {
        "admin_key": ADMIN_KEY,
        "encryption_keys": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "ingest_secret": INGEST_SECRET,
        "allow_loopback": True,
        "source": "eassessment.example",
        "log_format": "json",
        **overrides,
    }
    return create_app(Settings(_env_file=None, **given))


@pytest.fixture
def make_app() -> Iterator[Callable[..., Flask]]:
    """Return a function that makes an app with other settings; closed after the test."""
    made: list[Flask] = []

    def make(**overrides: Any) -> Flask:
        made.append(new_app(**overrides))
        return made[-1]

    yield make
    for app in made:
        services.of(app).database.dispose()


@pytest.fixture(scope="session")
def shared_app(
    tmp_path_factory: pytest.TempPathFactory, sqlite_templates: Callable[[Schema], Path]
) -> Iterator[Flask]:
    """One app for all tests; on SQLite, because differences in SQL are tested below the edges."""
    path = shutil.copy(sqlite_templates(SCHEMA), tmp_path_factory.mktemp("app") / "notifier.db")
    root = python_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    app = new_app(database_url=f"sqlite:///{path}")
    root.handlers[:], root.level = handlers, level
    yield app
    services.of(app).database.dispose()


@pytest.fixture
def app(shared_app: Flask) -> Flask:
    """The shared app with an empty database."""
    logging.configure("INFO", "json")
    with services.of(shared_app).database.writing() as session:
        for table in reversed(SCHEMA.metadata.sorted_tables):
            session.execute(delete(table))
        session.execute(text("DELETE FROM sqlite_sequence"))
    return shared_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without credentials."""
    return app.test_client()


@pytest.fixture
def database(app: Flask) -> Database:
    """The app's database."""
    return services.of(app).database


@pytest.fixture
def vault(app: Flask) -> Vault:
    """The app's vault."""
    return services.of(app).vault


@pytest.fixture
def rows(database: Database) -> Rows:
    """Return a function that reads all rows, to see whether anything was changed."""

    def read() -> dict[str, list[Any]]:
        with database.reading() as session:
            return {
                table.name: sorted(map(repr, session.execute(select(table)).all()))
                for table in SCHEMA.metadata.sorted_tables
            }

    return read


@pytest.fixture
def admin(client: FlaskClient) -> Admin:
    """Return a function that sends a request to the admin API."""

    def send(method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return client.open(f"/api/v1/admin{path}", method=method, headers=headers, **options)

    return send


@pytest.fixture
def refused() -> Refused:
    """Return a function that checks that a response is a problem, and returns its members."""

    def check(response: TestResponse, status: int, kind: str) -> dict[str, Any]:
        assert (status, "application/problem+json") == (response.status_code, response.mimetype), (
            response.text
        )
        document: dict[str, Any] = response.get_json(force=True)
        assert f"urn:problem-type:{kind}" == document["type"]
        assert status == document["status"]
        assert document["detail"]
        assert document["next_step"]
        assert response.headers["X-Request-Id"] == document["request_id"]
        assert response.headers["Cache-Control"] == "no-store"
        return document

    return check

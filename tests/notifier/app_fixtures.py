"""Fixtures of eAssessment as an app, for the tests of its API and its pages."""

import logging as python_logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation import logging
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier import services
from notifier.app import app_of
from notifier.config import Settings
from tests.notifier.conftest import SITE

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
INGEST_SECRET = "planted-ingest-secret"

Refused = Callable[..., dict[str, Any]]
Admin = Callable[..., TestResponse]


def make_settings(**overrides: Any) -> Settings:
    """Return settings that allow receivers on this machine."""
    given = {
        "admin_key": ADMIN_KEY,
        "encryption_keys": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "ingest_secret": INGEST_SECRET,
        "allow_loopback": True,
        "source": SITE,
        "log_format": "json",
        **overrides,
    }
    return Settings(_env_file=None, **given)


@pytest.fixture
def database_kind() -> str:
    """SQLite; differences in SQL are tested below the edges."""
    return "sqlite"


@pytest.fixture(scope="session")
def shared_app(shared_database: Callable[[str], Database]) -> Flask:
    """One app for all tests, on the database that all tests share."""
    root = python_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = services.load(make_settings())
    root.handlers[:], root.level = handlers, level
    return app_of(replace(made, database=shared_database("sqlite")))


@pytest.fixture
def app(shared_app: Flask, database: Database) -> Flask:
    """The shared app with an empty database."""
    logging.configure("INFO", "json")
    return shared_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without credentials."""
    return app.test_client()


@pytest.fixture
def vault(shared_app: Flask) -> Vault:
    """The app's vault."""
    return services.of(shared_app).vault


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

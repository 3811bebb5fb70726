"""Both services' pages under test: each test that asks for an app gets that of either service."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.pages import users
from notifier import services as notifier_services
from notifier.app import create_app as create_notifier
from notifier.config import Settings as NotifierSettings
from notifier.models import SCHEMA as NOTIFIER
from receiver import services as receiver_services
from receiver.app import create_app as create_receiver
from receiver.config import Settings as ReceiverSettings
from receiver.models import SCHEMA as RECEIVER

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
PASSWORD = "correct horse battery"
NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    """One of the two services: its tables, how its app is made, and how it is closed."""

    name: str
    schema: Schema
    create: Callable[..., Flask]
    database: Callable[[Flask], Database]

    @property
    def cookie(self) -> str:
        """The name of its session's cookie."""
        return f"__Host-{self.name}"


def _notifier(**given: Any) -> Flask:
    key = "planted-admin-key-0123456789abcdef"
    return create_notifier(NotifierSettings(_env_file=None, admin_key=key, **given))


def _receiver(**given: Any) -> Flask:
    return create_receiver(ReceiverSettings(_env_file=None, **given))


SERVICES = [
    Service("notifier", NOTIFIER, _notifier, lambda app: notifier_services.of(app).database),
    Service("receiver", RECEIVER, _receiver, lambda app: receiver_services.of(app).database),
]


@pytest.fixture(params=SERVICES, ids=lambda service: service.name)
def service(request: pytest.FixtureRequest) -> Service:
    """The service whose pages are looked at: every test that asks looks at both."""
    found: Service = request.param
    return found


@pytest.fixture
def database_url(service: Service, make_database_url: Callable[[Schema], str]) -> str:
    """The URL of the service's empty, migrated database."""
    return make_database_url(service.schema)


@pytest.fixture
def make_app(service: Service, database_url: str) -> Iterator[Callable[..., Flask]]:
    """Return what makes an app of the service on that database; closed at the end."""
    made: list[Flask] = []

    def make(**overrides: Any) -> Flask:
        given = {"encryption_keys": KEY, "database_url": database_url, "log_format": "json"}
        made.append(service.create(**{**given, **overrides}))
        return made[-1]

    yield make
    for app in made:
        service.database(app).dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The service's app."""
    return make_app()


@pytest.fixture
def database(service: Service, app: Flask) -> Database:
    """The app's database."""
    return service.database(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser that nobody signed in with."""
    return app.test_client()


@pytest.fixture
def ada(database: Database) -> str:
    """The name of somebody who may sign in with PASSWORD."""
    with database.writing() as session:
        return users.add(session, "Ada", PASSWORD, now=NINE).name


def token_in(answer: TestResponse) -> str:
    """Return what the form of a page proves with that it is this session's."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', answer.text)
    assert found, answer.text
    return unescape(found[1])


def enter(client: FlaskClient, name: str, password: str = PASSWORD, **more: Any) -> TestResponse:
    """Open the form of the sign-in and send it."""
    token = token_in(client.get("/sign-in"))
    fields = {"csrf_token": token, "name": name, "password": password, **more.pop("fields", {})}
    return client.post("/sign-in", data=fields, **more)


@pytest.fixture
def signed_in(client: FlaskClient, ada: str) -> FlaskClient:
    """A browser that Ada is signed in with."""
    assert enter(client, ada).status_code == 303
    return client


@pytest.fixture
def is_in() -> Callable[[FlaskClient], bool]:
    """Return what tells whether somebody is signed in with a browser."""
    return lambda browser: browser.get("/").status_code == 200


def templates() -> list[Path]:
    """Return every template and every file that is served."""
    root = Path(__file__).parents[2]
    folders = ("foundation/pages", "notifier/pages", "receiver/pages")
    return sorted(
        path
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix in {".html", ".css", ".js", ".svg"}
    )

"""The pages of a service: the notifier's on SQLite, unless a test names both."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.config import ServiceSettings
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.pages import users
from foundation.services import Services
from notifier.app import create_app as create_notifier
from notifier.cli import main as notifier
from notifier.config import Settings as NotifierSettings
from notifier.models import SCHEMA as NOTIFIER
from receiver.app import create_app as create_receiver
from receiver.cli import main as receiver
from receiver.config import Settings as ReceiverSettings
from receiver.models import SCHEMA as RECEIVER

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ADMIN_KEY = "planted-admin-key-0123456789abcdef"
PASSWORD = "correct horse battery"
NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
PROGRAMS: dict[str, click.Command] = {"notifier": notifier, "receiver": receiver}
Run = Callable[..., Result]
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@dataclass(frozen=True)
class Service:
    """One of the two services: its tables, and how to make its app."""

    name: str
    schema: Schema
    settings: type[ServiceSettings]
    app_of: Callable[[Any], Flask]

    @property
    def cookie(self) -> str:
        return f"__Host-{self.name}"

    def create(self, **given: Any) -> Flask:
        """Return an app with these settings; only the notifier has an admin key."""
        return self.app_of(self.settings(_env_file=None, admin_key=ADMIN_KEY, **given))


SERVICES = [
    Service("notifier", NOTIFIER, NotifierSettings, create_notifier),
    Service("receiver", RECEIVER, ReceiverSettings, create_receiver),
]
each_service = pytest.mark.parametrize(
    "service", [pytest.param(one, id=one.name) for one in SERVICES], indirect=True
)
each_database = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Service:
    chosen: Service = getattr(request, "param", SERVICES[0])
    return chosen


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def make_app(
    service: Service, make_database_url: Callable[[Schema], str]
) -> Iterator[Callable[..., Flask]]:
    """Return a function that makes an app of the service on one database."""
    made: list[Flask] = []
    url = make_database_url(service.schema)

    def make(**overrides: Any) -> Flask:
        given = {"encryption_keys": KEY, "database_url": url, "log_format": "json"}
        made.append(service.create(**{**given, **overrides}))
        return made[-1]

    yield make
    for app in made:
        Services.of(app).database.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def database(app: Flask) -> Database:
    return Services.of(app).database


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser without a session."""
    return app.test_client()


@pytest.fixture
def ada(database: Database) -> str:
    """The name of a user with PASSWORD."""
    with database.writing() as session:
        return users.add(session, "Ada", PASSWORD, now=NINE).name


@pytest.fixture
def signed_in(client: FlaskClient, ada: str) -> FlaskClient:
    """A browser in which Ada is signed in."""
    assert enter(client, ada).status_code == 303
    return client


@pytest.fixture
def run_program(
    service: Service, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Return a function that runs a command of the service on its database."""
    monkeypatch.chdir(tmp_path)
    prefix = service.name.upper()
    monkeypatch.setenv(f"{prefix}_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv(f"{prefix}_DATABASE_URL", str(database.engine.url))
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", ADMIN_KEY)

    def invoke(*words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(
            PROGRAMS[service.name], words, input=stdin, catch_exceptions=False
        )

    return invoke


def token_in(response: TestResponse) -> str:
    """Return the CSRF token in the form of a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', response.text)
    assert found, response.text
    return unescape(found[1])


def enter(client: FlaskClient, name: str, password: str = PASSWORD, **more: Any) -> TestResponse:
    token = token_in(client.get("/sign-in"))
    fields = {"csrf_token": token, "name": name, "password": password, **more.pop("fields", {})}
    return client.post("/sign-in", data=fields, **more)


def is_in(client: FlaskClient) -> bool:
    return client.get("/").status_code == 200


def copy_of(client: FlaskClient, app: Flask, service: Service) -> FlaskClient:
    """Return another browser with the same cookie."""
    cookie = client.get_cookie(service.cookie)
    assert cookie is not None
    other = app.test_client()
    other.set_cookie(service.cookie, cookie.value)
    return other

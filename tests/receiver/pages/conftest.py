"""The pages of ELMS under test: the browser of a signed-in user, and what a page shows."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, text
from werkzeug.test import TestResponse

from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.pages import users
from receiver import services
from receiver.app import create_app
from receiver.config import Settings
from receiver.models import SCHEMA
from tests.foundation.pages.conftest import HTML, PASSWORD, enter, token_in
from tests.receiver.conftest import ENCRYPTION_KEY, NINE


@dataclass(frozen=True)
class Page:
    """A response with a page."""

    response: TestResponse

    @property
    def status(self) -> int:
        """The status code."""
        return self.response.status_code

    @property
    def html(self) -> str:
        """The whole document."""
        return self.response.text

    @property
    def text(self) -> str:
        """The text of the content, as a person reads it."""
        assert self.response.mimetype == "text/html"
        return _visible(self.html.partition("<main")[2].partition("</main>")[0].partition(">")[2])

    @property
    def rows(self) -> list[str]:
        """The text of each row of the tables, without their heads."""
        rows = re.findall(r"<tr>(.*?)</tr>", self.html, re.DOTALL)
        return [_visible(row) for row in rows if 'scope="row"' in row]

    def link(self, relation: str) -> str | None:
        """Return the URL of the link `next` or `prev`, if there is one."""
        found = re.search(rf'rel="{relation}" href="([^"]+)"', self.html)
        return unescape(found[1]) if found else None


def _visible(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@dataclass(frozen=True)
class Browser:
    """The browser of Ada, who is signed in."""

    client: FlaskClient

    def get(self, path: str) -> Page:
        """Open a page."""
        return Page(self.client.get(path, headers=HTML))

    def post(self, path: str, **fields: Any) -> Page:
        """Send a form with the CSRF token of the session."""
        token = token_in(self.client.get("/sources", headers=HTML))
        return Page(self.client.post(path, data={"csrf_token": token, **fields}, headers=HTML))

    def submit(self, path: str, **fields: Any) -> Page:
        """Send a form that is accepted, and follow the redirect."""
        page = self.post(path, **fields)
        assert page.status == 303, page.html
        return self.get(page.response.headers["Location"])

    def statements(self, path: str) -> int:
        """Return the number of statements that a page takes."""
        database = services.of(self.client.application).database
        before = database.statements
        assert self.get(path).status == 200
        return database.statements - before


@pytest.fixture(scope="session")
def shared() -> Iterator[list[FlaskClient]]:
    """The client that all tests of the pages use, as soon as one of them has made it."""
    made: list[FlaskClient] = []
    yield made
    for client in made:
        services.of(client.application).database.dispose()


@pytest.fixture
def client(
    shared: list[FlaskClient],
    sqlite_templates: Callable[[Schema], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> FlaskClient:
    """A client with Ada's session, on an ELMS that is otherwise empty.

    SQLite only: the queries are tested on both databases, where they are.
    """
    if not shared:
        path = tmp_path_factory.mktemp("pages") / "receiver.db"
        shutil.copy(sqlite_templates(SCHEMA), path)
        url = f"sqlite:///{path}"
        app = create_app(Settings(_env_file=None, database_url=url, encryption_keys=ENCRYPTION_KEY))
        with services.of(app).database.writing() as session:
            users.add(session, "Ada", PASSWORD, now=NINE)
        shared.append(app.test_client())
        assert enter(shared[0], "ada").status_code == 303
    with services.of(shared[0].application).database.writing() as session:
        for table in reversed(SCHEMA.metadata.sorted_tables):
            if table.name != "users":
                session.execute(delete(table))
        session.execute(text("DELETE FROM sqlite_sequence WHERE name <> 'users'"))
    return shared[0]


@pytest.fixture
def app(client: FlaskClient) -> Flask:
    """The app of the client."""
    return client.application


@pytest.fixture
def database(app: Flask) -> Database:
    """The database of the app."""
    return services.of(app).database


@pytest.fixture
def browser(client: FlaskClient) -> Browser:
    """A browser in which a user is signed in."""
    return Browser(client)

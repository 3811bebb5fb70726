"""Ada at the pages of eAssessment, as a browser without script and as its server hears her."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.db.session import Database
from foundation.pages import users
from tests.foundation.pages.conftest import PASSWORD, enter, token_in
from tests.notifier.conftest import NINE
from tests.notifier.web import conftest as api

# The fixtures of the API, whose app has the pages too.
make_settings, make_app, app, client = api.make_settings, api.make_app, api.app, api.client
database, rows, admin, admin_key = api.database, api.rows, api.admin, api.admin_key
make_course, make_delivery = api.make_course, api.make_delivery

MARKUP = "<script>alert(1)</script>&\"'"
"""A name that must stand on a page as it is, and not as part of it."""
URL = "https://elms.example/webhooks/eassessment"


@pytest.fixture
def ada(client: FlaskClient, database: Database) -> FlaskClient:
    """The browser of Ada, who is signed in."""
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=NINE)
    assert enter(client, "ada").status_code == 303
    return client


@pytest.fixture
def look(ada: FlaskClient) -> Callable[..., str]:
    """Return what opens a page and answers what is on it."""

    def at(path: str, answered: int = 200, **query: Any) -> str:
        answer = ada.get(path, query_string=query or None)
        assert answer.status_code == answered, answer.text
        return answer.text

    return at


@pytest.fixture
def send(ada: FlaskClient) -> Callable[..., TestResponse]:
    """Return what sends a form as a page of this session does."""
    token = token_in(ada.get("/courses/new"))

    def to(path: str, **fields: Any) -> TestResponse:
        return ada.post(path, data={"csrf_token": token, **fields})

    return to


@pytest.fixture
def make_endpoint(admin: Callable[..., TestResponse]) -> Callable[..., int]:
    """Return what registers an endpoint, and answers its number."""

    def make(url: str = URL, **options: Any) -> int:
        answer = admin("POST", "/endpoints", json={"url": url, **options})
        assert answer.status_code == 201, answer.text
        return int(answer.json["endpoint_id"])

    return make


@pytest.fixture
def statements(database: Database, look: Callable[..., str]) -> Callable[..., int]:
    """Return what counts the statements that a page takes."""

    def taken(path: str, **query: Any) -> int:
        before = database.statements
        look(path, **query)
        return database.statements - before

    return taken

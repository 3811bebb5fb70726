"""Fixtures of the pages of eAssessment: the browser of a signed-in user, without scripts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.db import session as db
from foundation.db.session import Database
from foundation.pages import users
from notifier.models import Attempt
from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import BreakerState
from tests.foundation.pages.conftest import PASSWORD, enter, token_in
from tests.notifier import app_fixtures
from tests.notifier.conftest import NINE

# The app is the one of the API's tests.
app, shared_app, client = app_fixtures.app, app_fixtures.shared_app, app_fixtures.client
database, vault, rows = app_fixtures.database, app_fixtures.vault, app_fixtures.rows

Look = Callable[..., str]
Send = Callable[..., TestResponse]
MakeAttempt = Callable[..., None]
SetFailing = Callable[..., None]

MARKUP = "<script>alert(1)</script>&\"'"
URL = "https://elms.example/webhooks/eassessment"


@pytest.fixture
def ada(client: FlaskClient, database: Database) -> FlaskClient:
    """The browser of Ada, who is signed in."""
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=NINE)
    assert enter(client, "ada").status_code == 303
    return client


@pytest.fixture
def look(ada: FlaskClient) -> Look:
    """Return a function that opens a page and returns its HTML."""

    def get(path: str, status: int = 200, /, **query: Any) -> str:
        response = ada.get(path, query_string=query or None)
        assert response.status_code == status, response.text
        return response.text

    return get


@pytest.fixture
def send(ada: FlaskClient) -> Send:
    """Return a function that sends a form."""
    token = token_in(ada.get("/courses/new"))

    def post(path: str, /, **fields: Any) -> TestResponse:
        return ada.post(path, data={"csrf_token": token, **fields})

    return post


@pytest.fixture
def now(database: Database) -> datetime:
    """The database's clock."""
    with database.reading() as session:
        return db.now(session)


@pytest.fixture
def make_attempt(database: Database) -> MakeAttempt:
    """Return a function that stores an attempt of a delivery."""

    def make(delivery_id: int, **overrides: Any) -> None:
        given = {"started_at": NINE, "milliseconds": 31, "decided": "retry", **overrides}
        with database.writing() as session:
            session.add(Attempt(delivery_id=delivery_id, **given))

    return make


@pytest.fixture
def set_failing(database: Database, now: datetime) -> SetFailing:
    """Return a function that lets an endpoint fail for two hours, and pauses it for one more."""

    def write(endpoint_id: int, failures: int = 9, pause: timedelta = timedelta(hours=1)) -> None:
        state = BreakerState(failures, now - timedelta(hours=2), now, now + pause)
        with database.writing() as session:
            circuit_breaker.write_states(session, {endpoint_id: state})

    return write

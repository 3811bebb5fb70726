"""Fixtures of the pages of eAssessment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.db import session as db
from foundation.pages import users
from notifier.webhooks.circuit_breaker import BreakerState
from tests.foundation.pages.conftest import PASSWORD, enter, token_in
from tests.notifier import app_fixtures
from tests.notifier.conftest import NINE, Store

# The app is the one of the API's tests.
app, shared_app, client = app_fixtures.app, app_fixtures.shared_app, app_fixtures.client
database_kind, vault = app_fixtures.database_kind, app_fixtures.vault

SetFailing = Callable[..., None]

MARKUP = "<script>alert(1)</script>&\"'"
URL = "https://elms.example/webhooks/eassessment"


@dataclass(frozen=True)
class Browser:
    """The browser of a signed-in user, and the CSRF token of the session."""

    client: FlaskClient
    token: str

    def look(self, path: str, status: int = 200, /, **query: Any) -> str:
        """Open a page and return its HTML."""
        response = self.client.get(path, query_string=query or None)
        assert response.status_code == status, response.text
        return response.text

    def send(self, path: str, /, **fields: Any) -> TestResponse:
        """Send a form."""
        return self.client.post(path, data={"csrf_token": self.token, **fields})


@pytest.fixture
def ada(client: FlaskClient, store: Store) -> Browser:
    """The browser of Ada, who is signed in."""
    store.write(users.add, "Ada", PASSWORD, now=NINE)
    assert enter(client, "ada").status_code == 303
    return Browser(client, token_in(client.get("/courses/new")))


@pytest.fixture
def now(store: Store) -> datetime:
    """The database's clock."""
    return store.read(db.now)


@pytest.fixture
def set_failing(store: Store, now: datetime) -> SetFailing:
    """Return a function that marks an endpoint as failing for two hours and paused for one more."""

    def write(endpoint_id: int, failures: int = 9, pause: timedelta = timedelta(hours=1)) -> None:
        state = BreakerState(failures, now - timedelta(hours=2), now, now + pause)
        store.set_state(endpoint_id, state)

    return write

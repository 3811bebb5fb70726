"""The pages of ELMS under test: somebody who is signed in, and what a page says."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from foundation.db.session import Database
from foundation.pages import users
from receiver import services
from tests.foundation.pages.conftest import PASSWORD, enter, token_in
from tests.receiver.conftest import NINE

HTML = {"Accept": "text/html"}


@dataclass(frozen=True)
class Ada:
    """Ada's browser; she is signed in."""

    client: FlaskClient

    def get(self, path: str) -> TestResponse:
        """Ask for a page."""
        return self.client.get(path, headers=HTML)

    def send(self, path: str, seen_at: str = "/sources", **fields: str) -> TestResponse:
        """Send a form, as from the page where its token was seen."""
        token = token_in(self.get(seen_at))
        return self.client.post(path, data={"csrf_token": token, **fields}, headers=HTML)

    def after(self, answer: TestResponse) -> str:
        """Follow a form's redirect, and return what the page says then."""
        assert answer.status_code == 303, answer.text
        return said(self.get(answer.headers["Location"]))


def signed_in(database: Database, client: FlaskClient) -> Ada:
    """Return a browser in which Ada, a new user, has signed in."""
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=NINE)
    assert enter(client, "ada").status_code == 303
    return Ada(client)


@pytest.fixture
def ada(database: Database, client: FlaskClient) -> Ada:
    """Somebody who is signed in."""
    return signed_in(database, client)


@pytest.fixture
def statements(app: Flask) -> Iterator[Callable[[], int]]:
    """Return what counts the statements since it was asked last."""
    engine = services.of(app).database.engine
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    def count() -> int:
        number = len(seen)
        seen.clear()
        return number

    event.listen(engine, "before_cursor_execute", note)
    yield count
    event.remove(engine, "before_cursor_execute", note)


def said(answer: TestResponse) -> str:
    """Return the text of a page as one reads it, without what is around its content."""
    assert answer.mimetype == "text/html"
    content = answer.text.partition("<main")[2].partition("</main>")[0].partition(">")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", content)).split())


def rows_of(answer: TestResponse) -> list[str]:
    """Return the text of each row of a page's tables, but for their heads."""
    parts = re.findall(r"<tr>(.*?)</tr>", answer.text, re.DOTALL)
    texts = [" ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split()) for part in parts]
    return [text for text, part in zip(texts, parts, strict=True) if 'scope="row"' in part]

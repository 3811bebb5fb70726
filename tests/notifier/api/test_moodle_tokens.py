"""The announcement of a Moodle's new token, which needs only its public id."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.tokens import MoodleToken
from notifier.models import Event
from tests.notifier.app_fixtures import ADMIN_KEY, Refused
from tests.notifier.conftest import Store

TOKEN = "0123456789abcdef0123456789abcdef"
TOKEN_ID = MoodleToken(TOKEN).token_id
Announce = Callable[..., TestResponse]


@pytest.fixture
def announce(client: FlaskClient) -> Announce:
    """Return a function that announces a course's new token."""

    def post(course_id: str, document: Any) -> TestResponse:
        path = f"/api/v1/courses/{course_id}/token-regenerated"
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return client.post(path, json=document, headers=headers)

    return post


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"token": TOKEN}, id="token"),
        pytest.param({"token_id": TOKEN_ID}, id="public id"),
    ],
)
def test_token_is_announced_by_its_public_id(
    capsys: pytest.CaptureFixture[str], announce: Announce, store: Store, document: Any
) -> None:
    response = announce("2026/7", document)

    assert response.json == {"course_id": "2026/7", "course_version": 2, "token_id": TOKEN_ID}
    (event,) = store.all(Event)
    assert event.type == "token.regenerated"
    assert json.loads(event.body)["data"]["token_id"] == TOKEN_ID
    shown = f"{store.rows()} {response.text} {capsys.readouterr()}"
    assert "request completed" in shown  # the log is captured
    assert TOKEN not in shown


def test_unknown_token_is_announced_under_a_new_id(announce: Announce) -> None:
    first, second = (announce("7", {}).json for _ in range(2))

    assert (first["course_version"], second["course_version"]) == (2, 3)
    assert first["token_id"] != second["token_id"]


@pytest.mark.parametrize(
    ("course_id", "document", "pointers"),
    [
        pytest.param("7", {"token": f"{TOKEN} "}, ["/token"], id="malformed token"),
        pytest.param("7", {"token_id": TOKEN}, ["/token_id"], id="token instead of its id"),
        pytest.param("7", {"token_id": TOKEN_ID, "token": TOKEN}, [], id="both"),
        pytest.param("a%07b", {}, ["/course_id"], id="invalid course id"),
    ],
)
def test_invalid_announcement_is_refused(
    announce: Announce,
    store: Store,
    refused: Refused,
    course_id: str,
    document: Any,
    pointers: list[str],
) -> None:
    before = store.rows()

    response = announce(course_id, document)

    problem = refused(response, 422, "request-invalid")
    assert [fault["pointer"] for fault in problem["errors"]] == pointers
    assert TOKEN not in response.text
    assert store.rows() == before


def test_course_with_a_token_of_eassessment_is_refused(
    announce: Announce, store: Store, refused: Refused
) -> None:
    store.add_course("CS101")
    before = store.rows()

    refused(announce("CS101", {"token": TOKEN}), 409, "token-not-ours")

    assert store.rows() == before

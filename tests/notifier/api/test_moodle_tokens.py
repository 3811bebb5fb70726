"""`POST /api/v1/courses/<id>/token-regenerated`: told by hand, for a Moodle tells nobody."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from contract.tokens import MoodleToken
from foundation.db.session import Database
from notifier.models import Event

TOKEN = "0123456789abcdef0123456789abcdef"
TOKEN_ID = MoodleToken(TOKEN).token_id
Tell = Callable[..., TestResponse]
Rows = Callable[[], dict[str, list[Any]]]
Refused = Callable[..., dict[str, Any]]


@pytest.fixture
def tell(client: FlaskClient, admin_key: str) -> Tell:
    """Return what tells of a course's new token with the admin key."""

    def post(course_id: str, document: Any) -> TestResponse:
        path = f"/api/v1/courses/{course_id}/token-regenerated"
        headers = {"Authorization": f"Bearer {admin_key}"}
        return client.post(path, json=document, headers=headers)

    return post


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"token": TOKEN}, id="the token itself"),
        pytest.param({"token_id": TOKEN_ID}, id="its public id"),
    ],
)
def test_new_token_is_told_by_its_public_id(
    capsys: pytest.CaptureFixture[str], tell: Tell, database: Database, rows: Rows, document: Any
) -> None:
    answer = tell("2026/7", document)

    assert answer.status_code == 200
    assert answer.json == {"course_id": "2026/7", "course_version": 2, "token_id": TOKEN_ID}
    with database.reading() as session:
        event = session.scalars(select(Event)).one()
    assert (event.type, json.loads(event.body)["data"]["token_id"]) == (
        "token.regenerated",
        TOKEN_ID,
    )
    shown = f"{rows()} {answer.text} {capsys.readouterr()}"
    assert "request completed" in shown  # so what was logged is looked at
    assert TOKEN not in shown


def test_token_that_nobody_knows_is_told_too(tell: Tell) -> None:
    first, second = (tell("7", {}).json for _ in range(2))

    assert (first["course_version"], second["course_version"]) == (2, 3)
    assert first["token_id"] != second["token_id"]


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        pytest.param({"token": "eas_k7Qx2mPa_planted"}, "/token", id="a token of ours"),
        pytest.param({"token": ""}, "/token", id="an empty token"),
        pytest.param({"token": 7}, "/token", id="a number"),
        pytest.param({"token_id": TOKEN}, "/token_id", id="a token in place of its id"),
        pytest.param({"token_id": True}, "/token_id", id="true"),
        pytest.param({"tokens": "planted"}, "/tokens", id="another name"),
        pytest.param([], "", id="an array"),
    ],
)
def test_what_cannot_be_told_is_pointed_to(
    tell: Tell, rows: Rows, refused: Refused, document: Any, pointer: str
) -> None:
    before = rows()

    answer = tell("7", document)

    problem = refused(answer, 422, "request-invalid")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
    assert TOKEN not in answer.text
    assert "planted" not in answer.text
    assert before == rows()


def test_token_and_its_id_are_not_told_together(tell: Tell, rows: Rows, refused: Refused) -> None:
    before = rows()

    answer = tell("7", {"token": TOKEN, "token_id": TOKEN_ID})

    assert refused(answer, 422, "request-invalid")["detail"] == (
        "give either `token_id` or `token`"
    )
    assert before == rows()


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("%20", id="a space"),
        pytest.param("a%07b", id="a bell"),
        pytest.param("x" * 256, id="256 characters"),
    ],
)
def test_no_course_is_taken_in_that_cannot_be_named(
    tell: Tell, rows: Rows, refused: Refused, course_id: str
) -> None:
    before = rows()

    problem = refused(tell(course_id, {}), 422, "request-invalid")

    assert [fault["pointer"] for fault in problem["errors"]] == ["/course_id"]
    assert before == rows()


def test_course_with_a_token_of_ours_is_refused(
    tell: Tell, make_course: Callable[..., str], rows: Rows, refused: Refused
) -> None:
    make_course("CS101")
    before = rows()

    problem = refused(tell("CS101", {"token": TOKEN}), 409, "token-not-ours")

    assert problem["action"] == "courses regenerate-token CS101"
    assert before == rows()


def test_deleted_course_is_gone(
    tell: Tell, admin: Callable[..., TestResponse], refused: Refused
) -> None:
    tell("7", {})
    admin("DELETE", "/courses/7")

    problem = refused(tell("7", {"token": TOKEN}), 410, "course-deleted")

    assert problem["deleted_at"]

"""Bad input at the grades API's batch, row by row: the right 4xx, no query, and no token shown."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation.db.session import Database

PATH = "/api/v1/grades/batch"
TOKEN = CourseToken.generate().reveal()
ONE = {"course_id": "CS101", "token": TOKEN}
Refused = Callable[..., dict[str, Any]]
Send = Callable[..., TestResponse]


@pytest.fixture
def send(app: Flask) -> Send:
    """Return what posts a body to the batch, whatever it holds."""
    client = FlaskClient(app, app.response_class, use_cookies=False)

    def post(raw: bytes, content_type: str = "application/json", **environ: Any) -> TestResponse:
        return client.post(PATH, data=raw, content_type=content_type, environ_overrides=environ)

    return post


def batch(**overrides: object) -> bytes:
    """Return a batch about one course, with some of its fields as given; None leaves one out."""
    course = {name: one for name, one in {**ONE, **overrides}.items() if one is not None}
    return json.dumps({"courses": [course]}).encode()


MALFORMED = [
    ("nothing", b""),
    ("no JSON", b"{"),
    ("not UTF-8", b'{"courses":[{"course_id":"\xff"}]}'),
    ("a byte order mark", b"\xef\xbb\xbf" + batch()),
    ("NUL in a course id", batch(course_id="CS\x00101")),
    ("NUL in a token", batch(token=f"{TOKEN}\x00")),
    ("NUL in an entity tag", batch(if_none_match="\x00")),
    ("a lone surrogate", batch(course_id="\ud800")),
    ("a lone surrogate for a tag", batch(if_none_match='"\udfff"')),
    ("nested deeply", b'{"courses":' + b"[" * 1000 + b"]" * 1000 + b"}"),
    ("nested very deeply", b"[" * 100_000),
    ("a key twice", b'{"courses":[],"courses":[]}'),
    ("a field twice", b'{"courses":[{"course_id":"CS101","course_id":"CS102","token":"x"}]}'),
    ("NaN", b'{"courses":NaN}'),
    ("10,000 digits", b'{"courses":[{"if_none_match":' + b"9" * 10_000 + b"}]}"),
]


def test_what_cannot_be_read_is_a_400(send: Send, database: Database, refused: Refused) -> None:
    before = database.statements

    answers = {name: send(raw) for name, raw in MALFORMED}

    for answer in answers.values():
        refused(answer, 400, "request-malformed")
        assert TOKEN not in answer.text
    assert database.statements == before


INVALID = [
    ("an empty object", b"{}", "/courses"),
    ("a list", b"[]", ""),
    ("a number", b"7", ""),
    ("null", b"null", ""),
    ("no courses", b'{"courses":[]}', "/courses"),
    ("courses null", b'{"courses":null}', "/courses"),
    ("courses an object", b'{"courses":{}}', "/courses"),
    ("courses a text", b'{"courses":"CS101"}', "/courses"),
    ("a course null", b'{"courses":[null]}', "/courses/0"),
    ("a course a text", b'{"courses":["CS101"]}', "/courses/0"),
    ("no course id", batch(course_id=None), "/courses/0/course_id"),
    ("a number for an id", batch(course_id=101), "/courses/0/course_id"),
    ("a list for an id", batch(course_id=["CS101"]), "/courses/0/course_id"),
    ("a long id", batch(course_id="x" * 256), "/courses/0/course_id"),
    ("no token", batch(token=None), "/courses/0/token"),
    ("a number for a token", batch(token=7), "/courses/0/token"),
    ("a long token", batch(token=TOKEN * 10), "/courses/0/token"),
    ("a number for a tag", batch(if_none_match=7), "/courses/0/if_none_match"),
    ("a tag of 10,000 digits", batch(if_none_match="9" * 10_000), "/courses/0/if_none_match"),
    ("a number for a moment", batch(if_modified_since=7), "/courses/0/if_modified_since"),
    ("a moment without zone", batch(if_modified_since="2026-11-22T09:00:00"), None),
    ("a moment as HTTP has it", batch(if_modified_since="Sun, 22 Nov 2026 09:00:00 GMT"), None),
    (
        "a moment out of reach",
        batch(if_modified_since="9999-12-31T23:59:59-23:59"),
        "/courses/0/if_modified_since",
    ),
    ("101 courses", json.dumps({"courses": [ONE] * 101}).encode(), "/courses"),
    ("the second wrong", json.dumps({"courses": [ONE, {}]}).encode(), "/courses/1/course_id"),
]


def test_what_has_another_form_is_a_422_that_points_there(
    send: Send, database: Database, refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    before = database.statements

    answers = {name: send(raw) for name, raw, _ in INVALID}

    for name, _, pointer in INVALID:
        document = refused(answers[name], 422, "request-invalid")
        expected = "/courses/0/if_modified_since" if pointer is None else pointer
        assert document["errors"][0]["pointer"] == expected, name
        assert TOKEN not in answers[name].text, name
    assert PATH in caplog.text
    assert TOKEN not in caplog.text
    assert database.statements == before


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("", id="nothing"),
        pytest.param("text/plain", id="text"),
        pytest.param("application/x-www-form-urlencoded", id="a form"),
        pytest.param("application/jsonx", id="almost JSON"),
    ],
)
def test_what_is_not_said_to_be_json_is_a_415(
    send: Send, refused: Refused, content_type: str
) -> None:
    refused(send(batch(), content_type), 415, "media-type-unsupported")


def test_a_body_beyond_its_limit_is_a_413(send: Send, refused: Refused) -> None:
    limit = 256 * 1024
    most = batch().ljust(limit)

    taken, told, long = (
        send(most),
        send(batch(), CONTENT_LENGTH=str(limit + 1)),
        send(most + b" "),
    )

    assert taken.status_code == 200
    for answer in (told, long):
        refused(answer, 413, "body-too-large")


def test_the_largest_batch_that_may_be_asked_is_within_the_limit(send: Send) -> None:
    course = {"course_id": "🎓" * 255, "token": "ß" * 255, "if_none_match": "é" * 255}
    raw = json.dumps({"courses": [course] * 100}, ensure_ascii=False).encode()

    answer = send(raw)

    assert answer.status_code == 200
    assert [item["status"] for item in answer.json["answers"]] == [401] * 100


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="a space"),
        pytest.param("../admin", id="dots"),
        pytest.param("' OR 1=1 --", id="SQL"),
        pytest.param("<script>", id="markup"),
        pytest.param("\u202eCS101", id="right to left"),
        pytest.param("\r\nSet-Cookie: x=1", id="line ends"),
        pytest.param("🎓" * 255, id="255 characters outside the plane"),
    ],
)
def test_a_strange_course_id_spoils_no_other(
    client: FlaskClient, make_course: Callable[..., str], course_id: str
) -> None:
    token = make_course()
    asked = [{"course_id": name, "token": token} for name in ("CS101", course_id, "CS101")]

    answer = client.post(PATH, json={"courses": asked})

    items = answer.json["answers"]
    assert [item["status"] for item in items] == [200, 404, 200]
    assert items[1]["course_id"] == course_id


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("", id="empty"),
        pytest.param(" {token}", id="a space before it"),
        pytest.param("Bearer {token}", id="with its scheme"),
        pytest.param("{token}\n", id="a line end"),
        pytest.param("{token}{token}", id="twice"),
        pytest.param("é\x7f", id="not ASCII"),
        pytest.param("' OR 1=1 --", id="SQL"),
    ],
)
def test_a_strange_token_spoils_no_other(
    client: FlaskClient, make_course: Callable[..., str], form: str
) -> None:
    token = make_course()
    asked = [{"course_id": "CS101", "token": one} for one in (token, form.format(token=token))]

    answer = client.post(PATH, json={"courses": asked})

    fine, strange = answer.json["answers"]
    assert (fine["status"], strange["status"]) == (200, 401)
    assert strange["problem"]["type"] == "urn:problem-type:token-malformed"
    assert token not in answer.text


def test_a_bearer_in_the_header_is_not_looked_at(
    client: FlaskClient, make_course: Callable[..., str]
) -> None:
    token = make_course()
    course = {"course_id": "CS101", "token": ""}

    answer = client.post(
        PATH, json={"courses": [course]}, headers={"Authorization": f"Bearer {token}"}
    )

    assert [item["status"] for item in answer.json["answers"]] == [401]


def test_a_batch_is_posted_and_nothing_else(client: FlaskClient, refused: Refused) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client.open(f"{PATH}?token={TOKEN}", method=method)

        refused(answer, 405, "method-not-allowed")
        assert answer.headers["Allow"] == "POST"
        assert TOKEN not in answer.text

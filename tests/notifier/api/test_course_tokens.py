"""What the grades API accepts as a course token, and its RFC 6750 responses (B10, B13)."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from notifier.courses import service as courses
from tests.notifier.app_fixtures import Refused
from tests.notifier.conftest import NINE, Store

PATH = "/api/v1/courses/CS101/grades"
Get = Callable[..., TestResponse]
REALM = 'Bearer realm="eassessment"'
INVALID = f'{REALM}, error="invalid_token"'
SCOPE = f'{REALM}, error="insufficient_scope"'


@dataclass(frozen=True)
class Tokens:
    """The tokens of CS101, of CS102, of CS103, which was deleted, and of no course."""

    current: CourseToken
    superseded: CourseToken
    other: CourseToken
    deleted: CourseToken
    unknown: CourseToken

    def are_in(self, text: str) -> bool:
        """Return True if a text contains a secret."""
        return any(getattr(self, field.name).secret in text for field in fields(self))


@pytest.fixture
def tokens(store: Store) -> Tokens:
    """Tokens of every kind."""
    superseded, other, deleted = map(store.add_course, ("CS101", "CS102", "CS103"))
    later = NINE + timedelta(hours=1)
    current = store.write(courses.regenerate_token, "CS101", now=later)
    store.write(courses.delete_course, "CS103", now=later)
    unknown = replace(current, secret="x" * 24)
    return Tokens(current, superseded, other, deleted, unknown)


@pytest.fixture
def get(app: Flask) -> Get:
    """Return a function that requests grades with an Authorization header of any bytes."""
    client = FlaskClient(app, app.response_class, use_cookies=False)

    def send(authorization: str | None, path: str = PATH, **options: Any) -> TestResponse:
        given = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
        return client.open(path, environ_overrides=given, **options)

    return send


@pytest.mark.parametrize(
    ("authorization", "kind", "challenge"),
    [
        pytest.param(None, "token-missing", REALM, id="no header"),
        pytest.param("Basic {}", "token-missing", REALM, id="another scheme"),
        pytest.param("\xe4\xff", "token-missing", REALM, id="not ASCII"),
        pytest.param("Bearer", "token-malformed", INVALID, id="scheme alone"),
        pytest.param("Bearer {}x", "token-malformed", INVALID, id="wrong checksum"),
        pytest.param("Bearer {0},Bearer {0}", "token-malformed", INVALID, id="header twice"),
        pytest.param("Bearer {}\x00", "token-malformed", INVALID, id="NUL"),
        pytest.param("Bearer " + "a" * 8192, "token-malformed", INVALID, id="8 kB"),
    ],
)
def test_malformed_credentials_are_401_without_a_query(
    get: Get,
    tokens: Tokens,
    store: Store,
    refused: Refused,
    authorization: str | None,
    kind: str,
    challenge: str,
) -> None:
    before = store.database.statements

    response = get(authorization and authorization.format(tokens.current.reveal()))

    refused(response, 401, kind)
    assert response.headers["WWW-Authenticate"] == challenge
    assert not tokens.are_in(response.text)
    assert store.database.statements == before


@pytest.mark.parametrize(
    ("course_id", "token", "status", "kind", "challenge"),
    [
        pytest.param("CS101", "unknown", 401, "token-unknown", INVALID, id="unknown"),
        pytest.param("CS101", "superseded", 401, "token-regenerated", INVALID, id="superseded"),
        pytest.param("CS101", "other", 403, "token-wrong-course", SCOPE, id="other course"),
        pytest.param("CS103", "deleted", 410, "course-deleted", None, id="deleted"),
        pytest.param("NONE", "current", 404, "course-unknown", None, id="unknown course"),
    ],
)
def test_token_without_access_is_refused_as_rfc_6750_says(
    get: Get,
    tokens: Tokens,
    store: Store,
    refused: Refused,
    course_id: str,
    token: str,
    status: int,
    kind: str,
    challenge: str | None,
) -> None:
    bearer = getattr(tokens, token).reveal()
    before = store.rows()

    response = get(f"Bearer {bearer}", f"/api/v1/courses/{course_id}/grades")

    refused(response, status, kind)
    assert response.headers.get("WWW-Authenticate") == challenge
    assert not tokens.are_in(response.text)
    assert store.rows() == before


def test_refusal_has_the_facts_as_members(get: Get, tokens: Tokens, refused: Refused) -> None:
    problem = refused(get(f"Bearer {tokens.superseded.reveal()}"), 401, "token-regenerated")

    assert {
        "course_id": "CS101",
        "course_version": 2,
        "token_id": tokens.current.token_id,
        "regenerated_at": "2026-11-22T10:00:00.123456Z",
        "next_step": "Ask the eAssessment administrator for the new token and enter it in ELMS.",
    }.items() <= problem.items()


def test_token_in_the_url_is_not_read_and_not_logged(
    get: Get, tokens: Tokens, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    response = get(None, f"{PATH}?access_token={tokens.current.reveal()}")

    problem = refused(response, 401, "token-missing")
    assert "a token never goes into the URL" in problem["next_step"]
    written = capsys.readouterr().err
    assert PATH in written
    assert not tokens.are_in(response.text + written)


@pytest.mark.parametrize(
    ("name", "value"), [("Cookie", "access_token={}"), ("Proxy-Authorization", "Bearer {}")]
)
def test_other_headers_are_not_read(
    get: Get, tokens: Tokens, refused: Refused, name: str, value: str
) -> None:
    response = get(None, headers={name: value.format(tokens.current.reveal())})

    refused(response, 401, "token-missing")


def test_head_is_authorised_like_get(get: Get, tokens: Tokens) -> None:
    good = get(f"Bearer {tokens.current.reveal()}", method="HEAD")
    bad = get(f"Bearer {tokens.superseded.reveal()}", method="HEAD")

    assert (good.status_code, bad.status_code) == (200, 401)
    assert good.data == bad.data == b""

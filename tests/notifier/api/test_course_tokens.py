"""Bad input at the grades API, row by row: the right RFC 6750 answer, and nothing changes."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation.db.session import Database

PATH = "/api/v1/courses/CS101/grades"
REALM = 'Bearer realm="eassessment"'
INVALID = f'{REALM}, error="invalid_token"'
SCOPE = f'{REALM}, error="insufficient_scope"'
Rows = Callable[[], dict[str, list[Any]]]
Refused = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Tokens:
    """What is borne in these tests."""

    good: str
    old: str
    others: str
    deleted: str

    @property
    def secrets(self) -> set[str]:
        """What no answer may show."""
        borne = (self.good, self.old, self.others, self.deleted)
        return {*borne, *(CourseToken.parse(token).secret for token in borne)}


@pytest.fixture
def tokens(make_course: Callable[..., str], admin: Callable[..., TestResponse]) -> Tokens:
    """CS101 with its present and its old token, CS102, and CS103, which was deleted."""
    old = make_course("CS101")
    good = admin("POST", "/courses/CS101/token").json["token"]
    found = Tokens(good, old, make_course("CS102"), make_course("CS103"))
    admin("DELETE", "/courses/CS103")
    return found


@pytest.fixture
def ask(app: Flask) -> Callable[..., TestResponse]:
    """Return what asks for grades with this Authorization, whatever it holds."""
    client = FlaskClient(app, app.response_class, use_cookies=False)

    def give(
        authorization: str | None, path: str = PATH, method: str = "GET", **variables: Any
    ) -> TestResponse:
        borne = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
        return client.open(path, method=method, environ_overrides={**borne, **variables})

    return give


def mistyped(token: str) -> str:
    """Return the token with one character of its secret changed."""
    return token[:-10] + ("a" if token[-10] != "a" else "b") + token[-9:]


NOTHING_BORNE: list[tuple[str, Callable[[Tokens], str | None]]] = [
    ("no header", lambda tokens: None),
    ("empty", lambda tokens: ""),
    ("spaces", lambda tokens: "   "),
    ("the token alone", lambda tokens: tokens.good),
    ("another scheme", lambda tokens: f"Token {tokens.good}"),
    ("Basic", lambda tokens: "Basic " + base64.b64encode(f"x:{tokens.good}".encode()).decode()),
    ("Basic with a token", lambda tokens: f"Basic {tokens.good}"),
    ("Basic, then Bearer", lambda tokens: f"Basic x,Bearer {tokens.good}"),
    ("a tab for a space", lambda tokens: f"Bearer\t{tokens.good}"),
    ("no space", lambda tokens: f"Bearer{tokens.good}"),
    ("a colon", lambda tokens: f"Bearer: {tokens.good}"),
    ("the scheme of 8 kB", lambda tokens: "x" * 8192),
    ("not ASCII", lambda tokens: "\xe4\xff"),
    ("NUL", lambda tokens: "\x00"),
]


def test_who_bears_no_token_is_challenged_without_an_error(
    ask: Callable[..., TestResponse],
    tokens: Tokens,
    database: Database,
    rows: Rows,
    refused: Refused,
) -> None:
    """RFC 6750, 3.1: a plain challenge, at the cost of no query (B1, B13)."""
    before, statements = rows(), database.statements

    answers = {name: ask(borne(tokens)) for name, borne in NOTHING_BORNE}

    counted = database.statements - statements
    for name, answer in answers.items():
        refused(answer, 401, "token-missing")
        assert answer.headers["WWW-Authenticate"] == REALM, name
        assert not [secret for secret in tokens.secrets if secret in answer.text], name
    assert counted == 0
    assert rows() == before


MALFORMED: list[tuple[str, Callable[[Tokens], str]]] = [
    ("the scheme alone", lambda tokens: "Bearer"),
    ("the scheme and a space", lambda tokens: "Bearer "),
    ("the checksum wrong", lambda tokens: f"Bearer {mistyped(tokens.good)}"),
    ("cut short", lambda tokens: f"Bearer {tokens.good[:-1]}"),
    ("a character more", lambda tokens: f"Bearer {tokens.good}x"),
    ("Bearer twice", lambda tokens: f"Bearer Bearer {tokens.good}"),
    ("the header twice", lambda tokens: f"Bearer {tokens.good},Bearer {tokens.good}"),
    ("the header twice, unlike", lambda tokens: f"Bearer {tokens.good}, Basic x"),
    ("two tokens", lambda tokens: f"Bearer {tokens.good} {tokens.others}"),
    ("in quotes", lambda tokens: f'Bearer "{tokens.good}"'),
    ("in capitals", lambda tokens: f"Bearer {tokens.good.upper()}"),
    ("of 8 kB", lambda tokens: "Bearer " + "a" * 8192),
    ("not ASCII", lambda tokens: "Bearer \xe4\xff"),
    ("NUL after it", lambda tokens: f"Bearer {tokens.good}\x00"),
    ("a tab in it", lambda tokens: f"Bearer {tokens.good[:9]}\t{tokens.good[9:]}"),
    ("other digits", lambda tokens: "Bearer eas_" + "\u0661".encode().decode("latin-1") * 8),
    ("a webhook secret", lambda tokens: "Bearer whsec_" + "A" * 44),
    ("SQL", lambda tokens: "Bearer ' OR 1=1 --"),
]


def test_what_is_no_token_is_invalid_and_costs_no_query(
    ask: Callable[..., TestResponse],
    tokens: Tokens,
    database: Database,
    rows: Rows,
    refused: Refused,
) -> None:
    """A typo is told from a stranger by its checksum alone, and repeated to nobody (B13)."""
    before, statements = rows(), database.statements

    answers = {name: ask(borne(tokens)) for name, borne in MALFORMED}

    counted = database.statements - statements
    for name, answer in answers.items():
        refused(answer, 401, "token-malformed")
        assert answer.headers["WWW-Authenticate"] == INVALID, name
        assert not [secret for secret in tokens.secrets if secret in answer.text], name
    assert counted == 0
    assert rows() == before


def stranger(_: Tokens) -> str:
    """Return a token that no course has."""
    return CourseToken.generate().reveal()


def half_known(tokens: Tokens) -> str:
    """Return the present token's id with another secret."""
    return CourseToken(CourseToken.parse(tokens.good).token_id, "x" * 24).reveal()


KNOWN: list[tuple[str, str, Callable[[Tokens], str], int, str, str | None]] = [
    ("a stranger", "CS101", stranger, 401, "token-unknown", INVALID),
    ("a stranger, nowhere", "NONE", stranger, 401, "token-unknown", INVALID),
    ("its id with another secret", "CS101", half_known, 401, "token-unknown", INVALID),
    ("old", "CS101", lambda borne: borne.old, 401, "token-regenerated", INVALID),
    ("another course's", "CS101", lambda borne: borne.others, 403, "token-wrong-course", SCOPE),
    ("old, elsewhere", "CS102", lambda borne: borne.old, 403, "token-wrong-course", SCOPE),
    ("deleted, elsewhere", "CS101", lambda borne: borne.deleted, 403, "token-wrong-course", SCOPE),
    ("deleted", "CS103", lambda borne: borne.deleted, 410, "course-deleted", None),
    ("nowhere", "NONE", lambda borne: borne.good, 404, "course-unknown", None),
]


def test_what_a_token_is_not_good_for_is_told_by_rfc_6750(
    ask: Callable[..., TestResponse], tokens: Tokens, rows: Rows, refused: Refused
) -> None:
    """Unknown, old, another course's, a deleted course's: each by its own words (B10, B13)."""
    before = rows()

    answers = [
        ask(f"Bearer {borne(tokens)}", f"/api/v1/courses/{course_id}/grades")
        for _, course_id, borne, *_ in KNOWN
    ]

    for (name, _, _, status, kind, challenge), answer in zip(KNOWN, answers, strict=True):
        refused(answer, status, kind)
        assert answer.headers.get("WWW-Authenticate") == challenge, name
        assert not [secret for secret in tokens.secrets if secret in answer.text], name
    assert rows() == before


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("bearer {}", id="lower case"),
        pytest.param("BEARER {}", id="upper case"),
        pytest.param("Bearer   {}", id="several spaces"),
        pytest.param(" Bearer {} ", id="spaces around"),
    ],
)
def test_a_scheme_is_read_as_rfc_9110_says(
    ask: Callable[..., TestResponse], tokens: Tokens, form: str
) -> None:
    """Its case does not matter, nor how many spaces follow it (B13)."""
    assert ask(form.format(tokens.good)).status_code == 200


@pytest.mark.parametrize(
    "name", ["access_token", "token", "authorization", "Authorization", "bearer"]
)
def test_a_token_in_the_url_is_no_token_and_not_logged(
    ask: Callable[..., TestResponse],
    tokens: Tokens,
    refused: Refused,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """It is not read where others could read it too, and the log does not keep it (B13)."""
    answer = ask(None, f"{PATH}?{name}={tokens.good}")

    refused(answer, 401, "token-missing")
    assert answer.headers["WWW-Authenticate"] == REALM
    assert "a token never goes into the URL" in answer.json["next_step"]
    assert PATH in caplog.text
    assert tokens.good not in answer.text + caplog.text


def test_a_token_in_a_body_or_another_header_is_no_token(
    client: FlaskClient, tokens: Tokens, refused: Refused
) -> None:
    """Only Authorization bears it: not a form, a cookie, nor a header of a proxy (B13)."""
    answers = [
        client.get(PATH, data={"access_token": tokens.good}),
        client.get(PATH, headers={"Cookie": f"access_token={tokens.good}"}),
        client.get(PATH, headers={"Proxy-Authorization": f"Bearer {tokens.good}"}),
        client.get(PATH, headers={"X-Authorization": f"Bearer {tokens.good}"}),
    ]

    for answer in answers:
        refused(answer, 401, "token-missing")


METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = (
    f"{PATH}/",
    f"/{PATH}",
    "/api/v1//courses/CS101/grades",
    "/API/v1/courses/CS101/grades",
    "/api/v1/courses",
    "/api/v1/courses/",
    "/api/v1/courses//grades",
    "/api/v1/courses/CS101",
    f"/x/..{PATH}",
    "/api/v2/courses/CS101/grades",
    f"{PATH}.json",
)


def test_a_head_request_is_authorised_like_a_get(
    ask: Callable[..., TestResponse], tokens: Tokens
) -> None:
    """HEAD tells nothing that GET would not, and has no body (B12)."""
    answers = [ask(f"Bearer {borne}", method="HEAD") for borne in (tokens.good, tokens.old)]

    assert [answer.status_code for answer in answers] == [200, 401]
    assert {answer.data for answer in answers} == {b""}


def test_a_body_that_nobody_asked_for_is_not_read(
    ask: Callable[..., TestResponse], tokens: Tokens
) -> None:
    """Grades are asked for without a body; whatever is sent along changes no answer (B4, B5)."""
    answers = [
        ask(f"Bearer {tokens.good}", CONTENT_LENGTH=length, CONTENT_TYPE="x/y")
        for length in ("", "-1", "nan", str(10**15))
    ]

    assert {answer.status_code for answer in answers} == {200}

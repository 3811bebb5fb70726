"""Bad input at the webhook route: the right 4xx, and nothing is changed.

Which headers and bodies are bad is tested in `tests/contract` and `tests/foundation/web`; here is
one request of each class.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from freezegun import freeze_time

from contract.problems import ProblemType
from contract.signatures import Secret
from foundation import logging
from receiver import services
from receiver.models import SourceRefusal
from receiver.webhooks.views import MAX_BODY_BYTES
from tests.receiver.conftest import SITE, Store
from tests.receiver.webhooks.conftest import PATH, Post, check_refused, make_body

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
STRANGER = Secret(b"x" * 32)
TOO_LONG = b" " * (MAX_BODY_BYTES + 1)
CHUNKED = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}

Request = dict[str, Any]
Refuse = Callable[..., dict[str, Any]]


@pytest.fixture
def database_kind() -> str:
    """SQLite, unless a test names the databases: a refused request reaches none."""
    return "sqlite"


@pytest.fixture
def refuse(post: Post, store: Store) -> Refuse:
    """Return a function that asserts that a request is refused and changes nothing.

    That it was refused is stored once a minute: not for the second request.
    """

    def send(request: Request, problem: ProblemType, status: int) -> dict[str, Any]:
        before = store.everything(without=SourceRefusal)
        check_refused(post(**request), problem, status)
        stored = store.everything()
        document = check_refused(post(**request), problem, status)
        assert store.everything() == stored
        assert store.everything(without=SourceRefusal) == before
        return document

    return send


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"headers": {ID: None}}, id="B1 missing"),
        pytest.param({"headers": {TIMESTAMP: "1" * 8192}}, id="B1 8 kB"),
        pytest.param({"headers": {ID: "\xe4\xf6"}}, id="B1 not ASCII"),
        pytest.param({"headers": {SIGNATURE: " ".join(["v1,AAAA"] * 10_000)}}, id="B2 10,000"),
        pytest.param({"headers": {TIMESTAMP: "nan"}}, id="B3 no number"),
        pytest.param({"headers": {ID: None}, "body": TOO_LONG}, id="B5 unsigned and too large"),
    ],
)
def test_malformed_headers_cost_no_query(
    post: Post, app: Flask, store: Store, request_: Request
) -> None:
    before, database = store.everything(), services.of(app).database
    statements = database.statements

    response = post(**request_)

    check_refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert response.headers["WWW-Authenticate"] == 'Standard-Webhooks version="v1"'
    assert database.statements == statements
    assert store.everything() == before


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"headers": {SIGNATURE: "v2," + "A" * 43 + "="}}, id="B2 only v2"),
        pytest.param({"body": b"[" * 60_000, "signed_by": STRANGER}, id="B4 nested"),
        pytest.param({"environ": {"CONTENT_LENGTH": ""}}, id="B5 no length"),
        pytest.param({"signed_by": STRANGER}, id="B10 unknown secret"),
        pytest.param({"path": "/webhooks/unknown.example"}, id="B10 unknown source"),
        pytest.param({"path": f"/webhooks/{SITE.upper()}"}, id="B10 upper case"),
        pytest.param({"path": "/webhooks/other.example"}, id="B10 other source"),
        pytest.param({"signed_body": make_body(course_version=5)}, id="F21 other body"),
        pytest.param({"headers": {ID: "msg_2"}}, id="F21 other id"),
    ],
)
def test_unsigned_body_is_not_parsed(
    refuse: Refuse, app: Flask, store: Store, request_: Request
) -> None:
    store.add_source("other.example", secrets=(Secret.generate(),))
    refuse(request_, ProblemType.SIGNATURE_REFUSED, 401)
    statements = services.of(app).database.statements

    document = refuse(request_, ProblemType.SIGNATURE_REFUSED, 401)

    # The same words for all: a client cannot find out which sources exist.
    assert document["detail"].startswith("no signature matches")
    assert services.of(app).database.statements - statements <= 4


@pytest.mark.parametrize(
    ("request_", "problem", "status"),
    [
        pytest.param({"body": b""}, ProblemType.REQUEST_MALFORMED, 400, id="B4 empty"),
        pytest.param(
            {"body": b"[" * 30_000 + b"]" * 30_000},
            ProblemType.REQUEST_MALFORMED,
            400,
            id="B6 deeply nested",
        ),
        pytest.param(
            {"content_type": "text/json"},
            ProblemType.MEDIA_TYPE_UNSUPPORTED,
            415,
            id="B12 content type",
        ),
        pytest.param(
            {"environ": {"HTTP_CONTENT_ENCODING": "gzip"}},
            ProblemType.MEDIA_TYPE_UNSUPPORTED,
            415,
            id="B14 encoded",
        ),
        pytest.param({"body": TOO_LONG}, ProblemType.BODY_TOO_LARGE, 413, id="B5 too large"),
        pytest.param(
            {"body": TOO_LONG, "environ": CHUNKED},
            ProblemType.BODY_TOO_LARGE,
            413,
            id="B5 chunked",
        ),
        pytest.param(
            {"environ": {"CONTENT_LENGTH": str(len(make_body()) + 1)}},
            ProblemType.REQUEST_MALFORMED,
            400,
            id="B5 shorter than announced",
        ),
        pytest.param(
            {"body": make_body(source="other.example")},
            ProblemType.SOURCE_MISMATCH,
            403,
            id="B10 other source",
        ),
        pytest.param({"method": "GET"}, ProblemType.METHOD_NOT_ALLOWED, 405, id="B12 method"),
        pytest.param({"path": f"{PATH}/"}, ProblemType.NOT_FOUND, 404, id="B12 trailing slash"),
    ],
)
def test_signed_request_is_refused(
    refuse: Refuse, request_: Request, problem: ProblemType, status: int
) -> None:
    refuse(request_, problem, status)


def test_known_id_with_another_body_is_409(post: Post, refuse: Refuse) -> None:  # B11
    post()

    refuse({"body": make_body() + b" "}, ProblemType.WEBHOOK_ID_REUSED, 409)


def test_invalid_field_is_422_with_its_pointer(refuse: Refuse) -> None:  # B9
    body = make_body(course_version=True)

    document = refuse({"body": body}, ProblemType.REQUEST_INVALID, 422)

    assert [fault["pointer"] for fault in document["errors"]] == ["/data/course_version"]


@pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("E\u0301conomie", id="NFD"),
        pytest.param("\U0001f393", id="emoji"),
        pytest.param("\u062a\u0627\u0631\u064a\u062e", id="right to left"),
        pytest.param("'; DROP TABLE entries;-- %00{{7*7}}<script>", id="markup"),
        pytest.param("\u00e9" * 255, id="255 characters of two bytes"),
    ],
)
def test_strange_course_id_is_stored_unchanged(  # B7
    post: Post, store: Store, capsys: pytest.CaptureFixture[str], course_id: str
) -> None:
    logging.configure("INFO", "json")

    response = post(make_body(course_id=course_id))

    assert response.get_json() == {"outcome": "applied"}
    assert store.entry(course_id).course_id == course_id
    lines = capsys.readouterr().err.splitlines()
    assert course_id in {json.loads(line).get("course_id") for line in lines}
    assert all(map(str.isprintable, lines))


def test_clocks_may_differ_by_five_minutes(post: Post, refuse: Refuse) -> None:  # F18
    with freeze_time(NINE + timedelta(seconds=299)):
        accepted = post(signed_at=NINE)
    with freeze_time(NINE + timedelta(seconds=301)):
        document = refuse({"signed_at": NINE}, ProblemType.SIGNATURE_REFUSED, 401)
    with freeze_time(NINE):
        repeated = post(signed_at=NINE)

    assert (accepted.get_json(), repeated.get_json()) == (
        {"outcome": "applied"},
        {"outcome": "duplicate"},
    )
    assert str(int(NINE.timestamp())) in document["detail"]
    assert str(int(NINE.timestamp()) + 301) in document["detail"]

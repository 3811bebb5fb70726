"""Bad input at every route of the API: a 4xx, no query, and no change."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation import logging
from tests.notifier.app_fixtures import ADMIN_KEY, Admin, Refused
from tests.notifier.conftest import Store

MEBIBYTE = 1024 * 1024
SCORE = {
    "userId": "ben",
    "scoreGiven": "7.5",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:30:00Z",
}
# A claim is signed, so it is tested in test_claims.py.
SIGNED = ("POST", "/tokens/claim")
# Every other route that reads a body: the limit of its size, and a body that it accepts.
WRITES: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {
    ("POST", "/admin/courses"): (MEBIBYTE // 16, {"course_id": "CS300", "title": "x"}),
    ("PUT", "/admin/courses/CS101/grades"): (16 * MEBIBYTE, {"scores": [SCORE]}),
    ("POST", "/admin/endpoints"): (MEBIBYTE // 16, {"url": "https://elms.example/webhooks/2"}),
    ("POST", "/admin/deliveries/replay"): (MEBIBYTE // 16, {"filter": {}}),
    ("POST", "/courses/7/token-regenerated"): (MEBIBYTE // 16, {}),
    ("POST", "/grades/batch"): (MEBIBYTE // 4, {"courses": [{"course_id": "x", "token": "x"}]}),
}

Send = Callable[..., TestResponse]


@pytest.fixture
def send(client: FlaskClient) -> Send:
    """Return a function that sends a body with the admin key."""

    def post(
        route: tuple[str, str],
        body: bytes,
        content_type: str | None = "application/json",
        coding: str = "identity",
    ) -> TestResponse:
        method, path = route
        return client.open(
            f"/api/v1{path}",
            method=method,
            data=body,
            content_type=content_type,
            headers={"Authorization": f"Bearer {ADMIN_KEY}", "Content-Encoding": coding},
        )

    return post


def test_every_route_that_reads_a_body_is_tested(
    app: Flask, client: FlaskClient, store: Store, send: Send
) -> None:
    store.add_course("CS101")
    documented = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in client.get("/openapi.json").json["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/api/") and "requestBody" in operation
    }

    responses = [
        send(route, json.dumps(document).encode()) for route, (_, document) in WRITES.items()
    ]

    assert documented - {SIGNED} == {
        (method, re.sub("(?<=courses/)(CS101|7)", "{course_id}", path)) for method, path in WRITES
    }
    assert {response.status_code for response in responses} <= {200, 201}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "kind"),
    [
        pytest.param(b"", "application/json", 400, "request-malformed", id="empty"),
        pytest.param(b'{"a":1,"a":2}', "application/json", 400, "request-malformed", id="twice"),
        pytest.param(b'{"a":"\\u0000"}', "application/json", 400, "request-malformed", id="NUL"),
        pytest.param(b'{"x":1}', "application/json", 422, "request-invalid", id="unknown field"),
        pytest.param(b"[]", "application/json", 422, "request-invalid", id="array"),
        pytest.param(b"{}", "text/plain", 415, "media-type-unsupported", id="content type"),
        pytest.param(None, "application/json", 413, "body-too-large", id="too large"),
    ],
)
def test_bad_body_is_refused_without_a_query(
    send: Send,
    store: Store,
    refused: Refused,
    body: bytes | None,
    content_type: str,
    status: int,
    kind: str,
) -> None:
    """B4, B5, B6, B12."""
    before = store.database.statements

    responses = [
        send(route, b" " * (limit + 1) if body is None else body, content_type)
        for route, (limit, _) in WRITES.items()
    ]

    for response in responses:
        refused(response, status, kind)
    assert store.database.statements == before


def test_encoded_body_is_refused(send: Send, refused: Refused) -> None:
    """B14."""
    for route, (_, document) in WRITES.items():
        response = send(route, json.dumps(document).encode(), coding="gzip")

        refused(response, 415, "media-type-unsupported")


@pytest.mark.parametrize(
    ("path", "document", "pointer"),
    [
        pytest.param("/admin/endpoints", {"url": 1}, "/url", id="field"),
        pytest.param(
            "/admin/deliveries/replay", {"filter": {"status": "x"}}, "/filter/status", id="object"
        ),
        pytest.param(
            "/grades/batch", {"courses": [{"course_id": "x"}]}, "/courses/0/token", id="array"
        ),
    ],
)
def test_invalid_field_is_named_by_its_pointer(
    send: Send, refused: Refused, path: str, document: Any, pointer: str
) -> None:
    """B9; `test_schemas` tests what each field accepts."""
    response = send(("POST", path), json.dumps(document).encode())

    problem = refused(response, 422, "request-invalid")
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("E\u0301conomie \U0001f468\u200d\U0001f469\u200d\U0001f467", id="composed"),
        pytest.param("\u202egnp.esruoc\u2066", id="right-to-left override"),
        pytest.param("'; DROP TABLE courses; --<script>=cmd()|' /C calc'!A0", id="code"),
        pytest.param("a\r\nb\tc\x1b[31m\x07\u2028\x85", id="control characters"),
    ],
)
def test_text_is_stored_unchanged_and_escaped_in_logs(
    client: FlaskClient, admin: Admin, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """B7: titles and comments."""
    logging.configure("INFO", "json")
    score = {**SCORE, "comment": text}

    added = admin("POST", "/courses", json={"course_id": "CS300", "title": text}).json
    admin("PUT", "/courses/CS300/grades", json={"scores": [score]})
    bearer = {"Authorization": f"Bearer {added['token']}"}
    (stored,) = client.get("/api/v1/courses/CS300/grades", headers=bearer).json["scores"]

    assert added["title"] == stored["comment"] == text
    logging.get_logger("titles").info("a title", title=text)
    assert all(map(str.isprintable, capsys.readouterr().err.split("\n")))

"""The doors of eAssessment taken together: who may come in, and which paths lead nowhere."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

ADMIN_PATHS = "/api/v1/admin/"
GUARDS = {
    "/api/v1/courses/<path:course_id>/token-regenerated": "admin key",
    "/api/v1/ingest/moodle": "ingest secret",
    "/sign-in": "anybody",
    "/assets/<version>/<name>": "anybody",
    "/openapi.json": "anybody",
    "/docs": "anybody",
    "/docs/<name>": "anybody",
    "/healthz": "anybody",
    "/readyz": "anybody",
    "/metrics": "metrics token, if one is set",
}
"""The guards of what lies elsewhere and is not for the bearers of course tokens."""


def expected_guard(path: str) -> str:
    """Return who may call a path: programs below /api, and people who signed in elsewhere."""
    if path.startswith(ADMIN_PATHS):
        return "admin key"
    return GUARDS.get(path, "course token" if path.startswith("/api/") else "a signed-in user")


def test_every_route_states_its_authentication(app: Flask) -> None:
    stated = [
        (rule.rule, getattr(app.view_functions[rule.endpoint], "guard", None))
        for rule in app.url_map.iter_rules()
    ]

    assert [(path, expected_guard(path)) for path, _ in stated] == stated
    assert len(stated) >= 12


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(None, id="no key"),
        pytest.param("", id="empty header"),
        pytest.param("Bearer", id="scheme alone"),
        pytest.param("Bearer planted-admin-key-0123456789abcdeF", id="another case"),
        pytest.param("Bearer planted-admin-key", id="a beginning of it"),
        pytest.param("Bearer é\xff", id="not ASCII"),
        pytest.param("Basic cGxhbnRlZC1hZG1pbi1rZXktMDEyMzQ1Njc4OWFiY2RlZg==", id="Basic"),
        pytest.param(
            "Bearer planted-admin-key-0123456789abcdef, Bearer planted-admin-key-0123456789abcdef",
            id="Bearer twice",
        ),
    ],
)
def test_the_admin_api_is_shut_without_its_key(
    app: Flask,
    client: FlaskClient,
    make_delivery: Callable[..., int],
    rows: Callable[[], dict[str, list[Any]]],
    refused: Callable[..., dict[str, Any]],
    key: str | None,
) -> None:
    make_delivery("CS101")
    before = rows()
    headers = {} if key is None else {"Authorization": key}
    doors = [
        (method, rule.rule.replace("<path:course_id>", "CS101"))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(ADMIN_PATHS) or GUARDS.get(rule.rule) == "admin key"
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]

    answers = [client.open(path, method=method, headers=headers) for method, path in doors]

    for answer in answers:
        document = refused(answer, 401, "admin-key-refused")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="eassessment"'
        assert document["detail"] in {"the request has no admin key", "the admin key is wrong"}
    assert before == rows()
    assert len(answers) == 11


def test_a_course_token_is_no_admin_key(
    client: FlaskClient, make_course: Callable[..., str], refused: Callable[..., dict[str, Any]]
) -> None:
    token = make_course()

    answer = client.delete(
        "/api/v1/admin/courses/CS101", headers={"Authorization": f"Bearer {token}"}
    )

    document = refused(answer, 401, "admin-key-refused")
    assert document["detail"] == "the admin key is wrong"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/api/v1/admin/courses/", id="slash after a list"),
        pytest.param("POST", "/api/v1/admin/endpoints/", id="slash after endpoints"),
        pytest.param("GET", "/api/v1/courses/CS101/grades/", id="slash after grades"),
        pytest.param("POST", "/api/v1/grades/batch/", id="slash after a batch"),
        pytest.param("GET", "/api/v1//courses/CS101/grades", id="two slashes inside"),
        pytest.param("GET", "//api/v1/courses/CS101/grades", id="two slashes in front"),
        pytest.param("GET", "/api/v1/admin//courses", id="two slashes in the admin API"),
        pytest.param("GET", "/api/v1/courses//grades", id="no course at all"),
        pytest.param("POST", "/api/v1/admin/deliveries/replay/", id="slash after replay"),
        pytest.param("GET", "/static/x", id="no static files"),
        pytest.param("GET", "/api/v1/<script>", id="markup"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_404_and_never_a_redirect(
    client: FlaskClient, refused: Callable[..., dict[str, Any]], method: str, path: str
) -> None:
    answer = client.open(path, method=method)

    refused(answer, 404, "not-found")
    assert "Location" not in answer.headers


def test_what_fails_unforeseen_is_a_500_that_says_whom_to_ask_and_no_more(
    app: Flask, refused: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise LookupError("a planted inner detail")

    app.add_url_rule("/broken", view_func=broken)

    answer = app.test_client().get("/broken")

    document = refused(answer, 500, "internal-error")
    assert "planted" not in answer.text
    assert document["next_step"].startswith("Give the request id to the operators of this service")

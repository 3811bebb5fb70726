"""The routes of eAssessment together: who may use each of them."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from notifier.models import DeliveryStatus
from tests.notifier.app_fixtures import Refused
from tests.notifier.conftest import Store

ADMIN_PATHS = "/api/v1/admin/"
# The guards of what is elsewhere and not for the holders of course tokens.
GUARDS = {
    "/api/v1/courses/<path:course_id>/token-regenerated": "admin key",
    "/api/v1/ingest/moodle": "ingest secret",
    "/api/v1/tokens/claim": "webhook signature",
    "/sign-in": "anybody",
    "/assets/<version>/<name>": "anybody",
    "/openapi.json": "anybody",
    "/docs": "anybody",
    "/docs/<name>": "anybody",
    "/healthz": "anybody",
    "/readyz": "anybody",
    "/metrics": "metrics token, if one is set",
}


def expected_guard(path: str) -> str:
    """Return who may use a path: programs below /api, signed-in users elsewhere."""
    if path.startswith(ADMIN_PATHS):
        return "admin key"
    return GUARDS.get(path, "course token" if path.startswith("/api/") else "a signed-in user")


def test_every_route_states_its_authentication(app: Flask) -> None:
    stated = [
        (rule.rule, getattr(app.view_functions[rule.endpoint], "guard", None))
        for rule in app.url_map.iter_rules()
    ]

    assert stated == [(path, expected_guard(path)) for path, _ in stated]
    assert len(stated) >= 12


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        pytest.param("", "the request has no admin key", id="none"),
        pytest.param("Bearer {}", "the admin key is wrong", id="course token"),
    ],
)
def test_admin_api_refuses_other_keys(
    app: Flask, client: FlaskClient, store: Store, refused: Refused, authorization: str, detail: str
) -> None:
    token = store.add_course("CS101").reveal()
    store.add_delivery(store.add_endpoint().id, status=DeliveryStatus.DEAD)
    headers = {"Authorization": authorization.format(token)}
    routes = [
        (method, re.sub("<int.*:endpoint_id>", "1", rule.rule.replace("<path:course_id>", "CS101")))
        for rule in app.url_map.iter_rules()
        if expected_guard(rule.rule) == "admin key"
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    before = store.rows()

    responses = [client.open(path, method=method, headers=headers) for method, path in routes]

    for response in responses:
        problem = refused(response, 401, "admin-key-refused")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="eassessment"'
        assert problem["detail"] == detail
    assert len(responses) == 13
    assert store.rows() == before

"""The OpenAPI documents of both services, checked by requests that schemathesis generates."""

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core import NotSet
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from contract import signatures
from contract.events import EVENT_TYPES, OPERATIONAL_TYPES, PING_TYPE
from contract.signatures import Secret
from foundation.services import Services
from receiver.sources import store as sources
from tests.foundation.pages import conftest as services
from tests.foundation.pages.conftest import ADMIN_KEY, SERVICES, Service

SECRET = Secret.generate()
# Valid credentials are accepted, and a schema cannot say which courses exist.
NOT_CHECKED = [ignored_auth, positive_data_acceptance]
FEW = settings(
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NOTIFIER, RECEIVER = SERVICES
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
Send = Callable[[FlaskClient, Any], Any]

# The services are those whose pages are tested.
service, database_kind, make_app = services.service, services.database_kind, services.make_app


@pytest.fixture
def app(service: Service, make_app: Callable[..., Flask]) -> Flask:
    """eAssessment, or ELMS with a source that signs."""
    if service is NOTIFIER:
        return make_app(ingest_secret="planted-ingest-secret", log_level="ERROR")
    app = make_app(log_level="ERROR")
    here: Services[Any] = Services.of(app)
    now = datetime.now(UTC)
    with here.database.writing() as session:
        source = sources.add(session, "eassessment", "http://127.0.0.1:9", now=now)
        sources.add_secret(session, source, SECRET, vault=here.vault, now=now)
    return app


def as_generated(_: FlaskClient, case: Any) -> Any:
    """Send a case with the credentials that were generated."""
    return case.call()


def with_admin_key(_: FlaskClient, case: Any) -> Any:
    """Send a case with the admin key."""
    return case.call(headers={"Authorization": f"Bearer {ADMIN_KEY}"})


def signed(client: FlaskClient, case: Any) -> Any:
    """Send a case as a webhook of the source."""
    if case.method != "POST" or isinstance(case.body, NotSet):
        return case.call()
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    headers = signatures.sign([SECRET], f"msg_{secrets.token_hex(8)}", body, now=datetime.now(UTC))
    return client.post(
        "/webhooks/eassessment", data=body, headers=headers, content_type="application/json"
    )


def routes(app: Flask) -> set[str]:
    """Return the method and path of every route that is no page."""
    pages = app.extensions["pages"].blueprints | {"assets"}
    return {
        re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", r"{\1}", f"{method} {rule.rule}")
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[0] not in pages and rule.endpoint != "openapi.asset"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


@pytest.mark.parametrize(
    ("service", "mode", "ways"),
    [
        pytest.param(NOTIFIER, POSITIVE, [with_admin_key, as_generated], id="eAssessment"),
        pytest.param(RECEIVER, POSITIVE, [signed, as_generated], id="ELMS"),
        pytest.param(NOTIFIER, NEGATIVE, [with_admin_key], id="eAssessment, invalid"),
        pytest.param(RECEIVER, NEGATIVE, [as_generated], id="ELMS, invalid"),
    ],
    indirect=["service"],
)
def test_responses_are_those_of_the_document(
    app: Flask, service: Service, mode: GenerationMode, ways: Sequence[Send]
) -> None:
    client, sent = app.test_client(), set()
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    for operation in (result.ok() for result in schema.get_all_operations()):

        @FEW
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            # A parameter with an empty list of values is not in the URL.
            assume([] not in (case.query or {}).values())
            for send in ways:
                case.validate_response(send(client, case), excluded_checks=NOT_CHECKED)

        with contextlib.suppress(Unsatisfiable):  # nothing of it can be invalid
            check()
            sent.add(operation.label)

    assert sent <= routes(app)
    assert len(sent) >= (10 if service is NOTIFIER else 1)
    if mode is POSITIVE:
        assert sent | {"GET /openapi.json"} == routes(app)


def test_events_are_those_that_are_sent(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").json

    assert set(document["webhooks"]) == {*EVENT_TYPES, *OPERATIONAL_TYPES, PING_TYPE}
    for event_type, methods in document["webhooks"].items():
        headers = {one["name"] for one in methods["post"]["parameters"]}
        schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        body = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature", "traceparent"}
        assert body["properties"]["type"]["const"] == event_type


def test_page_loads_swagger_ui_from_this_service(app: Flask) -> None:
    client = app.test_client()

    page = client.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    policy = page.headers["Content-Security-Policy"]
    assert page.content_type == "text/html; charset=utf-8"
    assert "script-src 'self'; style-src 'self' 'unsafe-inline'" in policy
    assert "/docs/swagger-ui-bundle.js" in loaded
    assert [url for url in loaded if client.get(url).status_code >= 400] == []


def test_other_files_of_swagger_ui_are_not_served(app: Flask) -> None:
    assert app.test_client().get("/docs/oauth2-redirect.html").status_code == 404


def test_large_file_is_streamed(app: Flask) -> None:
    response = app.test_client().get("/docs/swagger-ui-bundle.js")

    assert len(response.data) > 1_000_000
    assert "Content-Length" not in response.headers

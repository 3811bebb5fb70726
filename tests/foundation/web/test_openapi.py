"""The OpenAPI documents of both services, checked by requests that schemathesis generates."""

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
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
from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from contract.signatures import Secret
from foundation.db.migrations import Schema
from notifier import app as eassessment
from notifier import services as notifier_services
from notifier.config import Settings as NotifierSettings
from notifier.models import SCHEMA as NOTIFIER
from receiver import app as elms
from receiver import services as receiver_services
from receiver.config import Settings as ReceiverSettings
from receiver.models import SCHEMA as RECEIVER
from receiver.sources import store as sources

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ADMIN_KEY = "planted-admin-key-0123456789abcdef"
SECRET = Secret.generate()
# Valid credentials are accepted, and a schema cannot say which courses exist.
NOT_CHECKED = [ignored_auth, positive_data_acceptance]
FEW = settings(
    max_examples=5,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def database_kind() -> str:
    """SQLite: the document does not depend on the database."""
    return "sqlite"


@pytest.fixture
def notifier(make_database_url: Callable[[Schema], str]) -> Iterator[Flask]:
    """eAssessment."""
    app = eassessment.create_app(
        NotifierSettings(
            _env_file=None,
            database_url=make_database_url(NOTIFIER),
            encryption_keys=KEY,
            admin_key=ADMIN_KEY,
            ingest_secret="planted-ingest-secret",
            log_level="ERROR",
        )
    )
    yield app
    notifier_services.of(app).database.dispose()


@pytest.fixture
def receiver(make_database_url: Callable[[Schema], str]) -> Iterator[Flask]:
    """ELMS, with a source that signs."""
    app = elms.create_app(
        ReceiverSettings(
            _env_file=None,
            database_url=make_database_url(RECEIVER),
            encryption_keys=KEY,
            log_level="ERROR",
        )
    )
    here = receiver_services.of(app)
    now = datetime.now(UTC)
    with here.database.writing() as session:
        source = sources.add(session, "eassessment", "http://127.0.0.1:9", now=now)
        sources.add_secret(session, source, SECRET, vault=here.vault, now=now)
    yield app
    here.database.dispose()


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
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", f"{method} {rule.rule}")
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[0] not in pages and rule.endpoint != "openapi.asset"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


@pytest.mark.parametrize(
    ("service", "mode", "ways"),
    [
        pytest.param(
            "notifier", GenerationMode.POSITIVE, [with_admin_key, as_generated], id="eAssessment"
        ),
        pytest.param("receiver", GenerationMode.POSITIVE, [signed, as_generated], id="ELMS"),
        pytest.param(
            "notifier", GenerationMode.NEGATIVE, [with_admin_key], id="eAssessment, invalid"
        ),
        pytest.param("receiver", GenerationMode.NEGATIVE, [as_generated], id="ELMS, invalid"),
    ],
)
def test_responses_are_those_of_the_document(
    request: pytest.FixtureRequest,
    service: str,
    mode: GenerationMode,
    ways: Sequence[Callable[[FlaskClient, Any], Any]],
) -> None:
    app: Flask = request.getfixturevalue(service)
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
    assert len(sent) >= (10 if service == "notifier" else 1)
    if mode is GenerationMode.POSITIVE:
        assert sent | {"GET /openapi.json"} == routes(app)


def test_events_are_those_that_are_sent(notifier: Flask) -> None:
    document = notifier.test_client().get("/openapi.json").json

    assert set(document["webhooks"]) == {*EVENT_TYPES, *OPERATIONAL_TYPES}
    for event_type, methods in document["webhooks"].items():
        headers = {one["name"] for one in methods["post"]["parameters"]}
        schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        body = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature", "traceparent"}
        assert body["properties"]["type"]["const"] == event_type


def test_page_loads_swagger_ui_from_this_service(notifier: Flask) -> None:
    client = notifier.test_client()

    page = client.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    policy = page.headers["Content-Security-Policy"]
    assert page.content_type == "text/html; charset=utf-8"
    assert "script-src 'self'; style-src 'self' 'unsafe-inline'" in policy
    assert "/docs/swagger-ui-bundle.js" in loaded
    assert [url for url in loaded if client.get(url).status_code >= 400] == []


def test_other_files_of_swagger_ui_are_not_served(notifier: Flask) -> None:
    assert notifier.test_client().get("/docs/oauth2-redirect.html").status_code == 404


def test_large_file_is_streamed(notifier: Flask) -> None:
    response = notifier.test_client().get("/docs/swagger-ui-bundle.js")

    assert len(response.data) > 1_000_000
    assert "Content-Length" not in response.headers

"""The OpenAPI documents tell the truth: schemathesis asks what they allow, and what they do not."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from flask import Flask
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
NOT_SAID = [ignored_auth, positive_data_acceptance]
"""Who proves to be somebody is let in; and a schema cannot say which courses there are."""

Send = Callable[[Flask, Any], Any]
BOUNDED = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def database_kind() -> str:
    """SQLite alone: what a document says does not depend on the database."""
    return "sqlite"


@pytest.fixture
def notifier(make_database_url: Callable[[Schema], str]) -> Iterator[Flask]:
    """eAssessment, with a course."""
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
    with here.database.writing() as session:
        now = datetime.now(UTC)
        source = sources.add(session, "eassessment", "http://127.0.0.1:9", now=now)
        sources.add_secret(session, source, SECRET, vault=here.vault, now=now)
    yield app
    here.database.dispose()


def ask_all(app: Flask, mode: GenerationMode, send: Send) -> set[str]:
    """Send what the document's own schemas make, to each operation; return to which it was."""
    asked = set()
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    if mode is GenerationMode.NEGATIVE:
        # What is sent proves who sends it, so that leaving the proof out makes nothing wrong.
        for methods in schema.raw_schema["paths"].values():
            for operation in methods.values():
                operation["security"] = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            # A name with an empty list of values is nowhere in what is sent.
            assume([] not in (case.query or {}).values())
            case.validate_response(send(app, case), excluded_checks=NOT_SAID)

        try:
            check()
        except Unsatisfiable:
            continue  # it takes nothing that could be wrong
        asked.add(operation.label)
    return asked


def with_the_admin_key(_: Flask, case: Any) -> Any:
    """Send a case as an administrator."""
    return case.call(headers={"Authorization": f"Bearer {ADMIN_KEY}"})


def with_nothing(_: Flask, case: Any) -> Any:
    """Send a case as it is: what proves the caller is made up."""
    return case.call()


def signed(app: Flask, case: Any) -> Any:
    """Send a case as the source would; what takes no body, as it is."""
    if case.method != "POST" or isinstance(case.body, NotSet):
        return case.call()
    raw = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    headers = signatures.sign([SECRET], f"msg_{secrets.token_hex(8)}", raw, now=datetime.now(UTC))
    return app.test_client().post(
        "/webhooks/eassessment", data=raw, headers=headers, content_type="application/json"
    )


_NAME = re.compile(r"<(?:\w+:)?(\w+)>")


def operations(app: Flask) -> set[str]:
    """Return every method and path of an app but its pages', as a document names them."""
    pages = app.extensions["pages"].blueprints | {"assets"}
    return {
        " ".join([method, _NAME.sub(r"{\1}", rule.rule)])
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[0] not in pages and rule.endpoint != "openapi.asset"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


@pytest.mark.parametrize(
    ("name", "send"),
    [
        pytest.param("notifier", with_the_admin_key, id="eAssessment"),
        pytest.param("notifier", with_nothing, id="eAssessment, made-up proofs"),
        pytest.param("receiver", signed, id="ELMS"),
        pytest.param("receiver", with_nothing, id="ELMS, unsigned"),
    ],
)
def test_what_the_document_allows_is_answered_as_it_says(
    request: pytest.FixtureRequest, name: str, send: Send
) -> None:
    app: Flask = request.getfixturevalue(name)

    asked = ask_all(app, GenerationMode.POSITIVE, send)

    # It does not ask for the document again, which it has read.
    assert asked | {"GET /openapi.json"} == operations(app)


@pytest.mark.parametrize(
    ("name", "send", "least"),
    [
        pytest.param("notifier", with_the_admin_key, 10, id="eAssessment"),
        pytest.param("receiver", with_nothing, 1, id="ELMS"),
    ],
)
def test_what_the_document_does_not_allow_is_refused(
    request: pytest.FixtureRequest, name: str, send: Send, least: int
) -> None:
    app: Flask = request.getfixturevalue(name)

    assert len(ask_all(app, GenerationMode.NEGATIVE, send)) >= least


def test_the_events_are_described_by_the_models_that_write_them(notifier: Flask) -> None:
    document = notifier.test_client().get("/openapi.json").json

    assert set(document["webhooks"]) == {*EVENT_TYPES, *OPERATIONAL_TYPES}
    for kind, methods in document["webhooks"].items():
        named = {one["name"] for one in methods["post"]["parameters"]}
        schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        body = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert named == {"webhook-id", "webhook-timestamp", "webhook-signature", "traceparent"}
        assert body["properties"]["type"]["const"] == kind


def test_page_loads_swagger_ui_from_this_service(notifier: Flask) -> None:
    client = notifier.test_client()

    page = client.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert page.content_type == "text/html; charset=utf-8"
    assert (
        "script-src 'self'; style-src 'self' 'unsafe-inline'"
        in (page.headers["Content-Security-Policy"])
    )
    assert "/docs/swagger-ui-bundle.js" in loaded
    for address in loaded:
        response = client.get(address)
        assert (address, response.status_code < 400) == (address, True)


def test_only_the_files_of_swagger_ui_are_served(notifier: Flask) -> None:
    assert notifier.test_client().get("/docs/oauth2-redirect.html").status_code == 404


def test_large_file_is_streamed_without_a_length(notifier: Flask) -> None:
    response = notifier.test_client().get("/docs/swagger-ui-bundle.js")

    assert len(response.data) > 1_000_000
    assert "Content-Length" not in response.headers

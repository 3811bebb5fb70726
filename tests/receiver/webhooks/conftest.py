"""The webhook route under test: a source with one secret, and signed requests."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract import signatures
from contract.problems import ProblemType
from contract.signatures import Secret
from tests.receiver.conftest import SITE, Store

PATH = f"/webhooks/{SITE}"
SECRET = Secret(b"planted-secret-of-the-source-032")
Post = Callable[..., TestResponse]


def make_body(root: Mapping[str, Any] | None = None, **data: Any) -> bytes:
    """Return the deletion of CS101, with overrides at its root and in its data."""
    document = {
        "type": "course.deleted",
        "timestamp": "2026-11-22T08:59:59.5Z",
        "data": {"source": SITE, "course_id": "CS101", "course_version": 4, **data},
    }
    return json.dumps({**document, **(root or {})}).encode()


@pytest.fixture
def post(client: FlaskClient, store: Store) -> Post:
    """Return a function that signs and sends a request; a header of None is left out."""
    store.add_source(secrets=(SECRET,))

    def send(
        body: bytes | None = None,
        webhook_id: str = "msg_1",
        *,
        method: str = "POST",
        path: str = PATH,
        headers: Mapping[str, str | None] | None = None,
        content_type: str | None = "application/json",
        environ: Mapping[str, Any] | None = None,
        signed_by: Secret = SECRET,
        signed_body: bytes | None = None,
        signed_at: datetime | None = None,
    ) -> TestResponse:
        raw = make_body() if body is None else body
        signed = signatures.sign(
            [signed_by], webhook_id, signed_body or raw, now=signed_at or datetime.now(UTC)
        )
        # As a server passes them on; the client itself would refuse malformed headers.
        variables = {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in {**signed, **(headers or {})}.items()
            if value is not None
        }
        return client.open(
            path,
            method=method,
            data=raw,
            content_type=content_type,
            environ_overrides={**variables, **(environ or {})},
        )

    return send


def check_refused(response: TestResponse, problem: ProblemType, status: int) -> dict[str, Any]:
    """Assert that the response is this problem without internals; return its document."""
    document: dict[str, Any] = response.get_json()
    assert (response.status_code, document["type"]) == (status, f"urn:problem-type:{problem}")
    assert response.content_type == "application/problem+json"
    assert document["detail"]
    assert document["next_step"]
    assert "Location" not in response.headers
    for internal in (SECRET.reveal(), "Traceback", ".py", "SELECT", "sqlalchemy"):
        assert internal not in response.text
    return document

"""The webhook route: a signed event is accepted once; everything else is a problem."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook
from werkzeug.test import TestResponse

from contract import events, signatures
from contract.problems import ProblemType
from contract.signatures import Secret
from receiver.models import Entry, InboxMessage, Source

SITE = "eassessment.example.ac.uk"
Rows = Callable[[type[Any]], list[Any]]


@pytest.fixture
def secret() -> Secret:
    """The secret that the source signs with."""
    return Secret.generate()


@pytest.fixture
def source(make_source: Callable[..., Source], secret: Secret) -> Source:
    """The source of the webhook route."""
    return make_source(secrets=(secret,))


@pytest.fixture
def away(make_app_on: Callable[..., Flask], tmp_path: Path) -> FlaskClient:
    """A client of an ELMS whose database is unavailable."""
    return make_app_on(f"sqlite:///{tmp_path}/none/receiver.db").test_client()


def event(**overrides: Any) -> bytes:
    """Return the deletion of CS101, with overrides in its data."""
    data = {"source": SITE, "course_id": "CS101", "course_version": 4, **overrides}
    document = {"type": "course.deleted", "timestamp": "2026-11-22T08:59:59.5Z", "data": data}
    return json.dumps(document).encode()


@pytest.fixture
def post(client: FlaskClient, source: Source, secret: Secret) -> Callable[..., TestResponse]:
    """Return what signs and posts a body."""

    def send(
        body: bytes | None = None,
        *,
        webhook_id: str = "msg_1",
        path: str = f"/webhooks/{SITE}",
        signed_by: Secret | None = None,
        **options: Any,
    ) -> TestResponse:
        raw = event() if body is None else body
        signed = signatures.sign([signed_by or secret], webhook_id, raw, now=datetime.now(UTC))
        options.setdefault("content_type", "application/json")
        return client.post(path, data=raw, headers=signed, **options)

    return send


def check_refused(response: TestResponse, problem: ProblemType, status: int) -> str:
    """Assert that the response is this problem; return its detail."""
    document = response.get_json()
    assert (response.status_code, document["type"]) == (status, f"urn:problem-type:{problem}")
    assert response.content_type == "application/problem+json"
    assert document["next_step"]
    return str(document["detail"])


def test_signed_event_is_applied(post: Callable[..., TestResponse], rows: Rows) -> None:
    response = post()

    assert (response.status_code, response.get_json()) == (200, {"outcome": "applied"})
    assert (rows(Entry)[0].deleted_version, rows(InboxMessage)[0].webhook_id) == (4, "msg_1")


def test_signature_of_the_published_library_is_accepted(
    client: FlaskClient, source: Source, secret: Secret
) -> None:
    body, now = event(), datetime.now(UTC)
    signed = Webhook(secret.reveal()).sign("msg_1", now, body.decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signed,
    }

    response = client.post(
        f"/webhooks/{SITE}", data=body, headers=headers, content_type="application/json"
    )

    assert response.get_json() == {"outcome": "applied"}


def test_response_has_the_outcome(post: Callable[..., TestResponse]) -> None:
    ping = b'{"type":"endpoint.ping","timestamp":"x","data":{}}'

    answers = [
        post(event(course_version=5)),
        post(event(course_version=5)),
        post(event(course_version=4), webhook_id="msg_2"),
        post(ping, webhook_id="msg_3"),
    ]

    assert [answer.get_json()["outcome"] for answer in answers] == [
        "applied",
        "duplicate",
        "stale",
        "ignored",
    ]


def test_ping_of_another_source_is_refused(
    post: Callable[..., TestResponse], now: datetime
) -> None:
    own, other = (events.dump_ping(source, now).encode() for source in (SITE, "renamed"))

    answers = [post(own, webhook_id="msg_1"), post(other, webhook_id="msg_2")]

    assert [answer.status_code for answer in answers] == [200, 403]
    assert answers[0].get_json() == {"outcome": "ignored"}
    assert "NOTIFIER_SOURCE" in answers[1].get_json()["next_step"]


def test_both_secrets_are_accepted_during_rotation(
    post: Callable[..., TestResponse],
    make_source: Callable[..., Source],
) -> None:
    # F22
    old, new = Secret.generate(), Secret.generate()
    make_source("rotating", secrets=(old, new))

    answers = [
        post(
            event(source="rotating"),
            webhook_id=f"m{number}",
            path="/webhooks/rotating",
            signed_by=key,
        )
        for number, key in enumerate((old, new))
    ]

    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("name", ["nobody", "x" * 101, "no name"])
def test_unknown_source_gets_the_response_of_a_known_one(
    post: Callable[..., TestResponse], name: str
) -> None:
    known, unknown = post(signed_by=Secret.generate()), post(path=f"/webhooks/{name}")

    for response in (known, unknown):
        check_refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert {**known.get_json(), "request_id": None} == {**unknown.get_json(), "request_id": None}


def test_unavailable_database_is_503(away: FlaskClient, secret: Secret) -> None:
    # F10
    signed = signatures.sign([secret], "msg_1", event(), now=datetime.now(UTC))

    response = away.post(
        f"/webhooks/{SITE}", data=event(), headers=signed, content_type="application/json"
    )

    check_refused(response, ProblemType.DATABASE_UNAVAILABLE, 503)
    assert response.headers["Retry-After"] == "5"


def test_lost_encryption_key_is_500_without_details(
    make_app: Callable[..., Flask], source: Source, secret: Secret
) -> None:
    other = make_app(encryption_keys="YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=")
    signed = signatures.sign([secret], "msg_1", event(), now=datetime.now(UTC))

    response = other.test_client().post(
        f"/webhooks/{SITE}", data=event(), headers=signed, content_type="application/json"
    )

    check_refused(response, ProblemType.INTERNAL_ERROR, 500)


def test_every_route_states_its_authentication(away: FlaskClient) -> None:
    guards = {
        rule.rule: getattr(away.application.view_functions[rule.endpoint], "guard", None)
        for rule in away.application.url_map.iter_rules()
    }

    others = {
        "/webhooks/<source>": "webhook signature",
        "/sign-in": "anybody",
        "/assets/<version>/<name>": "anybody",
        "/openapi.json": "anybody",
        "/docs": "anybody",
        "/docs/<name>": "anybody",
        "/healthz": "anybody",
        "/readyz": "anybody",
        "/metrics": "metrics token, if one is set",
    }
    assert guards == {path: others.get(path, "a signed-in user") for path in guards}

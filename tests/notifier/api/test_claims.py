"""Claims of tokens at the API: who may claim, what is answered, what is recorded."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract import events, signatures, strict_json
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.db.audit import AuditEntry
from notifier.courses import service as courses
from notifier.models import IssuedToken
from notifier.webhooks import endpoints
from tests.notifier.app_fixtures import Admin, Refused
from tests.notifier.conftest import Registered, Store

Claim = Callable[..., TestResponse]
PATH = "/api/v1/tokens/claim"


@pytest.fixture
def endpoint(store: Store) -> Registered:
    """An endpoint that may claim tokens."""
    return store.add_endpoint(may_claim_tokens=True)


@pytest.fixture
def tokens(store: Store, endpoint: Registered) -> list[CourseToken]:
    """The old token and the new one of CS101."""
    old = store.add_course("CS101")
    new = store.write(
        courses.regenerate_token,
        "CS101",
        overlap=timedelta(hours=1),
        vault=store.vault,
        now=datetime.now(UTC),
    )
    return [old, new]


@pytest.fixture
def claim(client: FlaskClient, endpoint: Registered) -> Claim:
    """Return a function that claims tokens, by default that of CS101 with the right secret."""

    def send(
        *course_ids: str, secret: Secret | None = None, raw: bytes | None = None, **document: Any
    ) -> TestResponse:
        given = {"type": "tokens.claim", "course_ids": course_ids or ["CS101"], **document}
        body = raw or strict_json.dump(given).encode()
        keys, now = [secret or endpoint.secret], datetime.now(UTC)
        headers = signatures.sign(keys, "claim_1", body, now=now)
        return client.post(PATH, data=body, headers=headers, content_type="application/json")

    return send


def test_new_token_is_claimed_and_recorded(
    claim: Claim, store: Store, endpoint: Registered, tokens: list[CourseToken]
) -> None:
    responses = [claim("CS101", "none") for _ in range(2)]

    for response in responses:
        claimed, unknown = response.json["answers"]
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
        assert claimed == {"course_id": "CS101", "status": 200, "token": tokens[1].reveal()}
        assert unknown["problem"]["type"] == "urn:problem-type:course-unknown"
    entries = [(one.actor, one.action, one.object_id, one.detail) for one in store.all(AuditEntry)]
    actor = f"endpoint {endpoint.id}"
    assert entries == [(actor, "course.claim-token", "CS101", tokens[1].token_id)] * 2


@pytest.mark.parametrize("batch", [pytest.param(False, id="one"), pytest.param(True, id="batch")])
def test_first_use_ends_the_claims(
    claim: Claim, client: FlaskClient, store: Store, tokens: list[CourseToken], batch: bool
) -> None:
    def use(token: CourseToken) -> TestResponse:
        if batch:
            items = [{"course_id": "CS101", "token": token.reveal()}]
            return client.post("/api/v1/grades/batch", json={"courses": items})
        bearer = {"Authorization": f"Bearer {token.reveal()}"}
        return client.get("/api/v1/courses/CS101/grades", headers=bearer)

    use(tokens[0])
    (before,) = claim().json["answers"]
    use(tokens[1])
    (after,) = claim().json["answers"]

    assert (before["status"], after["status"]) == (200, 409)
    assert after["problem"]["type"] == "urn:problem-type:token-not-claimable"
    assert "it has been used" in after["problem"]["detail"]
    assert [one.encrypted_token for one in store.all(IssuedToken)] == [None, None]


def test_old_token_is_not_enough(
    client: FlaskClient, refused: Refused, tokens: list[CourseToken]
) -> None:
    response = client.post(
        PATH,
        json={"type": "tokens.claim", "course_ids": ["CS101"]},
        headers={"Authorization": f"Bearer {tokens[0].reveal()}"},
    )

    refused(response, 401, "signature-refused")


def test_other_secret_is_refused(claim: Claim, refused: Refused, store: Store) -> None:
    refused(claim(secret=Secret.generate()), 401, "signature-refused")

    assert store.all(AuditEntry) == []


@pytest.mark.parametrize("state", ["not allowed", "disabled"])
def test_endpoint_must_be_enabled_and_allowed(
    claim: Claim, refused: Refused, store: Store, endpoint: Registered, state: str
) -> None:
    if state == "disabled":
        store.write(endpoints.disable, endpoint.id, "moved", now=datetime.now(UTC))
    else:
        store.write(endpoints.set_token_claims, endpoint.id, allowed=False)

    document = refused(claim(), 403, "claims-not-allowed")

    assert document["action"] == f"endpoints set-token-claims {endpoint.id} on"


def test_signature_of_a_webhook_is_no_claim(claim: Claim, refused: Refused) -> None:
    body = events.dump_ping("eassessment", datetime.now(UTC)).encode()

    refused(claim(raw=body), 422, "request-invalid")


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        pytest.param({"course_ids": []}, "request-invalid", id="none"),
        pytest.param({"course_ids": ["x"] * 101}, "request-invalid", id="too many"),
        pytest.param({"course_ids": [7]}, "request-invalid", id="number"),
        pytest.param({"course_ids": ["x" * 300_000]}, "body-too-large", id="too large"),
    ],
)
def test_invalid_claim_is_refused(
    claim: Claim, refused: Refused, document: dict[str, Any], kind: str
) -> None:
    response = claim(**document)

    refused(response, response.status_code, kind)
    assert response.status_code in {413, 422}


def test_endpoint_says_whether_it_may_claim(admin: Admin) -> None:
    given = {"url": "https://elms.example/webhooks/1", "may_claim_tokens": True}

    added = admin("POST", "/endpoints", json=given).json
    other = admin("POST", "/endpoints", json={"url": "https://elms.example/webhooks/2"}).json

    assert (added["may_claim_tokens"], other["may_claim_tokens"]) == (True, False)

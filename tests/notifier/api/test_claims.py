"""Claims of tokens at the API: who may claim, what is answered, what is recorded."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import event, update
from werkzeug.test import TestResponse

from contract import events, signatures, strict_json
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.audit import AuditEntry
from foundation.text import format_timestamp
from notifier.api import claims
from notifier.courses import service as courses
from notifier.models import EndpointSecret, Event, IssuedToken
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
        *course_ids: str,
        secrets: Sequence[Secret] = (),
        raw: bytes | None = None,
        webhook_id: str = "",
        **document: Any,
    ) -> TestResponse:
        given = {"type": "tokens.claim", "course_ids": course_ids or ["CS101"], **document}
        body = raw or strict_json.dump(given).encode()
        keys, now = secrets or [endpoint.secret], datetime.now(UTC)
        headers = signatures.sign(keys, webhook_id or f"claim_{token_hex(16)}", body, now=now)
        return client.post(PATH, data=body, headers=headers, content_type="application/json")

    return send


def test_new_token_is_claimed_and_recorded(
    claim: Claim, store: Store, endpoint: Registered, tokens: list[CourseToken]
) -> None:
    (announced,) = (json.loads(one.body) for one in store.all(Event))

    responses = [claim("CS101", "none") for _ in range(2)]

    for response in responses:
        claimed, unknown = response.json["answers"]
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
        assert claimed == {
            "course_id": "CS101",
            "status": 200,
            "token": tokens[1].reveal(),
            "course_version": announced["data"]["course_version"],
            "regenerated_at": announced["timestamp"],
            "valid_until": announced["data"]["valid_until"],
        }
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
    refused(claim(secrets=[Secret.generate()]), 401, "signature-refused")

    assert store.all(AuditEntry) == []


def test_claim_that_is_sent_again_is_refused(
    claim: Claim, refused: Refused, store: Store, tokens: list[CourseToken]
) -> None:
    first = claim(webhook_id="claim_1")
    document = refused(claim(webhook_id="claim_1"), 409, "webhook-id-reused")

    assert (first.status_code, claim().status_code) == (200, 200)
    assert "a new webhook-id" in document["next_step"]
    assert len(store.all(AuditEntry)) == 2


def test_replaced_secret_claims_nothing(
    claim: Claim, refused: Refused, store: Store, endpoint: Registered, tokens: list[CourseToken]
) -> None:
    now = datetime.now(UTC)
    new = store.write(
        endpoints.rotate_secret,
        endpoint.id,
        overlap=timedelta(days=1),
        vault=store.vault,
        now=now,
    )

    document = refused(claim(), 401, "signature-refused")

    assert document["detail"] == (
        f"signed with an old secret of endpoint {endpoint.id}: claims need the one that replaced "
        f"it at {format_timestamp(now)}"
    )
    assert "receiver sources add-secret" in document["next_step"]
    for keys in ([new], [endpoint.secret, new]):
        assert claim(secrets=keys).json["answers"][0]["token"] == tokens[1].reveal()


@pytest.mark.parametrize(
    ("state", "action"),
    [
        pytest.param("not allowed", "endpoints set-token-claims {} on", id="not allowed"),
        pytest.param("disabled", "endpoints enable {}", id="disabled"),
    ],
)
def test_endpoint_must_be_enabled_and_allowed(
    claim: Claim,
    refused: Refused,
    store: Store,
    endpoint: Registered,
    tokens: list[CourseToken],
    state: str,
    action: str,
) -> None:
    if state == "disabled":
        store.write(endpoints.disable, endpoint.id, "moved", now=datetime.now(UTC))
    else:
        store.write(endpoints.set_token_claims, endpoint.id, allowed=False)

    document = refused(claim(webhook_id="claim_1"), 403, "claims-not-allowed")

    store.write(endpoints.enable, endpoint.id, now=datetime.now(UTC))
    store.write(endpoints.set_token_claims, endpoint.id, allowed=True)
    assert document["action"] == action.format(endpoint.id)
    refused(claim(webhook_id="claim_1"), 409, "webhook-id-reused")
    assert claim().json["answers"][0]["token"] == tokens[1].reveal()


def test_endpoint_that_is_forbidden_meanwhile_gets_nothing(
    claim: Claim,
    refused: Refused,
    store: Store,
    endpoint: Registered,
    tokens: list[CourseToken],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbid() -> None:
        store.write(endpoints.set_token_claims, endpoint.id, allowed=False)

    monkeypatch.setattr(claims, "require_json", forbid)

    refused(claim(), 403, "claims-not-allowed")


def test_secret_that_cannot_be_decrypted_affects_no_other_endpoint(
    claim: Claim, store: Store, tokens: list[CourseToken]
) -> None:
    other = store.add_endpoint(may_claim_tokens=True)
    lost = update(EndpointSecret).where(EndpointSecret.endpoint_id == other.id)
    store.write(lambda session: session.execute(lost.values(encrypted=encrypted_elsewhere())))

    assert claim().json["answers"][0]["token"] == tokens[1].reveal()


def test_copy_that_cannot_be_decrypted_affects_no_other_course(
    claim: Claim, store: Store, tokens: list[CourseToken]
) -> None:
    store.add_course("CS102")
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    token = store.write(courses.regenerate_token, "CS102", overlap=hour, vault=store.vault, now=now)
    lost = update(IssuedToken).where(IssuedToken.token_id == token.token_id)
    store.write(lambda session: session.execute(lost.values(encrypted_token=encrypted_elsewhere())))

    failed, claimed = claim("CS102", "CS101").json["answers"]

    assert (failed["status"], claimed["token"]) == (500, tokens[1].reveal())
    assert failed["problem"]["type"] == "urn:problem-type:internal-error"


def encrypted_elsewhere() -> str:
    """Return a text that is encrypted with another key."""
    return Vault(SecretStr(Fernet.generate_key().decode())).encrypt("secret")


def test_grades_are_read_when_nothing_can_be_written(
    claim: Claim, client: FlaskClient, store: Store, tokens: list[CourseToken]
) -> None:
    bearer = {"Authorization": f"Bearer {tokens[1].reveal()}"}

    with read_only(store):
        during = client.get("/api/v1/courses/CS101/grades", headers=bearer)
    (before,) = claim().json["answers"]
    client.get("/api/v1/courses/CS101/grades", headers=bearer)
    (after,) = claim().json["answers"]

    assert (during.status_code, before["status"], after["status"]) == (200, 200, 409)


@contextmanager
def read_only(store: Store) -> Iterator[None]:
    """Open every connection as one to a read-only file."""

    def connected(raw: sqlite3.Connection, _: object) -> None:
        raw.execute("PRAGMA query_only=ON")

    engine = store.database.engine
    engine.dispose()
    event.listen(engine, "connect", connected)
    yield
    event.remove(engine, "connect", connected)
    engine.dispose()


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

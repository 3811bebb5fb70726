"""The headers that an attempt sent, with shortened signatures."""

import shlex
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from contract import signatures
from foundation.crypto import Vault
from notifier.models import Attempt
from notifier.webhooks import endpoints, sent_headers
from tests.notifier.conftest import BODY, NINE, Registered, Store

HOUR = timedelta(hours=1)


@pytest.fixture
def endpoint(store: Store) -> Registered:
    """An endpoint with one delivery, number 1."""
    registered = store.add_endpoint()
    store.add_delivery(registered.id)
    return registered


def headers_at(
    store: Store, hours: float, *, vault: Vault | None = None, **result: object
) -> dict[str, str] | None:
    """Return the headers of an attempt of delivery 1 that was made `hours` after nine."""
    attempt = Attempt(started_at=NINE + hours * HOUR, **{"status": 200, **result})
    delivery = store.delivery(1)
    secrets = store.read(sent_headers.signing_secrets, delivery.endpoint_id, vault or store.vault)
    found = sent_headers.headers_of(delivery, attempt, secrets)
    return None if found is None else dict(found)


def test_headers_match_what_was_sent(store: Store, endpoint: Registered) -> None:
    webhook_id = store.delivery(1).event_id

    shown = headers_at(store, 1)

    sent = signatures.sign([endpoint.secret], webhook_id, BODY.encode(), now=NINE + HOUR)
    assert shown is not None
    assert shown["Content-Type"] == "application/json"
    assert shown["webhook-id"] == webhook_id
    assert shown["webhook-timestamp"] == sent["webhook-timestamp"]
    assert shown["webhook-signature"] == sent["webhook-signature"][:11] + "…"


def test_attempt_is_signed_by_the_secrets_of_its_time(store: Store, endpoint: Registered) -> None:
    options = {"overlap": 2 * HOUR, "vault": store.vault, "now": NINE + HOUR}
    store.write(endpoints.rotate_secret, endpoint.id, **options)

    shown = [(headers_at(store, hours) or {})["webhook-signature"] for hours in (0.5, 1.5, 3.5)]

    before, both, after = (each.split() for each in shown)
    assert (len(before), len(both), len(after)) == (1, 2, 1)
    assert before != after


@pytest.mark.parametrize("failure", ["dns", "secret-unreadable"])
def test_attempt_that_failed_before_sending_has_no_headers(
    store: Store, endpoint: Registered, failure: str
) -> None:
    assert headers_at(store, 1, status=None, failure=failure) is None


def test_unreadable_secret_is_reported(store: Store, endpoint: Registered) -> None:
    other = Vault(SecretStr(Fernet.generate_key().decode()))

    shown = headers_at(store, 1, vault=other, status=None, failure="deadline")

    assert shown is not None
    assert shown["webhook-signature"].startswith("unknown: ")


def test_curl_command_sends_these_bytes_and_no_signature(store: Store) -> None:
    delivery = store.delivery(
        store.add_delivery(store.add_endpoint("https://elms.example/it's").id)
    )
    delivery.event.body = '{"course_id": "O\'Hara $HOME"}'

    words = shlex.split(sent_headers.curl_command(delivery).replace("\\\n", ""))

    assert words[:4] == ["curl", "--request", "POST", "https://elms.example/it's"]
    assert words[-2:] == ["--data-raw", delivery.event.body]
    assert f"webhook-id: {delivery.event_id}" in words
    assert {"webhook-timestamp: TIMESTAMP", "webhook-signature: SIGNATURE"} < set(words)

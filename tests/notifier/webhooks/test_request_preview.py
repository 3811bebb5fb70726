"""The headers that an attempt sent, with shortened signatures."""

from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from contract import signatures as signature
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.models import Attempt
from notifier.webhooks import delivery_queries, endpoints, request_preview
from tests.notifier.conftest import BODY, NINE, MakeDelivery, MakeEndpoint, Registered

HOUR = timedelta(hours=1)


@pytest.fixture
def endpoint(make_endpoint: MakeEndpoint) -> Registered:
    """An endpoint."""
    return make_endpoint()


def headers_at(
    database: Database, vault: Vault, delivery_id: int, hours: float, **how: object
) -> dict[str, str] | None:
    """Return the headers of an attempt that was made `hours` after nine."""
    attempt = Attempt(started_at=NINE + hours * HOUR, **{"status": 200, **how})
    with database.reading() as session:
        delivery = delivery_queries.get(session, delivery_id)
        secrets = request_preview.signing_secrets(session, delivery.endpoint_id, vault)
        found = request_preview.headers_of(delivery, attempt, secrets)
        return None if found is None else dict(found)


def test_headers_match_what_was_sent(
    database: Database, vault: Vault, endpoint: Registered, make_delivery: MakeDelivery
) -> None:
    delivery_id = make_delivery(endpoint.id)
    with database.reading() as session:
        webhook_id = delivery_queries.get(session, delivery_id).event_id

    shown = headers_at(database, vault, delivery_id, 1)

    really = signature.sign([endpoint.secret], webhook_id, BODY.encode(), now=NINE + HOUR)
    assert shown is not None
    assert shown["Content-Type"] == "application/json"
    assert shown["webhook-id"] == webhook_id
    assert shown["webhook-timestamp"] == really["webhook-timestamp"]
    assert shown["webhook-signature"] == really["webhook-signature"][:11] + "…"


def test_attempt_is_signed_by_the_secrets_of_its_time(
    database: Database, vault: Vault, endpoint: Registered, make_delivery: MakeDelivery
) -> None:
    delivery_id = make_delivery(endpoint.id)
    with database.writing() as session:
        endpoints.rotate_secret(
            session, endpoint.id, overlap=2 * HOUR, vault=vault, now=NINE + HOUR
        )

    signatures = [
        (headers_at(database, vault, delivery_id, hours) or {})["webhook-signature"].split()
        for hours in (0.5, 1.5, 3.5)
    ]

    assert [len(each) for each in signatures] == [1, 2, 1]
    before, _, after = (each[0] for each in signatures)
    assert before != after


@pytest.mark.parametrize("failure", ["dns", "secret-unreadable"])
def test_attempt_that_failed_before_sending_has_no_headers(
    database: Database,
    vault: Vault,
    endpoint: Registered,
    make_delivery: MakeDelivery,
    failure: str,
) -> None:
    delivery_id = make_delivery(endpoint.id)

    assert headers_at(database, vault, delivery_id, 1, status=None, failure=failure) is None


def test_unreadable_secret_is_reported(
    database: Database, endpoint: Registered, make_delivery: MakeDelivery
) -> None:
    other = Vault(SecretStr(Fernet.generate_key().decode()))
    delivery_id = make_delivery(endpoint.id)

    shown = headers_at(database, other, delivery_id, 1, status=None, failure="deadline")

    assert shown is not None
    assert shown["webhook-signature"].startswith("unknown: ")

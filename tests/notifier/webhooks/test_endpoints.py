"""Endpoints: URLs, secrets, and the effect of disabling and enabling on deliveries."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.orm import Session

from foundation.crypto import Vault
from foundation.errors import DecryptionError
from foundation.http.ssrf import Guard
from notifier.errors import (
    EndpointChangedError,
    EndpointExistsError,
    EndpointRemovedError,
    EndpointUnknownError,
    EndpointUrlError,
)
from notifier.models import DeliveryStatus, Endpoint, EndpointPing, EndpointSecret
from notifier.webhooks import endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.retry_policy import Delivered, Disable, RetryAt, WebhookResponse
from tests.notifier.conftest import LOOPBACK, NINE, Store

HOUR = timedelta(hours=1)
TEN = NINE + HOUR
RIGHT = "https://elms.example/webhooks/right"
FAILING = BreakerState(7, NINE - HOUR, NINE, TEN)


def rotate(store: Store, endpoint_id: int, **overrides: Any) -> str:
    """Rotate an endpoint's secret at nine, with an hour's overlap; return the new one."""
    given = {"overlap": HOUR, "vault": store.vault, "now": NINE, **overrides}
    return store.write(endpoints.rotate_secret, endpoint_id, **given).reveal()


def secrets_at(store: Store, endpoint_id: int, now: datetime) -> list[str]:
    """Return the secrets that sign for an endpoint at a time."""
    encrypted = store.read(endpoints.encrypted_secrets, [endpoint_id], now=now)
    return [store.vault.decrypt(one) for one in encrypted.get(endpoint_id, ())]


def test_registered_url_becomes_an_enabled_endpoint(store: Store) -> None:
    url = "https://elms.example/w?site=1&x=%20"

    endpoint = store.endpoint(store.add_endpoint(url).id)

    assert (endpoint.url, endpoint.event_types, endpoint.created_at) == (url, None, NINE)
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (None, None)


def test_url_is_registered_once(store: Store) -> None:
    store.add_endpoint("https://elms.example/w", disabled=True)

    with pytest.raises(EndpointExistsError) as refused:
        store.add_endpoint("https://ELMS.example./w")

    assert str(refused.value) == "https://elms.example/w is registered already"


def test_secret_is_stored_encrypted(store: Store) -> None:
    made = store.add_endpoint()

    (row,) = store.all(EndpointSecret)
    assert made.secret.reveal() not in row.encrypted
    assert store.vault.decrypt(row.encrypted) == made.secret.reveal()


def test_rotation_is_refused_if_there_is_a_newer_secret(store: Store) -> None:
    made = store.add_endpoint()
    newest = store.read(endpoints.secrets_of, made.id)[0].id
    rotate(store, made.id, newest=newest)

    with pytest.raises(EndpointChangedError) as refused:
        rotate(store, made.id, newest=newest)

    assert str(refused.value) == f"endpoint {made.id} has a newer secret"
    assert len(store.all(EndpointSecret)) == 2


@pytest.mark.parametrize(
    ("chosen", "stored", "subscribed"),
    [
        pytest.param(
            ["delivery.dead", "delivery.dead"], ["delivery.dead"], ["delivery.dead"], id="one"
        ),
        pytest.param(None, None, ["course.deleted"], id="all course events"),
    ],
)
def test_event_types_can_change(
    store: Store, chosen: list[str] | None, stored: list[str] | None, subscribed: list[str]
) -> None:
    made = store.add_endpoint(event_types=["token.regenerated"])

    changed = store.write(endpoints.set_event_types, made.id, chosen)

    wanted = [
        one
        for one in ("course.deleted", "delivery.dead")
        if store.read(endpoints.subscribed_to, one)
    ]
    assert (changed.event_types, wanted) == (stored, subscribed)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda session: endpoints.get(session, 99), id="read"),
        pytest.param(lambda session: endpoints.enable(session, 99, now=NINE), id="change"),
    ],
)
def test_unknown_endpoint_is_refused(store: Store, act: Callable[[Session], object]) -> None:
    with pytest.raises(EndpointUnknownError) as refused:
        store.write(act)

    assert str(refused.value) == "there is no endpoint 99"


def test_disabling_holds_pending_deliveries(store: Store) -> None:
    made, other = store.add_endpoint(), store.add_endpoint()
    ids = [store.add_delivery(made.id, status=one) for one in ("pending", "delivered", "dead")]
    foreign = store.add_delivery(other.id)

    store.write(endpoints.disable, made.id, "the receiver answered 410", now=TEN)
    store.write(endpoints.disable, made.id, "a later reason", now=TEN + HOUR)

    endpoint = store.endpoint(made.id)
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (TEN, "the receiver answered 410")
    assert store.statuses(*ids, foreign) == ["held", "delivered", "dead", "pending"]


def test_enabling_releases_held_deliveries_and_forgets_failures(store: Store) -> None:
    """An endpoint that was disabled for its failures starts without failures."""
    made, other = store.add_endpoint(), store.add_endpoint(disabled=True)
    store.set_state(made.id, FAILING)
    store.write(endpoints.disable, made.id, "it kept failing", now=NINE)
    held = store.add_delivery(made.id, attempts=7, due_at=TEN + HOUR)
    dead = store.add_delivery(made.id, status=DeliveryStatus.DEAD)
    foreign = store.add_delivery(other.id)

    _, released = store.write(endpoints.enable, made.id, now=TEN)

    row, endpoint = store.delivery(held), store.endpoint(made.id)
    assert released == 1
    assert (row.status, row.due_at, row.attempts) == ("pending", TEN, 0)
    assert store.statuses(dead, foreign) == ["dead", "held"]
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (None, None)
    assert (endpoint.failures, endpoint.failing_since) == (0, None)
    assert (endpoint.failed_at, endpoint.paused_until) == (None, None)


def test_removal_cancels_open_deliveries_and_keeps_the_others(store: Store) -> None:
    made, other = store.add_endpoint(), store.add_endpoint()
    every = ("pending", "pending", "delivered", "dead")
    ids = [store.add_delivery(made.id, status=one) for one in every]
    foreign = store.add_delivery(other.id)

    cancelled = store.write(endpoints.remove, made.id, by="ada", now=TEN)
    again = store.write(endpoints.remove, made.id, by="bob", now=TEN + HOUR)

    row = store.delivery(ids[0])
    assert (cancelled, again) == (2, 0)
    assert store.statuses(*ids, foreign) == ["cancelled"] * 2 + ["delivered", "dead", "pending"]
    assert (row.settled_at, row.reason) == (TEN, "the endpoint was removed (ada)")
    assert store.endpoint(made.id).removed_at == TEN
    assert store.read(endpoints.secrets_of, made.id) == []


def test_removed_endpoint_gets_nothing_and_frees_its_url(store: Store) -> None:
    made = store.add_endpoint(RIGHT)
    store.write(endpoints.remove, made.id, by="ada", now=TEN)

    new = store.add_endpoint(RIGHT)

    listed = [one.id for one in store.read(endpoints.list_all)]
    asked = [one.id for one in store.read(endpoints.list_all, removed=True)]
    subscribed = [one.id for one in store.read(endpoints.subscribed_to, "course.deleted")]
    assert (listed, asked, subscribed) == ([new.id], [made.id, new.id], [new.id])
    with pytest.raises(EndpointExistsError):
        store.add_endpoint(RIGHT)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda session: endpoints.enable(session, 1, now=NINE), id="enable"),
        pytest.param(lambda session: endpoints.disable(session, 1, "", now=NINE), id="disable"),
        pytest.param(lambda session: endpoints.set_event_types(session, 1, None), id="change"),
    ],
)
def test_removed_endpoint_cannot_change(store: Store, act: Callable[[Session], object]) -> None:
    store.write(endpoints.remove, store.add_endpoint().id, by="ada", now=NINE)

    with pytest.raises(EndpointRemovedError):
        store.write(act)


def test_attempt_in_progress_can_still_deliver_for_a_removed_endpoint(store: Store) -> None:
    made = store.add_endpoint()
    ids = store.add_deliveries(made.id, 3)
    accepted, failed, gone = store.claim()

    store.write(endpoints.remove, made.id, by="ada", now=NINE)
    store.settle((accepted, Delivered()), (failed, RetryAt(TEN)), (gone, Disable("gone")))

    assert store.statuses(*ids) == ["delivered", "cancelled", "cancelled"]
    assert store.delivery(ids[0]).reason is None
    assert store.claim(now=TEN + HOUR) == []


def test_attempt_keeps_its_lease_over_disable_and_enable(store: Store) -> None:
    made = store.add_endpoint()
    store.add_delivery(made.id)
    store.claim()

    store.write(endpoints.disable, made.id, "maintenance", now=NINE)
    store.write(endpoints.enable, made.id, now=NINE)

    assert store.claim(now=NINE + timedelta(seconds=59)) == []


def test_try_now_makes_waiting_deliveries_due(store: Store) -> None:
    endpoint, other = store.add_endpoint(), store.add_endpoint()
    under_way = store.add_delivery(endpoint.id)
    store.claim()
    waiting, elsewhere = (
        store.add_delivery(one.id, due_at=TEN, attempts=8) for one in (endpoint, other)
    )
    store.set_state(endpoint.id, FAILING)

    due = store.write(endpoints.try_now, endpoint.id, now=NINE)

    rows = [store.delivery(one) for one in (waiting, elsewhere, under_way)]
    assert due == 1
    assert [(row.due_at, row.attempts) for row in rows] == [(NINE, 0), (TEN, 8), (NINE, 1)]
    assert rows[-1].lease_token is not None
    after = store.endpoint(endpoint.id)
    assert (after.failures, after.paused_until) == (7, NINE)


@pytest.mark.parametrize("disabled", [False, True], ids=["healthy", "disabled"])
def test_try_now_changes_only_a_failing_enabled_endpoint(store: Store, disabled: bool) -> None:
    endpoint = store.add_endpoint(disabled=disabled)
    waiting = store.add_delivery(endpoint.id, due_at=TEN, attempts=2)
    if disabled:
        store.set_state(endpoint.id, FAILING)

    due = store.write(endpoints.try_now, endpoint.id, now=NINE)

    row = store.delivery(waiting)
    assert (due, row.due_at, row.attempts) == (0, TEN, 2)


@pytest.mark.parametrize(
    ("waits", "failures"),
    [pytest.param(1, 7, id="something is pending"), pytest.param(0, 0, id="empty")],
)
def test_accepted_ping_makes_an_endpoint_healthy_unless_something_is_pending(
    store: Store, waits: int, failures: int
) -> None:
    endpoint = store.add_endpoint()
    store.set_state(endpoint.id, FAILING)
    store.add_deliveries(endpoint.id, waits, due_at=TEN)

    due = store.write(endpoints.resume_after_ping, endpoint.id, now=NINE)

    assert (due, store.endpoint(endpoint.id).failures) == (waits, failures)


@pytest.mark.parametrize(
    ("result", "at", "failures"),
    [
        pytest.param(WebhookResponse(204), NINE, 0, id="accepted"),
        pytest.param(WebhookResponse(422), NINE, 0, id="unknown to a receiver that works"),
        pytest.param(WebhookResponse(500), TEN, 8, id="failed"),
        pytest.param(WebhookResponse(500), NINE, 7, id="failed in a pause"),
    ],
)
def test_heartbeat_counts_as_an_attempt_but_prolongs_no_pause(
    store: Store, result: WebhookResponse, at: datetime, failures: int
) -> None:
    endpoint = store.add_endpoint()
    store.set_state(endpoint.id, FAILING)

    store.write(endpoints.record_heartbeat, endpoint.id, result, now=at)

    after = store.endpoint(endpoint.id)
    assert after.failures == failures
    assert after.paused_until == {0: None, 7: TEN, 8: TEN + HOUR / 4}[failures]


def test_endpoint_that_accepts_heartbeats_alone_is_failing(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.set_state(endpoint.id, FAILING)
    waiting = store.add_delivery(endpoint.id, due_at=TEN, attempts=3)

    store.write(endpoints.record_heartbeat, endpoint.id, WebhookResponse(204), now=NINE)

    after, row = store.endpoint(endpoint.id), store.delivery(waiting)
    assert (after.failures, after.failing_since) == (7, NINE - HOUR)
    assert (row.attempts, row.due_at) == (3, TEN)


def test_url_is_corrected_before_the_first_delivery(store: Store) -> None:
    made = store.add_endpoint("https://elms.example/webhooks/wrnog")
    waiting = store.add_delivery(made.id, due_at=TEN, attempts=3)
    store.set_state(made.id, FAILING)
    told = update(Endpoint).where(Endpoint.id == made.id).values(heartbeat_seconds=3600)
    store.write(lambda session: session.execute(told))
    ping = {"started_at": NINE, "milliseconds": 1, "status": 401, "accepted": False}
    store.write(lambda session: session.add(EndpointPing(endpoint_id=made.id, **ping)))

    due = store.write(endpoints.correct_url, made.id, RIGHT, guard=LOOPBACK, now=NINE)

    endpoint, row = store.endpoint(made.id), store.delivery(waiting)
    assert (endpoint.url, endpoint.failures, endpoint.paused_until) == (RIGHT, 0, None)
    assert endpoint.heartbeat_seconds is None
    assert (due, row.due_at, row.attempts) == (1, NINE, 0)
    assert store.all(EndpointPing) == []
    assert len(store.all(EndpointSecret)) == 1


@pytest.mark.parametrize(
    ("url", "delivered", "message"),
    [
        pytest.param(RIGHT, 1, "endpoint 1 has accepted deliveries at", id="delivered"),
        pytest.param("https://elms.example/2", 0, "elms.example/2 is registered", id="registered"),
        pytest.param("https://10.0.0.7/", 0, "10.0.0.7 is a private address", id="blocked"),
    ],
)
def test_invalid_correction_changes_nothing(
    store: Store, url: str, delivered: int, message: str
) -> None:
    made, _ = (store.add_endpoint(f"https://elms.example/{number}") for number in (1, 2))
    store.add_deliveries(made.id, delivered, status=DeliveryStatus.DELIVERED)

    with pytest.raises((EndpointUrlError, EndpointExistsError), match=message):
        store.write(endpoints.correct_url, made.id, url, guard=Guard(), now=NINE)

    assert store.endpoint(made.id).url == "https://elms.example/1"


def test_old_secret_signs_until_the_overlap_ends(store: Store) -> None:
    made = store.add_endpoint()
    new = rotate(store, made.id)

    just_before = NINE + HOUR - timedelta(microseconds=1)
    assert secrets_at(store, made.id, just_before) == [new, made.secret.reveal()]
    assert secrets_at(store, made.id, NINE + HOUR) == [new]


def test_rotation_does_not_lengthen_an_older_overlap(store: Store) -> None:
    made = store.add_endpoint()
    second = rotate(store, made.id, overlap=HOUR)

    third = rotate(store, made.id, overlap=2 * HOUR)
    assert secrets_at(store, made.id, NINE + HOUR) == [third, second]

    fourth = rotate(store, made.id, overlap=HOUR / 2)
    assert secrets_at(store, made.id, NINE + HOUR / 2) == [fourth]


def test_reencrypt_uses_the_first_key(store: Store) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    made = [store.add_endpoint(vault=Vault(SecretStr(old))) for _ in range(2)]

    count = store.write(endpoints.reencrypt, vault=Vault(SecretStr(f"{new},{old}")))

    opened = [Vault(SecretStr(new)).decrypt(row.encrypted) for row in store.all(EndpointSecret)]
    assert count == 2
    assert opened == [one.secret.reveal() for one in made]


def test_reencrypt_without_the_old_key_changes_nothing(store: Store) -> None:
    made = store.add_endpoint()
    stranger = Vault(SecretStr(Fernet.generate_key().decode()))

    with pytest.raises(DecryptionError, match="encrypted with a key that is not in the settings"):
        store.write(endpoints.reencrypt, vault=stranger)

    (row,) = store.all(EndpointSecret)
    assert store.vault.decrypt(row.encrypted) == made.secret.reveal()

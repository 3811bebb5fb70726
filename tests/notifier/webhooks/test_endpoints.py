"""Endpoints: URLs, secrets, and the effect of disabling and enabling on deliveries."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select

from foundation.crypto import Vault
from foundation.db.session import Database
from foundation.errors import DecryptionError
from foundation.http.ssrf import Guard
from notifier.errors import (
    EndpointChangedError,
    EndpointExistsError,
    EndpointUnknownError,
    EndpointUrlError,
)
from notifier.models import Delivery, DeliveryStatus, Endpoint, EndpointPing, EndpointSecret
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from tests.notifier.conftest import LOOPBACK, NINE, MakeDelivery, MakeEndpoint

TEN = NINE + timedelta(hours=1)
HOUR = timedelta(hours=1)
RIGHT = "https://elms.example/webhooks/right"


@pytest.fixture
def secrets_at(database: Database, vault: Vault) -> Callable[..., list[str]]:
    """Return a function that decrypts the secrets that sign for an endpoint at a time."""

    def opened(endpoint_id: int, now: object) -> list[str]:
        with database.reading() as session:
            encrypted = endpoints.encrypted_secrets(session, [endpoint_id], now=now)  # type: ignore[arg-type]
        return [vault.decrypt(one) for one in encrypted.get(endpoint_id, ())]

    return opened


def rotate(database: Database, vault: Vault, endpoint_id: int, **overrides: object) -> str:
    """Rotate an endpoint's secret at nine, with an hour's overlap; return the new one."""
    given = {"overlap": HOUR, "vault": vault, "now": NINE, **overrides}
    with database.writing() as session:
        return endpoints.rotate_secret(session, endpoint_id, **given).reveal()  # type: ignore[arg-type]


def test_registered_url_becomes_an_enabled_endpoint(
    make_endpoint: MakeEndpoint, endpoint_of: Callable[[int], Endpoint]
) -> None:
    url = "https://elms.example/w?site=1&x=%20"

    made = make_endpoint(url)

    endpoint = endpoint_of(made.id)
    assert (endpoint.url, endpoint.event_types, endpoint.created_at) == (url, None, NINE)
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (None, None)


def test_url_that_cannot_be_an_endpoint_is_refused(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    with pytest.raises(EndpointUrlError) as refused:
        make_endpoint("https://169.254.169.254/latest", guard=Guard())

    assert str(refused.value) == "169.254.169.254 is link-local (RFC 3927)"
    with database.reading() as session:
        assert endpoints.list_all(session) == []


@pytest.mark.parametrize("disabled", [False, True])
def test_url_is_registered_once(make_endpoint: MakeEndpoint, disabled: bool) -> None:
    make_endpoint("https://elms.example/w", disabled=disabled)

    with pytest.raises(EndpointExistsError) as refused:
        make_endpoint("https://elms.example/w")

    assert str(refused.value) == "https://elms.example/w is registered already"


def test_secret_is_stored_encrypted(
    database: Database, vault: Vault, make_endpoint: MakeEndpoint
) -> None:
    made = make_endpoint()

    with database.reading() as session:
        row = session.scalars(select(EndpointSecret)).one()
    assert made.secret.reveal() not in row.encrypted
    assert vault.decrypt(row.encrypted) == made.secret.reveal()


def test_rotation_is_refused_if_there_is_a_newer_secret(
    database: Database, vault: Vault, make_endpoint: MakeEndpoint
) -> None:
    made = make_endpoint()
    with database.reading() as session:
        newest = endpoints.secrets_of(session, made.id)[0].id
    rotate(database, vault, made.id, newest=newest)

    with pytest.raises(EndpointChangedError) as refused:
        rotate(database, vault, made.id, newest=newest)

    assert str(refused.value) == f"endpoint {made.id} has a newer secret"
    with database.reading() as session:
        assert len(endpoints.secrets_of(session, made.id)) == 2


def test_event_types_can_change(database: Database, make_endpoint: MakeEndpoint) -> None:
    made = make_endpoint()
    wanting = []
    for types in (["delivery.dead"], None):
        with database.writing() as session:
            endpoints.set_event_types(session, made.id, types)
        with database.reading() as session:
            wanting.append(
                [
                    one
                    for one in ("course.deleted", "delivery.dead")
                    if endpoints.subscribed_to(session, one, lock=False)
                ]
            )

    assert wanting == [["delivery.dead"], ["course.deleted"]]


def test_duplicate_event_types_are_stored_once(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    made = make_endpoint()

    with database.writing() as session:
        twice = ["delivery.dead", "course.deleted", "delivery.dead"]
        wanted = endpoints.set_event_types(session, made.id, twice).event_types

    assert wanted == ["delivery.dead", "course.deleted"]


@pytest.mark.parametrize("verb", ["get", "disable", "enable", "rotate", "want", "try", "correct"])
def test_unknown_endpoint_is_refused(database: Database, vault: Vault, verb: str) -> None:
    calls = {
        "get": lambda session: endpoints.get(session, 99),
        "want": lambda session: endpoints.set_event_types(session, 99, None),
        "disable": lambda session: endpoints.disable(session, 99, "why", now=NINE),
        "enable": lambda session: endpoints.enable(session, 99, now=NINE),
        "try": lambda session: endpoints.try_now(session, 99, now=NINE),
        "correct": lambda session: endpoints.correct_url(
            session, 99, RIGHT, guard=LOOPBACK, now=NINE
        ),
        "rotate": lambda session: endpoints.rotate_secret(
            session, 99, overlap=HOUR, vault=vault, now=NINE
        ),
    }

    with database.writing() as session, pytest.raises(EndpointUnknownError) as refused:
        calls[verb](session)

    assert str(refused.value) == "there is no endpoint 99"


def test_disabling_holds_pending_deliveries(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
    endpoint_of: Callable[[int], Endpoint],
) -> None:
    made, other = make_endpoint(), make_endpoint()
    pending = make_delivery(made.id)
    settled = [
        make_delivery(made.id, status=status)
        for status in (DeliveryStatus.DELIVERED, DeliveryStatus.DEAD)
    ]
    foreign = make_delivery(other.id)

    with database.writing() as session:
        endpoints.disable(session, made.id, "the receiver answered 410", now=TEN)

    endpoint = endpoint_of(made.id)
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (TEN, "the receiver answered 410")
    assert [delivery_of(one).status for one in (pending, *settled, foreign)] == [
        "held",
        "delivered",
        "dead",
        "pending",
    ]


def test_first_reason_of_a_disable_is_kept(
    database: Database, make_endpoint: MakeEndpoint, endpoint_of: Callable[[int], Endpoint]
) -> None:
    made = make_endpoint(disabled=True)

    with database.writing() as session:
        endpoints.disable(session, made.id, "another reason", now=TEN)

    endpoint = endpoint_of(made.id)
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (NINE, "out of order")


def test_enabling_releases_held_deliveries(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
    endpoint_of: Callable[[int], Endpoint],
) -> None:
    made, other = make_endpoint(disabled=True), make_endpoint(disabled=True)
    held = make_delivery(
        made.id, status=DeliveryStatus.HELD, attempts=7, due_at=NINE + timedelta(days=1)
    )
    dead = make_delivery(made.id, status=DeliveryStatus.DEAD)
    foreign = make_delivery(other.id, status=DeliveryStatus.HELD)

    with database.writing() as session:
        _, released = endpoints.enable(session, made.id, now=TEN)

    assert released == 1
    row = delivery_of(held)
    assert (row.status, row.due_at, row.attempts) == ("pending", TEN, 0)
    assert [delivery_of(one).status for one in (dead, foreign)] == ["dead", "held"]
    endpoint = endpoint_of(made.id)
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (None, None)


def test_enabling_an_enabled_endpoint_changes_nothing(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: Callable[[int], Delivery],
) -> None:
    made = make_endpoint()
    waiting = make_delivery(made.id, attempts=3, due_at=TEN)

    with database.writing() as session:
        _, released = endpoints.enable(session, made.id, now=NINE)

    assert released == 0
    assert (delivery_of(waiting).attempts, delivery_of(waiting).due_at) == (3, TEN)


@pytest.fixture
def make_failing(database: Database) -> Callable[[int], None]:
    """Return a function that makes an endpoint fail for an hour and pauses it for another."""

    def write(endpoint_id: int) -> None:
        with database.writing() as session:
            circuit_breaker.write_states(
                session, {endpoint_id: BreakerState(7, NINE - HOUR, NINE, TEN)}
            )

    return write


def test_try_now_makes_waiting_deliveries_due(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
    make_failing: Callable[[int], None],
    endpoint_of: Callable[[int], Endpoint],
    delivery_of: Callable[[int], Delivery],
) -> None:
    endpoint, other = make_endpoint(), make_endpoint()
    under_way = make_delivery(endpoint.id)
    claim()
    waiting, elsewhere = (
        make_delivery(one.id, due_at=TEN, attempts=8) for one in (endpoint, other)
    )
    make_failing(endpoint.id)

    with database.writing() as session:
        due = endpoints.try_now(session, endpoint.id, now=NINE)

    row = delivery_of(waiting)
    assert due == 1
    assert (row.status, row.due_at, row.attempts) == ("pending", NINE, 0)
    assert (delivery_of(elsewhere).due_at, delivery_of(elsewhere).attempts) == (TEN, 8)
    assert delivery_of(under_way).attempts == 1
    assert delivery_of(under_way).lease_token is not None
    assert (endpoint_of(endpoint.id).failures, endpoint_of(endpoint.id).paused_until) == (7, NINE)


@pytest.mark.parametrize("disabled", [False, True])
def test_try_now_does_nothing_for_a_healthy_or_disabled_endpoint(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_failing: Callable[[int], None],
    delivery_of: Callable[[int], Delivery],
    disabled: bool,
) -> None:
    endpoint = make_endpoint(disabled=disabled)
    waiting = make_delivery(endpoint.id, due_at=TEN, attempts=2)
    if disabled:
        make_failing(endpoint.id)

    with database.writing() as session:
        due = endpoints.try_now(session, endpoint.id, now=NINE)

    assert due == 0
    assert (delivery_of(waiting).due_at, delivery_of(waiting).attempts) == (TEN, 2)


@pytest.mark.parametrize(
    ("waits", "failures"),
    [pytest.param(True, 7, id="something is pending"), pytest.param(False, 0, id="empty")],
)
def test_accepted_ping_makes_an_endpoint_healthy_unless_something_is_pending(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_failing: Callable[[int], None],
    endpoint_of: Callable[[int], Endpoint],
    waits: bool,
    failures: int,
) -> None:
    endpoint = make_endpoint()
    make_failing(endpoint.id)
    if waits:
        make_delivery(endpoint.id, due_at=TEN)

    with database.writing() as session:
        due = endpoints.resume_after_ping(session, endpoint.id, now=NINE)

    row = endpoint_of(endpoint.id)
    assert (due, row.failures, row.failing_since is None) == (int(waits), failures, not waits)


def test_url_is_corrected_before_the_first_delivery(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    make_failing: Callable[[int], None],
    endpoint_of: Callable[[int], Endpoint],
    delivery_of: Callable[[int], Delivery],
) -> None:
    made = make_endpoint("https://elms.example/webhooks/wrnog")
    waiting = make_delivery(made.id, due_at=TEN, attempts=3)
    make_failing(made.id)
    with database.writing() as session:
        session.add(
            EndpointPing(
                endpoint_id=made.id, started_at=NINE, milliseconds=1, status=401, accepted=False
            )
        )

    with database.writing() as session:
        due = endpoints.correct_url(session, made.id, RIGHT, guard=LOOPBACK, now=NINE)

    row = endpoint_of(made.id)
    assert due == 1
    assert (row.url, row.failures, row.paused_until) == (RIGHT, 0, None)
    assert (delivery_of(waiting).due_at, delivery_of(waiting).attempts) == (NINE, 0)
    with database.reading() as session:
        assert session.get(EndpointPing, made.id) is None
        assert len(endpoints.secrets_of(session, made.id)) == 1


@pytest.mark.parametrize(
    ("url", "delivered", "error", "message"),
    [
        pytest.param(
            RIGHT, True, EndpointUrlError, "endpoint 1 has accepted deliveries at", id="delivered"
        ),
        pytest.param(
            "https://elms.example/2",
            False,
            EndpointExistsError,
            "https://elms.example/2 is registered already",
            id="registered",
        ),
        pytest.param(
            "https://10.0.0.7/",
            False,
            EndpointUrlError,
            "10.0.0.7 is for private use",
            id="blocked",
        ),
    ],
)
def test_invalid_correction_changes_nothing(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    endpoint_of: Callable[[int], Endpoint],
    url: str,
    delivered: bool,
    error: type[Exception],
    message: str,
) -> None:
    made = make_endpoint("https://elms.example/1")
    make_endpoint("https://elms.example/2")
    if delivered:
        make_delivery(made.id, status=DeliveryStatus.DELIVERED)

    with pytest.raises(error) as refused, database.writing() as session:
        endpoints.correct_url(session, made.id, url, guard=Guard(), now=NINE)

    assert str(refused.value).startswith(message)
    assert endpoint_of(made.id).url == "https://elms.example/1"


def test_attempt_keeps_its_lease_over_disable_and_enable(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Callable[..., list[Claimed]],
) -> None:
    made = make_endpoint()
    make_delivery(made.id)
    claim()

    with database.writing() as session:
        endpoints.disable(session, made.id, "for a moment", now=NINE)
        endpoints.enable(session, made.id, now=NINE)

    assert claim(now=NINE + timedelta(seconds=59)) == []


def test_old_secret_signs_until_the_overlap_ends(
    database: Database,
    vault: Vault,
    make_endpoint: MakeEndpoint,
    secrets_at: Callable[..., list[str]],
) -> None:
    made = make_endpoint()
    new = rotate(database, vault, made.id)

    assert secrets_at(made.id, NINE) == [new, made.secret.reveal()]
    assert secrets_at(made.id, NINE + HOUR - timedelta(microseconds=1)) == [
        new,
        made.secret.reveal(),
    ]
    assert secrets_at(made.id, NINE + HOUR) == [new]


def test_rotation_does_not_lengthen_an_older_overlap(
    database: Database,
    vault: Vault,
    make_endpoint: MakeEndpoint,
    secrets_at: Callable[..., list[str]],
) -> None:
    made = make_endpoint()
    second = rotate(database, vault, made.id, overlap=HOUR)

    third = rotate(database, vault, made.id, overlap=2 * HOUR)
    assert secrets_at(made.id, NINE + HOUR) == [third, second]

    fourth = rotate(database, vault, made.id, overlap=HOUR / 2)
    assert secrets_at(made.id, NINE + HOUR / 2) == [fourth]


def test_reencrypt_uses_the_first_key(database: Database, make_endpoint: MakeEndpoint) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    made = [make_endpoint(vault=Vault(SecretStr(old))) for _ in range(2)]

    with database.writing() as session:
        count = endpoints.reencrypt(session, vault=Vault(SecretStr(f"{new},{old}")))

    assert count == 2
    with database.reading() as session:
        rows = list(session.scalars(select(EndpointSecret).order_by(EndpointSecret.id)))
    opened = [Vault(SecretStr(new)).decrypt(row.encrypted) for row in rows]
    assert opened == [one.secret.reveal() for one in made]


def test_reencrypt_without_the_old_key_changes_nothing(
    database: Database, vault: Vault, make_endpoint: MakeEndpoint
) -> None:
    made = make_endpoint()
    stranger = Vault(SecretStr(Fernet.generate_key().decode()))

    with pytest.raises(DecryptionError) as refused, database.writing() as session:
        endpoints.reencrypt(session, vault=stranger)

    assert (
        str(refused.value) == "a stored secret was encrypted with a key that is not in the settings"
    )
    with database.reading() as session:
        row = session.scalars(select(EndpointSecret)).one()
    assert vault.decrypt(row.encrypted) == made.secret.reveal()

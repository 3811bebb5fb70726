"""The checks of the doctor."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import freezegun
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from foundation.cli.doctor import Finding
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import Advice, DecryptionError
from notifier.models import DeliveryStatus
from notifier.monitoring import doctor
from notifier.webhooks import endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.conftest import NINE, Store

Find = Callable[[str], Finding]
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
MINUTE = 60 * SECOND


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test names the databases."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def find(store: Store) -> Find:
    """Return a function that returns the finding of one check."""

    def find(check: str) -> Finding:
        return {one.check: one for one in doctor.examine(store.database, store.vault)}[check]

    return find


@pytest.fixture
def now(store: Store) -> datetime:
    """The database's clock."""
    return store.read(db.now)


def test_database_is_shown_without_its_password(find: Find, store: Store) -> None:
    finding = find("database")

    assert finding.ok
    assert finding.found == store.database.engine.url.render_as_string(hide_password=True)


def test_missing_database_is_the_only_finding(vault: Vault, tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path}/none/notifier.db")

    findings = doctor.examine(away, vault)

    advice = Advice("Check the database URL, and that the database runs and takes writes.")
    assert findings == [Finding("database", False, f"there is no folder {tmp_path}/none", advice)]


@pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], indirect=True)
def test_clock_is_compared_with_the_database(find: Find, store: Store) -> None:
    with freezegun.freeze_time(datetime.now(UTC) + 2 * MINUTE):
        finding = find("clock")

    assert finding.ok == store.database.is_sqlite
    if not store.database.is_sqlite:
        assert 119 < float(finding.found.split()[0]) < 122
        assert finding.advice is not None


def test_every_secret_is_decrypted(find: Find, store: Store, vault: Vault, now: datetime) -> None:
    endpoint = store.add_endpoint()
    store.write(endpoints.rotate_secret, endpoint.id, overlap=HOUR, vault=vault, now=now)

    finding = find("secrets")

    assert (finding.ok, finding.found) == (True, "2 encrypted, all can be decrypted")


def test_missing_key_is_found(store: Store) -> None:
    store.add_endpoint()
    other = Vault(SecretStr(Fernet.generate_key().decode()))

    (finding,) = [one for one in doctor.examine(store.database, other) if one.check == "secrets"]

    assert not finding.ok
    assert finding.found == "a stored secret was encrypted with a key that is not in the settings"
    assert finding.advice == DecryptionError.advice


@pytest.mark.parametrize(
    ("due_since", "pause_ended_since", "ok"),
    [
        pytest.param(4.5 * MINUTE, None, True, id="in time"),
        pytest.param(5.5 * MINUTE, None, False, id="late"),
        pytest.param(-10 * HOUR, None, True, id="later retry"),
        pytest.param(HOUR, 30 * SECOND, True, id="pause has just ended"),
        pytest.param(HOUR, 90 * SECOND, False, id="pause ended long ago"),
        pytest.param(HOUR, -5 * MINUTE, True, id="paused"),
    ],
)
def test_late_delivery_is_found_unless_its_endpoint_is_paused(
    find: Find,
    store: Store,
    now: datetime,
    due_since: timedelta,
    pause_ended_since: timedelta | None,
    ok: bool,
) -> None:
    endpoint = store.add_endpoint()
    store.add_delivery(endpoint.id, due_at=now - due_since)
    if pause_ended_since is not None:
        until = now - pause_ended_since
        store.set_state(endpoint.id, BreakerState(9, now - 2 * HOUR, now, until))

    finding = find("backlog")

    assert finding.ok == ok
    assert finding.found.startswith("1 pending")


@pytest.mark.parametrize(
    ("attempted", "found", "step"),
    [
        pytest.param(None, "nothing was attempted yet", "Start a worker", id="never"),
        pytest.param(2 * HOUR, "nothing was attempted since 20", "Start a worker", id="long ago"),
        pytest.param(MINUTE, "10 min", "The running workers cannot keep up", id="recently"),
    ],
)
def test_late_backlog_reports_the_last_attempt(
    store: Store, find: Find, now: datetime, attempted: timedelta | None, found: str, step: str
) -> None:
    delivery_id = store.add_delivery(
        store.add_endpoint().id, due_at=now - timedelta(minutes=10, seconds=9)
    )
    if attempted is not None:
        store.add_attempt(delivery_id, started_at=now - attempted)

    finding = find("backlog")

    assert not finding.ok
    assert finding.found.startswith("1 pending; the oldest has been due for 10 min")
    assert found in finding.found
    assert finding.advice is not None
    assert (finding.advice.text.startswith(step), finding.advice.action) == (True, "work")


def test_failing_endpoint_is_found(find: Find, store: Store, now: datetime) -> None:
    endpoint = store.add_endpoint()
    store.set_state(endpoint.id, BreakerState(9, now - 2 * HOUR, now, now + HOUR))

    finding = find("endpoints")

    assert not finding.ok
    assert finding.found == (
        f"1 of 1 failing and paused; endpoint {endpoint.id} since "
        f"{now - 2 * HOUR:%Y-%m-%d %H:%M:%S} UTC, 9 failures in a row"
    )
    assert finding.advice is not None
    assert finding.advice.command == f"endpoints ping {endpoint.id}"


def test_disabled_endpoint_is_found_and_its_deliveries_are_not_late(
    find: Find, store: Store
) -> None:
    endpoint = store.add_endpoint(disabled=True)
    store.add_delivery(endpoint.id)

    backlog, finding = find("backlog"), find("endpoints")

    assert (backlog.ok, backlog.found) == (True, "1 held")
    assert not finding.ok
    assert finding.found == f"1 of 1 disabled; endpoint {endpoint.id}: out of order"


def test_endpoint_disabled_by_a_person_is_no_finding(find: Find, store: Store) -> None:
    endpoint, removed = store.add_endpoint(), store.add_endpoint()
    store.write(endpoints.disable, endpoint.id, "ELMS moves", by="ada", now=NINE)
    store.write(endpoints.remove, removed.id, by="ada", now=NINE)

    finding = find("endpoints")

    assert (finding.ok, finding.found) == (True, "1, 1 disabled on purpose, none paused")


@pytest.mark.parametrize(
    ("age", "ok"),
    [
        pytest.param(7 * DAY - HOUR, False, id="this week"),
        pytest.param(7 * DAY + HOUR, True, id="earlier"),
    ],
)
def test_dead_deliveries_of_the_last_week_are_found(
    find: Find, store: Store, now: datetime, age: timedelta, ok: bool
) -> None:
    store.add_delivery(store.add_endpoint().id, status=DeliveryStatus.DEAD, settled_at=now - age)

    assert find("dead_deliveries").ok == ok

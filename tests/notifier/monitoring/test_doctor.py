"""The checks of the doctor."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import freezegun
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from foundation.cli.doctor import Finding
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import Advice, DecryptionError
from notifier.models import Attempt, Delivery, DeliveryStatus
from notifier.monitoring import doctor
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import BreakerState


@pytest.fixture
def find(database: Database, vault: Vault) -> Callable[[str], Finding]:
    """Return a function that returns the finding of one check."""

    def find(check: str) -> Finding:
        return {one.check: one for one in doctor.examine(database, vault)}[check]

    return find


@pytest.fixture
def now(database: Database) -> datetime:
    """The database's clock."""
    with database.reading() as session:
        return db.now(session)


def test_database_is_checked_first_and_shows_no_password(
    find: Callable[[str], Finding], database: Database
) -> None:
    finding = find("database")

    assert finding.ok
    assert finding.found == database.engine.url.render_as_string(hide_password=True)


def test_every_secret_can_be_opened(
    find: Callable[[str], Finding], make_endpoint: Any, database: Database, vault: Vault
) -> None:
    endpoint = make_endpoint()
    make_endpoint()
    with database.writing() as session:
        endpoints.rotate_secret(
            session, endpoint.id, overlap=timedelta(hours=1), vault=vault, now=db.now(session)
        )

    finding = find("secrets")

    assert (finding.ok, finding.found) == (True, "3 encrypted, all can be decrypted")


def test_missing_key_is_found(database: Database, make_endpoint: Any) -> None:
    make_endpoint()
    other = Vault(SecretStr(Fernet.generate_key().decode()))

    finding = {one.check: one for one in doctor.examine(database, other)}["secrets"]

    assert not finding.ok
    assert finding.found == "a stored secret was encrypted with a key that is not in the settings"
    assert finding.advice == DecryptionError.advice


@pytest.mark.parametrize(
    ("due_since", "ok"),
    [
        pytest.param(timedelta(minutes=4, seconds=30), True, id="in time"),
        pytest.param(timedelta(minutes=5, seconds=30), False, id="late"),
        pytest.param(-timedelta(hours=10), True, id="a retry to come"),
    ],
)
def test_late_delivery_means_no_worker(
    find: Callable[[str], Finding],
    make_endpoint: Any,
    make_delivery: Any,
    now: datetime,
    due_since: timedelta,
    ok: bool,
) -> None:
    make_delivery(make_endpoint().id, due_at=now - due_since)

    finding = find("backlog")

    assert finding.ok == ok
    assert finding.found.startswith("1 pending")


@pytest.mark.parametrize(
    ("attempted", "said", "step"),
    [
        pytest.param(None, "nothing was attempted yet", "Start a worker", id="never"),
        pytest.param(
            timedelta(hours=2), "nothing was attempted since 20", "Start a worker", id="long ago"
        ),
        pytest.param(
            timedelta(minutes=1), "10 min", "The running workers cannot keep up", id="lately"
        ),
    ],
)
def test_late_backlog_reports_the_last_attempt(
    database: Database,
    find: Callable[[str], Finding],
    make_endpoint: Any,
    make_delivery: Any,
    now: datetime,
    attempted: timedelta | None,
    said: str,
    step: str,
) -> None:
    delivery_id = make_delivery(make_endpoint().id, due_at=now - timedelta(minutes=10, seconds=9))
    if attempted is not None:
        with database.writing() as session:
            made = {"started_at": now - attempted, "milliseconds": 1, "decided": "retry"}
            session.add(Attempt(delivery_id=delivery_id, **made))

    finding = find("backlog")

    assert not finding.ok
    assert finding.found.startswith("1 pending; the oldest has been due for 10 min")
    assert said in finding.found
    assert finding.advice is not None
    assert (finding.advice.text.startswith(step), finding.advice.action) == (True, "work")


@pytest.mark.parametrize(
    ("over_for", "ok"),
    [
        pytest.param(timedelta(seconds=30), True, id="just over"),
        pytest.param(timedelta(seconds=90), False, id="long over"),
    ],
)
def test_pause_that_ended_long_ago_means_no_worker(
    database: Database,
    find: Callable[[str], Finding],
    make_endpoint: Any,
    make_delivery: Any,
    now: datetime,
    over_for: timedelta,
    ok: bool,
) -> None:
    endpoint = make_endpoint()
    make_delivery(endpoint.id, due_at=now - timedelta(hours=1))
    with database.writing() as session:
        ailing = BreakerState(9, now - timedelta(hours=2), now, now - over_for)
        circuit_breaker.write_states(session, {endpoint.id: ailing})

    assert find("backlog").ok == ok


def test_failing_endpoint_is_found_and_is_no_late_backlog(
    database: Database,
    find: Callable[[str], Finding],
    make_endpoint: Any,
    make_delivery: Any,
    now: datetime,
) -> None:
    endpoint = make_endpoint()
    make_delivery(endpoint.id, due_at=now - timedelta(hours=1))
    since = now - timedelta(hours=2)
    with database.writing() as session:
        circuit_breaker.write_states(
            session, {endpoint.id: BreakerState(9, since, now, now + timedelta(minutes=5))}
        )

    finding, backlog = find("endpoints"), find("backlog")

    assert backlog.ok
    assert not finding.ok
    assert finding.found == (
        f"1 of 1 failing and paused; endpoint {endpoint.id} since {since:%Y-%m-%d %H:%M} UTC, "
        "failures in a row: 9"
    )
    assert finding.advice is not None
    assert finding.advice.command == f"endpoints ping {endpoint.id}"


def test_held_deliveries_are_no_late_backlog(
    find: Callable[[str], Finding], make_endpoint: Any, make_delivery: Any
) -> None:
    endpoint = make_endpoint(disabled=True)
    make_delivery(endpoint.id, status=DeliveryStatus.HELD)

    backlog, disabled = find("backlog"), find("endpoints")

    assert (backlog.ok, backlog.found) == (True, "1 held")
    assert (disabled.ok, disabled.found) == (
        False,
        f"1 of 1 disabled; endpoint {endpoint.id}: out of order",
    )


@pytest.mark.parametrize(
    ("age", "ok"),
    [
        pytest.param(timedelta(days=6, hours=23), False, id="this week"),
        pytest.param(timedelta(days=7, hours=1), True, id="history"),
    ],
)
def test_dead_deliveries_of_the_last_week_are_found(
    find: Callable[[str], Finding],
    make_endpoint: Any,
    make_delivery: Any,
    database: Database,
    now: datetime,
    age: timedelta,
    ok: bool,
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    with database.writing() as session:
        row = session.get_one(Delivery, delivery_id)
        row.status, row.settled_at = DeliveryStatus.DEAD, now - age

    assert find("dead letters").ok == ok


def test_clock_is_compared_with_the_database(
    find: Callable[[str], Finding], database: Database
) -> None:
    with freezegun.freeze_time(datetime.now(UTC) + timedelta(minutes=2)):
        finding = find("clock")

    assert finding.ok == database.is_sqlite
    if not database.is_sqlite:
        assert 119 < float(finding.found.split()[0]) < 122
        assert finding.advice is not None


def test_missing_database_is_the_only_finding(vault: Vault, tmp_path: Any) -> None:
    away = Database(f"sqlite:///{tmp_path}/none/notifier.db")

    findings = doctor.examine(away, vault)

    assert findings == [
        Finding(
            "database",
            False,
            "unable to open database file",
            Advice("Check the database URL and that the database is running."),
        )
    ]

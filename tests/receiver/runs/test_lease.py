"""The lease of the grade sync: one run at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from foundation.db.session import Database
from receiver.config import LEASE_MARGIN_SECONDS
from receiver.errors import LeaseLostError, RunInProgressError
from receiver.runs import lease as leases
from tests.receiver.conftest import NINE

DURATION = timedelta(minutes=5)
Acquire = Callable[..., str]
Renew = Callable[[str, datetime], None]


@pytest.fixture
def acquire(database: Database) -> Acquire:
    """Return a function that takes the lease some minutes after nine."""

    def take(holder: str = "ada@elms", minutes: int = 0) -> str:
        with database.writing() as session:
            at = NINE + timedelta(minutes=minutes)
            return leases.acquire(session, holder, DURATION, now=at)

    return take


@pytest.fixture
def renew(database: Database) -> Renew:
    """Return a function that renews the lease."""

    def extend(token: str, at: datetime) -> None:
        with database.writing() as session:
            leases.renew(session, token, DURATION, now=at)

    return extend


def test_lease_refuses_others_until_it_expires(acquire: Acquire, renew: Renew) -> None:
    first = acquire("ada@elms")
    with pytest.raises(
        RunInProgressError, match="ada@elms, its lease lasts until 2026-11-22 09:05:00 UTC"
    ):
        acquire("bob@elms", minutes=4)
    renew(first, NINE + timedelta(minutes=4))
    with pytest.raises(RunInProgressError, match="09:09:00 UTC"):
        acquire("bob@elms", minutes=8)

    second = acquire("bob@elms", minutes=9)

    with pytest.raises(LeaseLostError, match="taken over"):
        renew(first, NINE)
    renew(second, NINE)


def test_released_lease_is_free_at_once(database: Database, acquire: Acquire) -> None:
    token = acquire()
    with database.writing() as session:
        leases.release(session, "another token")
    with pytest.raises(RunInProgressError):
        acquire("bob@elms")

    with database.writing() as session:
        leases.release(session, token)

    assert acquire("bob@elms")


def test_lease_of_a_wrong_clock_is_taken_over(acquire: Acquire, renew: Renew) -> None:
    token = acquire()
    renew(token, NINE + timedelta(days=3650))

    assert acquire("bob@elms")
    with pytest.raises(LeaseLostError):
        renew(token, NINE)


def test_longer_lease_of_another_machine_is_respected(database: Database, acquire: Acquire) -> None:
    with database.writing() as session:
        leases.acquire(session, "bob@elms", timedelta(hours=12), now=NINE)

    with pytest.raises(RunInProgressError, match="bob@elms"):
        acquire()


def test_one_of_many_at_once_takes_the_lease(acquire: Acquire) -> None:
    def attempt(number: int) -> bool:
        try:
            return bool(acquire(f"host-{number}"))
        except RunInProgressError:
            return False

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(attempt, range(8)))

    assert sum(taken) == 1


@pytest.mark.parametrize(
    ("ago", "renewed"),
    [pytest.param(9, False, id="recent"), pytest.param(11, True, id="due")],
)
def test_lease_is_renewed_every_ten_seconds(database: Database, ago: float, renewed: bool) -> None:
    lease = leases.RunLease(database, timedelta(seconds=300 + LEASE_MARGIN_SECONDS))
    with database.writing() as session:
        lease.acquire(session, "ada@elms", now=NINE)
    lease._renewed_at -= ago

    lease.renew_if_due()

    with database.reading() as session:
        current = leases.current(session)
    assert current is not None
    assert current.leased_until is not None
    assert (current.leased_until > NINE + timedelta(days=1)) is renewed


def test_open_transaction_is_not_waited_for(database: Database) -> None:
    lease = leases.RunLease(database, timedelta(milliseconds=1))
    with database.writing() as session:
        lease.acquire(session, "ada@elms", now=NINE)

    with lease.transaction():
        lease._renewed_at -= 60
        lease.renew_if_due()  # would otherwise wait for its own transaction

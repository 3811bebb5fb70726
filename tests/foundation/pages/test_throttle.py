"""The limit of failed sign-ins."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from foundation.db.session import Database
from foundation.pages import throttle
from foundation.pages.errors import TooManyAttemptsError
from foundation.pages.models import SignInAttempt
from foundation.pages.throttle import MAX_FAILURES_PER_ADDRESS, MAX_FAILURES_PER_NAME, WINDOW
from tests.foundation.pages.conftest import NINE

Attempt = Callable[..., None]


@pytest.fixture
def attempt(database: Database) -> Attempt:
    def register(name: str = "Ada", address: str = "10.0.0.1", now: datetime = NINE) -> None:
        with database.writing() as session:
            throttle.register_attempt(session, name, address, now=now)

    return register


def test_name_is_limited_in_any_case_and_from_any_address(attempt: Attempt) -> None:
    for number in range(MAX_FAILURES_PER_NAME):
        attempt("Ada", f"10.0.0.{number}")

    with pytest.raises(TooManyAttemptsError, match="for this name") as refused:
        attempt("ADA", "10.0.1.1")
    assert refused.value.facts["until"] == NINE + WINDOW
    attempt("Bob", "10.0.0.1")


def test_address_is_limited_for_any_name(attempt: Attempt) -> None:
    for number in range(MAX_FAILURES_PER_ADDRESS):
        attempt(f"user {number}", "2001:db8::1")

    with pytest.raises(TooManyAttemptsError, match="from this address"):
        attempt("Ada", "2001:db8::2")
    attempt("Ada", "2001:db8:0:1::1")


def test_failures_are_forgotten_after_a_while(attempt: Attempt, database: Database) -> None:
    for second in range(MAX_FAILURES_PER_NAME):
        attempt(now=NINE + timedelta(seconds=second))

    with pytest.raises(TooManyAttemptsError):
        attempt(now=NINE + WINDOW - timedelta(seconds=1))
    attempt(now=NINE + WINDOW)

    with database.reading() as session:
        assert NINE not in session.scalars(select(SignInAttempt.at)).all()


def test_mistyped_name_is_not_stored(attempt: Attempt, database: Database) -> None:
    attempt("hunter2-hunter2")

    with database.reading() as session:
        row = session.scalars(select(SignInAttempt)).one()
    assert len(row.name_sha256) == 64
    assert "hunter2" not in repr(vars(row))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("203.0.113.9, x", "unknown"),
    ],
)
def test_ipv6_addresses_count_by_network(address: str, network: str) -> None:
    assert throttle.network_of(address) == network

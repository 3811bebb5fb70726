"""The fuzz of all doors, for a moment: a run of any length is `python -m tests.faults.fuzz`."""

import random
from collections.abc import Callable

import pytest

from contract.signatures import Secret
from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER
from tests.faults import fuzz
from tests.faults.fuzz_requests import Known, draw


@pytest.fixture
def urls(make_database_url: Callable[[Schema], str]) -> dict[str, str]:
    """An empty database for each service."""
    return {"notifier": make_database_url(NOTIFIER), "receiver": make_database_url(RECEIVER)}


@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_of_a_few_hundred_breaks_a_door(urls: dict[str, str], seed: int) -> None:
    """No 5xx, no redirect, problems for refusals, and no change by what was refused (B12)."""
    counter = fuzz.run(urls, 300, seed)

    assert counter.requests == 300
    assert {200, 400, 401, 404, 405, 409, 422} <= counter.statuses.keys()
    assert {"applied", "duplicate", "stale", "ignored"} <= counter.outcomes.keys()


def test_the_same_seed_draws_the_same_requests() -> None:
    def drawn() -> list[tuple[str, str, bytes]]:
        chance, known = random.Random(7), Known(Secret(b"x" * 32), fuzz.ADMIN_KEY)
        requests = [draw(chance, known) for _ in range(50)]
        return [(request.method, request.path, request.body) for request in requests]

    assert drawn() == drawn()

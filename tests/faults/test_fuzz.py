"""A few hundred fuzzed requests; `make torture` sends more."""

from collections.abc import Callable

from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER
from tests.faults import fuzz


def test_no_fuzzed_request_breaks_an_app(make_database_url: Callable[[Schema], str]) -> None:
    urls = {"notifier": make_database_url(NOTIFIER), "receiver": make_database_url(RECEIVER)}

    totals = fuzz.run(urls, 300, seed=1)

    assert totals.requests == 300
    assert {200, 400, 401, 404, 405, 409, 422} <= totals.statuses.keys()
    assert {"applied", "duplicate", "stale", "ignored"} <= totals.outcomes.keys()

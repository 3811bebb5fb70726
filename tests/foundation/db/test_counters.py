"""Counters in the database: what is committed is added up."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.core import Metric

from foundation.db import counters
from foundation.db.counters import Amounts, CounterMetric, HistogramMetric
from foundation.db.session import Database
from notifier.models import SCHEMA, CounterShard

RESPONSES = CounterMetric("responses_total", "Responses.", ("status_class", "failure"))
WAITS = HistogramMetric("wait_seconds", "Waits.", (0.5, 1, 10))


@pytest.fixture
def database(make_database: Callable[..., Database]) -> Database:
    return make_database(SCHEMA)


def samples(database: Database, metric: CounterMetric | HistogramMetric) -> dict[str, float]:
    """Return the stored samples of a metric, by name and labels."""
    with database.reading() as session:
        family: Metric = metric.family(counters.read(session, CounterShard))
    return {
        one.name + ",".join(f" {value}" for value in one.labels.values()): one.value
        for one in family.samples
    }


def test_committed_amounts_are_added_up(database: Database) -> None:
    amounts = RESPONSES.count([("2xx", ""), ("none", "deadline"), ("none", "deadline")])
    for _ in range(3 * counters.SHARDS):
        with database.writing() as session:
            counters.add(session, amounts)
    with database.writing() as session:
        counters.add(session, amounts)
        session.rollback()

    assert samples(database, RESPONSES) == {
        "responses_total 2xx, ": 3.0 * counters.SHARDS,
        "responses_total none, deadline": 6.0 * counters.SHARDS,
    }


def test_buckets_are_cumulative(database: Database) -> None:
    with database.writing() as session:
        counters.add(session, WAITS.count([0.5, 0.6, 3, 11]))

    assert samples(database, WAITS) == {
        "wait_seconds_bucket 0.5": 1,
        "wait_seconds_bucket 1": 2,
        "wait_seconds_bucket 10": 3,
        "wait_seconds_bucket +Inf": 4,
        "wait_seconds_count": 4,
        "wait_seconds_sum": 15.1,
    }


def test_negative_duration_counts_as_zero() -> None:
    assert WAITS.count([-3]) == {("wait_seconds", "0.5"): 1, ("wait_seconds", "sum"): 0.0}


def test_nothing_is_counted_for_nothing(database: Database) -> None:
    with database.writing() as session:
        before = database.statements
        counters.add(session, {**RESPONSES.count([]), **WAITS.count([])})

    assert database.statements == before


def test_concurrent_transactions_lose_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "SHARDS", 1)
    amounts = RESPONSES.count([(f"{number}", "") for number in range(200)])
    reverse = dict(reversed(amounts.items()))

    def add(amounts: Amounts) -> None:
        for _ in range(6):
            with database.writing() as session:
                counters.add(session, amounts)

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(add, one) for one in (amounts, reverse) * 3]

    assert [one.exception() for one in running] == [None] * 6
    assert set(samples(database, RESPONSES).values()) == {36}

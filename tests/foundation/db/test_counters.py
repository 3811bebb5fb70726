"""Tallies: what is added together, whoever adds it, and only what was committed."""

import threading
from collections.abc import Callable

import pytest
from prometheus_client.core import Metric

from foundation.db import counters
from foundation.db.counters import Counter, Histogram
from foundation.db.session import Database
from notifier.models import SCHEMA, CounterShard

ANSWERS = Counter("answers_total", "Answers.", ("status_class", "failure"))
WAITS = Histogram("wait_seconds", "Waits.", (0.5, 1, 10))


@pytest.fixture
def database(make_database: Callable[..., Database]) -> Database:
    """A database that has a table of tallies."""
    return make_database(SCHEMA)


def samples(family: Metric) -> dict[str, float]:
    """Return the samples of a family, by name and labels as Prometheus writes them."""
    return {
        one.name + ",".join(f" {value}" for value in one.labels.values()): one.value
        for one in family.samples
    }


def test_what_several_transactions_add_is_one_number(database: Database) -> None:
    for _ in range(3 * counters.SHARDS):
        with database.writing() as session:
            parts = [ANSWERS.of("2xx", ""), ANSWERS.of("none", "deadline", amount=2)]
            counters.add(session, CounterShard, counters.total(parts))

    with database.reading() as session:
        found = samples(ANSWERS.family(counters.read(session, CounterShard)))
    assert found == {
        "answers_total 2xx, ": 3.0 * counters.SHARDS,
        "answers_total none, deadline": 6.0 * counters.SHARDS,
    }


def test_what_is_rolled_back_was_never_counted(database: Database) -> None:
    with database.writing() as session:
        counters.add(session, CounterShard, ANSWERS.of("2xx", ""))
        session.rollback()

    with database.reading() as session:
        assert counters.read(session, CounterShard) == {}


def test_a_bucket_holds_what_lies_below_it_too(database: Database) -> None:
    with database.writing() as session:
        counters.add(
            session, CounterShard, counters.total([WAITS.of(each) for each in (0.5, 0.6, 3, 11)])
        )

    with database.reading() as session:
        found = samples(WAITS.family(counters.read(session, CounterShard)))
    assert found == {
        "wait_seconds_bucket 0.5": 1,
        "wait_seconds_bucket 1": 2,
        "wait_seconds_bucket 10": 3,
        "wait_seconds_bucket +Inf": 4,
        "wait_seconds_count": 4,
        "wait_seconds_sum": 15.1,
    }


def test_a_clock_that_ran_back_takes_nothing_away() -> None:
    assert WAITS.of(-3) == {("wait_seconds", "0.5"): 1, ("wait_seconds", "sum"): 0.0}


def test_many_at_once_lose_nothing(database: Database) -> None:
    parts = [WAITS.of(0.1), ANSWERS.of("2xx", ""), ANSWERS.of("5xx", "")]

    def adds() -> None:
        for at in range(10):
            with database.writing() as session:
                turned = parts[at % 3 :] + parts[: at % 3]
                counters.add(session, CounterShard, counters.total(turned))

    threads = [threading.Thread(target=adds) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading() as session:
        found = counters.read(session, CounterShard)
    assert found["answers_total", "2xx,"] == found["answers_total", "5xx,"] == 60

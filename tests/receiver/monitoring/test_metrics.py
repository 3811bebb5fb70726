"""The metrics of ELMS: webhooks, courses, runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from contract.events import UnknownEvent
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.db.session import Database
from receiver.course_state import Deleted, TokenAnnounced, TokenRejected
from receiver.monitoring import metrics
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.runs import lease
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.conftest import NINE, Store, make_deleted, make_heartbeat

HOUR = timedelta(hours=1)
Collect = Callable[..., dict[str, float]]


@pytest.fixture
def collect(database: Database) -> Collect:
    """Return a function that reads the metrics with a prefix that are not zero, with labels."""

    def read(prefix: str = "") -> dict[str, float]:
        with database.reading() as session:
            found = {
                " ".join([one.name.removeprefix("receiver_"), *one.labels.values()]): one.value
                for family in metrics.collect(session)
                for one in family.samples
                if one.value
            }
        return {name: value for name, value in found.items() if name.startswith(prefix)}

    return read


def test_webhooks_are_counted_by_outcome(store: Store, collect: Collect) -> None:
    store.receive("msg_1", make_deleted(4))
    store.receive("msg_1", make_deleted(4))
    store.receive("msg_2", make_deleted(3))
    store.receive("msg_3", UnknownEvent(type="course.renamed"))

    assert collect("webhooks") == {
        "webhooks_total applied": 1,
        "webhooks_total duplicate": 1,
        "webhooks_total stale": 1,
        "webhooks_total ignored": 1,
    }


def test_sources_have_their_last_webhook_and_heartbeat(store: Store, collect: Collect) -> None:
    store.receive("msg_1", make_deleted(source="old"), source="old", at=NINE)
    store.receive("msg_1", make_heartbeat(), at=NINE)
    store.receive("msg_2", make_deleted(), at=NINE + HOUR)
    store.add_source("new")

    assert collect("source") == {
        "source_last_received_timestamp_seconds old": NINE.timestamp(),
        "source_last_received_timestamp_seconds one": (NINE + HOUR).timestamp(),
        "source_heartbeat_seconds one": 3600,
        "source_silent one": 1,
    }


def test_missed_webhooks_are_counted_by_source_and_event(
    database: Database, store: Store, collect: Collect
) -> None:
    now = datetime.now(UTC)
    store.add_source("one", secrets=(Secret.generate(),))
    update = EntryUpdate(store.add_course("CS101").id, (Deleted(4, now),))
    with database.writing() as session:
        registry.apply_updates(session, [update], actor=Actor(ActorKind.SYNC, "run 1"), now=now)

    assert collect("missed") == {"missed_webhooks one course.deleted": 1}


def test_courses_are_counted_by_status(store: Store, collect: Collect) -> None:
    token = CourseToken.generate()
    store.add_course("CS101")
    store.add_course("CS102", Deleted(4, NINE))
    store.add_course("CS103", TokenAnnounced(4, "other", NINE))
    store.add_course("CS104", TokenRejected(token.token_id, "unknown", NINE), token=token)
    store.add_course("CS105", TokenAnnounced(4, token.token_id, NINE), token=token)

    assert collect("entries") == {
        "entries active": 2,
        "entries course_deleted": 1,
        "entries token_invalid": 2,
    }


def test_runs_are_counted_by_status_and_courses_by_outcome(
    database: Database, store: Store, collect: Collect
) -> None:
    synced, skipped, failed, unchanged = (
        CourseResult("one", "CS101", CourseOutcome(name))
        for name in ("synced", "skipped", "failed", "unchanged")
    )
    store.add_run(synced, skipped)
    store.add_run(failed)
    store.add_run(exit_code=1)  # a token is invalid
    store.add_run(unchanged, exit_code=143, stopped="SIGTERM was received")
    store.add_run(ended=False)
    with database.writing() as session:
        lease.acquire(session, "ada@elms", HOUR, now=datetime.now(UTC))
    store.add_run(ended=False, at=datetime.now(UTC))

    assert collect("run") == {
        "runs_total completed": 1,
        "runs_total needs_action": 1,
        "runs_total with_errors": 1,
        "runs_total stopped": 1,
        "runs_total killed": 1,
        "run_courses_total synced": 1,
        "run_courses_total unchanged": 1,
        "run_courses_total skipped": 1,
        "run_courses_total failed": 1,
    }


def test_good_run_is_one_of_all_courses_without_failures(store: Store, collect: Collect) -> None:
    never = collect("seconds_since_good_run")
    failed = CourseResult("one", "CS101", CourseOutcome.FAILED, "transient")
    store.add_run(at=NINE)
    store.add_run(at=NINE + HOUR, exit_code=1)  # a token is invalid
    store.add_run(at=NINE + 2 * HOUR, partial=True)
    store.add_run(failed, at=NINE + 3 * HOUR)

    since = collect("seconds_since_good_run")

    expected = (datetime.now(UTC) - (NINE + HOUR)).total_seconds()
    assert never == {"seconds_since_good_run": inf}
    assert since == {"seconds_since_good_run": pytest.approx(expected, abs=60)}

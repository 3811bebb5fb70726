"""The metrics of ELMS: webhooks, courses, runs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf
from typing import Any

import pytest

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, UnknownEvent
from contract.tokens import CourseToken
from foundation.db.session import Database
from receiver.course_state import Deleted, TokenAnnounced, TokenRejected
from receiver.gradebook.base import ScoreCounts
from receiver.monitoring import metrics
from receiver.runs import lease
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.receiver.conftest import SITE, Store

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


@pytest.fixture
def record_run(database: Database, now: datetime) -> Callable[..., None]:
    """Return a function that records a run that ended some hours after nine."""

    def record(
        *outcomes: CourseOutcome, hours: int = 0, partial: bool = False, **overrides: Any
    ) -> None:
        courses = tuple(CourseResult("site", "CS101", outcome) for outcome in outcomes)
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", partial=partial, now=now)
            given = {"exit_code": 0, "stopped": None, **overrides}
            result = RunResult(run_id, courses, ScoreCounts(), 1, 1, 0.1, **given)
            runs.end(session, result, now=now + hours * HOUR)

    return record


def test_webhooks_are_counted_by_outcome(
    database: Database, store: Store, collect: Collect, now: datetime
) -> None:
    source = WebhookSource(store.add_source().id, SITE, ())

    def make_deleted(version: int) -> CourseDeleted:
        data = CourseDeletedData(source=source.name, course_id="CS101", course_version=version)
        return CourseDeleted(timestamp=now, data=data)

    with database.writing() as session:
        for webhook_id, event in (
            ("msg_1", make_deleted(4)),
            ("msg_1", make_deleted(4)),
            ("msg_2", make_deleted(3)),
            ("msg_3", UnknownEvent(type="course.renamed")),
        ):
            raw = b"{}" if isinstance(event, UnknownEvent) else events.dump(event).encode()
            inbox.accept(session, source, webhook_id, event, raw, now=now)

    assert collect("webhooks") == {
        "webhooks_total applied": 1,
        "webhooks_total duplicate": 1,
        "webhooks_total stale": 1,
        "webhooks_total ignored": 1,
    }


def test_courses_are_counted_by_status(store: Store, collect: Collect, now: datetime) -> None:
    token = CourseToken.generate()
    store.add_course("CS101")
    store.add_course("CS102", Deleted(4, now))
    store.add_course("CS103", TokenAnnounced(4, "other", now))
    store.add_course("CS104", TokenRejected(token.token_id, "unknown", now), token=token)
    store.add_course("CS105", TokenAnnounced(4, token.token_id, now), token=token)

    assert collect("entries") == {
        "entries active": 2,
        "entries course_deleted": 1,
        "entries token_invalid": 2,
    }


def test_runs_are_counted_by_status_and_courses_by_outcome(
    database: Database, record_run: Callable[..., None], collect: Collect, now: datetime
) -> None:
    record_run(CourseOutcome.SYNCED, CourseOutcome.SKIPPED)
    record_run(CourseOutcome.FAILED, exit_code=1)
    record_run(CourseOutcome.UNCHANGED, exit_code=143, stopped="SIGTERM was received")
    with database.writing() as session:
        runs.begin(session, "killed@elms", now=now)
        at = datetime.now(now.tzinfo)
        lease.acquire(session, "ada@elms", HOUR, now=at)
        runs.begin(session, "ada@elms", now=at)

    assert collect("run") == {
        "runs_total completed": 1,
        "runs_total with_errors": 1,
        "runs_total stopped": 1,
        "runs_total killed": 1,
        "run_courses_total synced": 1,
        "run_courses_total unchanged": 1,
        "run_courses_total skipped": 1,
        "run_courses_total failed": 1,
    }


def test_good_run_is_one_of_all_courses_without_failures(
    record_run: Callable[..., None], collect: Collect, now: datetime
) -> None:
    never = collect("seconds_since_good_run")
    record_run(hours=1)
    record_run(hours=2, partial=True)
    record_run(hours=3, exit_code=1)

    since = collect("seconds_since_good_run")

    expected = (datetime.now(now.tzinfo) - (now + HOUR)).total_seconds()
    assert never == {"seconds_since_good_run": inf}
    assert since == {"seconds_since_good_run": pytest.approx(expected, abs=60)}

"""The metrics of ELMS: webhooks, courses, runs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf
from typing import Any

import pytest
from sqlalchemy.orm import Session

from contract import events
from contract.tokens import CourseToken
from foundation.db.session import Database
from receiver.course_state import Deleted, TokenAnnounced, TokenRejected
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, Source
from receiver.monitoring import metrics
from receiver.runs import lease
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.inbox import WebhookOutcome

HOUR = timedelta(hours=1)
Numbers = Callable[[], dict[str, float]]


@pytest.fixture
def numbers(database: Database) -> Numbers:
    """Return what reads the metrics that are not zero, by name and labels."""

    def read() -> dict[str, float]:
        with database.reading() as session:
            return {
                " ".join([one.name.removeprefix("receiver_"), *one.labels.values()]): one.value
                for family in metrics.collect(session)
                for one in family.samples
                if one.value
            }

    return read


@pytest.fixture
def ended(database: Database, now: datetime) -> Callable[..., None]:
    """Return what writes a run that ended some hours after nine."""

    def write(
        *outcomes: CourseOutcome, hours: int = 0, partial: bool = False, **given: Any
    ) -> None:
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", partial=partial, now=now)
            courses = tuple(CourseResult("site", "CS101", outcome) for outcome in outcomes)
            made = {"exit_code": 0, "stopped": None, **given}
            report = RunResult(run_id, courses, ScoreCounts(), 1, 1, 0.1, **made)
            runs.end(session, report, now=now + hours * HOUR)

    return write


def test_webhooks_are_counted_by_outcome(
    database: Database, make_source: Callable[..., Source], numbers: Numbers, now: datetime
) -> None:
    source = make_source()
    door = WebhookSource(source.id, source.name, ())

    def take(
        session: Session, webhook_id: str, version: int, kind: str = "course.deleted"
    ) -> WebhookOutcome:
        raw = (
            f'{{"type":"{kind}","timestamp":"2026-11-22T09:00:00Z","data":{{"source":'
            f'"{source.name}","course_id":"CS101","course_version":{version}}}}}'
        ).encode()
        return inbox.accept(session, door, webhook_id, events.load(raw), raw, now=now)

    with database.writing() as session:
        for told in (("msg_1", 4), ("msg_1", 4), ("msg_2", 3), ("msg_3", 5, "course.renamed")):
            take(session, *told)

    assert numbers() == {
        "webhooks_total applied": 1,
        "webhooks_total duplicate": 1,
        "webhooks_total stale": 1,
        "webhooks_total ignored": 1,
        "seconds_since_good_run": inf,
    }


def test_courses_are_counted_by_status(
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    numbers: Numbers,
    now: datetime,
) -> None:
    source = make_source()
    make_entry(source, "CS101")
    make_entry(source, "CS102", facts=(Deleted(4, now),))
    make_entry(source, "CS103", facts=(TokenAnnounced(4, "other", now),))
    token = CourseToken.generate()
    make_entry(source, "CS104", token, (TokenRejected(token.token_id, "token-unknown", now),))
    healed = CourseToken.generate()
    make_entry(source, "CS105", healed, (TokenAnnounced(4, healed.token_id, now),))

    found = numbers()

    assert {name: value for name, value in found.items() if name.startswith("entries")} == {
        "entries active": 2,
        "entries course_deleted": 1,
        "entries token_invalid": 2,
    }


def test_runs_are_counted_by_their_ending_and_their_courses_by_outcome(
    database: Database, ended: Callable[..., None], numbers: Numbers, now: datetime
) -> None:
    ended(CourseOutcome.SYNCED, CourseOutcome.SKIPPED)
    ended(CourseOutcome.FAILED, exit_code=1)
    ended(CourseOutcome.UNCHANGED, exit_code=143, stopped="SIGTERM was received")
    with database.writing() as session:
        runs.begin(session, "killed@elms", now=now)
        at = datetime.now(now.tzinfo)
        lease.acquire(session, "ada@elms", HOUR, now=at)
        runs.begin(session, "ada@elms", now=at)

    found = numbers()

    assert {name: value for name, value in found.items() if name.startswith("run")} == {
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
    ended: Callable[..., None], numbers: Numbers, now: datetime
) -> None:
    ended(hours=1)
    ended(hours=2, partial=True)
    ended(hours=3, exit_code=1)

    since = numbers()["seconds_since_good_run"]

    passed = (datetime.now(now.tzinfo) - (now + HOUR)).total_seconds()
    assert since == pytest.approx(passed, abs=60)


def test_no_run_is_infinitely_long_ago(numbers: Numbers) -> None:
    assert numbers() == {"seconds_since_good_run": inf}

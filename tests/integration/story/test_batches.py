"""A run over many courses, eAssessment's own batch answering: requests, statements, bytes."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from contract.grades import Score
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from receiver.gradebook.base import Gradebook
from receiver.models import SCHEMA as RECEIVER
from receiver.registry import entries as registry
from receiver.runs.store import CourseOutcome, RunResult
from receiver.sources import store as sources
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpClient
from receiver.sync import run as grade_sync
from receiver.sync.fetcher import FetchLimits
from receiver.sync.run import SyncOptions
from tests.integration.story.conftest import KEY, EAssessment
from tests.receiver.conftest import Clients

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)


@dataclass
class Both:
    """eAssessment as it is served, and ELMS beside it, each with its database."""

    there: Database
    here: Database
    url: str
    vault: Vault

    def add(self, *course_ids: str, students: int = 3) -> dict[str, CourseToken]:
        """Add courses with grades at eAssessment, and link them at ELMS."""
        with self.there.writing() as session:
            tokens = {one: courses.add_course(session, one, one, now=NINE) for one in course_ids}
            grades.load(session, {one: scores(students) for one in course_ids}, now=NINE)
        with self.here.writing() as session:
            known = {source.name: source for source in sources.list_all(session)}
            source = known.get("one") or sources.add(session, "one", self.url, now=NINE)
            for course_id, token in tokens.items():
                registry.add(
                    session, source, course_id, token,
                    vault=self.vault, actor=registry.Actor("administrator", "ada"), now=NINE,
                )  # fmt: skip
        return tokens

    def sync(
        self, gradebook: Gradebook | None = None, **overrides: object
    ) -> tuple[RunResult, int, int]:
        """Run the sync; return its report, its bytes, and eAssessment's statements."""
        limits = FetchLimits(retry_waits=())
        given = {"holder": "ada@elms", "lease": timedelta(minutes=5), "limits": limits}
        options = SyncOptions(**{**given, **overrides})  # type: ignore[arg-type]  # as given
        http_client = HttpClient(connect_timeout=2, read_timeout=20, total=30)
        before = self.there.statements
        clients = Clients(EAssessmentClient(http_client), http_client)
        with closing(http_client):
            report = grade_sync.run(self.here, self.vault, clients, options, gradebook)
        transferred = http_client.bytes_sent + http_client.bytes_received
        return report, transferred, self.there.statements - before


def scores(students: int, given: str = "7.5") -> list[Score]:
    """Return the scores of so many students."""
    return [
        Score.model_validate(
            {"user_id": f"s{number}", "score_given": given, "score_maximum": "10",
             "timestamp": NINE},
            strict=False,
        )
        for number in range(students)
    ]  # fmt: skip


@pytest.fixture
def both(eassessment: EAssessment, make_database: Callable[[Schema], Database]) -> Both:
    """Both services on empty databases."""
    here = make_database(RECEIVER)
    return Both(eassessment.database, here, eassessment.url, Vault(SecretStr(KEY)))


def test_statements_grow_with_batches_and_not_with_courses(both: Both) -> None:
    both.add(*(f"A{number:03}" for number in range(10)))
    small, _, there_small = both.sync()
    both.add(*(f"B{number:03}" for number in range(90)))
    large, _, there_large = both.sync()

    assert (small.requests, large.requests) == (1, 1)
    assert (small.count(CourseOutcome.SYNCED), large.count(CourseOutcome.SYNCED)) == (10, 90)
    assert there_small == there_large
    assert large.statements <= small.statements + 1  # a second INSERT of what is new beside old


def test_each_batch_costs_the_same(both: Both) -> None:
    both.add(*(f"A{number:03}" for number in range(100)))
    one, _, there_one = both.sync()
    both.add(*(f"B{number:03}" for number in range(200)))
    with both.here.writing() as session:
        for entry in registry.list_entries(session):
            entry.etag = None
    three, _, there_three = both.sync()

    assert (one.requests, three.requests) == (1, 3)
    assert there_three == 3 * there_one
    assert three.statements <= 3 * one.statements


def test_unchanged_grades_cost_hardly_a_byte(both: Both) -> None:
    both.add(*(f"A{number:03}" for number in range(100)), students=30)
    _, first, _ = both.sync()

    report, second, _ = both.sync()

    assert report.count(CourseOutcome.UNCHANGED) == 100
    assert second * 20 < first


def test_courses_that_are_invalid_are_in_no_request(both: Both) -> None:
    tokens = both.add("GONE", "OLD", "WELL")
    with both.there.writing() as session:
        courses.delete_course(session, "GONE", now=db.now(session))
        courses.regenerate_token(session, "OLD", now=db.now(session))

    first, _, _ = both.sync()
    second, _, _ = both.sync()

    told = [
        {one.course_id: (one.outcome, one.reason) for one in run.courses} for run in (first, second)
    ]
    assert told[0] == {
        "GONE": ("failed", "course_deleted"),
        "OLD": ("failed", "token_invalid"),
        "WELL": ("synced", None),
    }
    assert told[1] == {
        "GONE": ("skipped", "course_deleted"),
        "OLD": ("skipped", "token_invalid"),
        "WELL": ("unchanged", None),
    }
    assert len(tokens) == 3


def test_only_what_changed_since_is_sent(both: Both) -> None:
    both.add("OLD", "NEW")
    later = datetime(2026, 11, 23, 9, tzinfo=UTC)
    with both.there.writing() as session:
        grades.load(session, {"NEW": scores(9)}, now=later)

    report, _, _ = both.sync(modified_since=later - timedelta(minutes=1))

    told = {one.course_id: one.outcome for one in report.courses}
    assert told == {"OLD": CourseOutcome.UNCHANGED, "NEW": CourseOutcome.SYNCED}

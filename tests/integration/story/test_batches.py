"""What a run over many courses costs on both sides: requests, statements, bytes."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from contract.grades import Score
from foundation.crypto import Vault
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
from receiver.sync.fetcher import FetchLimits
from receiver.sync.run import SyncOptions, SyncRun
from tests.integration.story.conftest import KEY, EAssessment
from tests.receiver.conftest import Clients

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)


@dataclass
class Both:
    """A served eAssessment and ELMS, each with its database."""

    there: Database
    here: Database
    url: str
    vault: Vault

    def add(self, *course_ids: str, students: int = 3) -> None:
        """Add courses with grades to eAssessment, and to the grade sync of ELMS."""
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

    def sync(
        self, gradebook: Gradebook | None = None, **overrides: object
    ) -> tuple[RunResult, int, int]:
        """Run the sync; return its result, its bytes, and eAssessment's statements."""
        limits = FetchLimits(retry_waits=())
        given = {"holder": "ada@elms", "lease": timedelta(minutes=5), "limits": limits}
        options = SyncOptions(**{**given, **overrides})  # type: ignore[arg-type]  # as given
        http_client = HttpClient(connect_timeout=2, read_timeout=20, total=30)
        before = self.there.statements
        clients = Clients(EAssessmentClient(http_client), http_client)
        with closing(http_client):
            result = SyncRun(self.here, self.vault, clients, options, gradebook).execute()
        transferred = http_client.bytes_sent + http_client.bytes_received
        return result, transferred, self.there.statements - before


def scores(students: int, given: str = "7.5") -> list[Score]:
    """Return the scores of students."""
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
    assert (
        large.statements <= small.statements + 1
    )  # a second INSERT, because there are entries of both kinds


def test_unchanged_grades_cost_few_bytes(both: Both) -> None:
    both.add(*(f"A{number:03}" for number in range(100)), students=30)
    _, first, _ = both.sync()

    report, second, _ = both.sync()

    assert report.count(CourseOutcome.UNCHANGED) == 100
    assert second * 20 < first


def test_only_what_changed_since_is_sent(both: Both) -> None:
    both.add("OLD", "NEW")
    later = datetime(2026, 11, 23, 9, tzinfo=UTC)
    with both.there.writing() as session:
        grades.load(session, {"NEW": scores(9)}, now=later)

    report, _, _ = both.sync(modified_since=later - timedelta(minutes=1))

    outcomes = {one.course_id: one.outcome for one in report.courses}
    assert outcomes == {"OLD": CourseOutcome.UNCHANGED, "NEW": CourseOutcome.SYNCED}

"""The contract of every source, checked with eAssessment's API and with a Moodle."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contract.problems import ProblemType
from contract.tokens import CourseToken, MoodleToken
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.source import COURSES, MoodleGradeSource
from receiver.sources.base import (
    CourseGone,
    FetchOutcome,
    GradeQuery,
    Grades,
    NotFoundUnconfirmed,
    TokenRefused,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpClient
from tests.receiver.moodle.fake import FakeMoodle

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
API_TOKEN = CourseToken("k7Qx2mPa", "s" * 24)
MOODLE_TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")


@dataclass(frozen=True)
class Subject:
    """A site: what fetches its course's grades, and what changes its responses."""

    fetch: Callable[[str | None], FetchOutcome]
    respond_with_grades: Callable[[], None]
    reject_token: Callable[[], None]
    delete_course: Callable[[], None]
    fail: Callable[[], None]


@pytest.fixture
def api(
    fake_site: Any, http_client: HttpClient, make_score: Callable[..., dict[str, Any]]
) -> Subject:
    """An eAssessment that speaks our own API."""
    client = EAssessmentClient(http_client)
    score = make_score("S1001", "72.5", scoreMaximum="100")
    return Subject(
        lambda etag: client.fetch_one(GradeQuery(fake_site.url, "2", API_TOKEN, etag)),
        lambda: fake_site.grades("2", API_TOKEN, score),
        lambda: fake_site.refuse("2", ProblemType.TOKEN_UNKNOWN),
        lambda: fake_site.gone("2"),
        lambda: fake_site.answer("2", 503),
    )


@pytest.fixture
def moodles(moodle: FakeMoodle, http_client: HttpClient) -> Subject:
    """An eAssessment that is a Moodle."""
    source = MoodleGradeSource(http_client, site_token=MOODLE_TOKEN, now=lambda: NINE)
    moodle.says(COURSES, "get_courses_none")
    return Subject(
        lambda etag: source.fetch([GradeQuery(moodle.url, "2", MOODLE_TOKEN, etag)])[0],
        lambda: moodle.says(FUNCTION, "grades"),
        lambda: moodle.says(FUNCTION, "token_invalid"),
        lambda: moodle.says(FUNCTION, "course_deleted"),
        lambda: moodle.says(FUNCTION, "maintenance"),
    )


@pytest.fixture(params=["api", "moodles"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each kind of source."""
    chosen: Subject = request.getfixturevalue(request.param)
    return chosen


def test_grades_are_exact(subject: Subject) -> None:
    subject.respond_with_grades()

    outcome = subject.fetch(None)

    assert isinstance(outcome, Grades)
    first = outcome.scores[0]
    assert (first.user_id, first.score_given, first.score_maximum) == (
        "S1001",
        Decimal("72.5"),
        Decimal(100),
    )


def test_unchanged_grades_are_not_sent_again(subject: Subject) -> None:
    subject.respond_with_grades()
    first = subject.fetch(None)
    assert isinstance(first, Grades)

    assert subject.fetch(first.etag) == Unchanged()


def test_rejected_token_is_not_a_deleted_course(subject: Subject) -> None:
    subject.reject_token()
    refused = subject.fetch(None)
    subject.delete_course()
    deleted = subject.fetch(None)

    assert isinstance(refused, TokenRefused | TokenReplaced)
    assert isinstance(deleted, CourseGone | NotFoundUnconfirmed)


def test_transient_failure_is_forgotten(subject: Subject) -> None:
    subject.fail()
    away = subject.fetch(None)
    subject.respond_with_grades()
    back = subject.fetch(None)

    assert isinstance(away, Transient)
    assert isinstance(back, Grades)

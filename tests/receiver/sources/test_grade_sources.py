"""What every source of grades promises: the same cases against our own API and against a Moodle."""

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
    SeemsGone,
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
class Kind:
    """A kind of site: what asks it about its course, and what makes it answer otherwise."""

    ask: Callable[[str | None], FetchOutcome]
    fine: Callable[[], None]
    refuses: Callable[[], None]
    deleted: Callable[[], None]
    away: Callable[[], None]


@pytest.fixture
def api(far_side: Any, http_client: HttpClient, make_score: Callable[..., dict[str, Any]]) -> Kind:
    """An eAssessment that speaks our own API."""
    client = EAssessmentClient(http_client)
    score = make_score("S1001", "72.5", scoreMaximum="100")
    return Kind(
        lambda etag: client.fetch_one(GradeQuery(far_side.url, "2", API_TOKEN, etag)),
        lambda: far_side.grades("2", API_TOKEN, score),
        lambda: far_side.refuse("2", ProblemType.TOKEN_UNKNOWN),
        lambda: far_side.gone("2"),
        lambda: far_side.answer("2", 503),
    )


@pytest.fixture
def moodles(moodle: FakeMoodle, http_client: HttpClient) -> Kind:
    """An eAssessment that is a Moodle."""
    source = MoodleGradeSource(http_client, site_token=MOODLE_TOKEN, now=lambda: NINE)
    moodle.says(COURSES, "get_courses_none")
    return Kind(
        lambda etag: source.fetch([GradeQuery(moodle.url, "2", MOODLE_TOKEN, etag)])[0],
        lambda: moodle.says(FUNCTION, "grades"),
        lambda: moodle.says(FUNCTION, "token_invalid"),
        lambda: moodle.says(FUNCTION, "course_deleted"),
        lambda: moodle.says(FUNCTION, "maintenance"),
    )


@pytest.fixture(params=["api", "moodles"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of site."""
    chosen: Kind = request.getfixturevalue(request.param)
    return chosen


def test_grades_come_exact(kind: Kind) -> None:
    kind.fine()

    outcome = kind.ask(None)

    assert isinstance(outcome, Grades)
    first = outcome.scores[0]
    assert (first.user_id, first.score_given, first.score_maximum) == (
        "S1001",
        Decimal("72.5"),
        Decimal(100),
    )


def test_what_elms_has_is_not_told_again(kind: Kind) -> None:
    kind.fine()
    first = kind.ask(None)
    assert isinstance(first, Grades)

    assert kind.ask(first.etag) == Unchanged()


def test_a_refused_token_is_told_from_a_deleted_course(kind: Kind) -> None:
    kind.refuses()
    refused = kind.ask(None)
    kind.deleted()
    deleted = kind.ask(None)

    assert isinstance(refused, TokenRefused | TokenReplaced)
    assert isinstance(deleted, CourseGone | SeemsGone)


def test_a_site_that_is_away_says_nothing(kind: Kind) -> None:
    kind.away()
    away = kind.ask(None)
    kind.fine()
    back = kind.ask(None)

    assert isinstance(away, Transient)
    assert isinstance(back, Grades)

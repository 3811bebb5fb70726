"""A Moodle as a source of grades."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import ActivityProgress, GradingProgress, Score
from contract.tokens import CourseToken, MoodleToken
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.source import COURSES, MoodleGradeSource
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    NotFoundUnconfirmed,
    SiteOutage,
    TokenRefused,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import HttpClient
from tests.receiver.moodle.fake import FakeMoodle
from tests.receiver.moodle.recordings import RECORDED, Recorded

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
SITE_TOKEN = MoodleToken("fedcba9876543210fedcba9876543210")
GRADED_AT = datetime.fromtimestamp(1795336167, UTC)


@pytest.fixture
def source(http_client: HttpClient) -> MoodleGradeSource:
    """A source with a site-wide token."""
    return MoodleGradeSource(http_client, site_token=SITE_TOKEN, now=lambda: NINE)


@pytest.fixture
def fetch(source: MoodleGradeSource, moodle: FakeMoodle) -> Callable[..., FetchOutcome]:
    """Return what fetches the grades of a course."""

    def one(course_id: str = "2", **more: Any) -> FetchOutcome:
        query = GradeQuery(moodle.url, course_id, more.pop("token", TOKEN), **more)
        (outcome,) = source.fetch([query])
        return outcome

    return one


def test_recorded_grades_become_scores(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "grades")

    outcome = fetch()

    assert isinstance(outcome, Grades)
    assert outcome.scores == (
        Score(
            user_id="S1001",
            score_given=Decimal("72.5"),
            score_maximum=Decimal(100),
            timestamp=GRADED_AT,
        ),
        Score(
            user_id="S1002",
            score_maximum=Decimal(100),
            timestamp=NINE,
            activity_progress=ActivityProgress.INITIALIZED,
            grading_progress=GradingProgress.NOT_READY,
        ),
    )
    assert (outcome.left_out, outcome.course_version, outcome.token_id) == ((), None, None)


def test_query_is_a_form_with_the_token_in_no_url(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome], source: MoodleGradeSource
) -> None:
    moodle.says(FUNCTION, "grades")

    fetch()

    (called,) = moodle.called
    query = GradeQuery(moodle.url, "2", TOKEN)
    assert called.path == "/webservice/rest/server.php"
    assert called.form == {
        "wstoken": TOKEN.reveal(),
        "wsfunction": FUNCTION,
        "moodlewsrestformat": "json",
        "moodlewssettinglang": "en",
        "courseid": "2",
    }
    assert source.url_of(query) == f"{moodle.url}/webservice/rest/server.php"
    assert TOKEN.reveal() not in repr(query)


def test_course_without_students_is_not_deleted(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "grades_no_students")

    outcome = fetch()

    assert isinstance(outcome, Grades)
    assert outcome.scores == outcome.left_out == ()


def test_unchanged_report_is_recognized_by_its_etag(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "grades", "grades", "grades_no_students")
    first = fetch()
    assert isinstance(first, Grades)
    assert first.etag

    same, other = fetch(etag=first.etag), fetch(etag=first.etag)

    assert same == Unchanged()
    assert isinstance(other, Grades)
    assert len(first.etag) <= 255


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("token_invalid", TokenRefused, id="invalid token"),
        pytest.param("token_of_another_course", Misconfigured, id="another course's token"),
        pytest.param("user_suspended", SiteOutage, id="suspended"),
        pytest.param("maintenance", Transient, id="maintenance"),
        pytest.param("site_info", Transient, id="another function's response"),
    ],
)
def test_failure_is_an_outcome(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome], name: str, kind: type[FetchOutcome]
) -> None:
    moodle.says(FUNCTION, name)

    outcome = fetch()

    assert type(outcome) is kind
    assert moodle.functions() == [FUNCTION]


@pytest.mark.parametrize(
    ("body", "certain"),
    [
        pytest.param(RECORDED["course_deleted"].body, True, id="the course"),
        pytest.param(RECORDED["course_deleted_own_token"].body, True, id="the context"),
        pytest.param(
            b'{"exception":"x","errorcode":"invalidrecord","message":"Fehlt."}',
            False,
            id="in another language",
        ),
    ],
)
def test_course_that_is_not_found_seems_gone(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome], body: bytes, certain: bool
) -> None:
    moodle.sends(FUNCTION, Recorded(200, "application/json", body))

    outcome = fetch()

    assert isinstance(outcome, NotFoundUnconfirmed)
    assert outcome.certain is certain


@pytest.mark.parametrize(
    ("probed", "kind"),
    [
        pytest.param("site_info", Misconfigured, id="valid, function not allowed"),
        pytest.param("token_expired_first_call", Misconfigured, id="denied again"),
        pytest.param("token_invalid", TokenRefused, id="expired and removed"),
        pytest.param("maintenance", Transient, id="no response"),
        pytest.param("user_suspended", SiteOutage, id="suspended"),
    ],
)
def test_denied_token_is_probed(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome], probed: str, kind: type[FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "token_expired_first_call")
    moodle.says(SITE_INFO, probed)

    outcome = fetch()

    assert type(outcome) is kind
    assert moodle.functions() == [FUNCTION, SITE_INFO]
    assert {called.form["wstoken"] for called in moodle.called} == {TOKEN.reveal()}


@pytest.mark.parametrize("course_id", ["CS101", "0", "-1", "2 ", "٢", "1" * 30, ""])
def test_course_id_that_is_not_a_number_sends_no_request(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome], course_id: str
) -> None:
    outcome = fetch(course_id)

    assert isinstance(outcome, Misconfigured)
    assert "course/view.php?id=" in outcome.advice.text
    assert moodle.called == []


def test_token_of_another_kind_is_not_sent(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]
) -> None:
    outcome = fetch(token=CourseToken.generate())

    assert isinstance(outcome, Misconfigured)
    assert moodle.called == []


def test_echoed_token_is_redacted(moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]) -> None:
    body = json.dumps({"exception": "x", "errorcode": "invalidtoken", "message": TOKEN.reveal()})
    moodle.sends(FUNCTION, Recorded(200, "application/json", body.encode()))

    assert fetch() == TokenRefused("invalidtoken", "[redacted]")


@pytest.mark.parametrize("fault", ["broken", "slow"])
def test_incomplete_response_is_transient(
    moodle: FakeMoodle, fetch: Callable[..., FetchOutcome], fault: str
) -> None:
    moodle.says(FUNCTION, "grades")
    getattr(moodle, fault).add(FUNCTION)

    outcome = fetch()

    assert isinstance(outcome, Transient)
    assert not outcome.unreachable


def test_retry_after_is_kept(moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]) -> None:
    page = Recorded(503, "text/html", b"<h1>Maintenance</h1>", (("Retry-After", "40"),))
    moodle.sends(FUNCTION, page)

    outcome = fetch()

    assert isinstance(outcome, Transient)
    assert (outcome.detail, outcome.retry_after) == ("responded 503", 40.0)


def test_redirect_is_not_followed(moodle: FakeMoodle, fetch: Callable[..., FetchOutcome]) -> None:
    moved = Recorded(303, "text/html", b"", (("Location", f"{moodle.url}/login/index.php"),))
    moodle.sends(FUNCTION, moved)

    outcome = fetch()

    assert isinstance(outcome, SiteOutage)
    assert outcome.detail.startswith(f"responded 303 to {moodle.url}/login/index.php, which Moodle")
    assert moodle.functions() == [FUNCTION]


def test_unreachable_site_is_transient(source: MoodleGradeSource) -> None:
    (outcome,) = source.fetch([GradeQuery("http://127.0.0.1:9", "2", TOKEN)])

    assert isinstance(outcome, Transient)
    assert outcome.unreachable


class TestConfirm:
    """Confirmation of deletions with the site-wide token."""

    def test_course_that_is_not_listed_is_gone(
        self, moodle: FakeMoodle, source: MoodleGradeSource
    ) -> None:
        moodle.says(COURSES, "get_courses_omits_missing")
        queries = [GradeQuery(moodle.url, course_id, TOKEN) for course_id in ("2", "3", "CS")]

        gone = source.confirm_deleted(queries)

        (called,) = moodle.called
        assert gone == [False, True, None]
        assert called.form["wstoken"] == SITE_TOKEN.reveal()
        assert (called.form["options[ids][0]"], called.form["options[ids][1]"]) == ("2", "3")

    def test_a_hundred_courses_are_one_request(
        self, moodle: FakeMoodle, source: MoodleGradeSource
    ) -> None:
        moodle.says(COURSES, "get_courses_none")

        gone = source.confirm_deleted(
            [GradeQuery(moodle.url, str(n), TOKEN) for n in range(1, 102)]
        )

        assert gone == [True] * 101
        assert moodle.functions() == [COURSES] * 2

    @pytest.mark.parametrize("name", ["token_invalid", "maintenance", "grades", "course_deleted"])
    def test_other_responses_confirm_nothing(
        self, moodle: FakeMoodle, source: MoodleGradeSource, name: str
    ) -> None:
        moodle.says(COURSES, name)

        assert source.confirm_deleted([GradeQuery(moodle.url, "3", TOKEN)]) == [None]

    def test_no_request_without_a_site_wide_token(
        self, moodle: FakeMoodle, http_client: HttpClient
    ) -> None:
        source = MoodleGradeSource(http_client, site_token=None, now=lambda: NINE)

        assert source.confirm_deleted([GradeQuery(moodle.url, "3", TOKEN)]) == [None]
        assert moodle.called == []


def test_too_large_report_is_misconfigured(
    fetch: Callable[..., FetchOutcome], moodle: FakeMoodle, http_client: HttpClient
) -> None:
    http_client._max_bytes = 1000
    moodle.sends(FUNCTION, Recorded(200, "application/json", b" " * 1001))

    outcome = fetch()

    assert isinstance(outcome, Misconfigured)
    assert "larger than 1000 bytes" in outcome.detail

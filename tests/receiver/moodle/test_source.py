"""A Moodle as a source of grades."""

import re
from collections.abc import Callable
from contextlib import closing
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
    DeletedOutcome,
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    RejectedOutcome,
    SiteOutage,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import HttpClient
from tests.receiver.moodle.fake import FakeMoodle
from tests.receiver.moodle.recordings import RECORDED, Recorded, failure

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
SITE_TOKEN = MoodleToken("fedcba9876543210fedcba9876543210")
Fetch = Callable[..., FetchOutcome]


def refused(code: str, message: str) -> Recorded:
    """Return a failure with an error code."""
    return Recorded(
        200, "application/json", failure(exception="x", errorcode=code, message=message)
    )


TOKEN_INVALID = RECORDED["token_invalid"]
GONE = DeletedOutcome(0, NINE)
ECHO = refused("invalidtoken", TOKEN.reveal())


@pytest.fixture
def source(http_client: HttpClient) -> MoodleGradeSource:
    """A source with a site-wide token."""
    return MoodleGradeSource(http_client, site_token=SITE_TOKEN, now=lambda: NINE)


@pytest.fixture
def fetch(source: MoodleGradeSource, moodle: FakeMoodle) -> Fetch:
    """Return a function that fetches the grades of a course."""

    def one(course_id: str = "2", **more: Any) -> FetchOutcome:
        query = GradeQuery(moodle.url, course_id, more.pop("token", TOKEN), **more)
        (outcome,) = source.fetch([query])
        return outcome

    return one


def test_recorded_grades_become_scores(
    moodle: FakeMoodle, source: MoodleGradeSource, fetch: Fetch
) -> None:
    moodle.says(FUNCTION, "grades")

    outcome = fetch()

    assert isinstance(outcome, Grades)
    assert outcome.scores == (
        Score(
            user_id="S1001",
            score_given=Decimal("72.5"),
            score_maximum=Decimal(100),
            timestamp=datetime.fromtimestamp(1795336167, UTC),
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
    (called,) = moodle.called
    assert called.form == {
        "wstoken": TOKEN.reveal(),
        "wsfunction": FUNCTION,
        "moodlewsrestformat": "json",
        "moodlewssettinglang": "en",
        "courseid": "2",
    }
    assert called.path == "/webservice/rest/server.php"
    query = GradeQuery(moodle.url, "2", TOKEN)
    assert source.url_of(query) == f"{moodle.url}/webservice/rest/server.php"
    assert TOKEN.reveal() not in repr(query)


def test_unchanged_report_is_recognized_by_its_etag(moodle: FakeMoodle, fetch: Fetch) -> None:
    moodle.says(FUNCTION, "grades", "grades", "grades_no_students")
    first = fetch()
    assert isinstance(first, Grades)
    assert first.etag

    same, without_students = fetch(etag=first.etag), fetch(etag=first.etag)

    assert same == Unchanged()
    assert isinstance(without_students, Grades)
    assert without_students.scores == without_students.left_out == ()
    assert len(first.etag) <= 255


@pytest.mark.parametrize(
    ("answer", "kind", "facts"),
    [
        pytest.param(
            TOKEN_INVALID, RejectedOutcome, {"problem": "invalidtoken"}, id="invalid token"
        ),
        pytest.param(ECHO, RejectedOutcome, {"detail": "[redacted]"}, id="echoed token"),
        pytest.param(RECORDED["token_of_another_course"], Misconfigured, {}, id="other course"),
        pytest.param(RECORDED["user_suspended"], SiteOutage, {}, id="suspended"),
        pytest.param(RECORDED["maintenance"], SiteOutage, {}, id="maintenance"),
        pytest.param(RECORDED["site_info"], Transient, {}, id="another function's response"),
        pytest.param(
            Recorded(503, "text/html", b"<h1>Maintenance</h1>", (("Retry-After", "40"),)),
            Transient,
            {"detail": "responded 503", "retry_after": 40.0},
            id="Retry-After",
        ),
        pytest.param(
            Recorded(503, "text/html", b"<h1>Maintenance</h1>", (("Retry-After", "300"),)),
            SiteOutage,
            {"detail": "responded 503 for the next 300 s"},
            id="maintenance mode",
        ),
        pytest.param(
            Recorded(303, "text/html", b"", (("Location", "/login"),)),
            SiteOutage,
            {"detail": "responded 303 to /login, which Moodle's web services never do"},
            id="redirect",
        ),
    ],
)
def test_failure_is_an_outcome(
    moodle: FakeMoodle,
    fetch: Fetch,
    answer: Recorded,
    kind: type[FetchOutcome],
    facts: dict[str, Any],
) -> None:
    moodle.sends(FUNCTION, answer)

    outcome = fetch()

    assert type(outcome) is kind
    assert {name: getattr(outcome, name) for name in facts} == facts
    assert moodle.functions() == [FUNCTION]


@pytest.mark.parametrize(
    ("probed", "kind"),
    [
        pytest.param("site_info", Misconfigured, id="valid, function not allowed"),
        pytest.param("token_expired_first_call", Misconfigured, id="denied again"),
        pytest.param("token_invalid", RejectedOutcome, id="expired and removed"),
        pytest.param("maintenance", SiteOutage, id="maintenance"),
        pytest.param("record_missing", Transient, id="no meaning"),
    ],
)
def test_denied_token_is_probed(
    moodle: FakeMoodle, fetch: Fetch, probed: str, kind: type[FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "token_expired_first_call")
    moodle.says(SITE_INFO, probed)

    outcome = fetch()

    assert type(outcome) is kind
    assert moodle.functions() == [FUNCTION, SITE_INFO]
    assert {called.form["wstoken"] for called in moodle.called} == {TOKEN.reveal()}


@pytest.mark.parametrize(
    ("course_id", "token", "advice"),
    [
        *((course_id, TOKEN, "course/view.php?id=") for course_id in ("CS101", "0", "2 ", "٢")),
        pytest.param("1" * 30, TOKEN, "course/view.php?id=", id="30 digits"),
        pytest.param("2", CourseToken.generate(), "Moodle token", id="token of another kind"),
    ],
)
def test_query_that_no_moodle_understands_is_not_sent(
    moodle: FakeMoodle, fetch: Fetch, course_id: str, token: Any, advice: str
) -> None:
    outcome = fetch(course_id, token=token)

    assert isinstance(outcome, Misconfigured)
    assert advice in outcome.advice.text
    assert moodle.called == []


def test_request_without_a_response_is_an_outcome(moodle: FakeMoodle) -> None:
    moodle.sends(FUNCTION, Recorded(200, "application/json", b" " * 200_001))
    http_client = HttpClient(connect_timeout=5, read_timeout=5, total=5, max_bytes=200_000)
    source = MoodleGradeSource(http_client, site_token=None, now=lambda: NINE)
    urls = (moodle.url, "http://[", "http://127.0.0.1:9")

    with closing(http_client):
        outcomes = source.fetch([GradeQuery(url, "2", TOKEN) for url in urls])

    too_large, invalid_url, unreachable = outcomes
    assert isinstance(too_large, Misconfigured)
    assert "larger than 200000 bytes" in too_large.detail
    assert isinstance(invalid_url, Misconfigured)
    assert isinstance(unreachable, Transient)
    assert unreachable.unreachable


def test_service_that_is_off_is_found_at_the_second_course(
    moodle: FakeMoodle, fetch: Fetch
) -> None:
    moodle.says(FUNCTION, "token_expired_first_call")
    moodle.says(SITE_INFO, "token_expired_first_call")

    first, second, third = fetch("2"), fetch("3", token=SITE_TOKEN), fetch("6")
    requests = moodle.functions()
    moodle.says(FUNCTION, "grades", "token_expired_first_call")
    accepted, denied = fetch("4"), fetch("5")

    assert isinstance(first, Misconfigured)
    assert "webservice/rest:use" in first.advice.text
    assert isinstance(second, SiteOutage)
    assert third == second
    assert requests == [FUNCTION, SITE_INFO, FUNCTION, SITE_INFO, FUNCTION]
    assert isinstance(accepted, Grades)
    assert isinstance(denied, Misconfigured)


LISTED = "get_courses_omits_missing"  # lists the course 2
OWN = (FUNCTION, SITE_INFO, COURSES)


class TestMissingRecord:
    """Whether a missing record means that the course was deleted."""

    @pytest.mark.parametrize(
        ("report", "probe", "courses", "called"),
        [
            pytest.param("course_deleted", None, None, (FUNCTION,), id="the course"),
            pytest.param("course_deleted_own_token", None, None, (FUNCTION,), id="its context"),
            pytest.param(
                "record_missing", "record_missing", None, (FUNCTION, SITE_INFO), id="own token gone"
            ),
            pytest.param("record_missing", "site_info", LISTED, OWN, id="not in its list"),
            pytest.param(
                "record_missing", "token_expired_first_call", LISTED, OWN, id="no site info"
            ),
        ],
    )
    def test_deletion_is_learnt_without_a_site_wide_token(
        self,
        moodle: FakeMoodle,
        http_client: HttpClient,
        report: str,
        probe: str | None,
        courses: str | None,
        called: tuple[str, ...],
    ) -> None:
        source = MoodleGradeSource(http_client, site_token=None, now=lambda: NINE)
        for function, name in ((FUNCTION, report), (SITE_INFO, probe), (COURSES, courses)):
            if name:
                moodle.says(function, name)

        outcome = source.fetch([GradeQuery(moodle.url, "3", TOKEN)])

        assert outcome == [GONE]
        assert moodle.functions() == list(called)
        assert {one.form["wstoken"] for one in moodle.called} == {TOKEN.reveal()}

    @pytest.mark.parametrize(
        ("report", "courses", "expected"),
        [
            pytest.param("course_deleted", "get_courses_none", DeletedOutcome, id="confirmed"),
            pytest.param("course_deleted", LISTED, Misconfigured, id="it exists"),
            pytest.param("course_deleted", "token_invalid", DeletedOutcome, id="certain anyway"),
            pytest.param("record_missing", "get_courses_none", DeletedOutcome, id="5.0, confirmed"),
            pytest.param("record_missing", LISTED, Misconfigured, id="5.0, it exists"),
        ],
    )
    def test_site_wide_token_decides(
        self,
        moodle: FakeMoodle,
        fetch: Fetch,
        report: str,
        courses: str,
        expected: type[FetchOutcome],
    ) -> None:
        moodle.says(FUNCTION, report)
        moodle.says(SITE_INFO, "site_info")
        moodle.says(COURSES, courses)

        outcome = fetch("2")

        assert type(outcome) is expected
        assert moodle.called[-1].form["options[ids][0]"] == "2"
        assert moodle.called[-1].form["wstoken"] == SITE_TOKEN.reveal()

    @pytest.mark.parametrize(
        ("probe", "courses", "expected", "words"),
        [
            pytest.param("site_info", "token_invalid", Misconfigured, COURSES, id="not allowed"),
            pytest.param("site_info", "maintenance", SiteOutage, "not certain", id="maintenance"),
            pytest.param("site_info", "grades", Transient, "not certain", id="other document"),
            pytest.param("token_invalid", "site_info", RejectedOutcome, "not found", id="no token"),
        ],
    )
    def test_undecided_course_is_no_deletion(
        self,
        moodle: FakeMoodle,
        fetch: Fetch,
        probe: str,
        courses: str,
        expected: type[FetchOutcome],
        words: str,
    ) -> None:
        moodle.says(FUNCTION, "record_missing")
        moodle.says(SITE_INFO, probe)
        moodle.says(COURSES, courses)

        outcome = fetch("2")

        assert type(outcome) is expected
        assert words in repr(outcome)

    def test_shared_token_is_not_the_own_one_of_a_deleted_course(
        self, moodle: FakeMoodle, fetch: Fetch
    ) -> None:
        moodle.says(FUNCTION, "record_missing")
        moodle.says(SITE_INFO, "record_missing")

        assert isinstance(fetch(token_is_shared=True), SiteOutage)
        assert moodle.functions() == [FUNCTION, SITE_INFO]

    def test_missing_function_is_no_deletion(self, moodle: FakeMoodle, fetch: Fetch) -> None:
        moodle.says(FUNCTION, "record_missing")
        info = RECORDED["site_info"].body.replace(FUNCTION.encode(), b"core_other")
        moodle.sends(SITE_INFO, Recorded(200, "application/json", info))

        outcome = fetch("2")

        assert isinstance(outcome, Misconfigured)
        assert FUNCTION in outcome.advice.text


CHECKED = (FUNCTION, SITE_INFO, COURSES)
DENIED = RECORDED["token_expired_first_call"]
WITHOUT_ID_NUMBERS = Recorded(
    200, "application/json", re.sub(b'"S100[0-9]"', b'""', RECORDED["grades"].body)
)


class TestCheckCourse:
    """The requests of a run, tried for one course."""

    def test_all_requests_are_tried(self, moodle: FakeMoodle, source: MoodleGradeSource) -> None:
        for function, name in zip(CHECKED, ("grades", "site_info", LISTED), strict=True):
            moodle.says(function, name)

        assert source.check_course(GradeQuery(moodle.url, "2", TOKEN)) is None
        assert moodle.functions() == list(CHECKED)

    @pytest.mark.parametrize(
        ("answers", "expected", "words"),
        [
            pytest.param({FUNCTION: TOKEN_INVALID}, RejectedOutcome, "invalidtoken", id="no token"),
            pytest.param(
                {FUNCTION: DENIED, SITE_INFO: DENIED},
                Misconfigured,
                "webservice/rest:use",
                id="nothing allowed",
            ),
            pytest.param(
                {FUNCTION: DENIED}, Misconfigured, f"allow {FUNCTION} in", id="no grades function"
            ),
            pytest.param(
                {FUNCTION: refused("nopermissiontoviewgrades", "No.")},
                Misconfigured,
                "moodle/grade:viewall",
                id="no right to grades",
            ),
            pytest.param(
                {SITE_INFO: DENIED}, Misconfigured, f"allow {SITE_INFO} in", id="no site info"
            ),
            pytest.param({COURSES: DENIED}, Misconfigured, COURSES, id="no list of courses"),
            pytest.param(
                {COURSES: RECORDED["get_courses_none"]},
                Misconfigured,
                "moodle/course:viewhiddencourses",
                id="course not listed",
            ),
            pytest.param(
                {COURSES: RECORDED["maintenance"]}, SiteOutage, "sitemaintenance", id="maintenance"
            ),
            pytest.param(
                {FUNCTION: WITHOUT_ID_NUMBERS}, Misconfigured, "ID number", id="no ID numbers"
            ),
        ],
    )
    def test_what_is_missing_is_named(
        self,
        moodle: FakeMoodle,
        source: MoodleGradeSource,
        answers: dict[str, Recorded],
        expected: type[FetchOutcome],
        words: str,
    ) -> None:
        for function, name in zip(CHECKED, ("grades", "site_info", LISTED), strict=True):
            moodle.sends(function, answers.get(function, RECORDED[name]))

        failure = source.check_course(GradeQuery(moodle.url, "2", TOKEN))

        assert type(failure) is expected
        assert words in repr(failure)


class TestTimeout:
    """A response that takes longer than the time-out."""

    @pytest.mark.parametrize(
        ("also_slow", "expected"),
        [
            pytest.param(set(), Transient, id="one course"),
            pytest.param({SITE_INFO}, SiteOutage, id="the whole site"),
        ],
    )
    def test_small_request_tells_a_slow_course_from_a_slow_site(
        self,
        moodle: FakeMoodle,
        fetch: Fetch,
        also_slow: set[str],
        expected: type[FetchOutcome],
    ) -> None:
        moodle.says(FUNCTION, "grades")
        moodle.says(SITE_INFO, "site_info")
        moodle.slow = {FUNCTION} | also_slow

        outcome = fetch()

        assert type(outcome) is expected
        assert moodle.functions() == [FUNCTION, SITE_INFO]
        if isinstance(outcome, Transient):
            assert outcome.timed_out
            assert "RECEIVER_MOODLE_TIMEOUT" in outcome.advice.text

    def test_web_server_that_stops_waiting_is_a_timeout(
        self, moodle: FakeMoodle, fetch: Fetch
    ) -> None:
        moodle.sends(FUNCTION, Recorded(504, "text/html", b""))
        moodle.says(SITE_INFO, "site_info")

        outcome = fetch()

        assert isinstance(outcome, Transient)
        assert outcome.timed_out
        assert "fastcgi_read_timeout" in outcome.advice.text

"""A Moodle that is asked for grades: what its answers say of a course and its token."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import ActivityProgress, GradingProgress, Score
from contract.tokens import CourseToken, MoodleToken
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION, ReportError, grades_of
from receiver.moodle.source import COURSES, MoodleGradeSource
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    PersonProblem,
    SeemsGone,
    SiteOutage,
    TokenRefused,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import TOO_LARGE, HttpClient
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
def ask(source: MoodleGradeSource, moodle: FakeMoodle) -> Callable[..., FetchOutcome]:
    """Return what asks about a course."""

    def one(course_id: str = "2", **more: Any) -> FetchOutcome:
        question = GradeQuery(moodle.url, course_id, more.pop("token", TOKEN), **more)
        (outcome,) = source.fetch([question])
        return outcome

    return one


def total(**overrides: Any) -> dict[str, Any]:
    """Return a course total as the report holds it, but for the overrides."""
    return {
        "itemtype": "course",
        "graderaw": Decimal("72.5"),
        "gradedatesubmitted": None,
        "gradedategraded": 1795336167,
        "grademax": 100,
        "feedback": "",
        **overrides,
    }


def report(*users: tuple[str | None, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a grade report about users by their ID numbers."""
    return {
        "usergrades": [
            {"userid": 4 + place, "useridnumber": id_number, "gradeitems": items}
            for place, (id_number, items) in enumerate(users)
        ]
    }


def test_the_recorded_grades_become_scores(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "grades")

    outcome = ask()

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


def test_the_question_is_a_form_and_the_token_stands_in_no_url(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome], source: MoodleGradeSource
) -> None:
    moodle.says(FUNCTION, "grades")

    ask()

    (called,) = moodle.called
    question = GradeQuery(moodle.url, "2", TOKEN)
    assert called.path == "/webservice/rest/server.php"
    assert called.form == {
        "wstoken": TOKEN.reveal(),
        "wsfunction": FUNCTION,
        "moodlewsrestformat": "json",
        "moodlewssettinglang": "en",
        "courseid": "2",
    }
    assert source.url_of(question) == f"{moodle.url}/webservice/rest/server.php"
    assert TOKEN.reveal() not in repr(question)


def test_a_course_without_students_is_no_deletion(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "grades_no_students")

    outcome = ask()

    assert isinstance(outcome, Grades)
    assert outcome.scores == outcome.left_out == ()


def test_an_unchanged_report_is_told_by_its_tag(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "grades", "grades", "grades_no_students")
    first = ask()
    assert isinstance(first, Grades)
    assert first.etag

    same, other = ask(etag=first.etag), ask(etag=first.etag)

    assert same == Unchanged()
    assert isinstance(other, Grades)
    assert len(first.etag) <= 255


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("token_invalid", TokenRefused, id="invalid token"),
        pytest.param("unknown_function", Misconfigured, id="no such function"),
        pytest.param("token_of_another_course", Misconfigured, id="another course's token"),
        pytest.param("user_suspended", SiteOutage, id="suspended"),
        pytest.param("web_services_off", SiteOutage, id="web services off"),
        pytest.param("maintenance", Transient, id="maintenance"),
        pytest.param("database_down", Transient, id="database down"),
        pytest.param("token_invalid_xml", Transient, id="XML"),
        pytest.param("site_info", Transient, id="another function's answer"),
        pytest.param("get_courses_none", Transient, id="a list"),
    ],
)
def test_a_failure_is_an_outcome(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome], name: str, kind: type[FetchOutcome]
) -> None:
    moodle.says(FUNCTION, name)

    outcome = ask()

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
def test_a_course_that_is_not_found_seems_gone(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome], body: bytes, certain: bool
) -> None:
    moodle.sends(FUNCTION, Recorded(200, "application/json", body))

    outcome = ask()

    assert isinstance(outcome, SeemsGone)
    assert outcome.certain is certain


@pytest.mark.parametrize(
    ("probed", "kind"),
    [
        pytest.param("site_info", Misconfigured, id="good: barred from the function"),
        pytest.param("token_expired_first_call", Misconfigured, id="the same again: barred"),
        pytest.param("token_invalid", TokenRefused, id="expired, and removed by the first call"),
        pytest.param("maintenance", Transient, id="no answer"),
        pytest.param("user_suspended", SiteOutage, id="suspended meanwhile"),
    ],
)
def test_an_ambiguous_refusal_is_probed(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome], probed: str, kind: type[FetchOutcome]
) -> None:
    moodle.says(FUNCTION, "token_expired_first_call")
    moodle.says(SITE_INFO, probed)

    outcome = ask()

    assert type(outcome) is kind
    assert moodle.functions() == [FUNCTION, SITE_INFO]
    assert {called.form["wstoken"] for called in moodle.called} == {TOKEN.reveal()}


@pytest.mark.parametrize("course_id", ["CS101", "0", "-1", "2 ", "٢", "1" * 30, ""])
def test_a_course_id_that_is_no_number_costs_no_request(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome], course_id: str
) -> None:
    outcome = ask(course_id)

    assert isinstance(outcome, Misconfigured)
    assert "course/view.php?id=" in outcome.advice.text
    assert moodle.called == []


def test_another_kind_of_token_is_not_sent(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome]
) -> None:
    outcome = ask(token=CourseToken.generate())

    assert isinstance(outcome, Misconfigured)
    assert moodle.called == []


def test_a_token_that_is_echoed_is_not_passed_on(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome]
) -> None:
    body = json.dumps({"exception": "x", "errorcode": "invalidtoken", "message": TOKEN.reveal()})
    moodle.sends(FUNCTION, Recorded(200, "application/json", body.encode()))

    assert ask() == TokenRefused("invalidtoken", "[redacted]")


@pytest.mark.parametrize("fault", ["broken", "slow"])
def test_no_whole_answer_is_transient(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome], fault: str
) -> None:
    moodle.says(FUNCTION, "grades")
    getattr(moodle, fault).add(FUNCTION)

    outcome = ask()

    assert isinstance(outcome, Transient)
    assert not outcome.unreachable


def test_a_site_that_asks_to_be_left_alone_is_left_alone(
    moodle: FakeMoodle, ask: Callable[..., FetchOutcome]
) -> None:
    page = Recorded(503, "text/html", b"<h1>Maintenance</h1>", (("Retry-After", "40"),))
    moodle.sends(FUNCTION, page)

    outcome = ask()

    assert isinstance(outcome, Transient)
    assert (outcome.detail, outcome.retry_after) == ("responded 503", 40.0)


def test_a_redirect_is_not_followed(moodle: FakeMoodle, ask: Callable[..., FetchOutcome]) -> None:
    moved = Recorded(303, "text/html", b"", (("Location", f"{moodle.url}/login/index.php"),))
    moodle.sends(FUNCTION, moved)

    outcome = ask()

    assert isinstance(outcome, SiteOutage)
    assert outcome.detail.startswith(f"responded 303 to {moodle.url}/login/index.php, which Moodle")
    assert moodle.functions() == [FUNCTION]


def test_who_cannot_be_reached_is_told(source: MoodleGradeSource) -> None:
    (outcome,) = source.fetch([GradeQuery("http://127.0.0.1:9", "2", TOKEN)])

    assert isinstance(outcome, Transient)
    assert outcome.unreachable


class TestConfirm:
    """Whether courses that seemed gone are: one request for a hundred, with the site's token."""

    def test_what_is_left_out_is_gone(self, moodle: FakeMoodle, source: MoodleGradeSource) -> None:
        moodle.says(COURSES, "get_courses_omits_missing")
        questions = [GradeQuery(moodle.url, course_id, TOKEN) for course_id in ("2", "3", "CS")]

        told = source.confirm_deleted(questions)

        (called,) = moodle.called
        assert told == [False, True, None]
        assert called.form["wstoken"] == SITE_TOKEN.reveal()
        assert (called.form["options[ids][0]"], called.form["options[ids][1]"]) == ("2", "3")

    def test_a_hundred_go_in_one_request(
        self, moodle: FakeMoodle, source: MoodleGradeSource
    ) -> None:
        moodle.says(COURSES, "get_courses_none")

        told = source.confirm_deleted(
            [GradeQuery(moodle.url, str(n), TOKEN) for n in range(1, 102)]
        )

        assert told == [True] * 101
        assert moodle.functions() == [COURSES] * 2

    @pytest.mark.parametrize("name", ["token_invalid", "maintenance", "grades", "course_deleted"])
    def test_any_other_answer_tells_nothing(
        self, moodle: FakeMoodle, source: MoodleGradeSource, name: str
    ) -> None:
        moodle.says(COURSES, name)

        assert source.confirm_deleted([GradeQuery(moodle.url, "3", TOKEN)]) == [None]

    def test_without_the_sites_token_nothing_is_asked(
        self, moodle: FakeMoodle, http_client: HttpClient
    ) -> None:
        source = MoodleGradeSource(http_client, site_token=None, now=lambda: NINE)

        assert source.confirm_deleted([GradeQuery(moodle.url, "3", TOKEN)]) == [None]
        assert moodle.called == []


@pytest.mark.parametrize(
    ("users", "words"),
    [
        pytest.param([("", [total()])], "no ID number", id="no ID number"),
        pytest.param([(None, [total()])], "no ID number", id="null for an ID number"),
        pytest.param(
            [("S1", [total()]), ("S1", [total()])], "2 users there have this", id="doubled"
        ),
        pytest.param([("S1", [])], "0 course totals", id="no course total"),
        pytest.param([("S1", [total(graderaw=-1)])], "greater than or equal", id="negative"),
        pytest.param([("S1", [total(grademax=0)])], "greater than 0", id="maximum 0"),
        pytest.param([("S1", [total(grademax=None)])], "score_maximum", id="no maximum"),
        pytest.param([("S1", [total(graderaw="7")])], "not a number", id="text"),
        pytest.param([("S1", [total(graderaw=True)])], "not a number", id="a truth"),
        pytest.param([("S1", [total(graderaw=Decimal("1e99"))])], "too large", id="too large"),
        pytest.param([("S1", [total(graderaw=10**12)])], "score_given", id="too many digits"),
        pytest.param([("S1", [total(feedback="x" * 10_001)])], "comment", id="long feedback"),
        pytest.param([("S1", [total(gradedategraded=10**17)])], "out of range", id="no such year"),
        pytest.param(
            [("S1", [total(graderaw=None, gradeneedsupdate=True)])],
            "not calculated",
            id="to be added up",
        ),
        pytest.param(
            [("S1", [total(graderaw=None, gradeishidden=True)])], "is hidden", id="hidden total"
        ),
    ],
)
def test_one_persons_problem_is_theirs_alone(
    users: list[tuple[str | None, list[dict[str, Any]]]], words: str
) -> None:
    grades = grades_of(report(*users, ("S9", [total()])), now=NINE)

    assert [score.user_id for score in grades.scores] == ["S9"]
    assert len(grades.left_out) == len(users)
    assert all(isinstance(one, PersonProblem) and words in one.detail for one in grades.left_out)
    assert grades.etag is None


@pytest.mark.parametrize(
    ("item", "timestamp"),
    [
        pytest.param(total(), GRADED_AT, id="when it was graded"),
        pytest.param(
            total(gradedategraded=None, gradedatesubmitted=1795336167),
            GRADED_AT,
            id="else when it was handed in",
        ),
        pytest.param(total(gradedategraded=None), NINE, id="else now"),
    ],
)
def test_a_score_is_of_the_moment_of_its_grade(item: dict[str, Any], timestamp: datetime) -> None:
    (score,) = grades_of(report(("S1", [item])), now=NINE).scores

    assert score.timestamp == timestamp


def test_a_grade_is_exact_and_its_feedback_comes_along() -> None:
    noisy = total(graderaw=Decimal("33.333333333333336"), feedback="Good")
    handed_in = total(graderaw=None, gradedatesubmitted=1795336167)

    first, second = grades_of(report(("S1", [noisy]), ("S2", [handed_in])), now=NINE).scores

    assert (first.score_given, first.comment) == (Decimal("33.33333"), "Good")
    assert second.activity_progress is ActivityProgress.SUBMITTED
    assert second.grading_progress is GradingProgress.PENDING


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(total(gradeishidden=True, gradeneedsupdate=False), id="hidden, and told"),
        pytest.param(
            total(graderaw=None, gradedategraded=None, gradeishidden=True),
            id="hidden, and ungraded",
        ),
    ],
)
def test_a_hidden_total_withholds_only_a_grade_that_is_there(item: dict[str, Any]) -> None:
    grades = grades_of(report(("S1", [item])), now=NINE)

    assert grades.left_out == ()
    assert [score.score_given for score in grades.scores] == [item["graderaw"]]


@pytest.mark.parametrize("document", [None, [], 0, {}, {"usergrades": {}}, {"usergrades": [1]}])
def test_what_is_no_report_is_refused(document: Any) -> None:
    with pytest.raises(ReportError, match="no list of usergrades"):
        grades_of(document, now=NINE)


def test_a_report_that_is_too_large_is_told_as_that(
    ask: Callable[..., FetchOutcome], moodle: FakeMoodle, http_client: HttpClient
) -> None:
    http_client._max_bytes = 1000
    moodle.sends(FUNCTION, Recorded(200, "application/json", b" " * 1001))

    outcome = ask()

    assert outcome == Misconfigured("the response is larger than 1000 bytes", TOO_LARGE)

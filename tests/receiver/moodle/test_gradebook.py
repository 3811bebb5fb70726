"""ELMS's Moodle as a gradebook: who is written, what is not, and what is found afterwards."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from contract.grades import Score
from contract.tokens import MoodleToken
from receiver.gradebook.base import CourseScores, ScoreCounts, WriteResult
from receiver.moodle import users
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.gradebook import UPDATE, MoodleGradebook
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import HttpClient
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle
from tests.receiver.moodle.recordings import RECORDED, Recorded

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")


@pytest.fixture
def elms(moodle: FakeMoodle) -> Elms:
    """ELMS with two students, of whom one is graded."""
    there = Elms(moodle)
    there.enrol(14, "S1001")
    there.enrol(15, "S1002", "50")
    return there


@pytest.fixture
def gradebook(http_client: HttpClient, elms: Elms) -> MoodleGradebook:
    """ELMS's gradebook."""
    return MoodleGradebook(http_client, url=elms.moodle.url, token=TOKEN)


def score(user_id: str = "S1001", given: str | None = "72.5", most: str = "100") -> Score:
    """Return a score."""
    return Score(
        user_id=user_id,
        score_given=None if given is None else Decimal(given),
        score_maximum=Decimal(most),
        timestamp=NINE,
    )


def course(
    *scores: Score, number: str | None = COURSE, activity: str | None = ACTIVITY, entry_id: int = 1
) -> CourseScores:
    """Return what is to be written of a course."""
    return CourseScores(entry_id, number, activity, scores)


@pytest.fixture
def write(gradebook: MoodleGradebook) -> Callable[..., WriteResult]:
    """Return what writes scores of the one course."""

    def one(*scores: Score, **more: str | None) -> WriteResult:
        (kept,) = gradebook.write([course(*scores, **more)])
        return kept

    return one


def test_only_what_differs_is_written_and_read_back(
    elms: Elms, write: Callable[..., WriteResult]
) -> None:
    kept = write(score(), score("S1002", "50.00"))

    form = next(one.form for one in elms.moodle.called if one.function == UPDATE)
    assert kept == WriteResult(1, ScoreCounts(added=1, unchanged=1))
    assert elms.grades == {14: Decimal("72.5"), 15: Decimal(50)}
    assert elms.moodle.functions() == [users.FUNCTION, FUNCTION, UPDATE, FUNCTION]
    assert {key: form[key] for key in form if not key.startswith("ws")} == {
        "moodlewsrestformat": "json",
        "moodlewssettinglang": "en",
        "source": "course-webhooks",
        "courseid": COURSE,
        "component": "mod_assign",
        "activityid": ACTIVITY,
        "itemnumber": "0",
        "grades[0][studentid]": "14",
        "grades[0][grade]": "72.50000",
    }


def test_nothing_new_is_not_written(elms: Elms, write: Callable[..., WriteResult]) -> None:
    write(score())
    del elms.moodle.called[:]

    kept = write(score())

    assert kept == WriteResult(1, ScoreCounts(unchanged=1))
    assert elms.moodle.functions() == [FUNCTION]


def test_no_points_are_written_where_words_stand(
    elms: Elms, write: Callable[..., WriteResult]
) -> None:
    elms.scale, elms.most = 2, 4

    kept = write(score(given="7.5", most="10"))

    assert isinstance(kept.failure, Misconfigured)
    assert kept.failure.detail == "the course 7 of ELMS's Moodle has no activity 42 with points"
    assert elms.moodle.functions() == [users.FUNCTION, FUNCTION]


def test_an_outcome_of_an_activity_is_not_its_grade(
    elms: Elms, write: Callable[..., WriteResult]
) -> None:
    elms.outcomes = 1

    kept = write(score(), score("S1002", "50"))

    assert kept == WriteResult(1, ScoreCounts(added=1, unchanged=1))
    assert elms.grades == {14: Decimal("72.5"), 15: Decimal(50)}


@pytest.mark.parametrize(
    ("given", "most", "stands"),
    [
        pytest.param("7.25", "10", "72.5", id="of ten"),
        pytest.param("1", "3", "33.33333", id="to Moodle's five places"),
        pytest.param("33.33333", "100", "33.33333", id="not where the maxima are equal"),
        pytest.param("0", "10", "0", id="nought"),
    ],
)
def test_points_are_rescaled_to_the_activity(
    elms: Elms, write: Callable[..., WriteResult], given: str, most: str, stands: str
) -> None:
    write(score(given=given, most=most))

    assert elms.grades[14] == Decimal(stands)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(score("S9"), "no users of ELMS have this ID number", id="nobody"),
        pytest.param(score("s1001"), "no users of ELMS have this ID number", id="another case"),
        pytest.param(score("TWIN"), "2 users of ELMS have this ID number", id="two people"),
        pytest.param(score("GUEST"), "not a student of the course", id="not enrolled"),
        pytest.param(
            score(given="101"),
            "101 of 100 is outside the activity's range of 0 to 100",
            id="too much",
        ),
        pytest.param(score("S1002", None), "but ELMS has 50", id="a grade taken back"),
        pytest.param(score("LOCKED"), "72.5 was written, but ELMS has no grade", id="locked"),
    ],
)
def test_a_problem_is_one_persons(
    elms: Elms, write: Callable[..., WriteResult], given: Score, words: str
) -> None:
    elms.users.update({20: "TWIN", 21: "TWIN", 22: "GUEST"})
    elms.enrol(16, "LOCKED")
    elms.enrol(17, "S1003")
    elms.locked.add(16)

    kept = write(given, score("S1003"))

    (problem,) = kept.problems
    assert problem.user_id == given.user_id
    assert words in problem.detail
    assert (kept.scores, kept.failure) == (ScoreCounts(added=1), None)
    assert elms.grades == {14: None, 15: Decimal(50), 16: None, 17: Decimal("72.5")}


def test_no_grade_where_none_stands_is_as_before(write: Callable[..., WriteResult]) -> None:
    assert write(score(given=None)) == WriteResult(1, ScoreCounts(unchanged=1))


@pytest.mark.parametrize("missing", ["number", "activity"])
def test_a_course_without_a_place_costs_no_request(
    elms: Elms, write: Callable[..., WriteResult], missing: str
) -> None:
    kept = write(score(), **{missing: None})

    assert isinstance(kept.failure, Misconfigured)
    assert kept.failure.advice.action == "registry set-activity"
    assert elms.moodle.called == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        pytest.param({"number": "8"}, "table course.", id="no such course"),
        pytest.param({"activity": "43"}, "has no activity 43", id="no such activity"),
    ],
)
def test_a_place_that_is_not_there_is_told(
    elms: Elms, write: Callable[..., WriteResult], place: dict[str, str], words: str
) -> None:
    kept = write(score(), **place)

    assert isinstance(kept.failure, Misconfigured)
    assert words in kept.failure.detail
    assert UPDATE not in elms.moodle.functions()


def test_one_courses_failure_is_not_anothers(elms: Elms, gradebook: MoodleGradebook) -> None:
    courses = [
        course(score(), number=None, entry_id=1),
        course(score(), number="8", entry_id=2),
        course(score(), entry_id=3),
    ]

    kept = gradebook.write(courses)

    assert [(one.entry_id, one.failure is None) for one in kept] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    assert elms.grades[14] == Decimal("72.5")


@pytest.mark.parametrize(
    ("function", "answer", "kind"),
    [
        pytest.param(users.FUNCTION, "token_invalid", SiteOutage, id="token invalid"),
        pytest.param(users.FUNCTION, "maintenance", Transient, id="maintenance"),
        pytest.param(users.FUNCTION, "grades", Transient, id="no users"),
        pytest.param(FUNCTION, "database_down", Transient, id="database down"),
        pytest.param(FUNCTION, "web_services_off", SiteOutage, id="switched off"),
        pytest.param(FUNCTION, "get_courses_none", Transient, id="no report"),
        pytest.param(UPDATE, "update_grades_no_activity", Misconfigured, id="no activity"),
        pytest.param(UPDATE, "token_expired_first_call", SiteOutage, id="not allowed to write"),
        pytest.param(UPDATE, "grades_no_students", Misconfigured, id="not a bare nought"),
    ],
)
def test_a_failure_anywhere_is_the_courses(
    elms: Elms, write: Callable[..., WriteResult], function: str, answer: str, kind: type
) -> None:
    elms.moodle.says(function, answer)

    kept = write(score())

    assert type(kept.failure) is kind
    assert kept.failure is not None
    assert "ELMS's" in kept.failure.detail
    assert kept.scores == ScoreCounts()
    assert TOKEN.reveal() not in repr(kept)


@pytest.mark.parametrize("body", [b"1", b"4", b"false", b"null", b'"0"', b"0.0"])
def test_only_a_bare_nought_means_done(
    elms: Elms, write: Callable[..., WriteResult], body: bytes
) -> None:
    elms.moodle.sends(UPDATE, Recorded(200, "application/json", body))

    kept = write(score())

    assert isinstance(kept.failure, Misconfigured)


def test_what_was_written_before_a_failure_counts(
    elms: Elms, write: Callable[..., WriteResult]
) -> None:
    for number in range(101):
        elms.enrol(1000 + number, f"T{number:03}")
    done = elms.moodle.answers[UPDATE]
    left = [done]
    elms.moodle.answers[UPDATE] = lambda form: left.pop()(form) if left else RECORDED["maintenance"]

    kept = write(*(score(f"T{number:03}") for number in range(101)))

    assert isinstance(kept.failure, Transient)
    assert kept.scores == ScoreCounts(added=100)


def test_people_are_looked_up_in_batches_for_all_courses_once(
    elms: Elms, gradebook: MoodleGradebook
) -> None:
    for number in range(101):
        elms.enrol(1000 + number, f"T{number:03}", "72.5")
    scores = [score(f"T{number:03}") for number in range(101)]
    courses = [course(*scores[:60], entry_id=1), course(*scores[60:], entry_id=2)]

    gradebook.write(courses)
    gradebook.write(courses)

    assert elms.moodle.functions().count(users.FUNCTION) == 2
    assert gradebook.requests == len(elms.moodle.called)


def test_hidden_id_numbers_are_a_fault_of_the_site(
    elms: Elms, write: Callable[..., WriteResult]
) -> None:
    elms.moodle.sends(users.FUNCTION, Recorded(200, "application/json", b'[{"id":14}]'))

    kept = write(score())

    assert isinstance(kept.failure, SiteOutage)
    assert "moodle/user:viewalldetails" in kept.failure.advice.text
    assert kept.problems == ()


class TestCheck:
    """Whether anything can be written, by one request before a run."""

    def test_a_good_token_is_well(self, elms: Elms, gradebook: MoodleGradebook) -> None:
        assert gradebook.check() is None
        assert elms.moodle.functions() == [SITE_INFO]

    @pytest.mark.parametrize(
        ("name", "kind", "words"),
        [
            pytest.param("token_invalid", SiteOutage, "invalidtoken", id="token invalid"),
            pytest.param("web_services_off", SiteOutage, "are disabled", id="switched off"),
            pytest.param("unknown_function", SiteOutage, "external_functions", id="no function"),
            pytest.param("maintenance", Transient, "sitemaintenance", id="maintenance"),
            pytest.param("get_courses_none", Transient, "without its functions", id="a list"),
        ],
    )
    def test_trouble_is_told(
        self,
        elms: Elms,
        gradebook: MoodleGradebook,
        name: str,
        kind: type,
        words: str,
    ) -> None:
        elms.moodle.says(SITE_INFO, name)

        trouble = gradebook.check()

        assert type(trouble) is kind
        assert trouble is not None
        assert words in trouble.detail

    def test_a_function_that_is_not_allowed_is_named(
        self, elms: Elms, gradebook: MoodleGradebook
    ) -> None:
        body = RECORDED["site_info"].body.replace(UPDATE.encode(), b"core_other")
        elms.moodle.sends(SITE_INFO, Recorded(200, "application/json", body))

        trouble = gradebook.check()

        assert isinstance(trouble, SiteOutage)
        assert UPDATE in trouble.detail

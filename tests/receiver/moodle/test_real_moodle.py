"""Tests against a real Moodle if one is set in the environment; they restore what they change.

Without one they run against the fake Moodle.

TEST_MOODLE_URL       its URL, for example https://moodle.example
TEST_MOODLE_TOKEN     a web service token for the whole site, whose service has every function that
                      receiver/moodle uses
TEST_MOODLE_COURSE    the number of a course, preferably one made for tests
TEST_MOODLE_ACTIVITY  the number (cmid) of an assignment with points in that course
TEST_MOODLE_STUDENT   optional: the ID number of the student whose grade is changed and restored;
                      by default the first one with a grade
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from contract.grades import Score
from contract.tokens import MoodleToken
from receiver.gradebook.base import CourseScores, ScoreCounts
from receiver.moodle import client, grade_diff, grade_report
from receiver.moodle.grade_diff import CurrentGrade
from receiver.moodle.gradebook import MoodleGradebook
from receiver.moodle.responses import InvalidToken, Missing, MissingRecord, Success
from receiver.moodle.source import MoodleGradeSource
from receiver.sources.base import (
    DeletedOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    RejectedOutcome,
    SiteOutage,
    Unchanged,
)
from receiver.sources.http_client import HttpClient
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle

URL = "TEST_MOODLE_URL"
NEEDED = ("TEST_MOODLE_TOKEN", "TEST_MOODLE_COURSE", "TEST_MOODLE_ACTIVITY")
# The number of a course and an activity that do not exist.
NOWHERE = "999999999"


@dataclass(frozen=True)
class Site:
    """The Moodle under test, as a source and as a gradebook."""

    url: str
    token: MoodleToken
    course: str
    activity: str
    http_client: HttpClient

    def source(self, *, with_site_token: bool = True) -> MoodleGradeSource:
        """Return it as a source."""
        now = datetime.now(UTC)
        site_token = self.token if with_site_token else None
        return MoodleGradeSource(self.http_client, site_token=site_token, now=lambda: now)

    def query(self, course: str, token: MoodleToken, etag: str | None = None) -> GradeQuery:
        """Return a query for the grades of a course."""
        return GradeQuery(self.url, course, token, etag)

    def gradebook(self, token: MoodleToken | None = None) -> MoodleGradebook:
        """Return it as a gradebook."""
        return MoodleGradebook(self.http_client, url=self.url, token=token or self.token)

    def scores(self, *scores: Score, activity: str = "") -> list[CourseScores]:
        """Return scores of its course."""
        return [CourseScores(1, self.course, activity or self.activity, scores)]


@dataclass(frozen=True)
class Student:
    """A student of the course with an ID number, and the current grade."""

    user: int
    id_number: str
    grade: CurrentGrade


@pytest.fixture
def site(moodle: FakeMoodle) -> Iterator[Site]:
    """The Moodle set in the environment, or else the fake one."""
    if url := os.environ.get(URL):
        missing = [name for name in NEEDED if not os.environ.get(name)]
        if missing:
            pytest.fail(f"{URL} is set, and {', '.join(missing)} must be too")
        token, course, activity = (os.environ[name] for name in NEEDED)
    else:
        url, token, course, activity = moodle.url, "0123456789abcdef" * 2, COURSE, ACTIVITY
        moodle.tokens = {token}
        elms = Elms(moodle)
        elms.enrol(14, "S1001", "72.5")
        elms.enrol(15, "S1002")
    http_client = HttpClient(connect_timeout=10, read_timeout=60, total=90)
    yield Site(url, MoodleToken.parse(token), course, activity, http_client)
    http_client.close()


@pytest.fixture
def student(site: Site) -> Student:
    """The student whose grade is changed."""
    wanted = os.environ.get("TEST_MOODLE_STUDENT")
    for user in report(site):
        current = user.moodle_user_id is not None and current_grades(site).get(user.moodle_user_id)
        named = user.id_number == wanted if wanted else bool(user.id_number)
        if current and current.given is not None and named:
            return Student(int(user.moodle_user_id or 0), user.id_number, current)
    pytest.skip("no student with an ID number has a grade in the activity")


def report(site: Site) -> list[grade_report.UserGrades]:
    """Return the current grade report."""
    result = client.call(
        site.http_client, site.url, site.token, grade_report.FUNCTION, {"courseid": site.course}
    )
    assert isinstance(result, Success), result
    return grade_report.report_of(result.document)


def current_grades(site: Site) -> dict[int, CurrentGrade | None]:
    """Return the current grades of the activity."""
    return grade_diff.current_grades(report(site), site.activity)


def score(student: Student, given: Decimal) -> Score:
    """Return points of the activity as a score."""
    return Score(
        user_id=student.id_number,
        score_given=given,
        score_maximum=student.grade.maximum,
        timestamp=datetime.now(UTC),
    )


def unknown_token() -> MoodleToken:
    """Return an unknown token."""
    return MoodleToken(secrets.token_hex(16))


def test_valid_token_fetches_grades(site: Site) -> None:
    (outcome,) = site.source().fetch([site.query(site.course, site.token)])

    assert isinstance(outcome, Grades), outcome
    named = [one.user_id for one in outcome.scores]
    assert len(named) == len(set(named))
    assert all(one.score_maximum for one in outcome.scores)


def test_unchanged_grades_have_the_same_etag(site: Site) -> None:
    (first,) = site.source().fetch([site.query(site.course, site.token)])
    assert isinstance(first, Grades), first
    if first.etag is None:
        pytest.skip("someone is left out of that course's grades, so that they have no ETag")

    (again,) = site.source().fetch([site.query(site.course, site.token, first.etag)])

    assert again == Unchanged()


def test_unknown_token_is_refused(site: Site) -> None:
    (outcome,) = site.source().fetch([site.query(site.course, unknown_token())])

    assert isinstance(outcome, RejectedOutcome), outcome


@pytest.mark.parametrize("with_site_token", [True, False])
def test_unknown_course_is_gone(site: Site, with_site_token: bool) -> None:
    source = site.source(with_site_token=with_site_token)

    (outcome,) = source.fetch([site.query(NOWHERE, site.token)])

    assert isinstance(outcome, DeletedOutcome), outcome


def test_known_course_exists(site: Site) -> None:
    assert site.source().course_exists(site.query(site.course, site.token), site.token) is True


def test_unknown_function_is_not_a_deletion(site: Site) -> None:
    result = client.call(site.http_client, site.url, site.token, "core_course_no_such_function")

    assert not isinstance(result, Success | InvalidToken)
    assert not isinstance(result, Missing) or result.what is MissingRecord.UNCLEAR


def test_gradebook_has_no_outage(site: Site) -> None:
    assert site.gradebook().check() is None


def test_gradebook_with_an_unknown_token_has_an_outage(site: Site) -> None:
    assert isinstance(site.gradebook(unknown_token()).check(), SiteOutage)


def test_grade_is_written_and_restored(site: Site, student: Student) -> None:
    before = student.grade
    assert before.given is not None
    other = before.given + (1 if before.given + 1 <= before.maximum else -1)
    try:
        (written,) = site.gradebook().write(site.scores(score(student, other)))
        now = current_grades(site)[student.user]
        (again,) = site.gradebook().write(site.scores(score(student, other)))
    finally:
        (restored,) = site.gradebook().write(site.scores(score(student, before.given)))

    assert (written.failure, written.problems) == (None, ())
    assert written.scores == ScoreCounts(changed=1)
    assert now is not None
    assert now.given == other
    assert again.scores == ScoreCounts(unchanged=1)
    assert restored.problems == ()
    assert current_grades(site)[student.user] == before


def test_unknown_person_is_a_problem(site: Site) -> None:
    before = current_grades(site)
    unknown = Score(
        user_id=f"unknown-{secrets.token_hex(8)}",
        score_given=Decimal(1),
        score_maximum=Decimal(1),
        timestamp=datetime.now(UTC),
    )

    (result,) = site.gradebook().write(site.scores(unknown))

    assert (result.failure, result.scores) == (None, ScoreCounts())
    assert [problem.user_id for problem in result.problems] == [unknown.user_id]
    assert current_grades(site) == before


def test_grade_above_the_maximum_is_not_written(site: Site, student: Student) -> None:
    too_much = score(student, student.grade.maximum + 1)

    (result,) = site.gradebook().write(site.scores(too_much))

    assert [problem.user_id for problem in result.problems] == [student.id_number]
    assert current_grades(site)[student.user] == student.grade


def test_unknown_activity_is_misconfigured(site: Site, student: Student) -> None:
    scores = site.scores(score(student, Decimal(1)), activity=NOWHERE)

    (result,) = site.gradebook().write(scores)

    assert isinstance(result.failure, Misconfigured), result.failure

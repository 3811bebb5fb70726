"""A real Moodle, named by the environment: read, refused, written to, and left as it was.

TEST_MOODLE_URL       where it is, as https://moodle.example
TEST_MOODLE_TOKEN     a token of its web services that sees the whole site, with every function of
                      receiver/moodle in its service
TEST_MOODLE_COURSE    the number of a course, best of one that was made for tests
TEST_MOODLE_ACTIVITY  the number (cmid) of an assignment with points in it
TEST_MOODLE_STUDENT   if wanted, the ID number of the student whose grade is changed and restored;
                      else it is the first who has one
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
from receiver.moodle import grade_diff, grade_report
from receiver.moodle.client import MoodleClient
from receiver.moodle.grade_diff import CurrentGrade
from receiver.moodle.gradebook import MoodleGradebook
from receiver.moodle.responses import InvalidToken, Missing, MissingRecord, Success
from receiver.moodle.source import MoodleGradeSource
from receiver.sources.base import (
    GradeQuery,
    Grades,
    Misconfigured,
    SeemsGone,
    SiteOutage,
    TokenRefused,
    Unchanged,
)
from receiver.sources.http_client import HttpClient

URL = "TEST_MOODLE_URL"
NEEDED = ("TEST_MOODLE_TOKEN", "TEST_MOODLE_COURSE", "TEST_MOODLE_ACTIVITY")
NOWHERE = "999999999"
"""The number of a course, and of an activity, that no Moodle has come to yet."""

pytestmark = pytest.mark.skipif(not os.environ.get(URL), reason=f"{URL} is not set")


@dataclass(frozen=True)
class Site:
    """The Moodle under test, and what asks it as a source and writes to it as a gradebook."""

    url: str
    token: MoodleToken
    course: str
    activity: str
    http_client: HttpClient

    def source(self) -> MoodleGradeSource:
        """Return what asks it for grades."""
        now = datetime.now(UTC)
        return MoodleGradeSource(self.http_client, site_token=self.token, now=lambda: now)

    def question(self, course: str, token: MoodleToken, etag: str | None = None) -> GradeQuery:
        """Return a question about a course."""
        return GradeQuery(self.url, course, token, etag)

    def gradebook(self, token: MoodleToken | None = None) -> MoodleGradebook:
        """Return what writes to it."""
        return MoodleGradebook(self.http_client, url=self.url, token=token or self.token)

    def scores(self, *scores: Score, activity: str = "") -> list[CourseScores]:
        """Return what is to be written."""
        return [CourseScores(1, self.course, activity or self.activity, scores)]


@dataclass(frozen=True)
class Student:
    """A student of the course who can be told from the others, and the grade that stands."""

    user: int
    id_number: str
    standing: CurrentGrade


@pytest.fixture
def site() -> Iterator[Site]:
    """The Moodle that the environment names."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.fail(f"{URL} is set, and {', '.join(missing)} must be too")
    token, course, activity = (os.environ[name] for name in NEEDED)
    http_client = HttpClient(connect_timeout=10, read_timeout=60, total=90)
    yield Site(os.environ[URL], MoodleToken.parse(token), course, activity, http_client)
    http_client.close()


@pytest.fixture
def student(site: Site) -> Student:
    """The student whose grade is changed."""
    wanted = os.environ.get("TEST_MOODLE_STUDENT")
    for user in report(site):
        there = user.user_id is not None and current_grades(site).get(user.user_id)
        named = user.id_number == wanted if wanted else bool(user.id_number)
        if there and there.given is not None and named:
            return Student(int(user.user_id or 0), user.id_number, there)
    pytest.skip("no student with an ID number has a grade in the activity, to be put back")


def report(site: Site) -> list[grade_report.UserGrades]:
    """Return what the Moodle's report says now."""
    verdict = MoodleClient(site.http_client).call(
        site.url, site.token, grade_report.FUNCTION, {"courseid": site.course}
    )
    assert isinstance(verdict, Success), verdict
    return grade_report.report_of(verdict.document)


def current_grades(site: Site) -> dict[int, CurrentGrade | None]:
    """Return how the grades of the activity stand now."""
    return grade_diff.current_grades(report(site), site.activity)


def score(student: Student, given: Decimal) -> Score:
    """Return points of the activity as a score."""
    return Score(
        user_id=student.id_number,
        score_given=given,
        score_maximum=student.standing.maximum,
        timestamp=datetime.now(UTC),
    )


def stranger() -> MoodleToken:
    """Return a token that no Moodle knows."""
    return MoodleToken(secrets.token_hex(16))


def nobody() -> None:
    """Keep no lease."""


def test_a_good_token_brings_the_courses_grades(site: Site) -> None:
    (outcome,) = site.source().fetch([site.question(site.course, site.token)])

    assert isinstance(outcome, Grades), outcome
    named = [one.user_id for one in outcome.scores]
    assert len(named) == len(set(named))
    assert all(one.score_maximum for one in outcome.scores)


def test_grades_that_did_not_change_are_told_by_their_tag(site: Site) -> None:
    (first,) = site.source().fetch([site.question(site.course, site.token)])
    assert isinstance(first, Grades), first
    if first.etag is None:
        pytest.skip("somebody is left out of that course's grades, so they have no tag")

    (again,) = site.source().fetch([site.question(site.course, site.token, first.etag)])

    assert again == Unchanged()


def test_a_bad_token_is_refused_and_says_nothing_of_the_course(site: Site) -> None:
    (outcome,) = site.source().fetch([site.question(site.course, stranger())])

    assert isinstance(outcome, TokenRefused), outcome


def test_a_course_that_is_not_there_seems_gone(site: Site) -> None:
    (outcome,) = site.source().fetch([site.question(NOWHERE, site.token)])

    assert isinstance(outcome, SeemsGone), outcome


def test_a_deletion_is_confirmed_and_a_course_that_is_there_is_not_gone(site: Site) -> None:
    questions = [site.question(number, site.token) for number in (site.course, NOWHERE)]

    told = site.source().confirm_deleted(questions)

    assert told == [False, True]


def test_a_function_that_is_not_there_is_no_deletion(site: Site) -> None:
    verdict = MoodleClient(site.http_client).call(
        site.url, site.token, "core_course_no_such_function"
    )

    assert not isinstance(verdict, Success | InvalidToken)
    assert not isinstance(verdict, Missing) or verdict.what is MissingRecord.UNCLEAR


def test_the_gradebook_is_in_order(site: Site) -> None:
    assert site.gradebook().check() is None


def test_a_gradebook_with_a_bad_token_is_out_of_order(site: Site) -> None:
    assert isinstance(site.gradebook(stranger()).check(), SiteOutage)


def test_a_grade_is_written_read_back_and_put_back(site: Site, student: Student) -> None:
    before = student.standing
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


def test_a_stranger_is_named_and_nothing_is_written(site: Site) -> None:
    before = current_grades(site)
    unknown = Score(
        user_id=f"nobody-{secrets.token_hex(8)}",
        score_given=Decimal(1),
        score_maximum=Decimal(1),
        timestamp=datetime.now(UTC),
    )

    (kept,) = site.gradebook().write(site.scores(unknown))

    assert (kept.failure, kept.scores) == (None, ScoreCounts())
    assert [problem.user_id for problem in kept.problems] == [unknown.user_id]
    assert current_grades(site) == before


def test_more_than_the_maximum_is_not_written(site: Site, student: Student) -> None:
    too_much = score(student, student.standing.maximum + 1)

    (kept,) = site.gradebook().write(site.scores(too_much))

    assert [problem.user_id for problem in kept.problems] == [student.id_number]
    assert current_grades(site)[student.user] == student.standing


def test_an_activity_that_is_not_there_is_a_fault_of_configuration(
    site: Site, student: Student
) -> None:
    scores = site.scores(score(student, Decimal(1)), activity=NOWHERE)

    (kept,) = site.gradebook().write(scores)

    assert isinstance(kept.failure, Misconfigured), kept.failure

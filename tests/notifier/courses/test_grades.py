"""Stored grades: exact numbers, versions, times of change."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from contract.grades import ActivityProgress, GradingProgress, Score
from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.courses import grade_access, grades
from notifier.courses import service as courses
from notifier.courses.grade_access import GradesRequest, GradesResult
from notifier.courses.grades import LoadResult
from notifier.errors import CourseDeletedError, CourseUnknownError
from notifier.models import Grade
from tests.notifier.conftest import MINUTE, NINE, MakeCourse, make_score

TEN = NINE + timedelta(hours=1)


def delete(database: Database, course_id: str) -> None:
    """Delete a course at ten."""
    with database.writing() as session:
        courses.delete_course(session, course_id, now=TEN)


def scores_of(database: Database, course_id: str, token: CourseToken) -> tuple[Score, ...]:
    """Return the scores that a token grants."""
    with database.reading() as session:
        (answer,) = grade_access.read_grades(session, [GradesRequest(course_id, token)])
    assert isinstance(answer, GradesResult)
    return answer.scores


def grades_version(database: Database, course_id: str) -> int:
    """Return the version of a course's grades."""
    with database.reading() as session:
        return courses.get_course(session, course_id).grades_version


def changed_at(database: Database, course_id: str) -> datetime | None:
    """Return when a course's grades last changed."""
    with database.reading() as session:
        return courses.get_course(session, course_id).grades_changed_at


@pytest.mark.parametrize(
    "digits",
    ["0", "0.1", "0.10", "7.50000", "9999999999.99999", "0.00001"],
)
def test_score_keeps_every_digit(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult], digits: str
) -> None:
    token = make_course("CS101")
    load({"CS101": [make_score(score_given=Decimal(digits))]})

    (score,) = scores_of(database, "CS101", token)

    assert str(score.score_given) == digits


def test_score_is_read_back_unchanged(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    token = make_course("CS101")
    whole = make_score(
        score_given=None,
        comment='Größe\n"x", =cmd() \u202e 🎓',
        activity_progress=ActivityProgress.SUBMITTED,
        grading_progress=GradingProgress.PENDING_MANUAL,
    )
    load({"CS101": [whole]})

    assert scores_of(database, "CS101", token) == (whole,)


def test_load_counts_new_changed_and_unchanged(
    make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    make_course("CS101")
    load({"CS101": [make_score(user_id=user) for user in ("ada", "grace", "edsger")]})

    loaded = load(
        {
            "CS101": [
                make_score(user_id="ada"),
                make_score(user_id="grace", score_given=Decimal(8)),
                make_score(user_id="edsger", comment="Simplicity."),
                make_score(user_id="barbara"),
            ]
        }
    )

    assert loaded == LoadResult(added=1, changed=2, unchanged=1)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"score_given": None}, id="no score"),
        pytest.param({"score_given": Decimal("7.50001")}, id="the last digit"),
        pytest.param({"score_maximum": Decimal(20)}, id="the maximum"),
        pytest.param({"comment": ""}, id="an empty comment"),
        pytest.param({"activity_progress": ActivityProgress.STARTED}, id="the activity"),
        pytest.param({"grading_progress": GradingProgress.FAILED}, id="the grading"),
    ],
)
def test_every_other_field_is_a_change(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., LoadResult],
    overrides: dict[str, object],
) -> None:
    token = make_course("CS101")
    load({"CS101": [make_score()]})

    loaded = load({"CS101": [make_score(**overrides)]})

    assert loaded == LoadResult(changed=1)
    assert scores_of(database, "CS101", token) == (make_score(**overrides),)
    assert grades_version(database, "CS101") == 2


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="the very same"),
        pytest.param({"timestamp": TEN}, id="said again later"),
        pytest.param({"score_given": Decimal("7.50")}, id="the same number"),
    ],
)
def test_timestamp_alone_is_no_change(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., LoadResult],
    overrides: dict[str, object],
) -> None:
    make_course("CS101")
    load({"CS101": [make_score()]})

    loaded = load({"CS101": [make_score(**overrides)]})

    assert loaded == LoadResult(unchanged=1)
    assert grades_version(database, "CS101") == 1


def test_load_touches_the_versions_of_what_it_changed(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        make_course(course_id)
    load({"CS101": [make_score()], "CS102": [make_score()]})

    load(
        {
            "CS101": [make_score()],
            "CS102": [make_score(), make_score(user_id="grace")],
            "CS103": [],
        }
    )

    versions = [grades_version(database, one) for one in ("CS101", "CS102", "CS103")]
    assert versions == [1, 2, 0]


def test_load_records_when_grades_changed(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    make_course("CS101")
    make_course("CS102")

    before = changed_at(database, "CS101")
    load({"CS101": [make_score()], "CS102": [make_score()]}, now=NINE)
    load({"CS101": [make_score()], "CS102": [make_score(comment="new")]}, now=TEN)

    assert before is None
    assert changed_at(database, "CS101") == NINE
    assert changed_at(database, "CS102") == TEN


@pytest.mark.parametrize(
    "now",
    [pytest.param(NINE, id="the same moment"), pytest.param(NINE - MINUTE, id="set back")],
)
def test_change_is_later_even_if_the_clock_goes_back(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult], now: datetime
) -> None:
    make_course("CS101")
    load({"CS101": [make_score()]}, now=NINE)

    load({"CS101": [make_score(comment="new")]}, now=now)

    assert changed_at(database, "CS101") == NINE + timedelta(microseconds=1)


def test_other_scores_are_kept(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    token = make_course("CS101")
    load({"CS101": [make_score(user_id="ada"), make_score(user_id="grace")]})

    load({"CS101": [make_score(user_id="grace", score_given=Decimal(9))]})

    ada, grace = scores_of(database, "CS101", token)
    assert (ada, grace) == (make_score(), make_score(user_id="grace", score_given=Decimal(9)))


def test_last_score_of_a_user_counts(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    token = make_course("CS101")

    loaded = load({"CS101": [make_score(), make_score(score_given=Decimal(3))]})

    assert loaded == LoadResult(added=1)
    assert scores_of(database, "CS101", token) == (make_score(score_given=Decimal(3)),)


def test_same_user_in_two_courses_has_two_scores(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    first, second = make_course("CS101"), make_course("CS102")

    load({"CS101": [make_score()], "CS102": [make_score(score_given=Decimal(1))]})

    assert scores_of(database, "CS101", first) == (make_score(),)
    assert scores_of(database, "CS102", second) == (make_score(score_given=Decimal(1)),)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        pytest.param(CourseUnknownError, "there is no course 'CS999'", id="unknown"),
        pytest.param(
            CourseDeletedError,
            "the course 'CS999' was deleted at 2026-11-22 10:00:00 UTC",
            id="deleted",
        ),
    ],
)
def test_nothing_is_stored_if_one_course_is_refused(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., LoadResult],
    refusal: type[Exception],
    words: str,
) -> None:
    make_course("CS101")
    if refusal is CourseDeletedError:
        make_course("CS999")
        delete(database, "CS999")

    with pytest.raises(refusal) as refused:
        load({"CS101": [make_score()], "CS999": [make_score()]})

    assert str(refused.value) == words
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Grade)) == 0
    assert grades_version(database, "CS101") == 0


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_load_sees_a_concurrent_deletion(database: Database, make_course: MakeCourse) -> None:
    """A session that read the course before another deleted it is refused.

    On SQLite this cannot happen: a writer waits before it reads.
    """
    make_course("CS101")

    with database.writing() as session:
        seen = courses.get_course(session, "CS101")
        delete(database, "CS101")
        with pytest.raises(CourseDeletedError, match="'CS101' was deleted"):
            grades.load(session, {"CS101": [make_score()]}, now=NINE)
        assert seen.deleted_at == TEN


def test_statements_of_a_load_do_not_grow(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    users = [f"user-{number}" for number in range(20)]
    for number in range(30):
        make_course(f"CS{number}")

    def statements(course_count: int, user_count: int, points: int) -> int:
        """Return the number of statements of a load."""
        before = database.statements
        load(
            {
                f"CS{number}": [
                    make_score(user_id=user, score_given=Decimal(points + place))
                    for place, user in enumerate(users[:user_count])
                ]
                for number in range(course_count)
            }
        )
        return database.statements - before

    one, many = statements(1, 1, 0), statements(30, 20, 0)
    changed_one, changed_many = statements(1, 1, 1), statements(30, 20, 2)

    assert one == changed_one == changed_many
    assert many == one

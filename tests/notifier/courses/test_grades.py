"""Stored grades: exact numbers, versions, times of change."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from contract.grades import ActivityProgress, GradingProgress, Score
from contract.tokens import CourseToken
from foundation.import_result import ImportResult
from notifier.courses import grade_access, grades
from notifier.courses import service as courses
from notifier.courses.grade_access import GradesRequest, GradesResult
from notifier.errors import CourseDeletedError, CourseUnknownError
from notifier.models import Grade
from tests.notifier.conftest import MINUTE, NINE, Store, make_score

TEN = NINE + timedelta(hours=1)


def scores_of(store: Store, token: CourseToken, course_id: str = "CS101") -> tuple[Score, ...]:
    """Return the scores that a token grants."""
    (answer,) = store.read(grade_access.read_grades, [GradesRequest(course_id, token)], now=NINE)
    assert isinstance(answer, GradesResult)
    return answer.scores


@pytest.mark.parametrize("digits", ["0", "0.10", "9999999999.99999"])
def test_score_keeps_every_digit(store: Store, digits: str) -> None:
    token = store.add_course("CS101")

    store.load({"CS101": [make_score(score_given=Decimal(digits))]})

    assert str(scores_of(store, token)[0].score_given) == digits


def test_score_is_read_back_unchanged(store: Store) -> None:
    token = store.add_course("CS101")
    whole = make_score(
        score_given=None,
        comment='Größe\n"x", =cmd() \u202e 🎓',
        activity_progress=ActivityProgress.SUBMITTED,
        grading_progress=GradingProgress.PENDING_MANUAL,
    )

    store.load({"CS101": [whole]})

    assert scores_of(store, token) == (whole,)


def test_load_counts_new_changed_and_unchanged(store: Store) -> None:
    token = store.add_course("CS101")
    ada, grace, edsger = (make_score(user_id=user) for user in ("ada", "grace", "edsger"))
    store.load({"CS101": [ada, grace, edsger]})
    better, new = make_score(user_id="grace", score_given=Decimal(8)), make_score(user_id="barbara")

    loaded = store.load({"CS101": [ada, better, new]})

    assert loaded == ImportResult(added=1, changed=1, unchanged=1)
    assert scores_of(store, token) == (ada, new, edsger, better)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"score_given": None}, id="no score"),
        pytest.param({"score_given": Decimal("7.50001")}, id="last digit"),
        pytest.param({"score_maximum": Decimal(20)}, id="maximum"),
        pytest.param({"comment": ""}, id="empty comment"),
        pytest.param({"activity_progress": ActivityProgress.STARTED}, id="activity"),
        pytest.param({"grading_progress": GradingProgress.FAILED}, id="grading"),
    ],
)
def test_every_other_field_is_a_change(store: Store, overrides: dict[str, object]) -> None:
    token = store.add_course("CS101")
    store.load({"CS101": [make_score()]})

    loaded = store.load({"CS101": [make_score(**overrides)]})

    assert loaded == ImportResult(changed=1)
    assert scores_of(store, token) == (make_score(**overrides),)
    assert store.course().grades_version == 2


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"timestamp": TEN}, id="later timestamp"),
        pytest.param({"score_given": Decimal("7.50")}, id="same number"),
    ],
)
def test_timestamp_alone_is_no_change(store: Store, overrides: dict[str, object]) -> None:
    store.add_course("CS101")
    store.load({"CS101": [make_score()]})

    loaded = store.load({"CS101": [make_score(**overrides)]})

    assert loaded == ImportResult(unchanged=1)
    assert store.course().grades_version == 1


def test_load_touches_only_the_courses_it_changed(store: Store) -> None:
    for course_id in ("CS101", "CS102", "CS103"):
        store.add_course(course_id)
    store.load({"CS101": [make_score()], "CS102": [make_score()]}, now=NINE)

    changed = [make_score(), make_score(user_id="grace")]
    store.load({"CS101": [make_score()], "CS102": changed, "CS103": []}, now=TEN)

    rows = [store.course(one) for one in ("CS101", "CS102", "CS103")]
    assert [(row.grades_version, row.grades_changed_at) for row in rows] == [
        (1, NINE),
        (2, TEN),
        (0, None),
    ]


@pytest.mark.parametrize(
    "now", [pytest.param(NINE, id="same time"), pytest.param(NINE - MINUTE, id="set back")]
)
def test_change_is_later_even_if_the_clock_goes_back(store: Store, now: datetime) -> None:
    store.add_course("CS101")
    store.load({"CS101": [make_score()]}, now=NINE)

    store.load({"CS101": [make_score(comment="new")]}, now=now)

    assert store.course().grades_changed_at == NINE + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("exists", "refusal"),
    [
        pytest.param(False, CourseUnknownError, id="unknown"),
        pytest.param(True, CourseDeletedError, id="deleted"),
    ],
)
def test_nothing_is_stored_if_one_course_is_refused(
    store: Store, exists: bool, refusal: type[Exception]
) -> None:
    store.add_course("CS101")
    if exists:
        store.add_course("CS999")
        store.write(courses.delete_course, "CS999", now=TEN)

    with pytest.raises(refusal, match="'CS999'"):
        store.load({"CS101": [make_score()], "CS999": [make_score()]})

    assert store.all(Grade) == []
    assert store.course("CS101").grades_version == 0


def test_courses_whose_grades_were_deleted_are_found(store: Store) -> None:
    store.add_courses(["CS1", "CS2", "CS3"])
    store.load({"CS1": [make_score()], "CS2": [make_score()]})
    store.write(courses.delete_course, "CS2", now=NINE)
    store.write(grades.forget_deleted_courses, TEN, limit=9)

    found = store.read(grades.find_forgotten, ["CS1", "CS2", "CS3"])

    assert found == {"CS2"}


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_load_sees_a_concurrent_deletion(store: Store) -> None:
    """A session that read the course before another deleted it is refused.

    On SQLite this cannot happen: a writer waits before it reads.
    """
    store.add_course("CS101")

    with store.database.writing() as session:
        courses.get_course(session, "CS101")
        store.write(courses.delete_course, "CS101", now=TEN)
        with pytest.raises(CourseDeletedError, match="'CS101' was deleted"):
            grades.load(session, {"CS101": [make_score()]}, now=NINE)


def test_statements_of_a_load_do_not_grow(store: Store) -> None:
    for number in range(30):
        store.add_course(f"CS{number}")

    def statements(course_count: int, user_count: int, points: int) -> int:
        scores = [
            make_score(user_id=f"user-{number}", score_given=Decimal(points + number))
            for number in range(user_count)
        ]
        every = {f"CS{number}": scores for number in range(course_count)}
        return store.count_statements(lambda: store.load(every))

    one, many = statements(1, 1, 0), statements(30, 20, 0)
    changed_one, changed_many = statements(1, 1, 1), statements(30, 20, 2)

    assert one == many == changed_one == changed_many


def test_scores_of_many_courses_are_loaded_in_batches(store: Store) -> None:
    every = {f"CS{number}": [make_score(), make_score(user_id="grace")] for number in range(510)}
    store.add_courses(every)

    with store.database.writing() as session:
        batches = list(grades.load_in_batches(session, every, now=NINE))

    assert batches == [ImportResult(added=1_000), ImportResult(added=20)]
    assert store.load(every) == ImportResult(unchanged=1_020)
    assert {store.course(one).grades_version for one in ("CS0", "CS509")} == {1}


def test_more_courses_than_a_statement_has_parameters(store: Store) -> None:
    every = {str(number): [] for number in range(70_000)}
    store.add_courses(["7"])

    with pytest.raises(CourseUnknownError, match="'0'"):
        store.load(every)


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        pytest.param({"course_id": "CS101"}, [("CS102", "ada"), ("CS102", "eve")], id="course"),
        pytest.param({"user_id": "ada"}, [("CS101", "eve"), ("CS102", "eve")], id="user"),
        pytest.param(
            {"course_id": "CS101", "user_id": "ada"},
            [("CS101", "eve"), ("CS102", "ada"), ("CS102", "eve")],
            id="user in a course",
        ),
        pytest.param(
            {"user_id": "bob"},
            [("CS101", "ada"), ("CS101", "eve"), ("CS102", "ada"), ("CS102", "eve")],
            id="none",
        ),
    ],
)
def test_forgotten_scores_change_their_course(
    store: Store, chosen: dict[str, str], left: list[tuple[str, str]]
) -> None:
    scores = [make_score(user_id="ada"), make_score(user_id="eve")]
    store.add_courses(["CS101", "CS102"])
    store.load({"CS101": scores, "CS102": scores})
    before = {one: store.course(one) for one in ("CS101", "CS102")}

    counted = store.read(grades.count_by_course, **chosen)
    forgotten = store.write(grades.forget, **chosen, now=NINE)

    after = {one: store.course(one) for one in before}
    names = {course.id: course_id for course_id, course in after.items()}
    assert forgotten == counted
    assert sum(forgotten.values()) == 4 - len(left)
    assert [(names[row.course_pk], row.user_id) for row in store.all(Grade)] == left
    for course_id, course in after.items():
        changed = course_id in forgotten
        assert course.grades_version == before[course_id].grades_version + changed
        assert (course.grades_changed_at > before[course_id].grades_changed_at) is changed

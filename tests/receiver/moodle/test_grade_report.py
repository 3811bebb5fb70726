"""A Moodle's grade report as scores."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import ActivityProgress, GradingProgress
from receiver.moodle.grade_report import ReportError, grades_of
from receiver.sources.base import PersonProblem

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
GRADED_AT = datetime.fromtimestamp(1795336167, UTC)


def total(**overrides: Any) -> dict[str, Any]:
    """Return a course total as in a report, with overrides."""
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
    """Return a grade report of users by ID number."""
    return {
        "usergrades": [
            {"userid": 4 + index, "useridnumber": id_number, "gradeitems": items}
            for index, (id_number, items) in enumerate(users)
        ]
    }


@pytest.mark.parametrize(
    ("users", "words"),
    [
        pytest.param([("", [total()])], "no ID number", id="no ID number"),
        pytest.param([(None, [total()])], "no ID number", id="null for an ID number"),
        pytest.param(
            [("S1", [total()]), ("S1", [total()])], "2 users there have this", id="duplicate"
        ),
        pytest.param([("S1", [])], "moodle/grade:viewhidden", id="no course total"),
        pytest.param([("S1", [total(), total()])], "2 course totals", id="two course totals"),
        pytest.param(
            [
                (
                    "S1",
                    [total(graderaw=1, grademin=1, grademax=3, rangeformatted="Fail&ndash;Merit")],
                )
            ],
            "by a scale",
            id="scale",
        ),
        pytest.param([("S1", [total(grademin=20)])], "from 20, not from 0", id="minimum"),
        pytest.param([("S1", [total(graderaw=-1)])], "must not be negative", id="negative"),
        pytest.param([("S1", [total(grademax=0)])], "greater than 0", id="maximum 0"),
        pytest.param([("S1", [total(grademax=None)])], "score_maximum", id="no maximum"),
        pytest.param([("S1", [total(graderaw="7")])], "not a number", id="text"),
        pytest.param([("S1", [total(graderaw=True)])], "not a number", id="boolean"),
        pytest.param([("S1", [total(graderaw=Decimal("1e99"))])], "too large", id="too large"),
        pytest.param([("S1", [total(graderaw=10**12)])], "score_given", id="too many digits"),
        pytest.param([("S1", [total(feedback="x" * 10_001)])], "comment", id="long feedback"),
        pytest.param([("S1", [total(gradedategraded=10**17)])], "out of range", id="no such year"),
        pytest.param(
            [("S1", [total(graderaw=None, gradeneedsupdate=True)])],
            "not calculated",
            id="not calculated",
        ),
        pytest.param(
            [("S1", [total(graderaw=None, gradeishidden=True)])],
            "moodle/grade:viewhidden",
            id="hidden total",
        ),
        pytest.param(
            [("S1", [total(graderaw=None, gradeishidden=False)])],
            "moodle/grade:viewhidden",
            id="hidden grade in the total",
        ),
    ],
)
def test_problem_of_one_person_leaves_out_only_that_person(
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
        pytest.param(total(), GRADED_AT, id="graded"),
        pytest.param(
            total(gradedategraded=None, gradedatesubmitted=1795336167),
            GRADED_AT,
            id="submitted",
        ),
        pytest.param(total(gradedategraded=None), NINE, id="neither"),
    ],
)
def test_score_has_the_time_of_its_grade(item: dict[str, Any], timestamp: datetime) -> None:
    (score,) = grades_of(report(("S1", [item])), now=NINE).scores

    assert score.timestamp == timestamp


def test_grade_is_exact_and_has_its_feedback() -> None:
    inexact = total(graderaw=Decimal("33.333333333333336"), feedback="Good")
    submitted = total(graderaw=None, gradedategraded=None, gradedatesubmitted=1795336167)

    first, second = grades_of(report(("S1", [inexact]), ("S2", [submitted])), now=NINE).scores

    assert (first.score_given, first.comment) == (Decimal("33.33333"), "Good")
    assert second.activity_progress is ActivityProgress.SUBMITTED
    assert second.grading_progress is GradingProgress.PENDING


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(total(gradeishidden=True, gradeneedsupdate=False), id="hidden, but sent"),
        pytest.param(
            total(graderaw=None, gradedategraded=None, gradeishidden=True),
            id="hidden, not graded",
        ),
    ],
)
def test_hidden_total_without_a_grade_is_no_problem(item: dict[str, Any]) -> None:
    grades = grades_of(report(("S1", [item])), now=NINE)

    assert grades.left_out == ()
    assert [score.score_given for score in grades.scores] == [item["graderaw"]]


@pytest.mark.parametrize("document", [None, [], 0, {}, {"usergrades": {}}, {"usergrades": [1]}])
def test_other_documents_are_refused(document: Any) -> None:
    with pytest.raises(ReportError, match="no list of usergrades"):
        grades_of(document, now=NINE)

"""CSV files of grades: read as a whole, or refused with every invalid line."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from contract.grades import ActivityProgress, GradingProgress
from foundation.csv_reader import CsvError
from notifier.courses import grade_import
from tests.notifier.conftest import NINE, make_score

HEADER = "course_id,user_id,score_given,score_maximum"


def read(text: str) -> dict[str, list[object]]:
    """Return the scores of a file's text, read at nine."""
    return grade_import.read(text, now=NINE).scores  # type: ignore[return-value]


def refusal(text: str) -> str:
    """Return the message that refuses a file's text."""
    with pytest.raises(CsvError) as refused:
        read(text)
    return str(refused.value)


def test_scores_are_grouped_by_course() -> None:
    scores = read(f"{HEADER}\nCS101,ada,7.5,10\nCS102,ada,0.10,1\nCS101,grace,9,10\n")

    assert scores == {
        "CS101": [make_score(), make_score(user_id="grace", score_given=Decimal(9))],
        "CS102": [make_score(score_given=Decimal("0.10"), score_maximum=Decimal(1))],
    }
    assert str(scores["CS102"][0].score_given) == "0.10"  # type: ignore[attr-defined]


def test_every_column_is_read() -> None:
    scores = read(
        "grading_progress,comment,course_id,timestamp,user_id,activity_progress,"
        "score_given,score_maximum\n"
        'Failed,"late, ""again""\nsee me",CS101,2026-11-20T08:00:00+01:00,ada,Submitted,7.5,10\n'
    )

    assert scores == {
        "CS101": [
            make_score(
                grading_progress=GradingProgress.FAILED,
                comment='late, "again"\nsee me',
                timestamp=datetime(2026, 11, 20, 7, tzinfo=UTC),
                activity_progress=ActivityProgress.SUBMITTED,
            )
        ]
    }


def test_empty_score_means_not_graded_and_other_empty_fields_count_as_absent() -> None:
    scores = read(f"{HEADER},comment,timestamp,activity_progress\nCS101,ada,,10,,,\n")

    assert scores == {"CS101": [make_score(score_given=None)]}


def test_file_without_scores_is_empty() -> None:
    assert read(f"{HEADER}\n\n\n") == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(",ada,7.5,10", "course_id is empty", id="no course"),
        pytest.param(
            "CS101,ada,7,5,10",
            "the line has more or fewer fields than the first one",
            id="decimal comma",
        ),
        pytest.param("CS101,,7.5,10", "user_id: is missing", id="no user"),
        pytest.param("CS101,ada,7.5,0", "scoreMaximum must be greater than 0", id="maximum of 0"),
        pytest.param("CS101,ada,-1,10", "score_given: points must not be negative", id="negative"),
        pytest.param(
            "CS101,a\u200bda,7,10",
            "user_id: the ID of a person must have printable characters only",
            id="zero-width character",
        ),
    ],
)
def test_invalid_line_is_reported(line: str, message: str) -> None:
    refused = refusal(f"{HEADER}\nCS101,grace,9,10\n{line}\n")

    assert refused == f"nothing was changed: 1 line is invalid\nline 3: {message}"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        pytest.param(
            "timestamp",
            "1700000000",
            "expected a time such as 2026-11-22T09:00:00.123456Z",
            id="timestamp",
        ),
        pytest.param(
            "activity_progress",
            "Asleep",
            "must be 'Initialized', 'Started', 'InProgress', 'Submitted' or 'Completed'",
            id="activity",
        ),
        pytest.param("comment", "x" * 10_001, "must have at most 10000 characters", id="comment"),
    ],
)
def test_invalid_optional_field_is_reported(column: str, value: str, message: str) -> None:
    refused = refusal(f"{HEADER},{column}\nCS101,ada,7.5,10,{value}\n")

    assert refused == f"nothing was changed: 1 line is invalid\nline 2: {column}: {message}"


def test_every_invalid_line_is_reported() -> None:
    refused = refusal(f'{HEADER},comment\n,a,1,1,\nCS1,a,1,1,"two\nlines"\nCS1,,1,1,\nCS1,a,b,c,\n')

    assert refused.splitlines() == [
        "nothing was changed: 3 lines are invalid",
        "line 2: course_id is empty",
        "line 5: user_id: is missing",
        'line 6: score_given: expected digits such as "7.5", '
        'score_maximum: expected digits such as "7.5"',
    ]


def test_refusal_contains_no_value() -> None:
    refused = refusal(f"{HEADER}\nCS101,ada,eas_k7Qx2mPa_secret,10\n")

    assert "eas_" not in refused


def test_person_twice_in_a_course_is_refused() -> None:
    refused = refusal(f'{HEADER}\nCS1,s77 ,7.5,10\nCS2,s77,1,10\nCS1,"=""s77""",8,10\n')

    assert refused == "nothing was changed: 1 line is invalid\nline 4: the same person as in line 2"

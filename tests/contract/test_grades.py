"""Scores (LTI Assignment and Grade Services) and the answer that carries them."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.grades import ActivityProgress, GradesAnswer, GradingProgress, Points, Score

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)

points: TypeAdapter[Decimal] = TypeAdapter(Points)


def make_score(**overrides: Any) -> Score:
    """Return a score of 7.5 of 10, but for the overrides."""
    fields = {
        "user_id": "s1234567",
        "score_given": Decimal("7.5"),
        "score_maximum": Decimal(10),
        "timestamp": NINE,
        **overrides,
    }
    return Score(**fields)


def make_document(**overrides: Any) -> dict[str, Any]:
    """Return a score as it stands on the wire, but for the overrides."""
    return {
        "userId": "s1234567",
        "scoreGiven": "7.5",
        "scoreMaximum": "10",
        "timestamp": "2026-11-22T09:00:00Z",
        **overrides,
    }


def read(document: object) -> Score:
    """Read a score from JSON."""
    return Score.model_validate_json(json.dumps(document))


def test_a_score_is_written_in_the_words_of_the_field() -> None:
    assert make_score(comment="good").model_dump_json(by_alias=True) == (
        '{"userId":"s1234567","scoreGiven":"7.5","scoreMaximum":"10","comment":"good",'
        '"timestamp":"2026-11-22T09:00:00.123456Z","activityProgress":"Completed",'
        '"gradingProgress":"FullyGraded"}'
    )


def test_what_is_written_is_read_alike() -> None:
    score = make_score(
        comment="Übung 😀",
        activity_progress=ActivityProgress.IN_PROGRESS,
        grading_progress=GradingProgress.PENDING_MANUAL,
    )

    assert Score.model_validate_json(score.model_dump_json(by_alias=True)) == score


def test_a_score_that_is_not_given_yet_is_null() -> None:
    score = make_score(score_given=None)

    written = json.loads(score.model_dump_json(by_alias=True))

    assert written["scoreGiven"] is None
    assert read(written).score_given is None


def test_what_may_be_left_out_has_the_defaults_of_the_design() -> None:
    document = make_document()
    del document["scoreGiven"]

    score = read(document)

    assert score.score_given is None
    assert score.comment is None
    assert score.activity_progress is ActivityProgress.COMPLETED
    assert score.grading_progress is GradingProgress.FULLY_GRADED


@given(
    st.decimals(min_value=0, max_value=Decimal("9999999999.99999"), places=5)
    | st.integers(0, 9_999_999_999).map(Decimal)
)
def test_points_survive_the_wire_digit_by_digit(given_points: Decimal) -> None:
    written = points.dump_json(given_points)

    read_back = points.validate_json(written)

    assert written == f'"{given_points:f}"'.encode()
    assert str(read_back) == str(given_points)


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        pytest.param('"0.1"', "0.1", id="a tenth"),
        pytest.param('"0.10000"', "0.10000", id="its zeros kept"),
        pytest.param('"9999999999.99999"', "9999999999.99999", id="the most"),
        pytest.param('"0"', "0", id="none"),
        pytest.param("7", "7", id="a whole number without quotes"),
        pytest.param("0", "0", id="nought without quotes"),
    ],
)
def test_points_are_read_exactly(raw: str, number: str) -> None:
    assert str(points.validate_json(raw)) == number


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param("0.1", 'stand in quotes, as "7.5": a float is not exact', id="a float"),
        pytest.param("7.0", "a float is not exact", id="a whole float"),
        pytest.param("1e3", "a float is not exact", id="an exponent"),
        pytest.param("0.30000000000000004", "a float is not exact", id="a float's dust"),
        pytest.param("true", "Decimal input should be", id="true"),
        pytest.param("[]", "Decimal input should be", id="an array"),
        pytest.param("null", "Decimal input should be", id="null"),
        pytest.param("-1", "greater than or equal to 0", id="less than nothing"),
        pytest.param('"-1"', 'points are digits, as "7.5"', id="a minus"),
        pytest.param('"+1"', "points are digits", id="a plus"),
        pytest.param('"1E+3"', "points are digits", id="an exponent in quotes"),
        pytest.param('"1_000"', "points are digits", id="an underscore"),
        pytest.param('"7,5"', "points are digits", id="a comma"),
        pytest.param('" 7"', "points are digits", id="a space"),
        pytest.param('"7\\n"', "points are digits", id="a line break"),
        pytest.param('"\u0667"', "points are digits", id="digits of another script"),
        pytest.param('"NaN"', "points are digits", id="no number"),
        pytest.param('"Infinity"', "points are digits", id="infinity"),
        pytest.param('""', "points are digits", id="nothing"),
        pytest.param('"' + "1" * 5000 + '"', "points are digits", id="5,000 digits"),
        pytest.param('"12345678901"', "no more than 10 digits before", id="11 digits"),
        pytest.param("12345678901", "no more than 10 digits before", id="11 without quotes"),
        pytest.param('"0.000001"', "no more than 5 decimal places", id="six decimals"),
    ],
)
def test_what_are_no_exact_points_is_refused(raw: str, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        points.validate_json(raw)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(7.5, "a float is not exact", id="a float"),
        pytest.param(Decimal("NaN"), "should be a finite number", id="no number"),
        pytest.param(Decimal("sNaN"), "should be a finite number", id="a signalling one"),
        pytest.param(Decimal("-0.1"), "greater than or equal to 0", id="less than nothing"),
    ],
)
def test_a_score_is_never_made_of_an_inexact_number(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_score(score_given=value)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        pytest.param(Decimal("1E+3"), '"1000"', id="an exponent"),
        pytest.param(Decimal("-0.0"), '"0.0"', id="a negative nought"),
    ],
)
def test_numbers_are_written_as_others_read_them(number: Decimal, written: str) -> None:
    assert points.dump_json(points.validate_python(number)).decode() == written


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        pytest.param({"userId": ""}, "userId", "at least 1 character", id="nobody"),
        pytest.param({"userId": "u" * 256}, "userId", "at most 255", id="a long user id"),
        pytest.param({"userId": 7}, "userId", "valid string", id="a number for a user"),
        pytest.param({"scoreMaximum": None}, "scoreMaximum", "Decimal", id="no maximum"),
        pytest.param({"comment": "c" * 10_001}, "comment", "at most 10000", id="a long comment"),
        pytest.param({"timestamp": 1700000000}, "timestamp", "datetime", id="seconds"),
        pytest.param(
            {"timestamp": "2026-11-22T09:00:00"}, "timestamp", "a moment looks", id="no zone"
        ),
        pytest.param(
            {"activityProgress": "Done"}, "activityProgress", "'Completed'", id="another progress"
        ),
        pytest.param(
            {"gradingProgress": "fullygraded"}, "gradingProgress", "'FullyGraded'", id="other case"
        ),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(make_document(**changes))

    (fault,) = caught.value.errors()
    assert fault["loc"] == (field,)
    assert message in fault["msg"]


def test_a_maximum_of_nought_is_refused() -> None:
    with pytest.raises(ValidationError, match="scoreMaximum must be greater than 0"):
        read(make_document(scoreMaximum="0"))


def test_more_points_than_the_maximum_are_a_score() -> None:
    assert read(make_document(scoreGiven="11")).score_given == Decimal(11)


def test_unknown_fields_are_passed_over() -> None:
    assert read(make_document(scoringUserId="t1")) == read(make_document())


def test_the_longest_comment_is_read() -> None:
    assert read(make_document(comment="ü" * 10_000)).comment == "ü" * 10_000


class TestGradesAnswer:
    """What eAssessment answers to a good token."""

    answer = GradesAnswer(
        course_id="CS101-2026", course_version=5, token_id="k7Qx2mPa", scores=(make_score(),)
    )

    def test_it_survives_the_wire(self) -> None:
        written = self.answer.model_dump_json(by_alias=True)

        assert GradesAnswer.model_validate_json(written) == self.answer

    def test_its_own_names_are_those_of_our_events(self) -> None:
        written = json.loads(self.answer.model_dump_json(by_alias=True))

        assert list(written) == ["course_id", "course_version", "token_id", "scores"]
        assert written["scores"][0]["userId"] == "s1234567"

    def test_it_may_hold_no_scores(self) -> None:
        empty = self.answer.model_copy(update={"scores": ()})

        assert GradesAnswer.model_validate_json(empty.model_dump_json(by_alias=True)) == empty

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            pytest.param("course_version", True, id="true for a version"),
            pytest.param("course_version", 0, id="version 0"),
            pytest.param("course_id", "CS\n101", id="a line break in the course"),
            pytest.param("token_id", None, id="no token id"),
            pytest.param("scores", None, id="no scores"),
            pytest.param("scores", {}, id="an object for scores"),
        ],
    )
    def test_a_wrong_field_is_refused(self, field: str, value: object) -> None:
        document = {**json.loads(self.answer.model_dump_json(by_alias=True)), field: value}

        with pytest.raises(ValidationError) as caught:
            GradesAnswer.model_validate_json(json.dumps(document))

        assert [fault["loc"] for fault in caught.value.errors()] == [(field,)]

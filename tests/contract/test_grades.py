"""Scores (LTI Assignment and Grade Services) and the responses of the grades API."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.grades import (
    ActivityProgress,
    GradesResponse,
    GradingProgress,
    Points,
    Score,
    rounded,
)

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
points: TypeAdapter[Decimal] = TypeAdapter(Points)


def make_score(**overrides: Any) -> Score:
    fields = {
        "user_id": "s1234567",
        "score_given": Decimal("7.5"),
        "score_maximum": Decimal(10),
        "timestamp": NINE,
        **overrides,
    }
    return Score(**fields)


RESPONSE = GradesResponse(
    course_id="CS101-2026", course_version=5, token_id="k7Qx2mPa", scores=(make_score(),)
)
DOCUMENTS = {
    Score: json.loads(make_score().model_dump_json(by_alias=True)),
    GradesResponse: json.loads(RESPONSE.model_dump_json(by_alias=True)),
}


def test_score_uses_the_field_names_of_lti() -> None:
    assert make_score(comment="good").model_dump_json(by_alias=True) == (
        '{"userId":"s1234567","scoreGiven":"7.5","scoreMaximum":"10","comment":"good",'
        '"timestamp":"2026-11-22T09:00:00.123456Z","activityProgress":"Completed",'
        '"gradingProgress":"FullyGraded"}'
    )


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(
            make_score(
                comment="Übung 😀" * 1000,
                activity_progress=ActivityProgress.IN_PROGRESS,
                grading_progress=GradingProgress.PENDING_MANUAL,
            ),
            id="all fields",
        ),
        pytest.param(make_score(score_given=None), id="no score yet"),
        pytest.param(make_score(score_given=Decimal(11)), id="more than the maximum"),
    ],
)
def test_score_survives_the_wire(score: Score) -> None:
    assert Score.model_validate_json(score.model_dump_json(by_alias=True)) == score


def test_optional_fields_have_defaults_and_unknown_ones_are_ignored() -> None:
    required = ("userId", "scoreMaximum", "timestamp")
    document = {name: DOCUMENTS[Score][name] for name in required}

    score = Score.model_validate_json(json.dumps({**document, "scoringUserId": "x"}))

    assert score == make_score(score_given=None)
    assert score.comment is None


@given(
    st.decimals(min_value=0, max_value=Decimal("9999999999.99999"), places=5)
    | st.integers(0, 9_999_999_999).map(Decimal)
)
def test_points_survive_the_wire_digit_by_digit(number: Decimal) -> None:
    written = points.dump_json(number)

    assert written == f'"{number:f}"'.encode()
    assert str(points.validate_json(written)) == str(number)


@pytest.mark.parametrize(
    ("number", "written"), [(Decimal("1E+3"), '"1000"'), (Decimal("-0.0"), '"0.0"')]
)
def test_points_are_written_as_plain_digits(number: Decimal, written: str) -> None:
    assert points.dump_json(points.validate_python(number)).decode() == written


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("1e3", id="exponent"),
        pytest.param("true", id="true"),
        pytest.param("null", id="null"),
        pytest.param("-1", id="negative"),
        pytest.param('"-1"', id="minus sign"),
        pytest.param('"1E+3"', id="exponent in quotes"),
        pytest.param('"1_000"', id="underscore"),
        pytest.param('"7,5"', id="comma"),
        pytest.param('"7\\n"', id="line break"),
        pytest.param('"\u0667"', id="Arabic digit"),
        pytest.param('"NaN"', id="NaN"),
        pytest.param('""', id="empty"),
        pytest.param('"' + "1" * 5000 + '"', id="5,000 digits"),
        pytest.param("12345678901", id="11 digits"),
    ],
)
def test_inexact_or_invalid_points_are_refused(raw: str) -> None:  # B6, B9
    with pytest.raises(ValidationError):
        points.validate_json(raw)


def test_points_are_rounded_half_away_from_zero() -> None:
    assert rounded(Decimal("66.666665")) == Decimal("66.66667")

    with pytest.raises(ValueError, match="too large"):
        rounded(Decimal("1E+40"))


def test_refused_float_says_what_to_send() -> None:
    with pytest.raises(ValidationError, match="must be a string"):
        points.validate_json("7.5")


@pytest.mark.parametrize("value", [7.5, Decimal("NaN"), Decimal("sNaN"), Decimal("-0.1")])
def test_score_is_never_made_from_an_inexact_number(value: object) -> None:
    with pytest.raises(ValidationError):
        make_score(score_given=value)


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        pytest.param(Score, "userId", "", id="empty user id"),
        pytest.param(Score, "userId", "u" * 256, id="long user id"),
        pytest.param(Score, "userId", 7, id="user id number"),
        pytest.param(Score, "scoreMaximum", None, id="no maximum"),
        pytest.param(Score, "comment", "c" * 10_001, id="long comment"),
        pytest.param(Score, "timestamp", 1700000000, id="time number"),
        pytest.param(Score, "activityProgress", "Done", id="unknown progress"),
        pytest.param(Score, "gradingProgress", "fullygraded", id="lower case"),
        pytest.param(GradesResponse, "course_version", True, id="version true"),
        pytest.param(GradesResponse, "course_id", "CS\n101", id="line break in the course id"),
        pytest.param(GradesResponse, "token_id", None, id="no token id"),
        pytest.param(GradesResponse, "scores", {}, id="scores object"),
    ],
)
def test_invalid_field_is_named(
    model: type[Score | GradesResponse], field: str, value: object
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps({**DOCUMENTS[model], field: value}))

    assert [fault["loc"] for fault in caught.value.errors()] == [(field,)]


def test_maximum_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="scoreMaximum must be greater than 0"):
        Score.model_validate_json(json.dumps({**DOCUMENTS[Score], "scoreMaximum": "0"}))


@pytest.mark.parametrize("scores", [RESPONSE.scores, ()], ids=["scores", "none"])
def test_response_survives_the_wire(scores: tuple[Score, ...]) -> None:
    response = RESPONSE.model_copy(update={"scores": scores})

    written = response.model_dump_json(by_alias=True, exclude_unset=True)

    assert GradesResponse.model_validate_json(written) == response
    assert list(json.loads(written)) == ["course_id", "course_version", "token_id", "scores"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param('"7.123455"', "7.12346", id="half away from zero"),
        pytest.param('"7.123454999"', "7.12345", id="less than half"),
        pytest.param('"66.' + "6" * 58 + '"', "66.66667", id="60 digits"),
        pytest.param('"7.50"', "7.50", id="as they are"),
    ],
)
def test_points_are_rounded_to_five_decimals(given: str, expected: str) -> None:
    assert str(points.validate_json(given)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("s77 ", "s77", id="space"),
        pytest.param("\u3000s77\u00a0\t", "s77", id="spaces of other kinds"),
        pytest.param('="00123"', "00123", id="quoted as a formula"),
        pytest.param("van 't Hoff 7", "van 't Hoff 7", id="space inside"),
        pytest.param("Åsa-é", "Åsa-é", id="letters beyond ASCII"),
    ],
)
def test_user_id_is_normalised(text: str, expected: str) -> None:
    assert make_score(user_id=text).user_id == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \u2003", id="spaces"),
        pytest.param('=""', id="empty in quotes"),
        pytest.param("s\u200b77", id="zero-width space"),
        pytest.param("s77\ufeff", id="byte order mark"),
        pytest.param("s\u00a077", id="no-break space inside"),
        pytest.param("s\n77", id="control character"),
        pytest.param("s\u202e77", id="right-to-left override"),
        pytest.param("x" * 256, id="too long"),
    ],
)
def test_user_id_that_looks_like_another_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        make_score(user_id=text)


def test_response_has_each_user_once() -> None:
    twice = (make_score(user_id="s77"), make_score(user_id="s77 ", score_given=None))

    with pytest.raises(ValidationError, match="the same userId occurs more than once: 's77'"):
        GradesResponse(course_id="C", course_version=1, token_id="k7", scores=twice)

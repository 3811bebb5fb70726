"""Scores (LTI Assignment and Grade Services) and the requests and responses of the grades API."""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from contract.events import CourseId, StrictModel, TokenId, Version, WireTime
from contract.strict_json import is_storable

_DIGITS = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_MAX_DIGITS = 100
# What a spreadsheet writes so that it does not read an ID as a number.
_QUOTED_AS_FORMULA = re.compile(r'="(.*)"')


def _exact(value: object) -> object:
    if isinstance(value, str):
        if len(value) > _MAX_DIGITS or not _DIGITS.fullmatch(value):
            raise ValueError('expected digits such as "7.5"')
        return _storable(Decimal(value))
    if isinstance(value, float):
        raise ValueError('a fraction must be a string such as "7.5": a float is not exact')
    if isinstance(value, int) and not isinstance(value, bool):
        return _storable(Decimal(value))
    return _storable(value) if isinstance(value, Decimal) and value.is_finite() else value


def _storable(points: Decimal) -> Decimal:
    if points < 0:
        raise ValueError("points must not be negative")
    exponent = points.as_tuple().exponent
    precise = isinstance(exponent, int) and exponent < -MAX_DECIMALS
    return rounded(points) if precise else points.copy_abs()


# The decimal places in which points are stored, in Moodle too.
MAX_DECIMALS = 5
_PRECISION = Decimal(1).scaleb(-MAX_DECIMALS)


def rounded(points: Decimal) -> Decimal:
    """Return points to the precision in which they are stored, halves away from zero.

    Raises ValueError for a number that is too large.
    """
    try:
        return points.quantize(_PRECISION, ROUND_HALF_UP)
    except InvalidOperation:
        raise ValueError("the number of points is too large") from None


def parse_user_id(text: str) -> str:
    """Return a person's ID as it is compared: without spaces at its ends and formula quotes.

    Raises ValueError for an ID that cannot be told from another by its looks: with a character
    that is not printable, such as a zero-width or a control character, or a space of another kind.
    """
    bare = text.strip()
    if quoted := _QUOTED_AS_FORMULA.fullmatch(bare):
        bare = quoted[1].strip()
    if not bare:
        raise ValueError("the ID of a person is empty")
    if not is_storable(bare) or not bare.isprintable():
        raise ValueError("the ID of a person must have printable characters only")
    return bare


# An exact number of points; a string in JSON, so that no reader makes it a float. More decimal
# places than are stored are rounded.
Points = Annotated[
    Decimal,
    Field(ge=0, max_digits=15, decimal_places=5, allow_inf_nan=False),
    BeforeValidator(_exact),
    PlainSerializer(lambda points: format(points, "f"), when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,5})?$"}),
]


class ActivityProgress(StrEnum):
    """The status of the student's work (LTI AGS 2.0, Score)."""

    INITIALIZED = "Initialized"
    STARTED = "Started"
    IN_PROGRESS = "InProgress"
    SUBMITTED = "Submitted"
    COMPLETED = "Completed"


class GradingProgress(StrEnum):
    """The status of the grading (LTI AGS 2.0, Score)."""

    FULLY_GRADED = "FullyGraded"
    PENDING = "Pending"
    PENDING_MANUAL = "PendingManual"
    FAILED = "Failed"
    NOT_READY = "NotReady"


# The ID by which a person is known on both sites.
UserId = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(parse_user_id)]


class Score(StrictModel):
    """The result of one student in a course; `score_given` is None if there is none yet."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    user_id: UserId
    score_given: Points | None = None
    score_maximum: Points
    comment: Annotated[str, Field(max_length=10_000)] | None = None
    timestamp: WireTime
    activity_progress: ActivityProgress = ActivityProgress.COMPLETED
    grading_progress: GradingProgress = GradingProgress.FULLY_GRADED

    @model_validator(mode="after")
    def _maximum_is_positive(self) -> "Score":
        if self.score_maximum == 0:
            raise ValueError("scoreMaximum must be greater than 0")
        return self


def _each_user_once(scores: Sequence[Score]) -> Sequence[Score]:
    count = Counter(score.user_id for score in scores)
    twice = [user for user, number in count.items() if number > 1]
    if twice:
        raise ValueError(f"the same userId occurs more than once: {twice[0]!r}")
    return scores


# Scores of one course; with two of the same person, it is not certain which one counts.
Scores = Annotated[tuple[Score, ...], AfterValidator(_each_user_once)]


class TokenOverlap(StrictModel):
    """The current token of a course, and until when the one of the request is still valid."""

    token_id: TokenId
    regenerated_at: WireTime
    valid_until: WireTime


class GradesResponse(StrictModel):
    """The response to a valid token: its id, and the version and scores of the course.

    `overlap` is there if the token was replaced.
    """

    course_id: CourseId
    course_version: Version
    token_id: TokenId
    overlap: TokenOverlap | None = None
    scores: Scores


# The maximum number of courses in a batch request.
MAX_BATCH = 100


class BatchRequestItem(StrictModel):
    """One course of a batch request: its token, and the preconditions for sending its grades.

    `if_none_match` is an entity tag with its quotes (RFC 9110, 13.1.2). `if_modified_since` is
    exact to the microsecond, and ignored if there is an entity tag (13.1.3).
    """

    course_id: Annotated[str, Field(max_length=255)]
    token: Annotated[str, Field(max_length=255)] = Field(repr=False)
    if_none_match: Annotated[str, Field(max_length=255)] | None = None
    if_modified_since: WireTime | None = None


class BatchRequest(StrictModel):
    """A batch request; each course is answered on its own."""

    courses: Annotated[tuple[BatchRequestItem, ...], Field(min_length=1, max_length=MAX_BATCH)]


class BatchResponseItem(StrictModel):
    """The response for one course, with the status that a request for it alone would have.

    `etag` and `grades` are there for 200, `problem` for any other status but 304.
    """

    course_id: str
    status: Annotated[int, Field(ge=200, le=599)]
    etag: str | None = None
    grades: GradesResponse | None = None
    problem: dict[str, Any] | None = None


class BatchResponse(StrictModel):
    """The response to a batch request: one item for each course, in the order of the request."""

    answers: tuple[BatchResponseItem, ...]

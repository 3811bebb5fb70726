"""Scores (LTI Assignment and Grade Services), and the answers that carry them, one or many."""

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from contract.events import CourseId, TokenId, Version, WireTime

_DIGITS = re.compile(r"[0-9]+(\.[0-9]+)?")


def _exact(value: object) -> object:
    if isinstance(value, str):
        if len(value) > 40 or not _DIGITS.fullmatch(value):
            raise ValueError('points are digits, as "7.5"')
        return Decimal(value)
    if isinstance(value, float):
        raise ValueError('points with a fraction stand in quotes, as "7.5": a float is not exact')
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_zero():
        return value.copy_abs()
    return value


Points = Annotated[
    Decimal,
    Field(ge=0, max_digits=15, decimal_places=5, allow_inf_nan=False),
    BeforeValidator(_exact),
    PlainSerializer(lambda points: format(points, "f"), when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,5})?$"}),
]
"""A number of points: exact, as a decimal string in JSON so that no reader makes it a float."""


class ActivityProgress(StrEnum):
    """How far the student is (LTI AGS 2.0, Score)."""

    INITIALIZED = "Initialized"
    STARTED = "Started"
    IN_PROGRESS = "InProgress"
    SUBMITTED = "Submitted"
    COMPLETED = "Completed"


class GradingProgress(StrEnum):
    """How far the grading is (LTI AGS 2.0, Score)."""

    FULLY_GRADED = "FullyGraded"
    PENDING = "Pending"
    PENDING_MANUAL = "PendingManual"
    FAILED = "Failed"
    NOT_READY = "NotReady"


class _Wire(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


class Score(_Wire):
    """One student's result in a course; `score_given` is None while there is none."""

    user_id: Annotated[str, Field(min_length=1, max_length=255)]
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


class GradesAnswer(BaseModel):
    """What eAssessment answers to a good token: the course's present state and its scores."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    course_id: CourseId
    course_version: Version
    token_id: TokenId
    scores: tuple[Score, ...]


MAX_BATCH = 100
"""How many courses one batch may ask about."""


class BatchQuestion(BaseModel):
    """One course of a batch: its bearer's token, and what the asker has of it already.

    `if_none_match` is an entity tag, quotes and all (RFC 9110, 13.1.2). `if_modified_since` counts
    only without it (13.1.3), and to the microsecond.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    course_id: Annotated[str, Field(max_length=255)]
    token: Annotated[str, Field(max_length=255)] = Field(repr=False)
    if_none_match: Annotated[str, Field(max_length=255)] | None = None
    if_modified_since: WireTime | None = None


class BatchOrder(BaseModel):
    """What a batch asks: each course on its own."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    courses: Annotated[tuple[BatchQuestion, ...], Field(min_length=1, max_length=MAX_BATCH)]


class BatchItem(BaseModel):
    """What is answered for one course: the status that it would have had by itself.

    200 brings `etag` and `grades`, 304 neither, all else the problem document.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    course_id: str
    status: Annotated[int, Field(ge=200, le=599)]
    etag: str | None = None
    grades: GradesAnswer | None = None
    problem: dict[str, Any] | None = None


class BatchAnswer(BaseModel):
    """One item for each course of the order, in its order."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    answers: tuple[BatchItem, ...]

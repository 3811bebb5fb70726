"""Claims: a signed request for the current tokens of courses, and its response."""

from typing import Annotated, Any, Literal

from pydantic import Field

from contract.events import CourseId, StrictModel, Version, WireTime

# The maximum number of courses in a claim.
MAX_CLAIMS = 100


class ClaimRequest(StrictModel):
    """The courses whose current tokens are claimed.

    The type keeps the signature of a webhook from being used for a claim, and the other way round.
    """

    type: Literal["tokens.claim"] = "tokens.claim"
    course_ids: Annotated[tuple[CourseId, ...], Field(min_length=1, max_length=MAX_CLAIMS)]


class ClaimResponseItem(StrictModel):
    """The response for one course: 200 with its token, any other status with the problem.

    With a token are the version of the course, when the token replaced the one before, and until
    when that is valid, as its event states them. An older eAssessment does not send them.
    """

    course_id: str
    status: Annotated[int, Field(ge=200, le=599)]
    token: Annotated[str, Field(max_length=255)] | None = Field(default=None, repr=False)
    course_version: Version | None = None
    regenerated_at: WireTime | None = None
    valid_until: WireTime | None = None
    problem: dict[str, Any] | None = None


class ClaimResponse(StrictModel):
    """The response to a claim: one item for each course, in the order of the request."""

    answers: tuple[ClaimResponseItem, ...]

"""Claims: a signed request for the current tokens of courses, and its response."""

from typing import Annotated, Any, Literal

from pydantic import Field

from contract.events import CourseId, StrictModel

# The maximum number of courses in a claim.
MAX_CLAIMS = 100


class ClaimRequest(StrictModel):
    """The courses whose current tokens are claimed.

    The type keeps the signature of a webhook from being used for a claim, and the other way round.
    """

    type: Literal["tokens.claim"] = "tokens.claim"
    course_ids: Annotated[tuple[CourseId, ...], Field(min_length=1, max_length=MAX_CLAIMS)]


class ClaimResponseItem(StrictModel):
    """The response for one course: 200 with its token, any other status with the problem."""

    course_id: str
    status: Annotated[int, Field(ge=200, le=599)]
    token: Annotated[str, Field(max_length=255)] | None = Field(default=None, repr=False)
    problem: dict[str, Any] | None = None


class ClaimResponse(StrictModel):
    """The response to a claim: one item for each course, in the order of the request."""

    answers: tuple[ClaimResponseItem, ...]

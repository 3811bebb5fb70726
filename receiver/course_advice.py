"""The explanation of a course's status: its reason and the advice, as people read them."""

from dataclasses import dataclass
from datetime import datetime

from foundation.errors import Advice
from receiver.course_state import (
    REGENERATED,
    CourseState,
    CourseStatus,
    Deleted,
    TokenAnnounced,
    TokenRejected,
    cause_of,
    status_of,
)


@dataclass(frozen=True)
class CourseStatusDetails:
    """A status with its reason, its start and the next step; these are None for `active`.

    `failing`: the course is active, but the last runs could not sync it, since then; the list of
    the registry knows that from the runs.
    """

    status: CourseStatus
    reason: str | None = None
    since: datetime | None = None
    advice: Advice | None = None
    failing: bool = False

    @property
    def label(self) -> str:
        """The status as lists show it."""
        return "failing" if self.failing else self.status.value


def explain(
    state: CourseState, course_id: str, *, platform: str = "eAssessment"
) -> CourseStatusDetails:
    """Return the status of a course with its reason, its start and the next step.

    `platform` is what the site of the course is called.
    """
    status = status_of(state)
    enter_token = Advice(
        f"Get the current token from the {platform} administrator and enter it.",
        "registry set-token",
        (course_id,),
    )
    match cause_of(state):
        case None:
            return CourseStatusDetails(status)
        case Deleted(at=at):
            advice = Advice("No action needed: its grades are no longer requested.")
            return CourseStatusDetails(status, f"the course was deleted in {platform}", at, advice)
        case TokenAnnounced(token_id=token_id, at=at):
            stored, rejected = state.stored_token_id, state.rejected
            reason = f"the token was regenerated: current {token_id}, stored {stored or 'none'}"
            if rejected and rejected.token_id == stored and rejected.reason != REGENERATED:
                reason += f", which was rejected: {rejected.reason}"
            return CourseStatusDetails(status, reason, at, enter_token)
        case TokenRejected(token_id=token_id, reason=why, at=at):
            reason = f"{platform} rejected the token {token_id}: {why}"
            return CourseStatusDetails(status, reason, at, enter_token)

"""The explanation of a course's status: its reason and the advice, as people read them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.errors import Advice
from foundation.text import readable
from receiver.course_state import (
    REGENERATED,
    CourseState,
    CourseStatus,
    Deleted,
    TokenAnnounced,
    TokenRejected,
    cause_of,
    overlap_of,
    since,
    status_of,
)

# The time before the end of an overlap from which no one relies on the next run to claim.
_CLAIMABLE_ENDING = timedelta(hours=1)


class ClaimFailure(StrEnum):
    """Why a token was not claimed, by what to do about it; these values are stored."""

    TEMPORARY = "temporary"
    SIGNATURE = "signature"
    REFUSED = "refused"


CLAIM_ADVICE = {
    ClaimFailure.TEMPORARY: Advice(
        "The next run claims the new token again; enter it if the overlap ends before. Until then, "
        "the old one is used.",
        "registry set-token",
        ("COURSE_ID",),
    ),
    ClaimFailure.SIGNATURE: Advice(
        "If the cause is the time, synchronize both clocks (NTP). Otherwise enter the newest "
        "secret of the endpoint, and remove any that was entered after it: claims are signed with "
        "the last one. Until the overlap ends, the old token is used.",
        "sources add-secret",
        ("SOURCE",),
    ),
    ClaimFailure.REFUSED: Advice(
        "Enter the new token by hand, or ask the eAssessment administrator to allow token claims. "
        "Until the overlap ends, the old token is used.",
        "registry set-token",
        ("COURSE_ID",),
    ),
}
"""What to do if a token was not claimed, for a course or a source that has to be filled in."""


@dataclass(frozen=True)
class FailedClaim:
    """When and why the last claim of the current token of a course failed."""

    kind: ClaimFailure
    detail: str
    at: datetime


@dataclass(frozen=True)
class CourseStatusDetails:
    """A status with its reason, its start and the next step; these are None if all is well.

    `failing`: the course is active, but the last runs could not sync it, since then; the list of
    the registry knows that from the runs. `valid_until`: the course is active, but its token was
    replaced and ends then. `is_claimable`: the next run is expected to claim the new one, as no
    claim of it has failed.
    """

    status: CourseStatus
    reason: str | None = None
    since: datetime | None = None
    advice: Advice | None = None
    failing: bool = False
    valid_until: datetime | None = None
    is_claimable: bool = False

    @property
    def label(self) -> str:
        """The status as lists show it."""
        return "failing" if self.failing else self.status.value


def explain(
    state: CourseState,
    course_id: str,
    *,
    source: str = "SOURCE",
    platform: str = "eAssessment",
    failed_claim: FailedClaim | None = None,
    may_claim: bool = False,
    now: datetime,
) -> CourseStatusDetails:
    """Return the status of a course with its reason, its start and the next step.

    `source` and `platform` are the name of its site and what that is called. `failed_claim` is
    about the current token; `may_claim`: the site has let ELMS claim tokens before.
    """
    status = status_of(state, now=now)
    enter_token = Advice(
        f"Get the current token from the {platform} administrator and enter it.",
        "registry set-token",
        (course_id,),
    )
    not_claimed = ""
    if failed_claim is not None:
        tried = readable(failed_claim.at)
        not_claimed = f"; the current one was not claimed at {tried}: {failed_claim.detail}"
    match cause_of(state, now=now):
        case None:
            if (announced := overlap_of(state, now=now)) is None:
                return CourseStatusDetails(status)
            until = announced.valid_until
            reason = (
                f"the token was regenerated: current {announced.token_id}; the stored one, "
                f"{state.stored_token_id}, is good until {readable(until)}{not_claimed}"
            )
            is_late = announced.ends_at - now <= _CLAIMABLE_ENDING
            is_claimable = may_claim and failed_claim is None and not is_late
            advice = enter_token
            if failed_claim is not None:
                advice = CLAIM_ADVICE[failed_claim.kind]
                advice = advice.fill("COURSE_ID", course_id).fill("SOURCE", source)
            elif is_claimable:
                reason += "; the next run claims the current one"
                advice = Advice("No action needed: the next run of the grade sync claims it.")
            return CourseStatusDetails(
                status, reason, announced.at, advice, valid_until=until, is_claimable=is_claimable
            )
        case Deleted(at=at):
            advice = Advice("No action needed: its grades are no longer requested.")
            return CourseStatusDetails(status, f"the course was deleted in {platform}", at, advice)
        case TokenRejected(token_id=token_id, reason=why, at=at) if not _is_replaced(state):
            reason = f"{platform} rejected the token {token_id}: {why}"
            return CourseStatusDetails(status, reason, at, enter_token)
        case TokenAnnounced() | TokenRejected() as cause:
            stored, rejected = state.stored_token_id, state.rejected
            current = state.announced.token_id if state.announced else None
            reason = f"the token was regenerated: current {current}, stored {stored or 'none'}"
            if rejected and rejected.token_id == stored and rejected.reason != REGENERATED:
                reason += f", which was rejected: {rejected.reason}"
            return CourseStatusDetails(status, reason + not_claimed, since(cause), enter_token)


def _is_replaced(state: CourseState) -> bool:
    announced = state.announced
    return announced is not None and announced.token_id != state.stored_token_id

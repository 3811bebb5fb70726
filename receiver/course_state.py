"""The rule that derives a course's status from stored facts, in Python and as SQL conditions."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, case, not_, or_

# The reason that is stored if eAssessment rejects a token because it was replaced.
REGENERATED = "it was regenerated"


@dataclass(frozen=True)
class Deleted:
    """eAssessment reported that the course was deleted."""

    course_version: int
    at: datetime


@dataclass(frozen=True)
class TokenAnnounced:
    """eAssessment announced the current token of the course."""

    course_version: int
    token_id: str
    at: datetime


@dataclass(frozen=True)
class TokenRejected:
    """eAssessment rejected a token, with its reason."""

    token_id: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class TokenAccepted:
    """A response that does not name the current token accepted this one: a 304, or a Moodle's."""

    token_id: str
    at: datetime


Fact = Deleted | TokenAnnounced | TokenRejected | TokenAccepted

# The facts because of which a course can be skipped.
Cause = Deleted | TokenAnnounced | TokenRejected


@dataclass(frozen=True)
class CourseState:
    """The stored token of a course and, of each kind of fact, the one that takes precedence."""

    stored_token_id: str | None = None
    deleted: Deleted | None = None
    announced: TokenAnnounced | None = None
    rejected: TokenRejected | None = None
    accepted: TokenAccepted | None = None

    @property
    def course_version(self) -> int | None:
        """The highest version in any of the facts."""
        versions = [fact.course_version for fact in (self.deleted, self.announced) if fact]
        return max(versions, default=None)


class CourseStatus(StrEnum):
    """Whether the grade sync requests a course's grades; derived, never stored."""

    ACTIVE = "active"
    COURSE_DELETED = "course_deleted"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a status, no secret


def apply(state: CourseState, fact: Fact) -> CourseState:
    """Return the state after a fact.

    Of two facts of a kind the one with the higher version (or the later one, where a kind has no
    version) stays, so that neither order nor repetition matters.
    """
    match fact:
        case Deleted():
            deleted = max(state.deleted or fact, fact, key=lambda f: (f.course_version, f.at))
            return replace(state, deleted=deleted)
        case TokenAnnounced():
            announced = max(
                state.announced or fact, fact, key=lambda f: (f.course_version, f.token_id, f.at)
            )
            return replace(state, announced=announced)
        case TokenRejected():
            rejected = max(state.rejected or fact, fact, key=lambda f: (f.at, f.token_id, f.reason))
            return replace(state, rejected=rejected)
        case TokenAccepted():
            accepted = max(state.accepted or fact, fact, key=lambda f: (f.at, f.token_id))
            return replace(state, accepted=accepted)


def to_columns(state: CourseState) -> dict[str, Any]:
    """Return the facts of a state as values of the columns of `Entry`."""
    deleted, announced = state.deleted, state.announced
    rejected, accepted = state.rejected, state.accepted
    return {
        "deleted_version": deleted and deleted.course_version,
        "deleted_at": deleted and deleted.at,
        "announced_version": announced and announced.course_version,
        "announced_token_id": announced and announced.token_id,
        "announced_at": announced and announced.at,
        "rejected_token_id": rejected and rejected.token_id,
        "rejected_reason": rejected and rejected.reason,
        "rejected_at": rejected and rejected.at,
        "accepted_token_id": accepted and accepted.token_id,
        "accepted_at": accepted and accepted.at,
    }


def cause_of(state: CourseState) -> Cause | None:
    """Return the fact because of which a course is skipped, or None if it is active.

    A deletion is final; otherwise the stored token decides.
    """
    if state.deleted is not None:
        return state.deleted
    announced, rejected = state.announced, state.rejected
    if (
        announced is not None
        and announced.token_id != state.stored_token_id
        and not _is_accepted_after(state, announced.at)
    ):
        return announced
    if rejected is None or rejected.token_id != state.stored_token_id:
        return None
    announced_after = (
        announced is not None
        and announced.token_id == rejected.token_id
        and announced.at > rejected.at
    )
    if announced_after or _is_accepted_after(state, rejected.at):
        return None
    return rejected


def _is_accepted_after(state: CourseState, at: datetime) -> bool:
    accepted = state.accepted
    return accepted is not None and accepted.token_id == state.stored_token_id and accepted.at > at


def status_of(state: CourseState) -> CourseStatus:
    """Return the status that follows from a state."""
    match cause_of(state):
        case None:
            return CourseStatus.ACTIVE
        case Deleted():
            return CourseStatus.COURSE_DELETED
        case _:
            return CourseStatus.TOKEN_INVALID


def conditions(row: Any) -> dict[CourseStatus, ColumnElement[bool]]:
    """Return `status_of` as SQL: for each status the condition under which a row has it.

    Exactly one condition is true of any row. None of them is ever NULL, because the negation of
    NULL is NULL too, and none has parameters, so that an index can use it.
    """
    deleted, replaced, rejected = _causes(row)
    invalid = or_(replaced, rejected)
    return {
        CourseStatus.ACTIVE: and_(not_(deleted), not_(invalid)),
        CourseStatus.TOKEN_INVALID: and_(not_(deleted), invalid),
        CourseStatus.COURSE_DELETED: deleted,
    }


def cause_at(row: Any) -> ColumnElement[datetime | None]:
    """Return as SQL the time of the fact that is `cause_of`; it is NULL for an active course."""
    deleted, replaced, rejected = _causes(row)
    return case(
        (deleted, row.deleted_at), (replaced, row.announced_at), (rejected, row.rejected_at)
    )


def _causes(row: Any) -> tuple[ColumnElement[bool], ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that a row was deleted, that its token was replaced, or rejected."""
    announced = and_(row.announced_version.is_not(None), row.announced_at.is_not(None))
    replaced = and_(
        announced,
        or_(row.stored_token_id.is_(None), row.announced_token_id != row.stored_token_id),
        not_(_accepted_after(row, row.announced_at)),
    )
    announced_after_rejection = and_(
        announced,
        row.announced_token_id == row.rejected_token_id,
        row.announced_at > row.rejected_at,
    )
    rejected = and_(
        row.stored_token_id.is_not(None),
        row.rejected_token_id.is_not(None),
        row.rejected_at.is_not(None),
        row.rejected_token_id == row.stored_token_id,
        not_(announced_after_rejection),
        not_(_accepted_after(row, row.rejected_at)),
    )
    deleted = and_(row.deleted_version.is_not(None), row.deleted_at.is_not(None))
    return deleted, replaced, rejected


def _accepted_after(row: Any, at: Any) -> ColumnElement[bool]:
    return and_(
        row.stored_token_id.is_not(None),
        row.accepted_token_id.is_not(None),
        row.accepted_at.is_not(None),
        row.accepted_token_id == row.stored_token_id,
        row.accepted_at > at,
    )


def is_token_confirmed(state: CourseState) -> bool:
    """Return True if the stored token was announced or accepted, and the course is active."""
    good = [fact.token_id for fact in (state.announced, state.accepted) if fact]
    return status_of(state) is CourseStatus.ACTIVE and state.stored_token_id in good

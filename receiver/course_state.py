"""The rule that derives a course's status from stored facts, in Python and as SQL conditions."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, not_, or_

# The reason that is stored if eAssessment rejects a token because it was replaced.
REGENERATED = "it was regenerated"


@dataclass(frozen=True)
class Deleted:
    """eAssessment reported that the course was deleted."""

    course_version: int
    at: datetime


@dataclass(frozen=True)
class Restored:
    """eAssessment reported that the deletion of the course was undone."""

    course_version: int
    at: datetime


@dataclass(frozen=True)
class TokenAnnounced:
    """eAssessment announced the current token of the course.

    The tokens before it are good until `valid_until`, or ended at once.
    """

    course_version: int
    token_id: str
    at: datetime
    valid_until: datetime | None = None

    @property
    def ends_at(self) -> datetime:
        """When the tokens before it end."""
        return self.valid_until or self.at

    def is_overlap(self, *, now: datetime) -> bool:
        """Return True if the tokens before it are still good."""
        return self.valid_until is not None and now < self.valid_until

    def merge(self, other: "TokenAnnounced") -> "TokenAnnounced":
        """Return the one with the higher version; of the same token the later times."""
        mine, its = (self.course_version, self.token_id), (other.course_version, other.token_id)
        if mine != its:
            return max(self, other, key=lambda fact: (fact.course_version, fact.token_id))
        ends = [fact.valid_until for fact in (self, other) if fact.valid_until]
        return replace(self, at=max(self.at, other.at), valid_until=max(ends, default=None))


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


Fact = Deleted | Restored | TokenAnnounced | TokenRejected | TokenAccepted

# The facts because of which a course can be skipped.
Cause = Deleted | TokenAnnounced | TokenRejected


@dataclass(frozen=True)
class CourseState:
    """The stored token of a course and, of each kind of fact, the one that takes precedence.

    Deletion and restoration are one kind: at most one of the two is there.
    """

    stored_token_id: str | None = None
    deleted: Deleted | None = None
    announced: TokenAnnounced | None = None
    rejected: TokenRejected | None = None
    accepted: TokenAccepted | None = None
    restored: Restored | None = None

    @property
    def course_version(self) -> int | None:
        """The highest version in any of the facts."""
        facts = (self.deleted, self.restored, self.announced)
        return max((fact.course_version for fact in facts if fact), default=None)


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
        case Deleted() | Restored():
            match max(state.deleted or state.restored or fact, fact, key=_precedence):
                case Deleted() as deleted:
                    return replace(state, deleted=deleted, restored=None)
                case restored:
                    return replace(state, deleted=None, restored=restored)
        case TokenAnnounced():
            return replace(state, announced=fact.merge(state.announced or fact))
        case TokenRejected():
            rejected = max(state.rejected or fact, fact, key=lambda f: (f.at, f.token_id, f.reason))
            return replace(state, rejected=rejected)
        case TokenAccepted():
            accepted = max(state.accepted or fact, fact, key=lambda f: (f.at, f.token_id))
            return replace(state, accepted=accepted)


def _precedence(fact: Deleted | Restored) -> tuple[int, bool, datetime]:
    # A site has no two changes of one version; if it has, nothing is requested of a deleted course.
    return fact.course_version, isinstance(fact, Deleted), fact.at


def to_columns(state: CourseState) -> dict[str, Any]:
    """Return the facts of a state as values of the columns of `Entry`."""
    deleted, restored, announced = state.deleted, state.restored, state.announced
    rejected, accepted = state.rejected, state.accepted
    return {
        "deleted_version": deleted and deleted.course_version,
        "deleted_at": deleted and deleted.at,
        "restored_version": restored and restored.course_version,
        "restored_at": restored and restored.at,
        "announced_version": announced and announced.course_version,
        "announced_token_id": announced and announced.token_id,
        "announced_at": announced and announced.at,
        "announced_valid_until": announced and announced.valid_until,
        "rejected_token_id": rejected and rejected.token_id,
        "rejected_reason": rejected and rejected.reason,
        "rejected_at": rejected and rejected.at,
        "accepted_token_id": accepted and accepted.token_id,
        "accepted_at": accepted and accepted.at,
    }


def cause_of(state: CourseState, *, now: datetime) -> Cause | None:
    """Return the fact because of which a course is skipped, or None if it is active.

    Unless it is deleted, the stored token decides. Until an overlap ends, a replaced token is good,
    unless it was rejected.
    """
    if state.deleted is not None:
        return state.deleted
    announced, rejected = state.announced, _rejection_of(state)
    if (
        announced is not None
        and announced.token_id != state.stored_token_id
        and not announced.is_overlap(now=now)
        and not (announced.valid_until and rejected)
        and not _is_accepted_after(state, announced.ends_at)
    ):
        return announced
    return rejected


def _rejection_of(state: CourseState) -> TokenRejected | None:
    """Return the rejection of the stored token, unless it was announced or accepted afterwards."""
    announced, rejected = state.announced, state.rejected
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


def since(cause: Cause) -> datetime:
    """Return since when a course is skipped because of a fact."""
    return cause.ends_at if isinstance(cause, TokenAnnounced) else cause.at


def overlap_of(state: CourseState, *, now: datetime) -> TokenAnnounced | None:
    """Return the announcement because of which the stored token ends soon, if it is still good."""
    announced = state.announced
    if announced is None or state.stored_token_id in {None, announced.token_id}:
        return None
    is_active = cause_of(state, now=now) is None
    return announced if is_active and announced.is_overlap(now=now) else None


def status_of(state: CourseState, *, now: datetime) -> CourseStatus:
    """Return the status that follows from a state."""
    match cause_of(state, now=now):
        case None:
            return CourseStatus.ACTIVE
        case Deleted():
            return CourseStatus.COURSE_DELETED
        case _:
            return CourseStatus.TOKEN_INVALID


def conditions(row: Any, *, now: datetime) -> dict[CourseStatus, ColumnElement[bool]]:
    """Return `status_of` as SQL: for each status the condition under which a row has it.

    Exactly one condition is true of any row. Each begins with that of `index_conditions`, so that
    its index can be used.
    """
    _, replaced, rejected = _causes(row)
    ended = or_(row.announced_valid_until.is_(None), row.announced_valid_until <= now)
    invalid = or_(and_(replaced, ended), rejected)
    indexed = index_conditions(row)
    return {
        CourseStatus.ACTIVE: and_(indexed[CourseStatus.ACTIVE], not_(invalid)),
        CourseStatus.TOKEN_INVALID: and_(indexed[CourseStatus.TOKEN_INVALID], invalid),
        CourseStatus.COURSE_DELETED: indexed[CourseStatus.COURSE_DELETED],
    }


def index_conditions(row: Any) -> dict[CourseStatus, ColumnElement[bool]]:
    """Return for each status a condition that is true of all rows that have it at any time.

    A row with an overlap can be active or invalid. None of the conditions is ever NULL, because the
    negation of NULL is NULL too, and none has parameters, so that an index can have it.
    """
    deleted, replaced, rejected = _causes(row)
    lasting = row.announced_valid_until.is_(None)
    return {
        CourseStatus.ACTIVE: and_(not_(deleted), not_(or_(and_(replaced, lasting), rejected))),
        CourseStatus.TOKEN_INVALID: and_(not_(deleted), or_(replaced, rejected)),
        CourseStatus.COURSE_DELETED: deleted,
    }


def cause_at(row: Any) -> ColumnElement[datetime | None]:
    """Return `since` of a row's cause as SQL; it is NULL for a course that stays active.

    If the stored token is good until an overlap ends, it is that time.
    """
    deleted, replaced, rejected = _causes(row)
    first = or_(row.announced_valid_until.is_(None), not_(rejected))
    return case(
        (deleted, row.deleted_at),
        (and_(replaced, first), func.coalesce(row.announced_valid_until, row.announced_at)),
        (rejected, row.rejected_at),
    )


def _causes(row: Any) -> tuple[ColumnElement[bool], ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that a row was deleted, that its token was replaced, or rejected.

    A token was replaced even if it is good until an overlap ends.
    """
    announced = and_(row.announced_version.is_not(None), row.announced_at.is_not(None))
    replaced = and_(
        announced,
        or_(row.stored_token_id.is_(None), row.announced_token_id != row.stored_token_id),
        not_(_accepted_after(row, func.coalesce(row.announced_valid_until, row.announced_at))),
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


def is_token_confirmed(state: CourseState, *, now: datetime) -> bool:
    """Return True if the stored token was announced or accepted, and the course is active."""
    good = [fact.token_id for fact in (state.announced, state.accepted) if fact]
    return status_of(state, now=now) is CourseStatus.ACTIVE and state.stored_token_id in good

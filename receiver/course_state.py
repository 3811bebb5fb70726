"""The law of the registry, pure: facts folded into a memory, and the status it derives."""

import shlex
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

REGENERATED = "it was regenerated"
"""The reason for which eAssessment refuses a token that it has replaced."""


@dataclass(frozen=True)
class Deleted:
    """eAssessment said that the course was deleted."""

    course_version: int
    at: datetime


@dataclass(frozen=True)
class TokenNamed:
    """eAssessment said which token is the course's present one."""

    course_version: int
    token_id: str
    at: datetime


@dataclass(frozen=True)
class Refused:
    """eAssessment refused a token, with the reason it gave."""

    token_id: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Proven:
    """A site that names no present token accepted this one."""

    token_id: str
    at: datetime


Fact = Deleted | TokenNamed | Refused | Proven
Cause = Deleted | TokenNamed | Refused
"""A fact for which a course may be skipped."""


@dataclass(frozen=True)
class Memory:
    """What is remembered of a course: the token held, and of each kind of fact the weightiest."""

    held_token_id: str | None = None
    deleted: Deleted | None = None
    named: TokenNamed | None = None
    refused: Refused | None = None
    proven: Proven | None = None

    @property
    def course_version(self) -> int | None:
        """The highest version that any fact spoke of."""
        versions = [fact.course_version for fact in (self.deleted, self.named) if fact]
        return max(versions, default=None)


class Status(StrEnum):
    """Whether the sync asks for a course; derived, never stored."""

    ACTIVE = "active"
    COURSE_DELETED = "course_deleted"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a status, no secret


@dataclass(frozen=True)
class Standing:
    """A status with its cause: why, since when, and what to do; all None for `active`."""

    status: Status
    reason: str | None = None
    since: datetime | None = None
    next_step: str | None = None


def fold(memory: Memory, fact: Fact) -> Memory:
    """Return the memory with a fact taken in.

    Of each kind the weightiest fact stays, whichever came first, so that neither order nor
    repetition matters. Facts of one weight are equal.
    """
    match fact:
        case Deleted():
            return replace(memory, deleted=max(memory.deleted or fact, fact, key=_deleted_weight))
        case TokenNamed():
            return replace(memory, named=max(memory.named or fact, fact, key=_named_weight))
        case Refused():
            return replace(memory, refused=max(memory.refused or fact, fact, key=_refused_weight))
        case Proven():
            return replace(memory, proven=max(memory.proven or fact, fact, key=_proven_weight))


def columns_of(memory: Memory) -> dict[str, Any]:
    """Return what is remembered of the facts, by the names under which an entry keeps it."""
    deleted, named, refused, proven = memory.deleted, memory.named, memory.refused, memory.proven
    return {
        "deleted_version": deleted and deleted.course_version,
        "deleted_at": deleted and deleted.at,
        "announced_version": named and named.course_version,
        "announced_token_id": named and named.token_id,
        "announced_at": named and named.at,
        "refused_token_id": refused and refused.token_id,
        "refused_reason": refused and refused.reason,
        "refused_at": refused and refused.at,
        "proven_token_id": proven and proven.token_id,
        "proven_at": proven and proven.at,
    }


def _deleted_weight(fact: Deleted) -> tuple[int, datetime]:
    return fact.course_version, fact.at


def _named_weight(fact: TokenNamed) -> tuple[int, str, datetime]:
    return fact.course_version, fact.token_id, fact.at


def _refused_weight(fact: Refused) -> tuple[datetime, str, str]:
    return fact.at, fact.token_id, fact.reason


def _proven_weight(fact: Proven) -> tuple[datetime, str]:
    return fact.at, fact.token_id


def cause_of(memory: Memory) -> Cause | None:
    """Return the fact for which a course is not asked for, or None if it is asked for.

    Deletion is final; then the token held decides.
    """
    return memory.deleted or _replacement(memory) or _refusal(memory)


def status_of(memory: Memory) -> Status:
    """Return the status that a memory derives."""
    match cause_of(memory):
        case None:
            return Status.ACTIVE
        case Deleted():
            return Status.COURSE_DELETED
        case _:
            return Status.TOKEN_INVALID


def is_vouched_for(memory: Memory) -> bool:
    """Tell whether the token held is known to be the present one, not only not known to be bad."""
    good = [fact.token_id for fact in (memory.named, memory.proven) if fact]
    return status_of(memory) is Status.ACTIVE and memory.held_token_id in good


def _replacement(memory: Memory) -> TokenNamed | None:
    named = memory.named
    if named is None or named.token_id == memory.held_token_id or _proven_since(memory, named.at):
        return None
    return named


def _refusal(memory: Memory) -> Refused | None:
    refused, named = memory.refused, memory.named
    if refused is None or refused.token_id != memory.held_token_id:
        return None
    if named is not None and named.token_id == refused.token_id and named.at > refused.at:
        return None  # it was proven good after it was refused
    return None if _proven_since(memory, refused.at) else refused


def _proven_since(memory: Memory, at: datetime) -> bool:
    proven = memory.proven
    return proven is not None and proven.token_id == memory.held_token_id and proven.at > at


def standing_of(memory: Memory, course_id: str) -> Standing:
    """Return the status with the sentence that says why, since when, and what to do."""
    status = status_of(memory)
    enter = (
        "Ask the eAssessment administrator for the present token and enter it with "
        f"`receiver registry set-token {shlex.quote(course_id)}`."
    )
    match cause_of(memory):
        case None:
            return Standing(status)
        case Deleted(at=at):
            return Standing(
                status,
                "the course was deleted in eAssessment",
                at,
                "Nothing to mend: it is not asked for again. "
                "If another course takes its place, link that one with `receiver registry add`.",
            )
        case TokenNamed(token_id=token_id, at=at):
            held = memory.held_token_id or "none"
            why = f"the token was regenerated: present is {token_id}, held is {held}"
            why += _refused_besides(memory)
            return Standing(status, why, at, enter)
        case Refused(token_id=token_id, reason=reason, at=at):
            why = f"eAssessment refused the token {token_id}: {reason}"
            return Standing(status, why, at, enter)


def _refused_besides(memory: Memory) -> str:
    """Say why the token held was refused if that is more than its having been replaced."""
    refused = memory.refused
    if refused is None or refused.token_id != memory.held_token_id:
        return ""
    return "" if refused.reason == REGENERATED else f", which was refused: {refused.reason}"

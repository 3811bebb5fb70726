"""What eAssessment's answers tell the registry: the same facts that a webhook brings."""

from datetime import datetime

from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from receiver.course_state import (
    REGENERATED,
    CourseState,
    Deleted,
    Fact,
    Status,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
    is_token_confirmed,
    status_of,
)
from receiver.models import MOODLE, Entry
from receiver.sources.base import (
    CourseGone,
    FetchOutcome,
    GradeQuery,
    Grades,
    SeemsGone,
    TokenRefused,
    TokenReplaced,
    Unchanged,
)


def question_about(
    entry: Entry,
    *,
    vault: Vault,
    etag: str | None = None,
    modified_since: datetime | None = None,
) -> GradeQuery:
    """Return the question about an entry, or raise SealError."""
    kind = MoodleToken if entry.source.kind == MOODLE else CourseToken
    token = kind.parse(vault.decrypt(str(entry.encrypted_token)))
    return GradeQuery(entry.source.url, entry.course_id, token, etag, modified_since)


def facts_of(
    state: CourseState, outcome: FetchOutcome, token_id: str, *, now: datetime
) -> tuple[Fact, ...]:
    """Return what an answer to the bearer of a token says of the course.

    What says nothing new of it, or nothing at all, is no fact: a transient answer never changes
    the registry.
    """
    match outcome:
        case Grades(course_version=int(version), token_id=str(present)):
            named = TokenAnnounced(version, present, now)
            return () if _is_known(state, named) else (named,)
        case Grades() | Unchanged():
            # Once, so that it is known to be good before another one is to take its place.
            return () if is_token_confirmed(state) else (TokenAccepted(token_id, now),)
        case SeemsGone():
            return (Deleted(0, now),)
        case CourseGone(course_version=version, deleted_at=at):
            return (Deleted(version, at),)
        case TokenReplaced(course_version=version, token_id=present, regenerated_at=at):
            return (
                TokenAnnounced(version, present, at),
                TokenRejected(token_id, REGENERATED, now),
            )
        case TokenRefused(problem=problem, detail=detail):
            return (TokenRejected(token_id, f"{problem}: {detail}", now),)
        case _:
            return ()


def _is_known(state: CourseState, named: TokenAnnounced) -> bool:
    known = state.announced
    return (
        known is not None
        and (known.course_version, known.token_id) == (named.course_version, named.token_id)
        and status_of(state) is Status.ACTIVE
    )

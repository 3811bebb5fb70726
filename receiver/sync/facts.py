"""The facts that a source's responses state about a course; a webhook states the same ones."""

from datetime import datetime

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
from receiver.sources.base import (
    CourseGone,
    FetchOutcome,
    Grades,
    SeemsGone,
    TokenRefused,
    TokenReplaced,
    Unchanged,
)


def facts_of(
    state: CourseState, outcome: FetchOutcome, token_id: str, *, now: datetime
) -> tuple[Fact, ...]:
    """Return the new facts in a response to a request with this token.

    A transient failure states none, so that it never changes the registry.
    """
    match outcome:
        case Grades(course_version=int(version), token_id=str(present)):
            named = TokenAnnounced(version, present, now)
            return () if _is_known(state, named) else (named,)
        case Grades() | Unchanged():
            # Stored once, so that the token is known to be good before another one replaces it.
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

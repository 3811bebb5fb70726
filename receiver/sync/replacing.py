"""Before a token that is known to be good is replaced, eAssessment is asked about the other."""

from collections.abc import Sequence

from contract.tokens import Token
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import is_token_confirmed
from receiver.errors import TokenNotTakenError
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.registry.history import Actor
from receiver.sources.base import (
    FetchOutcome,
    Grades,
    Misconfigured,
    SiteOutage,
    TokenRefused,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sync import token_check
from receiver.sync.results import Broken
from receiver.sync.run import Kinds


def is_risky(entry: Entry, token: Token) -> bool:
    """Tell whether a token would replace one that eAssessment named or took last.

    It is newer and its webhook late, or it is an old one: only eAssessment can tell.
    """
    return token.token_id != entry.stored_token_id and is_token_confirmed(registry.state_of(entry))


def check(
    database: Database,
    kinds: Kinds,
    pairs: Sequence[tuple[Entry, Token]],
    *,
    vault: Vault,
    actor: Actor,
    concurrency: int = 1,
) -> dict[int, TokenNotTakenError]:
    """Return, by the number of its entry, why a risky token is not to be held.

    The entries belong to no session, and none may be open; they hold the tokens afterwards. What
    eAssessment answers is learnt.
    """
    before = {entry.id: str(entry.stored_token_id) for entry, _ in pairs}
    for entry, token in pairs:
        registry.store_token(entry, token, vault)
    known = {entry.source.name: entry.source for entry, _ in pairs}
    heard = token_check.prove(
        database,
        {name: kinds[source.kind](source) for name, source in known.items()},
        [entry for entry, _ in pairs],
        vault=vault,
        actor=actor,
        concurrency=concurrency,
    )
    return {
        one.entry.id: TokenNotTakenError(
            f"the token {one.entry.stored_token_id} is not taken: {_why(one.outcome)}; "
            f"{before[one.entry.id]}, which eAssessment named or took last, stays held"
        )
        for one in heard
        if not isinstance(one.outcome, Grades | Unchanged)
    }


def _why(outcome: FetchOutcome | Broken) -> str:
    match outcome:
        case TokenReplaced(token_id=present):
            return f"it was regenerated, and present is {present}"
        case TokenRefused(problem=problem, detail=detail):
            return f"eAssessment refused it: {problem}: {detail}"
        case Transient(detail=detail) | Misconfigured(detail=detail) | SiteOutage(detail=detail):
            return f"it cannot be told whether it is good: {detail}"
        case _:
            return "the course was deleted in eAssessment"

"""The check of entered tokens with their sites."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from contract.tokens import Token
from foundation.db import session as db
from foundation.errors import Advice
from receiver.course_state import CourseStatus, is_token_confirmed
from receiver.errors import TokenNotEnteredError
from receiver.models import Entry
from receiver.registry import bulk
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor
from receiver.services import Services
from receiver.sources.base import (
    Grades,
    Misconfigured,
    SiteOutage,
    SourceFactory,
    TokenRefused,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sync import results
from receiver.sync.deletion_check import DeletionCheck
from receiver.sync.fetcher import Fetcher, FetchLimits, buffered
from receiver.sync.heartbeat import StopSignal
from receiver.sync.results import FetchResult, InternalFailure

# How many entries are updated in one transaction.
_BATCH_SIZE = 100


@dataclass(frozen=True)
class TokenCheckFailed:
    """The check of a token could not be completed: why, and what to do."""

    detail: str
    advice: Advice


@dataclass(frozen=True)
class RejectedToken:
    """A row of a CSV file whose token is not entered, and why."""

    entry_id: int
    row: RegistryRow
    error: TokenNotEnteredError


def needs_check(entry: Entry, token: Token) -> bool:
    """Return True if a token would replace one that is known to be valid.

    It may be newer, its webhook still on the way, or an old one: only eAssessment knows.
    """
    return token.token_id != entry.stored_token_id and is_token_confirmed(registry.state_of(entry))


def enter_token(
    services: Services, clients: SourceFactory, entry_id: int, token: Token, *, actor: Actor
) -> Entry:
    """Store another token for an entry, and return the entry, detached from its session.

    Raises TokenNotEnteredError if the token is not known to be valid while the stored one is, even
    if that one is entered at the same time. No session may be open.
    """
    checked_against: str | None = None
    while True:
        with services.database.writing() as session:
            entry = registry.get_locked(session, entry_id)
            needed = needs_check(entry, token) and entry.stored_token_id != checked_against
            if not needed:
                now = db.now(session)
                registry.set_token(
                    session, entry, token, vault=services.vault, actor=actor, now=now
                )
            session.expunge_all()
        if not needed:
            return entry
        checked_against = entry.stored_token_id
        for error in _check_replacements(services, clients, [(entry, token)], actor=actor).values():
            raise error


def reject_unverified(
    services: Services, clients: SourceFactory, rows: Sequence[RegistryRow], *, actor: Actor
) -> list[RejectedToken]:
    """Return the rows of a CSV file whose tokens must not replace valid ones.

    They are checked with their sites first. No session may be open.
    """
    with services.database.reading() as session:
        pairs = {
            entry.id: (entry, row, row.token)
            for row, entry in bulk.find_added(session, rows)
            if row.token is not None and needs_check(entry, row.token)
        }
    if not pairs:
        return []
    errors = _check_replacements(
        services, clients, [(entry, token) for entry, _, token in pairs.values()], actor=actor
    )
    return [RejectedToken(number, pairs[number][1], error) for number, error in errors.items()]


def check_token(
    services: Services, clients: SourceFactory, entry: Entry, *, actor: Actor
) -> CourseStatus | TokenCheckFailed:
    """Check the stored token of an entry, and return the status that follows.

    No session may be open.
    """
    failed = check_tokens(services, clients, [entry], actor=actor)
    if entry.id in failed:
        return failed[entry.id]
    with services.database.reading() as session:
        checked = registry.get_by_id(session, entry.id)
        return registry.course_status(checked, needs_activity=services.settings.elms_is_moodle)


def check_tokens(
    services: Services, clients: SourceFactory, entries: Sequence[Entry], *, actor: Actor
) -> dict[int, TokenCheckFailed]:
    """Check the stored tokens of entries, and return by entry id which checks failed.

    No session may be open.
    """
    return {
        result.entry.id: failure
        for result in fetch_once(services, clients, entries, actor=actor)
        if (failure := _check_failure(result)) is not None
    }


def fetch_once(
    services: Services, clients: SourceFactory, entries: Sequence[Entry], *, actor: Actor
) -> list[FetchResult]:
    """Fetch the grades of entries without retries, and apply what the responses say of the tokens.

    So an entry whose webhook was lost is corrected. The grades themselves are not stored.
    """
    limits = FetchLimits(concurrency=services.settings.sync_concurrency, retry_waits=())
    stop = StopSignal(threading.Event(), math.inf)
    fetcher = Fetcher(clients, services.vault, limits, stop)
    deletion_check = DeletionCheck(fetcher.clients)
    fetched: list[FetchResult] = []
    for batch in buffered(fetcher.fetch(entries), _BATCH_SIZE):
        confirmed = deletion_check.confirm(batch.results)
        with services.database.writing() as session:
            now = db.now(session)
            updates = [
                EntryUpdate(one.entry.id, results.facts_of(one, now=now)) for one in confirmed
            ]
            registry.apply_updates(session, updates, actor=actor, now=now)
        fetched += confirmed
    return fetched


def _check_replacements(
    services: Services,
    clients: SourceFactory,
    pairs: Sequence[tuple[Entry, Token]],
    *,
    actor: Actor,
) -> dict[int, TokenNotEnteredError]:
    """Return by entry id why a token must not replace the valid one that is stored.

    The entries are detached from any session; they hold the new tokens afterwards.
    """
    stored = {entry.id: entry.stored_token_id for entry, _ in pairs}
    for entry, token in pairs:
        registry.store_token(entry, token, services.vault)
    entries = [entry for entry, _ in pairs]
    return {
        result.entry.id: TokenNotEnteredError(
            f"the token {result.entry.stored_token_id} was not entered: {_why_not(result)}; "
            f"{stored[result.entry.id]}, which is known to be valid, is still in use"
        )
        for result in fetch_once(services, clients, entries, actor=actor)
        if not isinstance(result.outcome, Grades | Unchanged)
    }


def _check_failure(result: FetchResult) -> TokenCheckFailed | None:
    match result.outcome:
        case Transient(detail=detail):
            advice = Advice("The token is stored. Enter it again when eAssessment responds.")
            return TokenCheckFailed(detail, advice)
        case (
            Misconfigured(detail=detail, advice=advice)
            | SiteOutage(detail=detail, advice=advice)
            | InternalFailure(detail=detail, advice=advice)
        ):
            return TokenCheckFailed(detail, advice)
        case _:
            return None


def _why_not(result: FetchResult) -> str:
    failure = _check_failure(result)
    if failure is not None:
        return f"it could not be checked: {failure.detail}"
    match result.outcome:
        case TokenReplaced(token_id=present):
            return f"it was regenerated, and the current token is {present}"
        case TokenRefused(problem=problem, detail=detail):
            return f"eAssessment rejected it: {problem}: {detail}"
        case _:
            return "the course was deleted in eAssessment"

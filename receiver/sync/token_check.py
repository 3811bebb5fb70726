"""The check of entered tokens with their sites."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from contract.tokens import Token
from foundation.db import session as db
from foundation.errors import Advice
from receiver.course_advice import CourseStatusDetails
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
    RegeneratedOutcome,
    RejectedOutcome,
    SiteOutage,
    SourceFactory,
    Transient,
    Unchanged,
)
from receiver.sync import results
from receiver.sync.fetcher import Fetcher, FetchLimits
from receiver.sync.results import FetchResult, InternalFailure
from receiver.sync.run_control import StopSignal

# Why the check of a token could not be completed.
CheckFailure = Misconfigured | SiteOutage | Transient | InternalFailure


@dataclass(frozen=True)
class RefusedToken:
    """A row of a CSV file whose token is not entered, and why."""

    entry_id: int
    row: RegistryRow
    error: TokenNotEnteredError


def needs_check(entry: Entry, token: Token) -> bool:
    """Return True if a token would replace one that is confirmed.

    It may be newer, its webhook still on the way, or an old one: only eAssessment knows.
    """
    return token.token_id != entry.stored_token_id and is_token_confirmed(registry.state_of(entry))


@dataclass(frozen=True)
class TokenCheck:
    """Enters tokens for an actor, and checks them with their sites.

    No session may be open, because a check sends requests.
    """

    services: Services
    clients: SourceFactory
    actor: Actor

    def enter(self, entry_id: int, token: Token) -> Entry:
        """Store another token for an entry, and return the entry, detached from its session.

        Raises TokenNotEnteredError if its site does not confirm the token, and the stored one is
        confirmed, even if that one is entered at the same time.
        """
        checked_against: str | None = None
        while True:
            with self.services.database.writing() as session:
                entry = registry.get_added_locked(session, entry_id)
                needed = needs_check(entry, token) and entry.stored_token_id != checked_against
                if not needed:
                    vault, now = self.services.vault, db.now(session)
                    registry.set_token(
                        session, entry, token, vault=vault, actor=self.actor, now=now
                    )
                session.expunge_all()
            if not needed:
                return entry
            checked_against = entry.stored_token_id
            for error in self._check_replacements([(entry, token)]).values():
                raise error

    def refuse_unconfirmed(self, rows: Sequence[RegistryRow]) -> list[RefusedToken]:
        """Return the rows of a CSV file whose tokens, checked, must not replace confirmed ones."""
        with self.services.database.reading() as session:
            pairs = {
                entry.id: (row, (entry, row.token))
                for row, entry in bulk.find_added(session, rows)
                if row.token is not None and needs_check(entry, row.token)
            }
        errors = self._check_replacements([pair for _, pair in pairs.values()])
        return [RefusedToken(id_, pairs[id_][0], error) for id_, error in errors.items()]

    def check(self, entry: Entry) -> CourseStatusDetails | CheckFailure:
        """Return the status of an entry; if its token is marked invalid, check that first."""
        failed = self.check_all([entry])
        if entry.id in failed:
            return failed[entry.id]
        with self.services.database.reading() as session:
            checked = registry.get_any_by_id(session, entry.id)
            needs_activity = self.services.settings.elms_is_moodle
            return registry.explain_status(checked, needs_activity=needs_activity)

    def check_all(self, entries: Sequence[Entry]) -> dict[int, CheckFailure]:
        """Check the tokens that are marked invalid; return by entry id which checks failed."""
        invalid = [
            entry for entry in entries if registry.status_of(entry) is CourseStatus.TOKEN_INVALID
        ]
        return {
            result.entry.id: failure
            for result in self.fetch_and_apply(invalid)
            if (failure := _check_failure(result)) is not None
        }

    def fetch_and_apply(self, entries: Sequence[Entry]) -> list[FetchResult]:
        """Fetch the grades of entries without retries; apply what the responses say of the tokens.

        So an entry whose webhook was lost is corrected. The grades themselves are not stored.
        """
        concurrency = self.services.settings.sync_concurrency
        limits = FetchLimits(concurrency=concurrency, retry_waits=())
        stop = StopSignal(threading.Event(), math.inf)
        fetcher = Fetcher(self.clients, self.services.vault, limits, stop)
        fetched: list[FetchResult] = []
        for batch in fetcher.fetch(entries):
            with self.services.database.writing() as session:
                now = db.now(session)
                updates = [
                    EntryUpdate(result.entry.id, results.facts_of(result, now=now))
                    for result in batch.results
                ]
                registry.apply_updates(session, updates, actor=self.actor, now=now)
            fetched += batch.results
        return fetched

    def _check_replacements(
        self, pairs: Sequence[tuple[Entry, Token]]
    ) -> dict[int, TokenNotEnteredError]:
        """Return by entry id why a token must not replace the confirmed one that is stored.

        The entries are detached from any session; they hold the new tokens afterwards.
        """
        stored = {entry.id: entry.stored_token_id for entry, _ in pairs}
        for entry, token in pairs:
            registry.store_token(entry, token, self.services.vault)
        return {
            result.entry.id: TokenNotEnteredError(
                f"the token {result.entry.stored_token_id} was not entered: {_why_not(result)}; "
                f"{stored[result.entry.id]}, which is known to be valid, is still in use"
            )
            for result in self.fetch_and_apply([entry for entry, _ in pairs])
            if not isinstance(result.outcome, Grades | Unchanged)
        }


def _check_failure(result: FetchResult) -> CheckFailure | None:
    match result.outcome:
        case Transient() as failure:
            platform = result.entry.source.platform
            advice = Advice(f"The token is stored. Enter it again when {platform} responds.")
            if failure.timed_out:
                advice = Advice(
                    "The token is stored. Set it again with the command, which waits for "
                    "RECEIVER_MOODLE_TIMEOUT seconds.",
                    "registry set-token",
                    (result.entry.course_id,),
                )
            return replace(failure, advice=advice)
        case Misconfigured() | SiteOutage() | InternalFailure() as failure:
            return failure
        case _:
            return None


def _why_not(result: FetchResult) -> str:
    failure = _check_failure(result)
    if failure is not None:
        return f"it could not be checked: {failure.detail}"
    platform = result.entry.source.platform
    match result.outcome:
        case RegeneratedOutcome(token_id=present):
            return f"it was regenerated, and the current token is {present}"
        case RejectedOutcome(problem=problem, detail=detail):
            return f"{platform} rejected it: {problem}: {detail}"
        case _:
            return f"the course was deleted in {platform}"

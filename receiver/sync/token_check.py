"""Entering tokens, and checking them with their sites before they are stored."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from contract.problems import ProblemType
from contract.tokens import Token
from foundation.db import session as db
from foundation.errors import Advice
from receiver import course_state
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus, is_token_confirmed
from receiver.errors import TokenNotEnteredError, TokenOfAnotherCourseError
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


@dataclass(frozen=True)
class EnteredToken:
    """The entry of a token that was stored, and its status, or why that is not known."""

    entry: Entry
    checked: CourseStatusDetails | CheckFailure

    @property
    def is_active(self) -> bool:
        """Whether the next run requests the grades of the course."""
        match self.checked:
            case CourseStatusDetails(status=CourseStatus.ACTIVE):
                return True
            case _:
                return False

    @property
    def reason(self) -> str | None:
        """Why the grades of the course cannot be synced, or None."""
        if isinstance(self.checked, CourseStatusDetails):
            return self.checked.reason
        return f"the token could not be verified: {self.checked.detail}"


@dataclass(frozen=True)
class _Verdict:
    """What a site responded to a token that is not stored yet, and why it must not be stored."""

    result: FetchResult
    refusal: TokenNotEnteredError | None


def replaces_confirmed(entry: Entry, token: Token, *, now: datetime) -> bool:
    """Return True if a token would replace one that is confirmed."""
    is_other = token.token_id != entry.stored_token_id
    return is_other and is_token_confirmed(registry.state_of(entry), now=now)


def needs_check(entry: Entry, token: Token, *, now: datetime) -> bool:
    """Return True if only its site knows whether a token is valid for an entry.

    It would replace one that is confirmed, or is not the one that was announced. It may be newer,
    its webhook still on the way, or an old one, or that of another course. A course that is known
    to be deleted may have been restored.
    """
    after = replace(registry.state_of(entry), stored_token_id=token.token_id)
    ends_at = after.announced.ends_at if after.announced else now
    is_active = course_state.status_of(after, now=max(now, ends_at)) is CourseStatus.ACTIVE
    return not is_active or replaces_confirmed(entry, token, now=now)


@dataclass(frozen=True)
class TokenCheck:
    """Enters tokens for an actor, and checks them with their sites.

    No session may be open, because a check sends requests. None is sent after `max_seconds`.
    """

    services: Services
    clients: SourceFactory
    actor: Actor
    max_seconds: float = math.inf

    def enter(self, entry_id: int, token: Token) -> EnteredToken:
        """Store another token for an entry, and return the status that follows.

        Raises TokenNotEnteredError if it belongs to another course, or if its site does not confirm
        it and the stored one is confirmed, even if that one is entered at the same time.
        """
        verdicts: dict[int, _Verdict] = {}
        checked_against: str | None = None
        while True:
            with self.services.database.writing() as session:
                entry = registry.get_added_locked(session, entry_id)
                registry.check_owner(session, entry.source, entry.course_id, token)
                is_checked = bool(verdicts) and entry.stored_token_id == checked_against
                vault, now = self.services.vault, db.now(session)
                if is_checked or not needs_check(entry, token, now=now):
                    registry.set_token(
                        session, entry, token, vault=vault, actor=self.actor, now=now
                    )
                    self._apply(session, verdicts.values(), now=now)
                    break
                session.expunge_all()
            checked_against = entry.stored_token_id
            verdicts = self._verify([(entry, token)], now=now)
            if refusal := verdicts[entry_id].refusal:
                with self.services.database.writing() as session:
                    self._apply(session, verdicts.values(), now=db.now(session))
                raise refusal
        [entered] = self._entered([entry_id], verdicts)
        return entered

    def enter_all(
        self, rows: Sequence[RegistryRow]
    ) -> tuple[list[EnteredToken], list[RefusedToken]]:
        """Store the tokens of a CSV file; return the status of each course, and what is refused.

        Raises CsvError if a token is missing or a course is not in the registry.
        """
        verdicts, refused = self._check_rows(rows, needs_check)
        lines = {token.row.line for token in refused}
        accepted = [row for row in rows if row.line not in lines]
        with self.services.database.writing() as session:
            vault, now = self.services.vault, db.now(session)
            ids = bulk.set_tokens(session, accepted, vault=vault, actor=self.actor, now=now)
            self._apply(session, verdicts.values(), now=now)
        return self._entered(ids, verdicts), refused

    def refuse_unconfirmed(self, rows: Sequence[RegistryRow]) -> list[RefusedToken]:
        """Return the rows of a CSV file whose tokens must not replace those that are stored."""
        verdicts, refused = self._check_rows(rows, replaces_confirmed)
        with self.services.database.writing() as session:
            self._apply(session, verdicts.values(), now=db.now(session))
        return refused

    def _check_rows(
        self, rows: Sequence[RegistryRow], needed: Callable[..., bool]
    ) -> tuple[dict[int, _Verdict], list[RefusedToken]]:
        """Check the tokens of rows that need it; return the verdicts by entry id, and refusals."""
        with self.services.database.reading() as session:
            pairs = [
                (row, entry, row.token)
                for row, entry in bulk.find_added(session, rows)
                if row.token is not None
            ]
            owners = bulk.find_other_owners(session, rows)
            now = db.now(session)
            session.expunge_all()
        refused = [
            RefusedToken(entry.id, row, registry.belongs_to(token, owners[row.line]))
            for row, entry, token in pairs
            if row.line in owners
        ]
        to_check = {
            entry.id: (row, entry, token)
            for row, entry, token in pairs
            if row.line not in owners and needed(entry, token, now=now)
        }
        pairs_to_check = [(entry, token) for _, entry, token in to_check.values()]
        verdicts = self._verify(pairs_to_check, now=now)
        refused += [
            RefusedToken(id_, to_check[id_][0], verdict.refusal)
            for id_, verdict in verdicts.items()
            if verdict.refusal is not None
        ]
        return verdicts, refused

    def _verify(
        self, pairs: Sequence[tuple[Entry, Token]], *, now: datetime
    ) -> dict[int, _Verdict]:
        """Request grades with tokens, without retries, and return the verdicts by entry id.

        The entries are detached from any session; they hold the new tokens afterwards.
        """
        confirmed = {
            entry.id: entry.stored_token_id
            for entry, token in pairs
            if replaces_confirmed(entry, token, now=now)
        }
        entries = {entry.id: entry for entry, _ in pairs}
        for entry, token in pairs:
            registry.store_token(entry, token, self.services.vault)
        concurrency = self.services.settings.sync_concurrency
        limits = FetchLimits(concurrency=concurrency, retry_waits=())
        stop = StopSignal(threading.Event(), self.max_seconds)
        fetcher = Fetcher(self.clients, self.services.vault, limits, stop)
        fetched = [
            result for batch in fetcher.fetch(list(entries.values())) for result in batch.results
        ]
        reached = {result.entry.id for result in fetched}
        fetched += [
            FetchResult(entry, Transient(f"not reached within {self.max_seconds:g} seconds"))
            for entry in entries.values()
            if entry.id not in reached
        ]
        return {
            result.entry.id: _Verdict(result, _refusal(result, confirmed.get(result.entry.id)))
            for result in fetched
        }

    def _apply(self, session: Session, verdicts: Iterable[_Verdict], *, now: datetime) -> None:
        """Apply what sites said of courses, so that an entry whose webhook was lost is corrected.

        The grades themselves are not stored. A token of another course says nothing of this one.
        """
        updates = [
            EntryUpdate(verdict.result.entry.id, results.facts_of(verdict.result, now=now))
            for verdict in verdicts
            if not isinstance(verdict.refusal, TokenOfAnotherCourseError)
        ]
        registry.apply_updates(session, updates, actor=self.actor, now=now)

    def _entered(
        self, entry_ids: Sequence[int], verdicts: dict[int, _Verdict]
    ) -> list[EnteredToken]:
        needs_activity = self.services.settings.elms_is_moodle
        with self.services.database.reading() as session:
            entries = registry.list_added(session, entry_ids=entry_ids)
            now = db.now(session)
            session.expunge_all()
        return [
            EnteredToken(
                entry,
                (_check_failure(verdicts[entry.id].result) if entry.id in verdicts else None)
                or registry.explain_status(entry, needs_activity=needs_activity, now=now),
            )
            for entry in entries
        ]


def _refusal(result: FetchResult, confirmed_id: str | None) -> TokenNotEnteredError | None:
    """Return why a token must not be stored; `confirmed_id` is the one that it would replace."""
    token_id, platform = result.entry.stored_token_id, result.entry.source.platform
    match result.outcome:
        case Grades() | Unchanged():
            return None
        case RejectedOutcome(problem=ProblemType.TOKEN_WRONG_COURSE):
            return TokenOfAnotherCourseError(
                f"the token {token_id} was not entered: {platform} rejected it, because it belongs "
                "to another course"
            )
    if confirmed_id is None:
        return None
    return TokenNotEnteredError(
        f"the token {token_id} was not entered: {_why_not(result)}; "
        f"{confirmed_id}, which is known to be valid, is still in use"
    )


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

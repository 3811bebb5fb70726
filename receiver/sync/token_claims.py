"""The stage that claims new tokens from their sites, before a run plans which courses it skips."""

import contextvars
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from contract.claims import MAX_CLAIMS
from contract.problems import ProblemType
from contract.signatures import Secret
from foundation import logging
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import fields_of
from receiver.course_advice import CLAIM_ADVICE, ClaimFailure, FailedClaim
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
from receiver.sources.base import ClaimedToken, SourceFactory
from receiver.sources.eassessment import ClaimFailedError, EAssessmentClient
from receiver.sync.results import to_internal_failure
from receiver.sync.run_control import StopSignal

_log = logging.get_logger(__name__)
# Sites that are claimed from at once, so that one that does not respond delays no other, and
# seconds between two looks at the stop signal.
_AT_ONCE, _CHECK_SECONDS = 8, 0.2


@dataclass(frozen=True)
class TokenClaims:
    """Claims the tokens that replace others with an overlap, and stores them.

    What cannot be claimed stays as it is: a course is synced with its old token, or skipped; the
    reason is stored. No transaction is open during a request. Repeating a claim returns the same
    token, so that nothing is lost if the run is killed before it is stored. Requests in progress
    are cancelled when the run has to stop.
    """

    database: Database
    vault: Vault
    clients: SourceFactory
    stop: StopSignal
    holder: str

    def run(self, *, source_names: Collection[str], course_ids: Collection[str]) -> None:
        """Claim and store the tokens of these sources and courses, or of all."""
        with self.database.reading() as session:
            entries = registry.find_claimable(
                session, source_names=source_names, course_ids=course_ids, now=db.now(session)
            )
            all_sources = sources.list_all(session) if entries else []
            session.expunge_all()
        by_id = {source.id: source for source in all_sources}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="claim") as pool:
            claims = set()
            for source_id, of_source in groupby(entries, key=lambda entry: entry.source_id):
                claim = partial(self._claim_source, by_id[source_id], list(of_source))
                # In the context of the run, which the log names.
                claims.add(pool.submit(contextvars.copy_context().run, claim))
            waiting = claims
            while waiting:
                waiting = wait(waiting, _CHECK_SECONDS).not_done
                if self.stop.is_set:
                    self.clients.cancel()
        for future in claims:
            future.result()

    def _claim_source(self, source: Source, entries: Sequence[Entry]) -> None:
        start = 0
        try:
            client, key = self.clients.open(source), sources.newest_secret(source, vault=self.vault)
            if not isinstance(client, EAssessmentClient) or key is None:
                return
            for start in range(0, len(entries), MAX_CLAIMS):
                if self.stop.is_set:
                    return
                self._claim(client, source, key, entries[start : start + MAX_CLAIMS])
        except db.UNUSABLE:
            raise
        except ClaimFailedError as error:
            kind = ClaimFailure.TEMPORARY if error.temporary else ClaimFailure.REFUSED
            if error.problem is ProblemType.SIGNATURE_REFUSED:
                kind = ClaimFailure.SIGNATURE
            # The others of this site would fail for the same reason.
            self._fail(source, entries[start:], kind, str(error))
        except Exception as error:  # noqa: BLE001 - one site never stops the run
            failure = to_internal_failure(error)
            self._fail(source, entries[start:], ClaimFailure.TEMPORARY, failure.detail)

    def _fail(
        self, source: Source, entries: Sequence[Entry], kind: ClaimFailure, cause: str
    ) -> None:
        if self.stop.is_set:
            return  # The run cancelled the request, which says nothing about the site.
        with self.database.writing() as session:
            claim = FailedClaim(kind, cause, db.now(session))
            registry.store_failed_claims(session, dict.fromkeys(entries, claim))
        _log.warning(
            "tokens not claimed",
            source=source.name,
            courses=len(entries),
            cause=cause,
            **fields_of(CLAIM_ADVICE[kind].fill("SOURCE", source.name)),
        )

    def _claim(
        self,
        client: EAssessmentClient,
        source: Source,
        key: Secret,
        entries: Sequence[Entry],
    ) -> None:
        with self.database.reading() as session:
            now = db.now(session)
        course_ids = [entry.course_id for entry in entries]
        answers = client.claim(source.url, course_ids, key, now=now)
        claimed = {
            entry.id: answer
            for entry in entries
            if isinstance(answer := answers.get(entry.course_id), ClaimedToken)
        }
        refused = {
            entry: FailedClaim(
                ClaimFailure.REFUSED,
                str(answers.get(entry.course_id, "the site did not answer for this course")),
                now,
            )
            for entry in entries
            if entry.id not in claimed
        }
        replaced = {entry.id: entry.stored_token_id for entry in entries}
        with self.database.writing() as session:
            if claimed:
                sources.record_claim(session, source.id, now=db.now(session))
            stored = registry.store_claimed(
                session,
                claimed,
                replaced,
                vault=self.vault,
                actor=Actor(ActorKind.SYNC, self.holder),
                now=db.now(session),
            )
            registry.store_failed_claims(session, refused)
        _log.info(
            "tokens claimed",
            source=source.name,
            stored=stored,
            refused={entry.course_id: claim.detail for entry, claim in refused.items()},
        )

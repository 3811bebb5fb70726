"""The stage that records results: in the registry, its history, and the run's record."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foundation.db import session as db
from receiver.errors import LeaseLostError
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.lease import RunLease
from receiver.runs.store import CourseResult
from receiver.sources import store as sources
from receiver.sources.base import Grades
from receiver.sync import results
from receiver.sync.results import FetchResult


@dataclass(frozen=True)
class Recorder:
    """Records the results of one run, in transactions of its lease."""

    lease: RunLease
    run_id: int

    def forget_etags(self, batch: Sequence[FetchResult]) -> None:
        """Forget the ETags of the courses whose grades are about to be written.

        An ETag that outlives a write that is never recorded would make grades that are changed
        back count as unchanged.
        """
        ids = [
            result.entry.id
            for result in batch
            if isinstance(result.outcome, Grades) and result.entry.etag
        ]
        if ids:
            with self.lease.transaction() as (session, _):
                registry.clear_etags(session, ids)

    def record(
        self, batch: Sequence[FetchResult], skipped: Sequence[CourseResult]
    ) -> Iterator[Sequence[CourseResult]]:
        """Record a batch, and yield the course results of each transaction once it is committed.

        If the batch cannot be recorded together, each course is recorded on its own.
        """
        try:
            yield self._record(batch, skipped)
            return
        except (*db.UNUSABLE, LeaseLostError):
            raise
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            if len(batch) == 1 and not skipped:
                failure = results.to_internal_failure(error)
                yield self._record([FetchResult(batch[0].entry, failure, batch[0].url)], ())
                return
        yield self._record((), skipped)
        for result in batch:
            yield from self.record([result], ())

    def _record(
        self, batch: Sequence[FetchResult], skipped: Sequence[CourseResult]
    ) -> Sequence[CourseResult]:
        with self.lease.transaction() as (session, now):
            requested = {result.entry.source_id for result in batch if result.url}
            sources.record_request(session, requested, now=now)
            pairs = [(result, results.facts_of(result, now=now)) for result in batch]
            updates = [
                EntryUpdate(
                    result.entry.id,
                    facts,
                    result.etag,
                    result.is_synced,
                    (result.entry.gradebook_course, result.entry.gradebook_activity),
                )
                for result, facts in pairs
            ]
            actor = Actor(ActorKind.SYNC, f"run {self.run_id}")
            registry.apply_updates(session, updates, actor=actor, now=now)
            recorded = [*skipped, *(results.to_course_result(*pair, now=now) for pair in pairs)]
            runs.record(session, self.run_id, recorded)
        return recorded

"""What came of the courses, recorded piece by piece: what the registry learnt, and the reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foundation.db import session as db
from foundation.db.session import Database
from receiver.course_state import Fact
from receiver.errors import LeaseLostError
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.lease import HeldLease
from receiver.runs.store import CourseResult
from receiver.sources.base import Grades
from receiver.sync import results
from receiver.sync.reporter import Telling
from receiver.sync.results import Broken, Heard


@dataclass(frozen=True)
class Recorder:
    """Records what came in a run, under its lease, and tells it once it is recorded."""

    database: Database
    lease: HeldLease
    run_id: int
    telling: Telling
    unforeseen: Callable[[Exception], Broken]

    def forget(self, piece: Sequence[Heard]) -> None:
        """Forget which grades ELMS had of the courses whose grades are about to be written.

        A site may name its grades by what they are. Had the old name outlived a write that was
        never recorded, grades that are changed back would count as unchanged.
        """
        named = [
            one.entry.id for one in piece if isinstance(one.outcome, Grades) and one.entry.etag
        ]
        if named:
            with self.database.writing() as session:
                self.lease.fence(session)
                registry.clear_etags(session, named)

    def record(self, kept: Sequence[Heard], skipped: Sequence[CourseResult]) -> None:
        """Record a piece at once; if what came of one course cannot be, each on its own."""
        try:
            self._record(kept, skipped)
        except (*db.UNUSABLE, LeaseLostError):
            raise
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            if len(kept) == 1 and not skipped:
                self._record([Heard(kept[0].entry, self.unforeseen(error), kept[0].url)], ())
                return
            self._record((), skipped)
            for one in kept:
                self.record([one], ())

    def _record(self, kept: Sequence[Heard], skipped: Sequence[CourseResult]) -> None:
        with self.database.writing() as session:
            now = self.lease.fence(session)
            told = [(one, results.facts_of(one, now=now)) for one in kept]
            registry.apply_updates(
                session,
                [_lesson(one, facts) for one, facts in told],
                actor=Actor(ActorKind.SYNC, f"run {self.run_id}"),
                now=now,
            )
            reports = [*skipped, *(results.judged(one, facts) for one, facts in told)]
            runs.record(session, self.run_id, reports)
        self.telling.tell(reports)


def _lesson(heard: Heard, facts: tuple[Fact, ...]) -> EntryUpdate:
    entry = heard.entry
    target = entry.gradebook_course, entry.gradebook_activity
    return EntryUpdate(entry.id, facts, heard.etag, heard.well, target)

"""The run: who is skipped and why, who is asked, what came; each course apart from the others."""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from foundation import logging
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from receiver.errors import LeaseLostError
from receiver.gradebook.base import Gradebook, Outage, TableGradebook
from receiver.gradebook.database import ScoreCounts
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.runs import store as runs
from receiver.runs.lease import HeldLease
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources.base import GradeQuery, GradeSource, SiteOutage
from receiver.sync import ending, facts, planner, results, writer
from receiver.sync.fetcher import Asking, Hands, Pace, Step
from receiver.sync.planner import Plan, SyncOptions
from receiver.sync.recorder import Recorder
from receiver.sync.reporter import Telling
from receiver.sync.results import GRADEBOOK_TROUBLE, SITE_TROUBLE, Broken, Heard, Stop
from receiver.sync.writer import Keeper

EXIT_FAILED, EXIT_LEASED, EXIT_DATABASE, EXIT_STOPPED = 1, 3, 4, 143

_FLUSH_SECONDS = 5.0
_log = logging.get(__name__)

Kinds = Mapping[str, Callable[[Source], GradeSource]]
"""What asks a source, by the source's kind; raises if it cannot be opened, as SealError does."""


def run(
    database: Database,
    vault: Vault,
    kinds: Kinds,
    options: SyncOptions,
    gradebook: Gradebook | None = None,
) -> RunResult:
    """Fetch the grades of every active course into a gradebook and return what came of each.

    The gradebook serves this run alone; without one, grades go into ELMS's own database.
    Raises RunInProgressError, and whatever the database raises while the registry cannot be
    read; then no request has been made. After that a failure is told in the report.
    """
    under_way = _Run(database, vault, kinds, options, gradebook)
    todo = under_way.begin()
    try:
        under_way.work(todo)
        return under_way.finish(todo)
    finally:
        under_way.lease.release()


class _Run:
    """One run under way: its lease, and what has been stored so far."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        kinds: Kinds,
        options: SyncOptions,
        gradebook: Gradebook | None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._kinds = kinds
        self._options = options
        self.lease = HeldLease(database, options.lease)
        self._gradebook: Gradebook = gradebook or TableGradebook(database, self.lease.fence)
        self._keeper = Keeper(self._gradebook, self.lease.keep, self._broken)
        self._sources: dict[str, GradeSource] = {}
        self._closed: dict[str, SiteOutage] = {}
        self._sent_before = 0
        self._settled = 0
        self._started = time.monotonic()
        self._statements = database.statements
        self._written = ScoreCounts()
        self._stop: Stop | None = None
        self._trouble: Outage | None = None

    def begin(self) -> Plan:
        """Take the lease, read the registry, open the record: all of it, or nothing."""
        with self._database.writing() as session:
            now = db.now(session)
            holder = self._options.holder
            self.lease.acquire(session, holder, now=now)
            entries = registry.list_entries(session, course_ids=self._options.course_ids)
            chosen = planner.chosen(entries, self._options.sources, self._options.course_ids)
            planned = planner.of(chosen, places=self._gradebook.places)
            self._run_id = runs.begin(session, holder, partial=self._options.partial, now=now)
            runs.record(session, self._run_id, planned.not_asked)
            session.expunge_all()  # the commit would expire the entries, which outlive it
        self._log = _log.bind(run_id=self._run_id)
        self._telling = Telling(self._log)
        self._recorder = Recorder(
            self._database, self.lease, self._run_id, self._telling, self._broken
        )
        self._log.info(
            "grade sync started", courses_to_ask=len(planned.ask), skipped=len(planned.skipped)
        )
        self._telling.tell(planned.not_asked)
        return planned

    def work(self, todo: Plan) -> None:
        """Ask and store until done, or until the database, the lease, or the time is lost."""
        options = self._options
        ends = self._started + options.deadline.total_seconds()
        pace = Pace(
            concurrency=options.concurrency,
            look_ahead=options.chunk,
            waits=options.retry_waits,
            read_again=options.read_again,
            ends=ends,
            stop=options.stop,
        )
        hands = Hands(self._sources, self._read_again, self._prepare, self.lease.keep, self._broken)
        self._asking = Asking(pace, hands)
        try:
            with ending.enforced(lambda: self._asking.over, self._break_off):
                self._work(todo.ask)
        except db.UNUSABLE as error:
            self._stop = Stop(EXIT_DATABASE, "database_unavailable", db.cause(error))
        except LeaseLostError as error:
            self._stop = Stop(EXIT_LEASED, "lease_lost", str(error))
        if self._stop is None and options.stop.is_set():
            self._stop = Stop(EXIT_STOPPED, "stopped", "it was told to stop")
        elif self._stop is None and time.monotonic() >= ends:
            seconds = options.deadline.total_seconds()
            self._stop = Stop(EXIT_FAILED, "deadline", f"its {seconds:g} seconds were over")

    def _break_off(self) -> None:
        self._asking.break_off()
        self._gradebook.break_off()

    def _work(self, entries: Sequence[Entry]) -> None:
        """Ask nobody before it is known that what comes can be written."""
        if not entries or self._stopped_by(self._gradebook.check()):
            return
        closed = self._meet(entries)
        ask = [entry for entry in entries if entry.source.name in self._sources]
        self._store_all(itertools.chain([Step(closed)], self._asking.steps(ask)), len(entries))

    def _meet(self, entries: Sequence[Entry]) -> tuple[Heard, ...]:
        """Open what asks each source, and return the courses of those that cannot be opened."""
        for source in {entry.source.name: entry.source for entry in entries}.values():
            try:
                self._sources[source.name] = self._kinds[source.kind](source)
            except Exception as error:  # noqa: BLE001 - one site never stops the run
                broken = self._broken(error)
                self._closed[source.name] = SiteOutage(broken.detail, broken.next_step)
        self._sent_before = self._sent()
        return tuple(
            Heard(entry, Broken(SITE_TROUBLE, trouble.detail, trouble.next_step))
            for entry in entries
            if (trouble := self._closed.get(entry.source.name))
        )

    def _sent(self) -> int:
        """Return how many requests were sent; one that asks several sources counts once."""
        return sum(
            source.requests for source in {id(one): one for one in self._sources.values()}.values()
        )

    def _stopped_by(self, trouble: Outage | None) -> bool:
        """Stop the run if nothing can be written, and return whether it is to end.

        Once it is over, what was broken off is no trouble of the gradebook's.
        """
        if self._asking.over:
            return True
        if trouble is not None:
            self._trouble = trouble
            self._stop = Stop(EXIT_FAILED, GRADEBOOK_TROUBLE, trouble.detail, trouble.next_step)
        return trouble is not None

    def _store_all(self, steps: Iterable[Step], courses: int) -> None:
        """Store what comes, many courses at once, but none of it late."""
        heard: list[Heard] = []
        skipped: list[CourseResult] = []
        flushed = time.monotonic()
        for step in steps:
            heard += step.heard
            skipped += step.skipped
            due = time.monotonic() - flushed >= _FLUSH_SECONDS
            if len(heard) >= self._options.chunk or (due and (heard or skipped)):
                self._settle_all(heard, skipped, courses)
                heard, skipped, flushed = [], [], time.monotonic()
            if self._stop is not None:
                return
        if heard or skipped:
            self._settle_all(heard, skipped, courses)

    def _settle_all(
        self, heard: Sequence[Heard], skipped: Sequence[CourseResult], courses: int
    ) -> None:
        """Write and record piece after piece, so that a kill costs the record of one at the most.

        Once the run is over, no further piece is begun: the next run asks for its courses.
        """
        for piece in self._keeper.pieces(self._asking.confirmed(heard)):
            self._recorder.forget(piece)
            kept = self._keeper.keep(piece)
            self._written += writer.written(kept)
            self._recorder.record(kept, skipped)
            self._settled += len(kept) + len(skipped)
            self._options.progress(self._settled, courses)
            skipped = ()
            if self._asking.over or self._stopped_by(self._keeper.trouble(kept)):
                return

    def finish(self, todo: Plan) -> RunResult:
        """Close the record and return the report; what was not stored counts as failed."""
        left_over = self._left_over(todo)
        self._telling.tell(left_over)
        self._telling.tell_of_the_rest()
        for name, trouble in {**self._closed, **self._asking.trouble}.items():
            self._telling.tell_of_site(name, trouble)
        if self._trouble is not None:
            self._telling.tell_of_gradebook(self._trouble)
        report = self._report()
        try:
            with self._database.writing() as session:
                runs.record(session, self._run_id, left_over)
                runs.end(session, report, now=db.now(session))
        except db.UNUSABLE as error:
            self._stop = Stop(EXIT_DATABASE, "database_unavailable", db.cause(error))
            report = self._report()
        self._log.info("grade sync ended", exit_code=report.exit_code, stopped=report.stopped)
        return report

    def _read_again(
        self, entries: Sequence[Entry]
    ) -> tuple[Sequence[Entry], Sequence[CourseResult]]:
        if not entries:
            return (), ()
        with self._database.reading() as session:
            ids = [entry.id for entry in entries]
            listed = registry.list_entries(session, entry_ids=ids)
            planned = planner.of(listed, places=self._gradebook.places)
            session.expunge_all()
        return planned.ask, planned.not_asked

    def _prepare(self, entry: Entry) -> GradeQuery | Broken:
        since = self._options.modified_since
        try:
            return facts.question_about(
                entry,
                vault=self._vault,
                etag=None if since else entry.etag,
                modified_since=since,
            )
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            return self._broken(error)

    def _broken(self, error: Exception) -> Broken:
        self._log.debug("failed on our side", exc_info=error)
        return results.broken(error)

    def _left_over(self, todo: Plan) -> list[CourseResult]:
        if self._stop is None:
            return []
        stored = {(report.source, report.course_id) for report in self._telling.reports}
        return [
            results.unstored(entry, self._stop)
            for entry in todo.ask
            if (entry.source.name, entry.course_id) not in stored
        ]

    def _report(self) -> RunResult:
        courses = tuple(self._telling.reports)
        failed = any(report.outcome is CourseOutcome.FAILED for report in courses)
        stop = self._stop
        return RunResult(
            run_id=self._run_id,
            courses=courses,
            written=self._written,
            requests=self._sent() - self._sent_before,
            gradebook_requests=self._gradebook.requests,
            statements=self._database.statements - self._statements,
            seconds=round(time.monotonic() - self._started, 2),
            exit_code=stop.exit_code if stop else EXIT_FAILED if failed else 0,
            stopped=stop.detail if stop else None,
            next_step=stop.next_step if stop else None,
        )

"""A run of the grade sync: a pipeline from the planned courses to the recorded results."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from foundation import logging
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from receiver.errors import LeaseLostError
from receiver.gradebook.base import Gradebook, Outage, ScoreCounts
from receiver.gradebook.database import DatabaseGradebook
from receiver.models import Entry
from receiver.runs import store as runs
from receiver.runs.lease import RunLease
from receiver.runs.store import CourseOutcome, RunResult
from receiver.sources.base import SourceFactory
from receiver.sync import results
from receiver.sync.deletion_check import DeletionCheck
from receiver.sync.fetcher import FetchBatch, Fetcher, FetchLimits, buffered
from receiver.sync.heartbeat import LeaseHeartbeat, StopSignal
from receiver.sync.planner import Plan, Planner
from receiver.sync.recorder import Recorder
from receiver.sync.reporter import Reporter
from receiver.sync.results import GRADEBOOK_TROUBLE, StopReason
from receiver.sync.writer import ResultWriter

EXIT_FAILED, EXIT_LEASED, EXIT_DATABASE, EXIT_STOPPED = 1, 3, 4, 143

_log = logging.get_logger(__name__)


@dataclass(frozen=True)
class SyncOptions:
    """Who runs the sync, its lease, which courses and sources it fetches (none: all), and how.

    `batch_size` results are stored at once. The run ends at the `deadline`, or when `stop` is set.
    `modified_since` requests what changed after that time, instead of what differs from the last
    run. `progress` is called with the number of courses done and of all.
    """

    holder: str
    lease: timedelta
    course_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    limits: FetchLimits = field(default_factory=FetchLimits)
    batch_size: int = 100
    deadline: timedelta = timedelta(hours=1)
    modified_since: datetime | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[int, int], None] = lambda _done, _all: None


def run(
    database: Database,
    vault: Vault,
    sources: SourceFactory,
    options: SyncOptions,
    gradebook: Gradebook | None = None,
) -> RunResult:
    """Fetch the grades of every active course into a gradebook, and return the result.

    Without a gradebook, grades go into ELMS's own database.
    Raises RunInProgressError, or the database's error if the registry cannot be read; then no
    request has been sent. Any later failure is in the result.
    """
    return SyncRun(database, vault, sources, options, gradebook).execute()


class SyncRun:
    """One run: it owns the lease and the stages, and passes each batch from one to the next."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        sources: SourceFactory,
        options: SyncOptions,
        gradebook: Gradebook | None,
    ) -> None:
        self._database = database
        self._options = options
        self._started_at = time.monotonic()
        self._statements_before = database.statements
        self._stop = StopSignal(options.stop, options.deadline.total_seconds())
        self._lease = RunLease(database, options.lease)
        self._gradebook: Gradebook = gradebook or DatabaseGradebook(self._lease)
        self._planner = Planner(
            database, options.course_ids, options.sources, self._gradebook.needs_activity
        )
        self._fetcher = Fetcher(
            sources,
            vault,
            options.limits,
            self._stop,
            planner=self._planner,
            modified_since=options.modified_since,
        )
        self._deletion_check = DeletionCheck(self._fetcher.clients)
        self._writer = ResultWriter(self._gradebook)
        self._scores = ScoreCounts()
        self._done = 0
        self._reason: StopReason | None = None
        self._outage: Outage | None = None

    def execute(self) -> RunResult:
        """Run all stages, and return the result."""
        plan = self._begin()
        try:
            self._sync(plan.to_fetch)
            return self._finish(plan)
        finally:
            self._lease.release()

    def _begin(self) -> Plan:
        """Take the lease, plan, and open the run's record, in one transaction."""
        options = self._options
        with self._database.writing() as session:
            now = db.now(session)
            self._lease.acquire(session, options.holder, now=now)
            plan = self._planner.plan(session)
            partial = bool(options.course_ids or options.sources)
            self._run_id = runs.begin(session, options.holder, partial=partial, now=now)
            runs.record(session, self._run_id, plan.not_fetched)
        self._recorder = Recorder(self._lease, self._run_id)
        self._log = _log.bind(run_id=self._run_id)
        self._reporter = Reporter(self._log)
        self._log.info(
            "grade sync started", courses_to_fetch=len(plan.to_fetch), skipped=len(plan.skipped)
        )
        self._reporter.add(plan.not_fetched)
        return plan

    def _sync(self, entries: Sequence[Entry]) -> None:
        """Fetch and store until all is done, or until the database, lease or time is lost."""
        try:
            with LeaseHeartbeat(self._lease, self._stop, (self._fetcher, self._gradebook)):
                self._run_stages(entries)
                self._stop.raise_error()
        except db.UNUSABLE as error:
            self._reason = StopReason(EXIT_DATABASE, "database_unavailable", db.cause(error))
        except LeaseLostError as error:
            self._reason = StopReason(EXIT_LEASED, "lease_lost", str(error))
        if self._reason is None and self._stop.stop_requested:
            self._reason = StopReason(EXIT_STOPPED, "stopped", "SIGTERM was received")
        elif self._reason is None and self._stop.timed_out:
            seconds = self._options.deadline.total_seconds()
            detail = f"its time limit of {seconds:g} seconds was reached"
            self._reason = StopReason(EXIT_FAILED, "deadline", detail)

    def _run_stages(self, entries: Sequence[Entry]) -> None:
        # No grades are requested before it is known that they can be written.
        if not entries or self._ended_by(self._gradebook.check()):
            return
        with closing(self._fetcher.fetch(entries)) as batches:
            for batch in buffered(batches, self._options.batch_size):
                self._stop.raise_error()
                self._store(batch, len(entries))
                if self._reason is not None:
                    return

    def _store(self, batch: FetchBatch, total: int) -> None:
        """Write and record a batch part by part, so that a kill loses the record of one part.

        Once the run has to stop, no further part is begun: the next run fetches its courses.
        """
        skipped = batch.skipped
        for part in self._writer.split(self._deletion_check.confirm(batch.results)):
            self._recorder.forget_etags(part)
            written = self._writer.write(part)
            self._scores += sum((one.write.scores for one in written if one.write), ScoreCounts())
            for recorded in self._recorder.record(written, skipped):
                self._reporter.add(recorded)
            self._done += len(written) + len(skipped)
            self._options.progress(self._done, total)
            skipped = ()
            if self._stop.is_set or self._ended_by(self._writer.outage(written)):
                return

    def _ended_by(self, outage: Outage | None) -> bool:
        """Return whether the run ends, because of this outage or otherwise.

        Once it has to stop, a request that was cancelled is no outage of the gradebook.
        """
        if self._stop.is_set:
            return True
        if outage is not None:
            self._outage = outage
            self._reason = StopReason(EXIT_FAILED, GRADEBOOK_TROUBLE, outage.detail, outage.advice)
        return outage is not None

    def _finish(self, plan: Plan) -> RunResult:
        """Close the run's record and return the result; what was not stored counts as failed."""
        not_reached = []
        if self._reason is not None:
            stored = {(one.source, one.course_id) for one in self._reporter.courses}
            not_reached = [
                results.not_reached(entry, self._reason)
                for entry in plan.to_fetch
                if (entry.source.name, entry.course_id) not in stored
            ]
        self._reporter.add(not_reached)
        self._reporter.log_outages(self._fetcher.outages, self._outage)
        result = self._result()
        try:
            with self._database.writing() as session:
                runs.record(session, self._run_id, not_reached)
                runs.end(session, result, now=db.now(session))
        except db.UNUSABLE as error:
            self._reason = StopReason(EXIT_DATABASE, "database_unavailable", db.cause(error))
            result = self._result()
        self._log.info("grade sync ended", exit_code=result.exit_code, stopped=result.stopped)
        return result

    def _result(self) -> RunResult:
        courses = tuple(self._reporter.courses)
        failed = any(course.outcome is CourseOutcome.FAILED for course in courses)
        reason = self._reason
        return RunResult(
            run_id=self._run_id,
            courses=courses,
            scores=self._scores,
            requests=self._fetcher.requests,
            gradebook_requests=self._gradebook.requests,
            statements=self._database.statements - self._statements_before,
            seconds=round(time.monotonic() - self._started_at, 2),
            exit_code=reason.exit_code if reason else EXIT_FAILED if failed else 0,
            stopped=reason.detail if reason else None,
            advice=reason.advice if reason else None,
        )

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
from receiver.course_state import CourseStatus
from receiver.errors import LeaseLostError
from receiver.gradebook.base import Gradebook, Outage, ScoreCounts
from receiver.gradebook.database import DatabaseGradebook
from receiver.models import Entry
from receiver.runs import schedule
from receiver.runs import store as runs
from receiver.runs.lease import RunLease
from receiver.runs.store import CourseOutcome, CourseResult, ResultReason, RunResult
from receiver.sources.base import SourceFactory
from receiver.sync import reporter, results
from receiver.sync.fetcher import FetchBatch, Fetcher, FetchLimits
from receiver.sync.planner import Plan, Planner
from receiver.sync.recorder import Recorder
from receiver.sync.results import StopReason
from receiver.sync.run_control import LeaseHeartbeat, StopSignal
from receiver.sync.token_claims import TokenClaims
from receiver.sync.writer import ResultWriter

EXIT_FAILED, EXIT_LEASED, EXIT_DATABASE, EXIT_STOPPED = 1, 3, 4, 143

_log = logging.get_logger(__name__)


@dataclass(frozen=True)
class SyncOptions:
    """Who runs the sync, its lease, which courses and sources it fetches (none: all), and how.

    The run ends at the `deadline`, or when `stop` is set.
    `modified_since` requests what changed after that time, instead of what differs from the last
    run. `progress` is called with the number of courses done and of all.
    `unattended`: the run was not started at a terminal or on a page. `even_if_paused`: it
    also runs while the grade sync is paused.
    """

    holder: str
    lease: timedelta
    course_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    limits: FetchLimits = field(default_factory=FetchLimits)
    deadline: timedelta = timedelta(hours=1)
    modified_since: datetime | None = None
    unattended: bool = False
    even_if_paused: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[int, int], None] = lambda _done, _all: None


@dataclass
class _Pipeline:
    """The stages of one run, and what has passed through them: courses and scores.

    `courses` begins with those that are not fetched.
    """

    run_id: int
    stop: StopSignal
    fetcher: Fetcher
    gradebook: Gradebook
    recorder: Recorder
    courses: list[CourseResult]
    progress: Callable[[int, int], None]
    done: int = 0
    scores: ScoreCounts = field(default_factory=ScoreCounts)

    def run(self, entries: Sequence[Entry]) -> Outage | None:
        """Pass each batch through the stages; return why nothing more can be written, or None."""
        # No grades are requested before it is known that they can be written.
        outage = self.gradebook.check() if entries else None
        if outage or not entries or self.stop.is_set:
            return outage
        with closing(self.fetcher.fetch(entries)) as batches:
            for batch in batches:
                self.stop.raise_error()
                if outage := self._store(batch, len(entries)):
                    return outage
        return None

    def _store(self, batch: FetchBatch, total: int) -> Outage | None:
        """Write and record a batch part by part, so that a kill loses the record of one part.

        Once the run has to stop, no further part is begun: the next run fetches its courses.
        """
        skipped = batch.skipped  # since the plan was made
        writer = ResultWriter(self.gradebook)
        for part in writer.split(batch.results):
            self.recorder.forget_etags(part)
            written = writer.write(part)
            for result in written:
                self.scores += result.written.scores if result.written else ScoreCounts()
            for recorded in self.recorder.record(written, skipped):
                self.courses += recorded
                reporter.log_courses(self.run_id, recorded)
            self.done += len(written) + len(skipped)
            self.progress(self.done, total)
            skipped = ()
            if self.stop.is_set:
                return None
            for result in written:
                if result.written and result.written.outage:
                    return result.written.outage
        return None


class SyncRun:
    """One run: takes the lease, plans, passes the courses through the pipeline, closes the record.

    Without a gradebook, grades go into ELMS's own database.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        sources: SourceFactory,
        options: SyncOptions,
        gradebook: Gradebook | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._sources = sources
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

    def execute(self) -> RunResult:
        """Fetch the grades of every active course into the gradebook, and return the result.

        Raises SyncPausedError, RunInProgressError, or the database's error if the registry cannot
        be read; then no request has been sent. Any later failure is in the result.
        """
        self._claim_tokens()
        plan, run_id = self._begin()
        _log.info(
            "grade sync started",
            run_id=run_id,
            courses_to_fetch=len(plan.to_fetch),
            deleted=len(plan.deleted),
            skipped=len(plan.skipped),
        )
        pipeline = _Pipeline(
            run_id,
            self._stop,
            self._fetcher,
            self._gradebook,
            Recorder(self._lease, run_id),
            list(plan.not_fetched),
            self._options.progress,
        )
        try:
            return self._finish(pipeline, plan, self._sync(pipeline, plan.to_fetch))
        finally:
            self._lease.release()

    def _claim_tokens(self) -> None:
        """Take new tokens over before it is planned which courses are skipped."""
        options = self._options
        if not options.even_if_paused:
            with self._database.reading() as session:
                schedule.check_not_paused(session)
        TokenClaims(self._database, self._vault, self._sources, self._stop, options.holder).run(
            source_names=options.sources, course_ids=options.course_ids
        )

    def _begin(self) -> tuple[Plan, int]:
        """Take the lease, plan, and open the run's record with this id, in one transaction."""
        options = self._options
        with self._database.writing() as session:
            now = db.now(session)
            if not options.even_if_paused:
                schedule.check_not_paused(session)
            self._lease.acquire(session, options.holder, now=now)
            plan = self._planner.plan(session, now=now)
            partial = bool(options.course_ids or options.sources)
            run_id = runs.begin(
                session,
                options.holder,
                partial=partial,
                unattended=options.unattended and not partial,
                deleted=len(plan.deleted),
                now=now,
            )
            recorded = plan.skipped + plan.without_activity
            runs.record(session, run_id, recorded)
        reporter.log_courses(run_id, recorded)
        return plan, run_id

    def _sync(self, pipeline: _Pipeline, entries: Sequence[Entry]) -> StopReason | None:
        """Fetch and store until all is done; return why the run stops early, if it does."""
        try:
            with LeaseHeartbeat(self._lease, self._stop, (self._sources, self._gradebook)):
                outage = pipeline.run(entries)
                self._stop.raise_error()
        except db.UNUSABLE as error:
            return StopReason(EXIT_DATABASE, ResultReason.DATABASE_UNAVAILABLE, db.cause(error))
        except LeaseLostError as error:
            return StopReason(EXIT_LEASED, ResultReason.LEASE_LOST, str(error))
        # Before an outage: once the run has to stop, a request that was cancelled is none.
        if self._stop.stop_requested:
            return StopReason(EXIT_STOPPED, ResultReason.STOPPED, "SIGTERM was received")
        if self._stop.timed_out:
            seconds = self._options.deadline.total_seconds()
            detail = f"its time limit of {seconds:g} seconds was reached"
            return StopReason(EXIT_FAILED, ResultReason.DEADLINE, detail)
        if outage is not None:
            reason = ResultReason.GRADEBOOK_TROUBLE
            return StopReason(EXIT_FAILED, reason, outage.detail, outage.advice)
        return None

    def _finish(self, pipeline: _Pipeline, plan: Plan, reason: StopReason | None) -> RunResult:
        """Close the run's record and return the result; what was not stored counts as failed."""
        not_reached = []
        if reason is not None:
            stored = {(course.source, course.course_id) for course in pipeline.courses}
            not_reached = [
                results.not_reached_result(entry, reason)
                for entry in plan.to_fetch
                if (entry.source.name, entry.course_id) not in stored
            ]
        pipeline.courses += not_reached
        result = self._result(pipeline, reason)
        try:
            with self._database.writing() as session:
                runs.record(session, pipeline.run_id, not_reached)
                runs.end(session, result, now=db.now(session))
        except db.UNUSABLE as error:
            reason = StopReason(EXIT_DATABASE, ResultReason.DATABASE_UNAVAILABLE, db.cause(error))
            result = self._result(pipeline, reason)
        return result

    def _result(self, pipeline: _Pipeline, reason: StopReason | None) -> RunResult:
        courses = tuple(pipeline.courses)
        needs_action = any(
            course.outcome is CourseOutcome.FAILED or course.reason is CourseStatus.TOKEN_INVALID
            for course in courses
        )
        return RunResult(
            run_id=pipeline.run_id,
            courses=courses,
            scores=pipeline.scores,
            requests=self._sources.requests,
            gradebook_requests=self._gradebook.requests,
            statements=self._database.statements - self._statements_before,
            seconds=round(time.monotonic() - self._started_at, 2),
            exit_code=reason.exit_code if reason else EXIT_FAILED if needs_action else 0,
            stopped=reason.detail if reason else None,
            advice=reason.advice if reason else None,
        )

"""The run: who is skipped and why, who is asked, what came; each course apart from the others."""

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from contract.grades import Score
from foundation import database as db
from foundation import logs
from foundation.database import Database
from foundation.errors import SealError
from foundation.vault import Vault
from receiver import answers, gradebook, registry, runs, verdicts
from receiver.eassessment import Client, url_of
from receiver.errors import LeaseLostError
from receiver.gradebook import Written
from receiver.history import Teller, TellerKind
from receiver.memory import Status
from receiver.models import Entry
from receiver.outcomes import Grades
from receiver.registry import Lesson
from receiver.runs import CourseOutcome, CourseReport, Report
from receiver.verdicts import Broken, Heard

EXIT_FAILED, EXIT_LEASED, EXIT_DATABASE = 1, 3, 4

_QUIET = {CourseOutcome.SYNCED, CourseOutcome.UNCHANGED}
_FOR_A_PERSON = {"token_invalid", "misconfigured", "token_unreadable", "unforeseen"}
_log = logs.get(__name__)


@dataclass(frozen=True)
class Options:
    """How a run goes: as whom, how long its lease lasts, which courses (none: all).

    `read_again` is how old a reading of the registry may be when a course of it is asked for.
    """

    holder: str
    lease: timedelta
    course_ids: tuple[str, ...] = ()
    chunk: int = 100
    read_again: timedelta = timedelta(seconds=1)


@dataclass(frozen=True)
class Plan:
    """Which entries would be asked, and which are skipped with their reason."""

    ask: tuple[Entry, ...]
    skipped: tuple[CourseReport, ...]


def plan(database: Database, course_ids: Collection[str] = ()) -> Plan:
    """Return what a run would do now, without any request; one query."""
    with database.reading() as session:
        return _planned(registry.listing(session, course_ids=course_ids))


def run(database: Database, vault: Vault, client: Client, options: Options) -> Report:
    """Fetch the grades of every active course and return what came of each.

    Raises RunInProgressError, and whatever the database raises while the registry cannot be
    read; then no request has been made. After that a failure is told in the report.
    """
    under_way = _Run(database, vault, client, options)
    todo = under_way.begin()
    try:
        under_way.work(todo)
        return under_way.finish(todo)
    finally:
        under_way.release()


def _planned(entries: Sequence[Entry]) -> Plan:
    standings = [(entry, registry.standing(entry)) for entry in entries]
    return Plan(
        tuple(entry for entry, standing in standings if standing.status is Status.ACTIVE),
        tuple(
            verdicts.skipped(entry, standing)
            for entry, standing in standings
            if standing.status is not Status.ACTIVE
        ),
    )


class _Run:
    """One run under way: its lease, and what has been stored so far."""

    def __init__(self, database: Database, vault: Vault, client: Client, options: Options) -> None:
        self._database = database
        self._vault = vault
        self._client = client
        self._options = options
        self._started = self._renewed = time.monotonic()
        self._statements = database.statements
        self._reports: list[CourseReport] = []
        self._written = Written()
        self._stopped: tuple[int, str, str] | None = None

    def begin(self) -> Plan:
        """Take the lease, read the registry, open the record: all of it, or nothing."""
        with self._database.writing() as session:
            now = db.now(session)
            holder = self._options.holder
            self._lease = runs.acquire(session, holder, self._options.lease, now=now)
            planned = _planned(registry.listing(session, course_ids=self._options.course_ids))
            self._run_id = runs.begin(session, holder, now=now)
            runs.record(session, self._run_id, planned.skipped)
            session.expunge_all()  # the commit would expire the entries, which outlive it
        self._log = _log.bind(run_id=self._run_id)
        self._log.info(
            "grade sync started", courses_to_ask=len(planned.ask), skipped=len(planned.skipped)
        )
        self._tell(planned.skipped)
        return planned

    def work(self, todo: Plan) -> None:
        """Ask and store, chunk by chunk, until done or until the database or the lease is lost."""
        size = self._options.chunk
        try:
            for start in range(0, len(todo.ask), size):
                self._chunk(todo.ask[start : start + size])
        except db.UNUSABLE as error:
            self._stopped = EXIT_DATABASE, "database_unavailable", db.cause(error)
        except LeaseLostError as error:
            self._stopped = EXIT_LEASED, "lease_lost", str(error)

    def finish(self, todo: Plan) -> Report:
        """Close the record and return the report; what was not stored counts as failed."""
        self._tell(self._left_over(todo))
        report = self._report()
        try:
            with self._database.writing() as session:
                runs.end(session, report, now=db.now(session))
        except db.UNUSABLE as error:
            self._stopped = EXIT_DATABASE, "database_unavailable", db.cause(error)
            report = self._report()
        self._log.info("grade sync ended", exit_code=report.exit_code, stopped=report.stopped)
        return report

    def release(self) -> None:
        """Give the lease back; where that fails it ends by itself."""
        with suppress(*db.UNUSABLE), self._database.writing() as session:
            runs.release(session, self._lease)

    def _chunk(self, entries: Sequence[Entry]) -> None:
        """Ask about each course that is still active when its turn comes; store what came.

        What is left is read again by the clock: a query for each course would be too many, and a
        chunk of slow ones is too long to go on asking for those that were invalidated meanwhile.
        """
        heard: list[Heard] = []
        skipped: list[CourseReport] = []
        left, read_at = deque(entries), float("-inf")
        while left:
            if time.monotonic() - read_at >= self._options.read_again.total_seconds():
                planned = self._read_again(left)
                left, read_at = deque(planned.ask), time.monotonic()
                skipped += planned.skipped
            if left:
                heard.append(self._hear(left.popleft()))
        self._settle(heard, skipped)

    def _read_again(self, entries: Iterable[Entry]) -> Plan:
        with self._database.reading() as session:
            return _planned(registry.listing(session, entry_ids=[entry.id for entry in entries]))

    def _hear(self, entry: Entry) -> Heard:
        self._keep_lease()
        try:
            question = answers.question_about(entry, vault=self._vault, etag=entry.etag)
            return Heard(entry, self._client.ask(question), url_of(question))
        except SealError as error:
            return Heard(entry, Broken("token_unreadable", str(error), error.advice))
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            return Heard(entry, self._broken(error))

    def _broken(self, error: Exception) -> Broken:
        self._log.debug("a course failed unforeseen", exc_info=error)
        return Broken(
            "unforeseen",
            f"failed unforeseen: {type(error).__name__}",
            "Tell the operators of ELMS; RECEIVER_LOG_LEVEL=DEBUG shows where it failed.",
        )

    def _keep_lease(self) -> None:
        if time.monotonic() - self._renewed < self._options.lease.total_seconds() / 3:
            return
        with self._database.writing() as session:
            runs.renew(session, self._lease, self._options.lease, now=db.now(session))
        self._renewed = time.monotonic()

    def _settle(self, heard: Sequence[Heard], skipped: Sequence[CourseReport]) -> None:
        """Store a chunk at once; if one course's answer cannot be stored, each on its own."""
        try:
            self._store(heard, skipped)
        except (*db.UNUSABLE, LeaseLostError):
            raise
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            if len(heard) == 1 and not skipped:
                self._store([Heard(heard[0].entry, self._broken(error), heard[0].url)], ())
                return
            self._store((), skipped)
            for one in heard:
                self._settle([one], ())

    def _store(self, heard: Sequence[Heard], skipped: Sequence[CourseReport]) -> None:
        with self._database.writing() as session:
            now = db.now(session)
            runs.renew(session, self._lease, self._options.lease, now=now)
            told = [(one, verdicts.facts_of(one, now=now)) for one in heard]
            registry.learn(
                session,
                [Lesson(one.entry.id, facts, one.etag, one.well) for one, facts in told],
                teller=Teller(TellerKind.SYNC, f"run {self._run_id}"),
                now=now,
            )
            written = gradebook.write(session, _scores(heard))
            reports = [*skipped, *(verdicts.judged(one, facts) for one, facts in told)]
            runs.record(session, self._run_id, reports)
        self._renewed = time.monotonic()
        self._written += written
        self._tell(reports)

    def _left_over(self, todo: Plan) -> list[CourseReport]:
        if self._stopped is None:
            return []
        _, reason, detail = self._stopped
        stored = {(report.source, report.course_id) for report in self._reports}
        return [
            verdicts.unstored(entry, reason, detail)
            for entry in todo.ask
            if (entry.source.name, entry.course_id) not in stored
        ]

    def _tell(self, reports: Sequence[CourseReport]) -> None:
        """Keep what became of courses, and log what went wrong: here, and nowhere else."""
        self._reports += reports
        for report in reports:
            if report.outcome in _QUIET:
                continue
            urgent = report.reason in _FOR_A_PERSON and report.outcome is CourseOutcome.FAILED
            self._log.log(
                logging.ERROR if urgent else logging.WARNING,
                f"course {report.outcome.value}",
                **{name: value for name, value in vars(report).items() if value is not None},
            )

    def _report(self) -> Report:
        code, _, stopped = self._stopped or (self._exit_code(), None, None)
        return Report(
            run_id=self._run_id,
            courses=tuple(self._reports),
            written=self._written,
            requests=self._client.requests,
            statements=self._database.statements - self._statements,
            seconds=round(time.monotonic() - self._started, 2),
            exit_code=code,
            stopped=stopped,
        )

    def _exit_code(self) -> int:
        failed = any(report.outcome is CourseOutcome.FAILED for report in self._reports)
        return EXIT_FAILED if failed else 0


def _scores(heard: Sequence[Heard]) -> dict[int, tuple[Score, ...]]:
    return {one.entry.id: one.outcome.scores for one in heard if isinstance(one.outcome, Grades)}

"""The run: who is skipped and why, who is asked, what came; each course apart from the others."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain

from contract.grades import Score
from foundation import database as db
from foundation import logs
from foundation.database import Database
from foundation.vault import Vault
from receiver import answers, gradebook, plans, registry, runs, verdicts
from receiver.asking import Asking, Hands, Pace, Step
from receiver.errors import LeaseLostError
from receiver.gradebook import Written
from receiver.history import Teller, TellerKind
from receiver.models import Entry, Source
from receiver.outcomes import Grades, GradeSource, Question
from receiver.plans import Options, Plan
from receiver.registry import Lesson
from receiver.runs import CourseOutcome, CourseReport, Report
from receiver.verdicts import SITE_TROUBLE, Broken, Heard

EXIT_FAILED, EXIT_LEASED, EXIT_DATABASE, EXIT_STOPPED = 1, 3, 4, 143

_QUIET = {CourseOutcome.SYNCED, CourseOutcome.UNCHANGED}
_FOR_A_PERSON = {"token_invalid", "misconfigured", "token_unreadable", "unforeseen"}
_FLUSH_SECONDS = 5.0
_log = logs.get(__name__)

Kinds = Mapping[str, Callable[[Source], GradeSource]]
"""What asks a source, by the source's kind."""


def run(database: Database, vault: Vault, kinds: Kinds, options: Options) -> Report:
    """Fetch the grades of every active course and return what came of each.

    Raises RunInProgressError, and whatever the database raises while the registry cannot be
    read; then no request has been made. After that a failure is told in the report.
    """
    under_way = _Run(database, vault, kinds, options)
    todo = under_way.begin()
    try:
        under_way.work(todo)
        return under_way.finish(todo)
    finally:
        under_way.release()


class _Run:
    """One run under way: its lease, and what has been stored so far."""

    def __init__(self, database: Database, vault: Vault, kinds: Kinds, options: Options) -> None:
        self._database = database
        self._vault = vault
        self._kinds = kinds
        self._options = options
        self._sources: dict[str, GradeSource] = {}
        self._sent_before = 0
        self._stored = 0
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
            entries = registry.listing(session, course_ids=self._options.course_ids)
            planned = plans.of(plans.chosen(entries, self._options.sources))
            self._run_id = runs.begin(session, holder, partial=self._options.partial, now=now)
            runs.record(session, self._run_id, planned.skipped)
            session.expunge_all()  # the commit would expire the entries, which outlive it
        self._log = _log.bind(run_id=self._run_id)
        self._log.info(
            "grade sync started", courses_to_ask=len(planned.ask), skipped=len(planned.skipped)
        )
        self._tell(planned.skipped)
        return planned

    def work(self, todo: Plan) -> None:
        """Ask and store until done, or until the database, the lease, or the time is lost."""
        unmet = self._meet(todo.ask)
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
        hands = Hands(
            self._sources, self._read_again, self._prepare, self._keep_lease, self._broken
        )
        self._asking = Asking(pace, hands)
        met = [entry for entry in todo.ask if entry.source.name in self._sources]
        try:
            self._store_all(chain([Step(unmet)], self._asking.steps(met)), len(todo.ask))
        except db.UNUSABLE as error:
            self._stopped = EXIT_DATABASE, "database_unavailable", db.cause(error)
        except LeaseLostError as error:
            self._stopped = EXIT_LEASED, "lease_lost", str(error)
        if self._stopped is None and options.stop.is_set():
            self._stopped = EXIT_STOPPED, "stopped", "it was told to stop"
        elif self._stopped is None and time.monotonic() >= ends:
            seconds = options.deadline.total_seconds()
            self._stopped = EXIT_FAILED, "deadline", f"its {seconds:g} seconds were over"

    def _meet(self, entries: Sequence[Entry]) -> tuple[Heard, ...]:
        """Open what asks each site, and return the courses of those that cannot be asked."""
        broken: dict[str, Broken] = {}
        for name, source in {entry.source.name: entry.source for entry in entries}.items():
            try:
                self._sources[name] = self._kinds[source.kind](source)
            except Exception as error:  # noqa: BLE001 - one site never stops the run
                broken[name] = self._broken(error)
        self._sent_before = self._sent()
        return tuple(
            Heard(entry, broken[entry.source.name])
            for entry in entries
            if entry.source.name in broken
        )

    def _sent(self) -> int:
        """Return how many requests were sent; one that asks several sources counts once."""
        return sum(
            source.requests for source in {id(one): one for one in self._sources.values()}.values()
        )

    def _store_all(self, steps: Iterable[Step], courses: int) -> None:
        """Store what comes, many courses at once, but none of it late."""
        heard: list[Heard] = []
        skipped: list[CourseReport] = []
        flushed = time.monotonic()
        for step in steps:
            heard += step.heard
            skipped += step.skipped
            due = time.monotonic() - flushed >= _FLUSH_SECONDS
            if len(heard) >= self._options.chunk or (due and (heard or skipped)):
                self._settle(self._asking.confirmed(heard), skipped)
                self._stored += len(heard) + len(skipped)
                self._options.progress(self._stored, courses)
                heard, skipped, flushed = [], [], time.monotonic()
        if heard or skipped:
            self._settle(self._asking.confirmed(heard), skipped)
            self._options.progress(self._stored + len(heard) + len(skipped), courses)

    def finish(self, todo: Plan) -> Report:
        """Close the record and return the report; what was not stored counts as failed."""
        self._tell(self._left_over(todo))
        self._tell_of_sites()
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

    def _read_again(
        self, entries: Sequence[Entry]
    ) -> tuple[Sequence[Entry], Sequence[CourseReport]]:
        if not entries:
            return (), ()
        with self._database.reading() as session:
            ids = [entry.id for entry in entries]
            planned = plans.of(registry.listing(session, entry_ids=ids))
            session.expunge_all()
        return planned.ask, planned.skipped

    def _prepare(self, entry: Entry) -> Question | Broken:
        since = self._options.modified_since
        try:
            return answers.question_about(
                entry,
                vault=self._vault,
                etag=None if since else entry.etag,
                modified_since=since,
            )
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            return self._broken(error)

    def _broken(self, error: Exception) -> Broken:
        self._log.debug("failed on our side", exc_info=error)
        return verdicts.broken(error)

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
            quiet = report.outcome in _QUIET and report.reason is None
            if quiet or report.reason == SITE_TROUBLE:
                continue
            urgent = report.reason in _FOR_A_PERSON and report.outcome is CourseOutcome.FAILED
            self._log.log(
                logging.ERROR if urgent else logging.WARNING,
                f"course {report.outcome.value}",
                **{name: value for name, value in vars(report).items() if value is not None},
            )

    def _tell_of_sites(self) -> None:
        """Log of a site that is out of order once, not for each of its courses."""
        for name, trouble in self._asking.trouble.items():
            kept = [
                one for one in self._reports if (one.source, one.reason) == (name, SITE_TROUBLE)
            ]
            self._log.error(
                "site out of order",
                source=name,
                detail=trouble.detail,
                next_step=trouble.next_step,
                courses=len(kept),
            )

    def _report(self) -> Report:
        code, _, stopped = self._stopped or (self._exit_code(), None, None)
        return Report(
            run_id=self._run_id,
            courses=tuple(self._reports),
            written=self._written,
            requests=self._sent() - self._sent_before,
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

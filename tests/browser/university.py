"""One day of a university in the databases of both services, for pictures and browser tests.

Everything is written by the functions of the services, at times of that day.
"""

import random
import sched
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from pydantic import SecretStr

from contract import events
from contract.grades import Score
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from foundation.pages import users
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import SCHEMA as NOTIFIER
from notifier.models import SOURCE
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import Failure, RetryAt, WebhookResponse
from notifier.worker import batch, claims
from receiver.gradebook.base import ScoreCounts
from receiver.models import SCHEMA as RECEIVER
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources import store as sources
from receiver.sync import planner
from receiver.webhooks import inbox
from tests.foundation.pages.conftest import PASSWORD
from tests.integration.services import ENCRYPTION_KEY, serve

SCHEMAS = {"notifier": NOTIFIER, "receiver": RECEIVER}
VAULT = Vault(SecretStr(ENCRYPTION_KEY))
ELMS = "https://elms.example.ac.uk/webhooks/eassessment"
LIBRARY = "https://library.example.ac.uk/hooks/courses"
ADA = Actor(ActorKind.ADMINISTRATOR, "Ada")

SUBJECTS = {
    "CS": "Introduction to Programming",
    "MATH": "Linear Algebra",
    "PHYS": "Mechanics and Waves",
    "CHEM": "Química orgánica",
    "BIO": "Cell Biology",
    "MED": "Anatomy",
    "PSY": "Psychology",
    "ECON": "Économétrie appliquée",
    "LAW": "Droit européen des données",
    "HIST": "Geschichte der Universität Göttingen",
    "PHIL": "Φιλοσοφία",
    "MUS": "Choir and Chamber Music",
}
# Tokens of this year's courses are regenerated, and last year's courses are deleted, in this order.
THIS_YEAR = {f"{code}101-2026": title for code, title in SUBJECTS.items()}
LAST_YEAR = {
    f"{code}{level}01-2025": title for level in range(1, 6) for code, title in SUBJECTS.items()
}
# The number of changes in each hour of the day (UTC).
CHANGES = {8: 3, 9: 6, 10: 8, 11: 6, 12: 2, 13: 4, 14: 7, 15: 5, 16: 4, 17: 2, 21: 1}
# How long ago the outage of ELMS began and ended.
OUTAGE = timedelta(hours=6, minutes=10), timedelta(hours=6, minutes=6)
BUSY_RUN = 71


@dataclass(frozen=True)
class University:
    """Both services, running, with their databases; ids of what there is to see."""

    addresses: Mapping[str, str]
    databases: Mapping[str, Database]
    entries: Mapping[str, int]
    retried: int
    deleted: str


@contextmanager
def lived(folder: Path) -> Iterator[tuple[Mapping[str, Database], int, str]]:
    """Yield the databases after that day, the delivery that was retried, the last deleted course.

    Ada can sign in to both services.
    """
    with ExitStack() as stack:
        databases = {
            "notifier": Database(f"sqlite:///{folder}/notifier.db", info={SOURCE: "eassessment"}),
            "receiver": Database(f"sqlite:///{folder}/receiver.db"),
        }
        for service, database in databases.items():
            stack.callback(database.dispose)
            SCHEMAS[service].upgrade(database)
            add_ada(database)
        yield databases, *_Day(databases["notifier"], databases["receiver"]).live()


@contextmanager
def running(folder: Path, *more: Callable[[Mapping[str, Database]], None]) -> Iterator[University]:
    """Serve both services on databases with that day."""
    with ExitStack() as stack:
        databases, retried, deleted = stack.enter_context(lived(folder))
        for fill in more:
            fill(databases)
        addresses = {}
        for service, database in databases.items():
            url = database.engine.url.render_as_string()
            served = serve(service, SCHEMAS[service], url, folder, ALLOW_LOOPBACK="true")
            stack.callback(served.stop)
            addresses[service] = f"http://127.0.0.1:{served.port}"
        with databases["receiver"].reading() as session:
            entries = {one.course_id: one.id for one in registry.list_added(session)}
        yield University(addresses, databases, entries, retried, deleted)


def add_ada(database: Database) -> None:
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=datetime.now(UTC))


class _Day:
    """The day that ends now; the agenda has what is still to happen."""

    def __init__(self, eassessment: Database, elms: Database) -> None:
        self.eassessment, self.elms = eassessment, elms
        self.now = datetime.now(UTC)
        self.chance = random.Random(7)
        self.agenda = sched.scheduler(lambda: self.now)
        self.retried = 0

    def live(self) -> tuple[int, str]:
        """Let the day pass; return the delivery that was retried, and the last deleted course."""
        outbox.subscribe()
        self._open_term()
        regenerated, deleted = self._changes()
        for number, (at, course_id) in enumerate(zip(regenerated, THIS_YEAR, strict=False), 1):
            is_entered = number <= len(regenerated) - 3
            self._plan(at, self._regenerate, course_id, is_entered)
        for at, course_id in zip(deleted, LAST_YEAR, strict=False):
            self._plan(at, self._delete, course_id)
        for quarter in range(96):
            self._plan(self.now - timedelta(minutes=15 * (96 - quarter) - 7), self._sync)
        self.agenda.run(blocking=False)
        return self.retried, list(LAST_YEAR)[len(deleted) - 1]

    def _plan(self, at: datetime, action: Callable[..., None], *arguments: object) -> None:
        self.agenda.enterabs(at, 0, action, (*arguments, at))

    def _open_term(self) -> None:
        began, graded = self.now - timedelta(days=54), self.now - timedelta(days=2)
        titles = {**LAST_YEAR, **THIS_YEAR}
        with self.eassessment.writing() as session:
            for url in (ELMS, LIBRARY):
                endpoints.register(session, url, vault=VAULT, guard=Guard(), now=began)
            tokens = {
                course_id: courses.add_course(session, course_id, title, now=began)
                for course_id, title in titles.items()
            }
            given, most = Decimal(67), Decimal(100)
            scores = [
                Score(user_id=f"s{n}", score_given=given, score_maximum=most, timestamp=graded)
                for n in range(1001, 1020)
            ]
            grades.load(session, dict.fromkeys(titles, scores), now=graded)
        with self.elms.writing() as session:
            url = "https://eassessment.example.ac.uk"
            source = sources.add(session, "eassessment", url, now=began)
            sources.add_secret(session, source, Secret.generate(), vault=VAULT, now=began)
            for course_id, token in tokens.items():
                registry.add(session, source, course_id, token, vault=VAULT, actor=ADA, now=began)

    def _changes(self) -> tuple[list[datetime], list[datetime]]:
        """Return the times of regenerations, and of deletions: one of them during the outage."""
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        times = [
            at
            for begins in (hour - timedelta(hours=back) for back in range(24))
            for _ in range(CHANGES.get(begins.hour, 0))
            if (at := begins + timedelta(minutes=self.chance.uniform(2, 57))) < self.now
        ]
        times = sorted(times + [self.now - timedelta(minutes=back) for back in (2, 11, 34)])
        regenerated, outage = times[4::5], self.now - OUTAGE[0] + timedelta(minutes=1)
        return regenerated, sorted({*times, outage} - set(regenerated))

    def _delete(self, course_id: str, at: datetime) -> None:
        with self.eassessment.writing() as session:
            courses.delete_course(session, course_id, now=at)
        self._plan(at + timedelta(milliseconds=100), self._work)

    def _regenerate(self, course_id: str, is_entered: bool, at: datetime) -> None:
        with self.eassessment.writing() as session:
            token = courses.regenerate_token(session, course_id, now=at)
        self._plan(at + timedelta(milliseconds=100), self._work)
        if is_entered:
            self._plan(at + timedelta(minutes=20), self._enter, course_id, token)

    def _enter(self, course_id: str, token: CourseToken, at: datetime) -> None:
        with self.elms.writing() as session:
            entry = registry.get_added(session, sources.get(session, "eassessment"), course_id)
            registry.set_token(session, entry, token, vault=VAULT, actor=ADA, now=at)

    def _work(self, at: datetime) -> None:
        """Send what is due, as a worker does, and plan the retries."""
        with self.eassessment.writing() as session:
            due, _ = claims.find_due(session, 0, now=at)
            numbers, lease = dict.fromkeys(due, 50), timedelta(minutes=1)
            claimed = claims.claim(session, numbers, newest=False, lease=lease, now=at)
        finished = [
            Finished(one, at, self.chance.randrange(24, 190), self._respond(one, at), jitter=0.5)
            for one in claimed
        ]
        later = at + timedelta(milliseconds=max((one.milliseconds for one in finished), default=0))
        with self.eassessment.writing() as session:
            settled = batch.settle(session, finished, disable_after=timedelta(days=5), now=later)
        for one in settled.settlements:
            if isinstance(one.decision, RetryAt):
                self.retried = one.claimed.delivery_id
                self._plan(one.decision.due_at, self._work)

    def _respond(self, one: Claimed, at: datetime) -> WebhookResponse | Failure:
        if one.url == LIBRARY and one.course_id.startswith("MUS"):
            return WebhookResponse(422, excerpt=f'{{"detail": "no shelf for {one.course_id}"}}')
        if one.url != ELMS:
            return WebhookResponse(204)
        if OUTAGE[0] > self.now - at > OUTAGE[1]:
            return Failure("refused", "elms.example.ac.uk: Connection refused")
        with self.elms.writing() as session:
            source = sources.get_webhook_source(session, "eassessment", vault=VAULT)
            raw = one.body.encode()
            event = events.load(raw)
            outcome = inbox.accept(session, source, one.webhook_id, event, raw, now=at)
        return WebhookResponse(200, excerpt=f'{{"outcome": "{outcome}"}}')

    def _sync(self, at: datetime) -> None:
        """Record a grade sync; one of the day was slow."""
        with self.elms.writing() as session:
            plan = planner.plan_entries(
                registry.list_added(session), needs_activity=False, now=db.now(session)
            )
            run_id = runs.begin(session, "elms@sync-1", deleted=len(plan.deleted), now=at)
            outcomes = [CourseOutcome.SYNCED, *[CourseOutcome.UNCHANGED] * 7]
            fetched = [
                CourseResult("eassessment", entry.course_id, self.chance.choice(outcomes))
                for entry in plan.to_fetch
            ]
            runs.record(session, run_id, (*plan.skipped, *fetched))
            updates = [EntryUpdate(entry.id, synced=True) for entry in plan.to_fetch]
            registry.apply_updates(session, updates, actor=Actor(ActorKind.SYNC, "run"), now=at)
            requests, seconds = (3, 12.4) if run_id == BUSY_RUN else (1, 0.6)
            seconds = round(seconds + self.chance.uniform(-0.3, 0.3), 2)
            results = (*plan.deleted, *plan.skipped, *fetched)
            scores, exit_code = ScoreCounts(9, 6, 80), int(bool(plan.skipped))
            result = RunResult(run_id, results, scores, requests, 10, seconds, exit_code)
            runs.end(session, result, now=at + timedelta(seconds=seconds))

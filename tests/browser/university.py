"""A day at a university with both platforms, up to now, for those who look at the pages.

What is written, is written by the services' own functions, at the moments of that day.
"""

import heapq
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from contract import events
from contract.grades import Score
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.session import Database
from foundation.errors import Advice
from foundation.http.ssrf import Guard
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import SOURCE, Delivery, DeliveryStatus
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.retry_policy import Failure, RetryAt, WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from receiver.course_state import Status
from receiver.gradebook.base import ScoreCounts
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources import store as sources
from receiver.sync import planner
from receiver.webhooks import inbox
from tests.browser.syllabus import LAST_YEAR, THIS_YEAR

ELMS = "https://elms.example.ac.uk/webhooks/eassessment"
LIBRARY = "https://library.example.ac.uk/hooks/courses"
EASSESSMENT = "https://eassessment.example.ac.uk"
ADA = Actor(ActorKind.ADMINISTRATOR, "Ada Lovelace")
BY_HOUR = {8: 3, 9: 6, 10: 8, 11: 6, 12: 2, 13: 4, 14: 7, 15: 5, 16: 4, 17: 2, 21: 1}
"""How much is deleted or regenerated in each hour of the clock (UTC)."""
ELMS_IS_DOWN = timedelta(hours=6, minutes=10), timedelta(hours=6, minutes=6)
"""From when until when, before now, ELMS does not answer."""
TERMS = BatchSettings(timedelta(minutes=1), timedelta(days=5), lambda: 0.5)


@dataclass
class Day:
    """Both platforms' databases, and what is still to come on this day."""

    eassessment: Database
    elms: Database
    vault: Vault
    now: datetime
    library_ill_for: timedelta
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    tokens: dict[str, CourseToken] = field(default_factory=dict)
    agenda: list[tuple[datetime, int, Callable[[datetime], None]]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def plan(self, at: datetime, action: Callable[[datetime], None]) -> None:
        """Let something happen at a moment."""
        heapq.heappush(self.agenda, (at, next(self.numbers), action))

    def pass_by(self) -> None:
        """Let all of it happen, in its order, until now."""
        while self.agenda and self.agenda[0][0] < self.now:
            at, _, action = heapq.heappop(self.agenda)
            action(at)


@dataclass(frozen=True)
class Seen:
    """What there is to see: ELMS's entries by course, two deliveries, a course of each kind.

    One delivery `waited` for ELMS, one is `dead`.
    """

    entries: Mapping[str, int]
    waited: int
    dead: int
    deleted: str
    renewed: str
    active: str


def furnish(
    eassessment_url: str,
    elms_url: str,
    vault: Vault,
    *,
    library_ill_for: timedelta = timedelta(0),
    now: datetime,
) -> Seen:
    """Fill the empty databases of both platforms with one day that ends now."""
    outbox.subscribe()
    eassessment = Database(eassessment_url, info={SOURCE: "eassessment"})
    day = Day(eassessment, Database(elms_url), vault, now, library_ill_for)
    _open_term(day)
    _plan_changes(day)
    for quarter in range(96):
        day.plan(now - timedelta(minutes=15 * (96 - quarter) - 7), partial(_sync, day))
    day.pass_by()
    seen = _seen(day)
    day.eassessment.dispose()
    day.elms.dispose()
    return seen


def _open_term(day: Day) -> None:
    """Register endpoints and courses of both years, and link each course at ELMS."""
    began = day.now - timedelta(days=54)
    with day.eassessment.writing() as session:
        for url in (ELMS, LIBRARY):
            endpoints.register(session, url, vault=day.vault, guard=Guard(), now=began)
        for course_id, title in {**LAST_YEAR, **THIS_YEAR}.items():
            day.tokens[course_id] = courses.add_course(session, course_id, title, now=began)
        marked = day.now - timedelta(days=2)
        grades.load(session, {one: _scores(day, marked) for one in day.tokens}, now=marked)
    with day.elms.writing() as session:
        source = sources.add(session, "eassessment", EASSESSMENT, now=began)
        sources.add_secret(session, source, Secret.generate(), vault=day.vault, now=began)
        for course_id, token in day.tokens.items():
            registry.add(session, source, course_id, token, vault=day.vault, actor=ADA, now=began)


def _scores(day: Day, at: datetime) -> list[Score]:
    people = range(1001, 1001 + day.chance.randrange(18, 90))
    return [
        Score(
            user_id=f"s{number}",
            score_given=Decimal(f"{day.chance.gauss(67, 12):.1f}"),
            score_maximum=Decimal(100),
            timestamp=at,
        )
        for number in people
    ]


def _plan_changes(day: Day) -> None:
    """Let courses of last year be deleted and tokens of this year's regenerated over the day.

    One is deleted while ELMS is down, and three have just been; of the tokens all but the last
    three are entered at ELMS.
    """
    hour = day.now.replace(minute=0, second=0, microsecond=0)
    every = [
        at
        for begins in (hour - timedelta(hours=back) for back in range(24))
        for _ in range(BY_HOUR.get(begins.hour, 0))
        if (at := begins + timedelta(minutes=day.chance.uniform(2, 57))) < day.now
    ]
    every += [day.now - timedelta(minutes=minutes) for minutes in (2, 11, 34)]
    every.append(day.now - ELMS_IS_DOWN[0] + timedelta(minutes=1))
    regenerated = sorted(every)[4::5]
    for at, course_id in zip(sorted(set(every) - set(regenerated)), LAST_YEAR, strict=False):
        day.plan(at, partial(_delete, day, course_id))
    for number, (at, course_id) in enumerate(zip(regenerated, THIS_YEAR, strict=False)):
        entered = number < len(regenerated) - 3
        day.plan(at, partial(_regenerate, day, course_id, entered))


def _delete(day: Day, course_id: str, at: datetime) -> None:
    with day.eassessment.writing() as session:
        courses.delete_course(session, course_id, now=at)
    day.plan(at + _moments(day), partial(_work, day))


def _regenerate(day: Day, course_id: str, entered: bool, at: datetime) -> None:
    """Regenerate a token; if it is entered at ELMS, then within half an hour."""
    with day.eassessment.writing() as session:
        token = courses.regenerate_token(session, course_id, now=at)
    day.plan(at + _moments(day), partial(_work, day))
    if entered:
        entered_at = at + timedelta(minutes=day.chance.uniform(5, 30))
        day.plan(entered_at, partial(_enter, day, course_id, token))


def _enter(day: Day, course_id: str, token: CourseToken, at: datetime) -> None:
    with day.elms.writing() as session:
        entry = registry.get(session, sources.get(session, "eassessment"), course_id)
        registry.set_token(session, entry, token, vault=day.vault, actor=ADA, now=at)


def _moments(day: Day) -> timedelta:
    return timedelta(milliseconds=day.chance.uniform(40, 260))


def _work(day: Day, at: datetime) -> None:
    """Take a worker's turn: claim, send, settle; what is tried again, is when it is due."""
    with day.eassessment.writing() as session:
        claimed = batch.process_batch(session, [], _limits(at), TERMS, now=at).claimed
    if not claimed:
        return
    finished = [
        Finished(one, at, day.chance.randrange(24, 190), _answer(day, one, at)) for one in claimed
    ]
    settled_at = at + timedelta(milliseconds=max(one.milliseconds for one in finished))
    with day.eassessment.writing() as session:
        settled = batch.process_batch(
            session, finished, lambda _: _NONE, TERMS, now=settled_at
        ).settled
    for one in settled:
        if isinstance(one.decision, RetryAt):
            day.plan(one.decision.due_at, partial(_work, day))


_NONE = ClaimLimits(0, 0, 0, {})


def _limits(at: datetime) -> Callable[[Mapping[int, BreakerState]], ClaimLimits]:
    share = EndpointLimit(50, 50)
    return lambda every: ClaimLimits(
        50, 50, 50, {one: share for one, health in every.items() if not health.is_paused(at)}
    )


def _answer(day: Day, one: Any, at: datetime) -> WebhookResponse | Failure:
    before_now = day.now - at
    if one.url == LIBRARY:
        if before_now < day.library_ill_for:
            return WebhookResponse(503, excerpt='{"detail": "the catalogue is being migrated"}')
        if one.course_id.startswith(("ARCH", "MUS")):
            return WebhookResponse(
                422, excerpt=f'{{"detail": "no shelf is known for {one.course_id}"}}'
            )
        return WebhookResponse(204)
    if ELMS_IS_DOWN[0] > before_now > ELMS_IS_DOWN[1]:
        return Failure("refused", "elms.example.ac.uk:443: the connection was refused")
    with day.elms.writing() as session:
        door = sources.get_webhook_source(session, "eassessment", vault=day.vault)
        raw = one.body.encode()
        outcome = inbox.accept(session, door, one.webhook_id, events.load(raw), raw, now=at)
    return WebhookResponse(200, excerpt=f'{{"outcome": "{outcome}"}}')


def _sync(day: Day, at: datetime) -> None:
    """Record a grade sync of the registry as it stands; one of the day found eAssessment busy."""
    with day.elms.writing() as session:
        planned = planner.plan_entries(registry.list_entries(session))
        run_id = runs.begin(session, "elms@sync-1", now=at)
        busy = run_id == 71
        asked = [_asked(day, entry, busy=busy) for entry in planned.to_fetch]
        reports = (*planned.skipped, *asked)
        runs.record(session, run_id, reports)
        _learn(session, planned, asked, run_id, at)
        synced = sum(one.outcome is CourseOutcome.SYNCED for one in asked)
        written = ScoreCounts(synced * 3, synced * 2, synced * 40)
        seconds = round(day.chance.uniform(0.3, 0.9) + (12.1 if busy else 0), 2)
        report = RunResult(run_id, reports, written, 3 if busy else 1, 10, seconds, int(busy))
        runs.end(session, report, now=at + timedelta(seconds=seconds))


def _asked(day: Day, entry: Any, *, busy: bool) -> CourseResult:
    if busy and day.chance.random() < 0.2:
        return CourseResult(
            "eassessment",
            entry.course_id,
            CourseOutcome.FAILED,
            "transient",
            "eAssessment answered 503 three times: its database is busy",
            advice=Advice("No action needed yet: the next run tries again."),
        )
    outcome = CourseOutcome.SYNCED if day.chance.random() < 0.12 else CourseOutcome.UNCHANGED
    return CourseResult("eassessment", entry.course_id, outcome)


def _learn(session: Session, planned: Any, asked: Any, run_id: int, at: datetime) -> None:
    lessons = [
        EntryUpdate(entry.id, synced=True)
        for entry, report in zip(planned.to_fetch, asked, strict=True)
        if report.outcome is not CourseOutcome.FAILED
    ]
    registry.apply_updates(session, lessons, actor=Actor(ActorKind.SYNC, f"run {run_id}"), now=at)


def _seen(day: Day) -> Seen:
    with day.eassessment.reading() as session:
        to_elms = session.query(Delivery).where(Delivery.endpoint_id == 1)
        waited = to_elms.order_by(Delivery.attempts.desc(), Delivery.id).limit(1).one()
        dead = session.query(Delivery).where(Delivery.status == DeliveryStatus.DEAD).limit(1).one()
    with day.elms.reading() as session:
        every = registry.list_entries(session)
    by_status = {registry.course_status(one).status: one.course_id for one in every}
    return Seen(
        entries={one.course_id: one.id for one in every},
        waited=waited.id,
        dead=dead.id,
        deleted=by_status[Status.COURSE_DELETED],
        renewed=by_status[Status.TOKEN_INVALID],
        active=by_status[Status.ACTIVE],
    )

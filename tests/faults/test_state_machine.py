"""Any order of changes, claims, crashes, late responses and clock jumps, compared with a model."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr
from sqlalchemy import delete, func, select

from contract import events, signatures
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.courses import service as courses
from notifier.errors import ReplayRefusedError
from notifier.models import SCHEMA, SOURCE, Attempt, Course, Delivery, Event, Replay
from notifier.webhooks import endpoints, outbox, replay
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker import batch
from notifier.worker.batch import BatchResult, BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from receiver.models import SCHEMA as ELMS_SCHEMA
from receiver.models import Entry, InboxMessage, Source
from receiver.registry import entries as registry
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.faults.model import RETRY_AFTER, Claim, Elms, Endpoint, Fact, Result, Sender

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
SITE = "eassessment.example.ac.uk"
LEASE = timedelta(minutes=1)
TERMS = BatchSettings(LEASE, timedelta(days=5), lambda: 0.0)
WORKERS = 3
KINDS = ("course.deleted", "token.regenerated")
RESPONSES: dict[Result, WebhookResponse | Failure] = {
    Result.SUCCESS: WebhookResponse(200),
    Result.BUSY: WebhookResponse(503),
    Result.RETRY_LATER: WebhookResponse(429, str(RETRY_AFTER.seconds)),
    Result.UNAUTHORIZED: WebhookResponse(401),
    Result.REJECTED: WebhookResponse(422),
    Result.GONE: WebhookResponse(410),
    Result.TIMEOUT: Failure("deadline", "no answer within 15 s"),
    Result.INTERNAL: Failure("internal", "ValueError"),
}

picks = st.integers(0, 11)
workers = st.integers(0, WORKERS - 1)
limits = st.integers(0, 6)
results = st.sampled_from(
    [one for one in Result if one is not Result.UNAUTHORIZED] + [Result.SUCCESS] * 4
)


class RolledBackError(Exception):
    """Raised on purpose inside a transaction."""


@dataclass(frozen=True)
class Message:
    """A signed webhook that may arrive at ELMS, possibly late and more than once."""

    fact: Fact
    signed_by: list[str]
    signed_at: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Attempted:
    """A claim of a worker: the model's and the real one, and the result if it has one."""

    claim: Claim
    claimed: Claimed
    signed_by: list[str]
    result: Result | None = None
    started_at: datetime = NINE

    def finished(self) -> Finished:
        assert self.result is not None
        return Finished(self.claimed, self.started_at, 1, RESPONSES[self.result])


class Machine(RuleBasedStateMachine):
    """Two courses, three endpoints that lead to one ELMS, three workers, one clock."""

    def __init__(self, notifier: Database, receiver: Database) -> None:
        super().__init__()
        self.notifier, self.receiver, self.now = notifier, receiver, NINE
        self.vault = Vault(SecretStr(Fernet.generate_key().decode()))
        self.sender, self.elms = Sender(), Elms()
        self.secrets: dict[str, Secret] = {}
        self.tokens: dict[str, CourseToken | None] = {}
        self.facts: dict[str, Fact] = {}
        self.claims: list[list[Attempted]] = [[] for _ in range(WORKERS)]
        self.wire: list[Message] = []
        self.applied: Counter[str] = Counter()
        self.delivered: dict[int, int] = {}

    @initialize()
    def begin(self) -> None:
        for database, schema in ((self.notifier, SCHEMA), (self.receiver, ELMS_SCHEMA)):
            with database.writing() as session:
                for table in reversed(schema.metadata.sorted_tables):
                    session.execute(delete(table))
        with self.receiver.writing() as session:
            self.source_id = sources.add(session, SITE, "https://e.example", now=self.now).id
        for number, event_types in enumerate((KINDS, KINDS, KINDS[:1])):
            url = f"https://elms.example.ac.uk/webhooks/{number}"
            with self.notifier.writing() as session:
                endpoint, secret = endpoints.register(
                    session, url, event_types, guard=Guard(), vault=self.vault, now=self.now
                )
            self.sender.endpoints[endpoint.id] = Endpoint(event_types)
            self._add_secret(endpoint.id, secret, timedelta(0))
        self.elms.secrets = set(self.secrets)
        self.add_course()
        self.add_course()

    @precondition(lambda self: len(self._existing()) < 2)
    @rule()
    def add_course(self) -> None:
        course_id = f"CS{len(self.tokens)}"
        with self.notifier.writing() as session:
            token = courses.add_course(session, course_id, course_id, now=self.now)
        with self.receiver.writing() as session:
            registry.add(
                session,
                session.get_one(Source, self.source_id),
                course_id,
                token,
                vault=self.vault,
                actor=registry.Actor("administrator", "ada@elms"),
                now=self.now,
            )
        self.tokens[course_id] = token
        self.elms.tokens[course_id] = token.token_id

    @precondition(lambda self: self._existing())
    @rule(pick=picks, kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    def change(self, pick: int, kinds: list[str]) -> None:
        course_id = self._existing()[pick % len(self._existing())]
        for kind in kinds:
            if self.tokens[course_id] is not None:
                self.tokens[course_id] = token = self._change(course_id, kind)
                fact, ids = self._last_fact(course_id, token)
                self.facts[fact.event] = fact
                self.sender.emit(fact.event, kind, ids, self.now)

    @precondition(lambda self: self._existing())
    @rule(pick=picks, kind=st.sampled_from(KINDS))
    def roll_back_change(self, pick: int, kind: str) -> None:
        with pytest.raises(RolledBackError):
            self._change(self._existing()[pick % len(self._existing())], kind, roll_back=True)

    @precondition(lambda self: self._existing())
    @rule(pick=picks)
    def enter_token(self, pick: int) -> None:
        course_id = self._existing()[pick % len(self._existing())]
        token = self.tokens[course_id]
        assert token is not None
        with self.receiver.writing() as session:
            registry.set_token(
                session,
                registry.get(session, session.get_one(Source, self.source_id), course_id),
                token,
                vault=self.vault,
                actor=registry.Actor("administrator", "ada@elms"),
                now=db.now(session),
            )
        self.elms.tokens[course_id] = token.token_id

    @rule(worker=workers, late=st.integers(0, 2), reverse=st.booleans(), limit=limits)
    def process_batch(self, worker: int, late: int, reverse: bool, limit: int) -> None:
        finished = self._finished(worker)[late:]
        self._process_batch(worker, finished[::-1] if reverse else finished, limit)

    @rule(worker=workers, limit=limits, commits=st.booleans())
    def process_batch_fails(self, worker: int, limit: int, commits: bool) -> None:
        """The batch is rolled back, or it commits but its worker does not learn so."""
        finished = self._finished(worker)
        if commits:
            before = list(self.claims[worker])
            self._process_batch(worker, finished, limit)
            self.claims[worker] = before
        else:
            with pytest.raises(RolledBackError):
                self._real_batch(finished, limit, roll_back=True)

    @precondition(lambda self: any(self.claims))
    @rule(pick=picks, outcomes=st.lists(results, min_size=1, max_size=4))
    def post(self, pick: int, outcomes: list[Result]) -> None:
        for result in outcomes:
            waiting = [one for claims in self.claims for one in claims if one.result is None]
            if waiting:
                self._post(waiting[pick % len(waiting)], result)

    @rule(worker=workers, result=st.one_of(st.none(), results), times=st.integers(1, 11))
    def work(self, worker: int, result: Result | None, times: int) -> None:
        """Claim, post and settle; without a result the worker crashes each time."""
        for _ in range(times):
            self._process_batch(worker, self._finished(worker), 20)
            for one in self.claims[worker]:
                if result is not None and one.result is None:
                    self._post(one, result)
            if result is None:
                self.crash(worker)
            else:
                self._process_batch(worker, self._finished(worker), 0)
            if result is not Result.SUCCESS:
                self.pass_time(None)

    @rule(worker=workers, result=results, takes_over=st.booleans())
    def sleep_beyond_lease(self, worker: int, result: Result, takes_over: bool) -> None:
        """A worker stops for longer than its lease, then posts and settles."""
        self._process_batch(worker, self._finished(worker), 20)
        self.now += LEASE
        self._process_batch((worker + 1) % WORKERS, [], 20 if takes_over else 0)
        for one in self.claims[worker]:
            if one.result is None:
                self._post(one, result)
        self._process_batch(worker, self._finished(worker), 0)

    @rule(worker=workers)
    def crash(self, worker: int) -> None:
        self.claims[worker] = []

    @precondition(lambda self: self.wire)
    @rule(pick=picks, again=st.booleans())
    def arrive(self, pick: int, again: bool) -> None:
        message = self.wire[pick % len(self.wire)]
        if not again:
            self.wire.remove(message)
        self._receive(message)

    @rule(seconds=st.sampled_from([None, -30, -1, 1, 29, 61, 301, 20000, 86400]))
    def pass_time(self, seconds: int | None) -> None:
        """Move the clock, possibly back a little; without seconds to the next thing due."""
        if seconds is not None:
            self.now += timedelta(seconds=seconds)
            return
        moments = [one.due for one in self.sender.deliveries.values() if one.status == "pending"]
        moments += [one.leased_until for one in self.sender.deliveries.values() if one.leased_until]
        moments += [one.paused_until for one in self._endpoint_rows().values() if one.paused_until]
        self.now = min((one for one in moments if one > self.now), default=self.now)

    @rule(pick=picks, hours=st.sampled_from([0, 1, 24]))
    def rotate(self, pick: int, hours: int) -> None:
        endpoint_id, overlap = self._endpoint_id(pick), timedelta(hours=hours)
        with self.notifier.writing() as session:
            secret = endpoints.rotate_secret(
                session, endpoint_id, overlap=overlap, vault=self.vault, now=self.now
            )
        self._add_secret(endpoint_id, secret, overlap)

    @rule(pick=picks, forget=st.booleans())
    def adopt_secret(self, pick: int, forget: bool) -> None:
        """ELMS gets the newest secret of an endpoint, and may forget the older ones."""
        names = list(self.sender.endpoints[self._endpoint_id(pick)].secrets)
        self.elms.secrets.add(names[-1])
        if forget:
            self.elms.secrets -= set(names[:-1])

    @precondition(lambda self: self.sender.deliveries)
    @rule(pick=picks)
    def replay(self, pick: int) -> None:
        one = list(self.sender.deliveries.values())[-1 - pick % len(self.sender.deliveries)]
        with self.notifier.writing() as session:
            if self.sender.endpoints[one.endpoint].disabled:
                with pytest.raises(ReplayRefusedError):
                    replay.replay(session, [one.id], by="ada", now=self.now)
                return
            replay.replay(session, [one.id], by="ada", now=self.now)
        self.sender.replay(one, self.now)

    @rule(pick=picks)
    def disable(self, pick: int) -> None:
        endpoint_id = self._endpoint_id(pick)
        with self.notifier.writing() as session:
            endpoints.disable(session, endpoint_id, "out of order", now=self.now)
        self.sender.disable(endpoint_id)

    @rule(pick=picks)
    def enable(self, pick: int) -> None:
        endpoint_id = self._endpoint_id(pick)
        with self.notifier.writing() as session:
            endpoints.enable(session, endpoint_id, now=self.now)
        self.sender.enable(endpoint_id, self.now)

    @invariant()
    def deliveries_match_the_model(self) -> None:
        decided: defaultdict[int, list[str]] = defaultdict(list)
        with self.notifier.reading() as session:
            rows = list(session.scalars(select(Delivery)))
            for attempt in session.scalars(select(Attempt).order_by(Attempt.id)):
                decided[attempt.delivery_id].append(attempt.decided)
            counted = select(Replay.delivery_id, func.count()).group_by(Replay.delivery_id)
            replays = {row[0]: row[1] for row in session.execute(counted)}
        assert {
            row.id: (
                *(row.event_id, row.endpoint_id, row.status, row.attempts, row.due_at),
                *(row.lease_token, row.leased_until, decided[row.id], replays.get(row.id, 0)),
            )
            for row in rows
        } == {
            one.id: (
                *(one.event, one.endpoint, one.status, one.attempts, one.due),
                *(one.lease, one.leased_until, one.decided, one.replays),
            )
            for one in self.sender.deliveries.values()
        }

    @invariant()
    def every_event_has_one_delivery_per_endpoint(self) -> None:
        with self.notifier.reading() as session:
            assert set(session.scalars(select(Event.id))) == set(self.facts)
        assert Counter((one.event, one.endpoint) for one in self.sender.deliveries.values()) == {
            (fact.event, endpoint_id): 1
            for fact in self.facts.values()
            for endpoint_id, endpoint in self.sender.endpoints.items()
            if (KINDS[1] if fact.token else KINDS[0]) in endpoint.event_types
        }

    @invariant()
    def deliveries_end_once_and_are_never_dropped(self) -> None:
        for one in self.sender.deliveries.values():
            assert one.status in {"pending", "delivered", "dead", "held"}
            assert 0 <= one.attempts <= 10
            assert one.status != "pending" or not self.sender.endpoints[one.endpoint].disabled
            if one.id in self.delivered and one.status != "delivered":
                assert one.replays > self.delivered.pop(one.id)
            if one.status == "delivered":
                self.delivered[one.id] = one.replays
        holders = Counter(
            one.claim.delivery.id
            for claims in self.claims
            for one in claims
            if one.claimed.lease_token == one.claim.delivery.lease
        )
        assert set(holders.values()) <= {1}

    @invariant()
    def only_endpoints_that_the_model_disabled_are_disabled(self) -> None:
        rows = self._endpoint_rows()
        assert {one for one, row in rows.items() if row.disabled_at} == {
            one for one, endpoint in self.sender.endpoints.items() if endpoint.disabled
        }

    @invariant()
    def registry_is_the_fold_of_the_accepted_events(self) -> None:
        with self.receiver.reading() as session:
            statuses = {
                row.course_id: registry.course_status(row).status.value
                for row in session.scalars(select(Entry))
            }
            accepted = set(session.scalars(select(InboxMessage.webhook_id)))
        assert statuses == {course_id: self.elms.status(course_id) for course_id in self.tokens}
        assert accepted == {fact.event for fact in self.elms.facts}
        assert set(self.applied.values()) <= {0, 1}

    def _process_batch(self, worker: int, finished: list[Attempted], limit: int) -> None:
        """Process a batch in the real code and in the model, and keep what was claimed."""
        done = self._real_batch(finished, limit)
        self.claims[worker] = [one for one in self.claims[worker] if one not in finished]
        self.sender.settle([(one.claim, one.result) for one in finished if one.result], self.now)
        for endpoint_id in done.disabled:
            self.sender.disable(endpoint_id)
        self.sender.reclaim_expired(self.now)
        for claimed in done.claimed:
            one = self.sender.deliveries[claimed.delivery_id]
            assert one.is_claimable(self.now)
            claim = self.sender.claim(one, claimed.lease_token, self.now + LEASE)
            assert (claimed.attempts, claimed.webhook_id) == (one.attempts, one.event)
            signed_by = self.sender.endpoints[one.endpoint].signing(self.now)
            assert [self.secrets[name] for name in signed_by] == [
                Secret.parse(self.vault.decrypt(text)) for text in done.encrypted[one.endpoint]
            ]
            self.claims[worker].append(Attempted(claim, claimed, signed_by))

    def _real_batch(
        self, finished: list[Attempted], limit: int, *, roll_back: bool = False
    ) -> BatchResult:
        def limits(states: Mapping[int, BreakerState]) -> ClaimLimits:
            most = EndpointLimit(limit, limit)
            by_endpoint = {
                one: EndpointLimit(1, 1) if breaker.is_half_open(self.now) else most
                for one, breaker in states.items()
                if not breaker.is_paused(self.now)
            }
            return ClaimLimits(limit, limit, limit, by_endpoint)

        with self.notifier.writing() as session:
            real = [one.finished() for one in finished]
            done = batch.process_batch(session, real, limits, TERMS, now=self.now)
            if roll_back:
                raise RolledBackError
        return done

    def _finished(self, worker: int) -> list[Attempted]:
        return [one for one in self.claims[worker] if one.result]

    def _post(self, one: Attempted, result: Result) -> None:
        """Send once: received at once, or on the wire with its response lost, or not sent."""
        one.started_at, one.result = self.now, result
        body = one.claimed.body.encode()
        secrets = [self.secrets[name] for name in one.signed_by]
        headers = signatures.sign(secrets, one.claimed.webhook_id, body, now=self.now)
        fact, signed_at = self.facts[one.claimed.webhook_id], int(self.now.timestamp())
        message = Message(fact, one.signed_by, signed_at, headers, body)
        if result in {Result.SUCCESS, Result.TIMEOUT}:
            self.wire.append(message)
        if result is Result.SUCCESS and self._receive(message) == "refused":
            one.result = Result.UNAUTHORIZED

    def _receive(self, message: Message) -> str:
        age = self.now.timestamp() - message.signed_at
        outcome = self._real_receive(message)
        assert outcome == self.elms.receive(message.fact, message.signed_by, age)
        self.applied[message.fact.event] += outcome == "applied"
        return outcome

    def _real_receive(self, message: Message) -> str:
        secrets = [self.secrets[name] for name in sorted(self.elms.secrets)]
        try:
            webhook_id = signatures.verify(secrets, message.headers, message.body, now=self.now)
        except signatures.SignatureError:
            return "refused"
        source = WebhookSource(self.source_id, SITE, tuple(secrets))
        with self.receiver.writing() as session:
            event = events.load(message.body)
            return inbox.accept(
                session, source, webhook_id, event, message.body, now=self.now
            ).value

    def _change(self, course_id: str, kind: str, *, roll_back: bool = False) -> CourseToken | None:
        token = None
        with self.notifier.writing() as session:
            if kind == "course.deleted":
                courses.delete_course(session, course_id, now=self.now)
            else:
                token = courses.regenerate_token(session, course_id, now=self.now)
            if roll_back:
                raise RolledBackError
        return token

    def _last_fact(self, course_id: str, token: CourseToken | None) -> tuple[Fact, dict[int, int]]:
        """Return the last event of a course, and the id of its delivery for each endpoint."""
        with self.notifier.reading() as session:
            last = select(Course.version).where(Course.course_id == course_id).scalar_subquery()
            event = session.scalars(
                select(Event).where(Event.course_id == course_id, Event.course_version == last)
            ).one()
            ids = select(Delivery.endpoint_id, Delivery.id).where(Delivery.event_id == event.id)
            fact = Fact(event.id, course_id, event.course_version, token and token.token_id)
            return fact, {row[0]: row[1] for row in session.execute(ids)}

    def _add_secret(self, endpoint_id: int, secret: Secret, overlap: timedelta) -> None:
        name = f"{endpoint_id}:{len(self.sender.endpoints[endpoint_id].secrets)}"
        self.sender.endpoints[endpoint_id].rotate(name, overlap, self.now)
        self.secrets[name] = secret

    def _endpoint_rows(self) -> dict[int, Any]:
        with self.notifier.reading() as session:
            return {one.id: one for one in endpoints.list_all(session)}

    def _endpoint_id(self, pick: int) -> int:
        return list(self.sender.endpoints)[pick % len(self.sender.endpoints)]

    def _existing(self) -> list[str]:
        return [course_id for course_id, token in self.tokens.items() if token is not None]


@pytest.fixture
def run_machine(
    make_database_url: Callable[[Schema], str], make_database: Callable[[Schema], Database]
) -> Iterator[Callable[[settings], None]]:
    """Return a function that runs the machine on two empty databases."""
    outbox.subscribe()
    notifier = Database(make_database_url(SCHEMA), info={SOURCE: SITE})
    receiver = make_database(ELMS_SCHEMA)

    def run(given: settings) -> None:
        run_state_machine_as_test(lambda: Machine(notifier, receiver), settings=given)

    yield run
    notifier.dispose()


# Hypothesis may take minutes to shrink a failure.
@pytest.mark.timeout(600)
def test_services_match_the_model(run_machine: Callable[[settings], None]) -> None:
    # Derived from the code alone, so that every run tries the same histories.
    run_machine(
        settings(
            derandomize=True, max_examples=20, stateful_step_count=40, deadline=None, database=None
        )
    )


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_services_match_the_model_in_long_histories(
    run_machine: Callable[[settings], None],
) -> None:
    run_machine(settings(max_examples=200, stateful_step_count=100, deadline=None, database=None))

"""Any order of changes, claims, crashes, late responses and clock jumps, compared with a model."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
from sqlalchemy import delete, select

from contract import events, signatures
from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.db.audit import Actor, Channel
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.courses import service as courses
from notifier.errors import ReplayRefusedError
from notifier.models import SCHEMA, SOURCE, Course, Delivery, Event
from notifier.webhooks import endpoints, outbox, replay
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker import batch, claims
from notifier.worker.batch import SettledBatch
from receiver.models import SCHEMA as ELMS_SCHEMA
from receiver.models import Entry, InboxMessage
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.faults.model import Claim, Elms, Endpoint, Fact, Result, Sender

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
SITE = "eassessment.example.ac.uk"
LEASE = timedelta(minutes=1)
WORKERS = 3
MAX_ENDPOINTS = 6  # with removed ones
DELETED, RESTORED, REGENERATED = "course.deleted", "course.restored", "token.regenerated"
KINDS = (DELETED, RESTORED, REGENERATED)
RESPONSES: dict[Result, WebhookResponse | Failure] = {
    Result.SUCCESS: WebhookResponse(200),
    Result.BUSY: WebhookResponse(503),
    Result.UNAUTHORIZED: WebhookResponse(401),
    Result.REJECTED: WebhookResponse(422),
    Result.GONE: WebhookResponse(410),
    Result.TIMEOUT: Failure("deadline", "no response within 15 s"),
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


class Machine(RuleBasedStateMachine):
    """Two courses, three endpoints that lead to one ELMS, three workers, one clock."""

    def __init__(self, notifier: Database, receiver: Database) -> None:
        super().__init__()
        self.notifier, self.receiver, self.now = notifier, receiver, NINE
        self.vault = Vault(SecretStr(Fernet.generate_key().decode()))
        self.sender, self.elms = Sender(), Elms()
        self.secrets: dict[str, Secret] = {}
        self.courses: list[str] = []
        self.facts: dict[str, Fact] = {}
        self.claims: list[list[Attempted]] = [[] for _ in range(WORKERS)]
        self.wire: list[Message] = []
        self.applied: Counter[str] = Counter()
        self.delivered: dict[int, int] = {}
        self.expected: set[tuple[str, int]] = set()

    @initialize()
    def begin(self) -> None:
        for database, schema in ((self.notifier, SCHEMA), (self.receiver, ELMS_SCHEMA)):
            with database.writing() as session:
                for table in reversed(schema.metadata.sorted_tables):
                    session.execute(delete(table))
        with self.receiver.writing() as session:
            self.source_id = sources.add(session, SITE, "https://e.example", now=self.now).id
        for number, event_types in enumerate((KINDS, KINDS, KINDS[:1])):
            self._register(f"https://elms.example.ac.uk/webhooks/{number}", event_types)
        self.elms.secrets = set(self.secrets)

    @rule(
        pick=picks,
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
        hours=st.sampled_from([0, 1, 24]),
    )
    def change(self, pick: int, kinds: list[str], hours: int) -> None:
        """Change a course several times; tokens are replaced with an overlap of some hours."""
        course_id = self._course(pick)
        for kind in kinds:
            if (kind == RESTORED) is (course_id not in self.courses):
                self._change(course_id, kind, overlap=timedelta(hours=hours))
                fact, ids = self._last_fact(course_id)
                self.facts[fact.event] = fact
                self.sender.emit(fact.event, kind, ids)
                self.expected |= {
                    (fact.event, number)
                    for number, one in self.sender.endpoints.items()
                    if kind in one.event_types and not one.removed
                }
                if kind == DELETED:
                    self.courses.remove(course_id)
                elif kind == RESTORED:
                    self.courses.append(course_id)

    @rule(pick=picks, kind=st.sampled_from([DELETED, REGENERATED]))
    def roll_back_change(self, pick: int, kind: str) -> None:
        with pytest.raises(RolledBackError):
            self._change(self._course(pick), kind, roll_back=True)

    @rule(worker=workers, late=st.integers(0, 2), reverse=st.booleans(), limit=limits)
    def process_batch(self, worker: int, late: int, reverse: bool, limit: int) -> None:
        finished = self._finished(worker)[late:]
        self._process_batch(worker, finished[::-1] if reverse else finished, limit)

    @rule(worker=workers, limit=limits, commits=st.booleans())
    def process_batch_fails(self, worker: int, limit: int, commits: bool) -> None:
        """The batch is rolled back, or it commits but its worker does not learn so."""
        before = list(self.claims[worker])
        if commits:
            self._process_batch(worker, self._finished(worker), limit)
            self.claims[worker] = before
        else:
            with pytest.raises(RolledBackError):
                self._real_batch(self._finished(worker), limit, roll_back=True)

    @rule(pick=picks, outcomes=st.lists(results, min_size=1, max_size=4))
    def post(self, pick: int, outcomes: list[Result]) -> None:
        for result in outcomes:
            waiting = [one for each in self.claims for one in each if one.result is None]
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

    @rule(worker=workers)
    def give_back(self, worker: int) -> None:
        unsent = [one for one in self.claims[worker] if one.result is None]
        with self.notifier.writing() as session:
            claims.give_back(session, [one.claimed for one in unsent])
        for one in unsent:
            self.sender.give_back(one.claim)
            self.claims[worker].remove(one)

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
        with self.notifier.reading() as session:
            pending = session.scalars(
                select(Delivery).where(Delivery.stored_status == "pending")
            ).all()
            times = [one.leased_until or one.due_at for one in pending]
            times += [one.paused_until for one in endpoints.list_all(session) if one.paused_until]
        self.now = min((one for one in times if one > self.now), default=self.now)

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
                    replay.replay(session, [one.id], by=Actor("ada", Channel.COMMAND), now=self.now)
                return
            replay.replay(session, [one.id], by=Actor("ada", Channel.COMMAND), now=self.now)
        self.sender.replay(one)

    @rule(pick=picks)
    def disable(self, pick: int) -> None:
        with self.notifier.writing() as session:
            endpoints.disable(session, self._endpoint_id(pick), "out of order", now=self.now)
        self.sender.disable(self._endpoint_id(pick))

    @rule(pick=picks)
    def enable(self, pick: int) -> None:
        with self.notifier.writing() as session:
            endpoints.enable(session, self._endpoint_id(pick), now=self.now)
        self.sender.enable(self._endpoint_id(pick))

    @precondition(lambda self: len(self.sender.endpoints) < MAX_ENDPOINTS)
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        """Remove an endpoint, and register its URL again."""
        endpoint_id = self._endpoint_id(pick)
        with self.notifier.writing() as session:
            url = endpoints.get(session, endpoint_id).url
            endpoints.remove(session, endpoint_id, by="ada", now=self.now)
        self.sender.remove(endpoint_id)
        self._register(url, self.sender.endpoints[endpoint_id].event_types)

    @invariant()
    def every_event_has_one_delivery_per_endpoint(self) -> None:
        with self.notifier.reading() as session:
            assert set(session.scalars(select(Event.id))) == set(self.facts)
        assert Counter(
            (one.event, one.endpoint) for one in self.sender.deliveries.values()
        ) == dict.fromkeys(self.expected, 1)

    @invariant()
    def deliveries_match_the_model(self) -> None:
        with self.notifier.reading() as session:
            rows = list(session.scalars(select(Delivery)))
            every = endpoints.list_all(session, removed=True)
            disabled = {one.id for one in every if one.disabled_at}
        assert {
            row.id: (row.event_id, row.endpoint_id, row.status, row.attempts, row.lease_token)
            for row in rows
        } == {
            one.id: (one.event, one.endpoint, one.status, one.attempts, one.lease)
            for one in self.sender.deliveries.values()
        }
        assert disabled == {n for n, one in self.sender.endpoints.items() if one.disabled}

    @invariant()
    def delivered_is_final_unless_replayed(self) -> None:
        for one in self.sender.deliveries.values():
            if one.id in self.delivered and one.status != "delivered":
                assert one.replays > self.delivered.pop(one.id)
            if one.status == "delivered":
                self.delivered[one.id] = one.replays

    @invariant()
    def registry_is_the_fold_of_the_accepted_events(self) -> None:
        with self.receiver.reading() as session:
            entries = {
                one.course_id: (
                    one.deleted_version,
                    one.restored_version,
                    one.announced_version,
                    one.announced_token_id,
                    one.announced_valid_until,
                )
                for one in session.scalars(select(Entry))
            }
            accepted = set(session.scalars(select(InboxMessage.webhook_id)))
        facts = self.elms.facts
        assert entries == {fact.course: self.elms.entry(fact.course) for fact in facts}
        assert accepted == {fact.event for fact in facts}
        assert set(self.applied.values()) <= {0, 1}

    def _process_batch(self, worker: int, finished: list[Attempted], limit: int) -> None:
        """Process a batch in the real code and in the model, and keep what was claimed."""
        settled, claimed_now = self._real_batch(finished, limit)
        self.claims[worker] = [one for one in self.claims[worker] if one not in finished]
        self.sender.settle([(one.claim, one.result) for one in finished if one.result])
        for endpoint_id in settled.disabled:
            self.sender.disable(endpoint_id)
        self.sender.reclaim_expired(self.now)
        for claimed in claimed_now:
            one = self.sender.deliveries[claimed.delivery_id]
            assert (one.status, one.lease) == ("pending", None)
            claim = self.sender.claim(one, claimed.lease_token, self.now + LEASE)
            assert (claimed.attempts, claimed.webhook_id) == (one.attempts, one.event)
            signed_by = self.sender.endpoints[one.endpoint].signing(self.now)
            assert [self.secrets[name] for name in signed_by] == [
                Secret.parse(self.vault.decrypt(text)) for text in claimed.encrypted_secrets
            ]
            self.claims[worker].append(Attempted(claim, claimed, signed_by))

    def _real_batch(
        self, finished: list[Attempted], limit: int, *, roll_back: bool = False
    ) -> tuple[SettledBatch, list[Claimed]]:
        real = [
            Finished(one.claimed, self.now, 1, RESPONSES[one.result])
            for one in finished
            if one.result
        ]
        with self.notifier.writing() as session:
            due, _ = claims.find_due(session, 0, now=self.now)
            settled = batch.settle(session, real, disable_after=timedelta(days=5), now=self.now)
            claimed = [
                *claims.claim(
                    session, dict.fromkeys(due, limit), newest=False, lease=LEASE, now=self.now
                ),
                *(claims.claim_suspect(session, lease=LEASE, now=self.now) if limit else ()),
            ]
            if roll_back:
                raise RolledBackError
        return settled, claimed

    def _finished(self, worker: int) -> list[Attempted]:
        return [one for one in self.claims[worker] if one.result]

    def _post(self, one: Attempted, result: Result) -> None:
        """Send once: received at once, or on the wire with its response lost, or not sent."""
        one.result = result
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
        event, body = events.load(message.body), message.body
        with self.receiver.writing() as session:
            return inbox.accept(session, source, webhook_id, event, body, now=self.now).value

    def _course(self, pick: int) -> str:
        """Return a course that exists; there are always two."""
        while len(self.courses) < 2:
            course_id = f"CS{len(self.facts)}-{len(self.courses)}"
            with self.notifier.writing() as session:
                courses.add_course(session, course_id, course_id, now=self.now)
            self.courses.append(course_id)
        return self.courses[pick % 2]

    def _change(
        self,
        course_id: str,
        kind: str,
        *,
        overlap: timedelta = timedelta(0),
        roll_back: bool = False,
    ) -> None:
        with self.notifier.writing() as session:
            if kind == DELETED:
                courses.delete_course(session, course_id, now=self.now)
            elif kind == RESTORED:
                courses.restore_course(session, course_id, grace=LEASE, now=self.now)
            else:
                courses.regenerate_token(session, course_id, overlap=overlap, now=self.now)
            if roll_back:
                raise RolledBackError

    def _last_fact(self, course_id: str) -> tuple[Fact, dict[int, int]]:
        """Return the last event of a course, and the id of its delivery for each endpoint."""
        with self.notifier.reading() as session:
            last = select(Course.version).where(Course.course_id == course_id).scalar_subquery()
            event = session.scalars(
                select(Event).where(Event.course_id == course_id, Event.course_version == last)
            ).one()
            ids = select(Delivery.endpoint_id, Delivery.id).where(Delivery.event_id == event.id)
            data = events.load(event.body.encode()).data
            token, until = getattr(data, "token_id", None), getattr(data, "valid_until", None)
            fact = Fact(event.id, event.type, course_id, event.course_version, token, until)
            return fact, {row[0]: row[1] for row in session.execute(ids)}

    def _register(self, url: str, event_types: Collection[str]) -> None:
        with self.notifier.writing() as session:
            endpoint, secret = endpoints.register(
                session, url, list(event_types), guard=Guard(), vault=self.vault, now=self.now
            )
        self.sender.endpoints[endpoint.id] = Endpoint(event_types)
        self._add_secret(endpoint.id, secret, timedelta(0))

    def _add_secret(self, endpoint_id: int, secret: Secret, overlap: timedelta) -> None:
        name = f"{endpoint_id}:{len(self.sender.endpoints[endpoint_id].secrets)}"
        self.sender.endpoints[endpoint_id].rotate(name, overlap, self.now)
        self.secrets[name] = secret

    def _endpoint_id(self, pick: int) -> int:
        present = [number for number, one in self.sender.endpoints.items() if not one.removed]
        return present[pick % len(present)]


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

"""Both sides moved together: the real code and the model, and what is in hands and on the way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis.stateful import RuleBasedStateMachine

from contract import signatures
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker.batch import Finished
from tests.faults.model.elms import Elms, Fact, Letter
from tests.faults.model.sender import Claim, Result, Room, Sender
from tests.faults.model.world import LEASE, World

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
WORKERS = 3

ANSWERS: dict[Result, WebhookResponse | Failure] = {
    Result.TAKEN: WebhookResponse(200),
    Result.BUSY: WebhookResponse(503),
    Result.LATER: WebhookResponse(429, "120"),
    Result.REFUSED: WebhookResponse(401),
    Result.HOPELESS: WebhookResponse(422),
    Result.GONE: WebhookResponse(410),
    Result.SILENT: Failure("deadline", "no response within 15 s"),
    Result.OURS: Failure("internal", "ValueError"),
}


@dataclass
class Open:
    """A claim in a worker's hands: the model's and the real one, and what came of it."""

    claim: Claim
    claimed: Claimed
    fact: Fact
    signed_by: list[str]
    result: Result | None = None
    started_at: datetime = NINE

    def finished(self) -> Finished:
        """Return what the worker settles."""
        assert self.result is not None
        return Finished(self.claimed, self.started_at, 1, ANSWERS[self.result])


@dataclass(frozen=True)
class OnTheWay:
    """A webhook that may still arrive at ELMS."""

    letter: Letter
    headers: dict[str, str]
    body: bytes


class Sides(RuleBasedStateMachine):
    """Where both sides stand, and the acts that move the real one and the model alike."""

    def __init__(self, notifier: Database, receiver: Database) -> None:
        super().__init__()
        self.now = NINE
        self.world = World(notifier, receiver, NINE)
        self.sender, self.elms = Sender(), Elms()
        self.secrets: dict[str, Secret] = {}
        self.present: dict[str, CourseToken | None] = {}
        self.facts: dict[str, Fact] = {}
        self.hands: list[list[Open]] = [[] for _ in range(WORKERS)]
        self.wire: list[OnTheWay] = []
        self.applied: Counter[str] = Counter()
        self.delivered: dict[int, int] = {}

    def change_course(self, course_id: str, kind: str) -> None:
        """Delete a course or regenerate its token; its event has one delivery per endpoint."""
        token = self.world.change(course_id, kind, now=self.now)
        self.present[course_id] = token
        fact, numbers = self.world.last_fact(course_id, token)
        self.facts[fact.event] = fact
        self.sender.emit(fact.event, kind, numbers, self.now)

    def take_turn(self, worker: int, chosen: list[Open], room: Room) -> None:
        """Settle and claim as a worker; what it is given to do must be what the model expects."""
        done = self.world.turn([one.finished() for one in chosen], room, now=self.now)
        self.hands[worker] = [one for one in self.hands[worker] if one not in chosen]
        self.sender.settle([(one.claim, one.result) for one in chosen if one.result], self.now)
        self.sender.reclaim_expired(self.now)
        expected = self.sender.choose(room, self.now)
        assert [one.delivery_id for one in done.claimed] == [one.number for one in expected]
        self.claim(worker, done.claimed, done.encrypted)

    def claim(
        self, worker: int, claimed: Sequence[Claimed], encrypted: Mapping[int, Sequence[str]]
    ) -> None:
        """Put what was claimed into a worker's hands, with the secrets that sign now."""
        by_number = {one.number: one for one in self.sender.deliveries}
        for real in claimed:
            one = by_number[real.delivery_id]
            self.sender.claim([one], real.lease_token, self.now + LEASE, self.now)
            assert (real.attempts, real.webhook_id) == (one.attempts, one.event)
            signed_by = self.sender.endpoints[one.endpoint].signing(self.now)
            opened = [
                Secret.parse(self.world.vault.decrypt(text)) for text in encrypted[one.endpoint]
            ]
            assert opened == [self.secrets[name] for name in signed_by]
            claim = Claim(one, one.attempts, real.lease_token)
            self.hands[worker].append(Open(claim, real, self.facts[one.event], signed_by))

    def make_attempt(self, one: Open, result: Result) -> None:
        """POST once: taken at once, on the way with its answer lost, or never arrived."""
        one.started_at, one.result = self.now, result
        keys = [self.secrets[name] for name in one.signed_by]
        body = one.claimed.body.encode()
        headers = signatures.sign(keys, one.claimed.webhook_id, body, now=self.now)
        letter = Letter(one.fact, one.signed_by, int(self.now.timestamp()))
        if result in {Result.TAKEN, Result.SILENT}:
            self.wire.append(OnTheWay(letter, headers, body))
        if result is Result.TAKEN and self.hear(self.wire[-1]) == "refused":
            one.result = Result.REFUSED

    def hear(self, one: OnTheWay) -> str:
        """Let a webhook arrive at ELMS; its outcome must be what the model expects."""
        keys = [self.secrets[name] for name in sorted(self.elms.secrets)]
        outcome = self.world.hear(keys, one.headers, one.body, now=self.now)
        assert outcome == self.elms.hear(one.letter, self.now.timestamp())
        self.applied[one.letter.fact.event] += outcome == "applied"
        return outcome

    def finished_of(self, worker: int, keep: int, backwards: bool) -> list[Open]:
        """Return what a worker has posted, but for the last few, in one order or the other."""
        finished = [one for one in self.hands[worker] if one.result]
        chosen = finished[: len(finished) - keep] if keep else finished
        return chosen[::-1] if backwards else chosen

    def new_secret(self, endpoint_id: int, secret: Secret, overlap: timedelta) -> None:
        """Name a secret that an endpoint was given."""
        name = f"{endpoint_id}:{len(self.sender.endpoints[endpoint_id].secrets)}"
        self.sender.endpoints[endpoint_id].rotate(name, overlap, self.now)
        self.secrets[name] = secret

    def living(self) -> list[str]:
        """Return the courses that are not deleted."""
        return [course_id for course_id, token in self.present.items() if token is not None]

    def endpoint(self, pick: int) -> int:
        """Return the id of an endpoint."""
        ids = list(self.sender.endpoints)
        return ids[pick % len(ids)]

"""A pure model of both services: no database, none of their code."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

# The waits of Standard Webhooks 1.0.
WAITS = [timedelta(seconds=one) for one in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)]
MAX_ATTEMPTS = 10
RETRY_AFTER = timedelta(minutes=2)
TOLERATED_SECONDS = 300


class Result(Enum):
    """What a POST can end with."""

    SUCCESS = "2xx"
    BUSY = "503"
    RETRY_LATER = "429 with Retry-After"
    UNAUTHORIZED = "401"
    REJECTED = "422"
    GONE = "410"
    TIMEOUT = "no response, although the request may have arrived"
    INTERNAL = "an error of our own before anything was sent"


@dataclass
class Delivery:
    """One event for one endpoint."""

    id: int
    event: str
    endpoint: int
    due: datetime
    status: str = "pending"
    attempts: int = 0
    lease: str | None = None
    leased_until: datetime | None = None
    decided: list[str] = field(default_factory=list)
    replays: int = 0

    def is_claimable(self, now: datetime) -> bool:
        return self.status == "pending" and self.lease is None and self.due <= now

    def is_expired(self, now: datetime) -> bool:
        return (
            self.status == "pending" and self.leased_until is not None and self.leased_until <= now
        )

    def restart(self, now: datetime) -> None:
        self.status, self.due, self.attempts = "pending", now, 0

    def end_lease(self, status: str) -> None:
        self.status, self.lease, self.leased_until = status, None, None


@dataclass
class Endpoint:
    """An endpoint: the event types it receives, and when each of its secrets ends."""

    event_types: Collection[str]
    disabled: bool = False
    secrets: dict[str, datetime | None] = field(default_factory=dict)

    def rotate(self, secret: str, overlap: timedelta, now: datetime) -> None:
        for other, ends in self.secrets.items():
            self.secrets[other] = now + overlap if ends is None else min(ends, now + overlap)
        self.secrets[secret] = None

    def signing(self, now: datetime) -> list[str]:
        """Return the secrets that sign now, the newest first."""
        return [one for one, ends in self.secrets.items() if ends is None or ends > now][::-1]


@dataclass(frozen=True)
class Claim:
    """A delivery under a lease, and the number of its attempt."""

    delivery: Delivery
    attempt: int
    lease: str

    def is_fenced(self) -> bool:
        return (self.delivery.lease, self.delivery.attempts) != (self.lease, self.attempt)


@dataclass
class Sender:
    """Every endpoint and every delivery; which due deliveries a claim selects is not modelled."""

    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    deliveries: dict[int, Delivery] = field(default_factory=dict)

    def emit(self, event: str, kind: str, ids: dict[int, int], now: datetime) -> None:
        """Add one delivery for each endpoint that receives the event; `ids` are those it got."""
        for number, endpoint in self.endpoints.items():
            if kind in endpoint.event_types:
                status = "held" if endpoint.disabled else "pending"
                self.deliveries[ids[number]] = Delivery(ids[number], event, number, now, status)

    def settle(self, finished: Sequence[tuple[Claim, Result]], now: datetime) -> None:
        """Record results: a success always counts, a failure only under its lease."""
        fenced = [claim for claim, _ in finished if claim.is_fenced()]
        for claim, result in finished:
            self._settle(claim, result, fenced=claim in fenced, now=now)
        for claim, result in finished:
            if result is Result.GONE and claim not in fenced:
                self.disable(claim.delivery.endpoint)

    def reclaim_expired(self, now: datetime) -> None:
        """End expired leases; each counts as an attempt."""
        for one in self.deliveries.values():
            if one.is_expired(now):
                last = one.attempts >= MAX_ATTEMPTS
                one.decided.append("dead" if last else "retry")
                one.end_lease("dead" if last else "pending")

    def claim(self, one: Delivery, lease: str, until: datetime) -> Claim:
        one.attempts += 1
        one.lease, one.leased_until = lease, until
        return Claim(one, one.attempts, lease)

    def replay(self, one: Delivery, now: datetime) -> None:
        one.replays += 1
        one.restart(now)
        one.end_lease("pending")

    def disable(self, endpoint: int) -> None:
        self.endpoints[endpoint].disabled = True
        for one in self._of(endpoint, "pending"):
            one.status = "held"

    def enable(self, endpoint: int, now: datetime) -> None:
        self.endpoints[endpoint].disabled = False
        for one in self._of(endpoint, "held"):
            one.restart(now)

    def _of(self, endpoint: int, status: str) -> Iterable[Delivery]:
        return (
            one
            for one in self.deliveries.values()
            if (one.endpoint, one.status) == (endpoint, status)
        )

    def _settle(self, claim: Claim, result: Result, *, fenced: bool, now: datetime) -> None:
        one, decided = claim.delivery, _decide(claim, result)
        one.decided.append("too late" if fenced and decided != "delivered" else decided)
        if decided == "delivered":
            one.end_lease("delivered")
        if one.status == "delivered":
            return
        if fenced:
            if one.lease == claim.lease:
                one.end_lease(one.status)
            return
        if decided == "retry":
            asked = RETRY_AFTER if result is Result.RETRY_LATER else timedelta(0)
            one.due = now + max(WAITS[claim.attempt - 1], asked)
        one.end_lease({"retry": one.status, "dead": "dead", "disable": "held"}[decided])


def _decide(claim: Claim, result: Result) -> str:
    match result:
        case Result.SUCCESS:
            return "delivered"
        case Result.GONE:
            return "disable"
        case Result.REJECTED:
            return "dead"
        case _:
            return "retry" if claim.attempt < MAX_ATTEMPTS else "dead"


@dataclass(frozen=True)
class Fact:
    """What an event says of a course; `token` is None if the course was deleted."""

    event: str
    course: str
    version: int
    token: str | None


@dataclass
class Elms:
    """The secrets and tokens that ELMS holds, and each fact that it accepted, once."""

    secrets: set[str] = field(default_factory=set)
    tokens: dict[str, str] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def receive(self, fact: Fact, signed_by: Collection[str], age_seconds: float) -> str:
        """Accept an event, and return the outcome that its sender gets."""
        if not self.secrets & set(signed_by) or abs(age_seconds) > TOLERATED_SECONDS:
            return "refused"
        if fact in self.facts:
            return "duplicate"
        before = self._latest(fact.course)
        self.facts.append(fact)
        return "applied" if self._latest(fact.course) != before else "stale"

    def status(self, course: str) -> str:
        deleted, announced = self._latest(course)
        if deleted is not None:
            return "course_deleted"
        if announced is not None and announced.token != self.tokens.get(course):
            return "token_invalid"
        return "active"

    def _latest(self, course: str) -> tuple[Fact | None, Fact | None]:
        """Return the deletion and the announced token of the highest version."""
        facts = sorted((one for one in self.facts if one.course == course), key=lambda f: f.version)
        deleted = [one for one in facts if one.token is None]
        announced = [one for one in facts if one.token is not None]
        return (deleted or [None])[-1], (announced or [None])[-1]

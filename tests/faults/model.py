"""A pure model of both services: no database, none of their code."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

MAX_ATTEMPTS = 10
MAX_LOST_CLAIMS = 3
TOLERATED_SECONDS = 300


class Result(Enum):
    """What a POST can end with."""

    SUCCESS = "2xx"
    BUSY = "503"
    UNAUTHORIZED = "401"
    REJECTED = "422"
    GONE = "410"
    TIMEOUT = "no response, although the request may have arrived"


@dataclass
class Delivery:
    """One event for one endpoint."""

    id: int
    event: str
    endpoint: int
    status: str = "pending"
    attempts: int = 0
    lost_claims: int = 0
    lease: str | None = None
    leased_until: datetime | None = None
    replays: int = 0

    def end_lease(self, status: str) -> None:
        self.status, self.lease, self.leased_until = status, None, None

    def restart(self) -> None:
        self.attempts = self.lost_claims = 0
        self.end_lease("pending")


@dataclass
class Endpoint:
    """An endpoint: the event types it receives, and when each of its secrets ends."""

    event_types: Collection[str]
    disabled: bool = False
    removed: bool = False
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

    @property
    def is_fenced(self) -> bool:
        return (self.delivery.lease, self.delivery.attempts) != (self.lease, self.attempt)


@dataclass
class Sender:
    """Every endpoint and every delivery; when deliveries are due is not modelled."""

    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    deliveries: dict[int, Delivery] = field(default_factory=dict)

    def emit(self, event: str, kind: str, ids: dict[int, int]) -> None:
        """Add one delivery for each endpoint that receives the event; `ids` are those it got."""
        for number, endpoint in self.endpoints.items():
            if kind in endpoint.event_types and not endpoint.removed:
                status = "held" if endpoint.disabled else "pending"
                self.deliveries[ids[number]] = Delivery(ids[number], event, number, status)

    def settle(self, finished: Sequence[tuple[Claim, Result]]) -> None:
        """Record results: a success always counts, a failure only under its lease."""
        gone = []
        for claim, result in finished:
            one, status, is_fenced = claim.delivery, _status_after(claim, result), claim.is_fenced
            if status == "delivered":
                one.end_lease(status)
            elif one.status != "delivered" and not is_fenced:
                one.end_lease(one.status if status == "pending" else status)
                one.lost_claims = 0 if status == "pending" else one.lost_claims
            elif one.status != "delivered" and one.lease == claim.lease:
                one.end_lease(one.status)
            if result is Result.GONE and not is_fenced:
                gone.append(one.endpoint)
        for endpoint in gone:
            self.disable(endpoint)

    def reclaim_expired(self, now: datetime) -> None:
        """End expired leases; each counts as an attempt."""
        for one in self.deliveries.values():
            is_open = one.status in {"pending", "held"}
            if is_open and one.leased_until and one.leased_until <= now:
                one.lost_claims += 1
                is_dead = one.attempts >= MAX_ATTEMPTS or one.lost_claims >= MAX_LOST_CLAIMS
                one.end_lease("dead" if is_dead else one.status)

    def claim(self, one: Delivery, lease: str, until: datetime) -> Claim:
        one.attempts += 1
        one.lease, one.leased_until = lease, until
        return Claim(one, one.attempts, lease)

    def give_back(self, claim: Claim) -> None:
        """End a claim that was not sent; it does not count as an attempt."""
        one = claim.delivery
        if one.lease == claim.lease:
            one.attempts = max(one.attempts - 1, 0)
            one.end_lease(one.status)

    def replay(self, one: Delivery) -> None:
        one.replays += 1
        one.restart()

    def disable(self, endpoint: int) -> None:
        self.endpoints[endpoint].disabled = True
        for one in self._of(endpoint, "pending"):
            one.status = "held"

    def enable(self, endpoint: int) -> None:
        self.endpoints[endpoint].disabled = False
        for one in self._of(endpoint, "held"):
            one.status, one.attempts, one.lost_claims = "pending", 0, 0

    def remove(self, endpoint: int) -> None:
        """Cancel open deliveries; of attempts in progress only a success still counts."""
        self.endpoints[endpoint].disabled = self.endpoints[endpoint].removed = True
        for status in ("pending", "held"):
            for one in self._of(endpoint, status):
                one.end_lease("cancelled")

    def _of(self, endpoint: int, status: str) -> Iterable[Delivery]:
        deliveries = self.deliveries.values()
        return (one for one in deliveries if (one.endpoint, one.status) == (endpoint, status))


def _status_after(claim: Claim, result: Result) -> str:
    match result:
        case Result.SUCCESS:
            return "delivered"
        case Result.GONE:
            return "held"
        case Result.REJECTED:
            return "dead"
        case _:
            return "pending" if claim.attempt < MAX_ATTEMPTS else "dead"


@dataclass(frozen=True)
class Fact:
    """What an event of a kind says of a course; `token` is None unless it was regenerated."""

    event: str
    kind: str
    course: str
    version: int
    token: str | None
    valid_until: datetime | None = None


# The version of a course's deletion or of its restoration, whichever was last, and version, token
# and overlap of its last announcement.
StoredFacts = tuple[int | None, int | None, int | None, str | None, datetime | None]


@dataclass
class Elms:
    """The secrets that ELMS has, and each fact that it accepted, once."""

    secrets: set[str] = field(default_factory=set)
    facts: list[Fact] = field(default_factory=list)

    def receive(self, fact: Fact, signed_by: Collection[str], age_seconds: float) -> str:
        """Accept an event, and return the outcome that its sender gets."""
        if not self.secrets & set(signed_by) or abs(age_seconds) > TOLERATED_SECONDS:
            return "refused"
        if fact in self.facts:
            return "duplicate"
        before = self.entry(fact.course)
        self.facts.append(fact)
        return "applied" if self.entry(fact.course) != before else "stale"

    def entry(self, course: str) -> StoredFacts:
        """Return what is stored of a course."""
        entry: StoredFacts = (None, None, None, None, None)
        for one in sorted(self.facts, key=lambda fact: fact.version):
            if one.course != course:
                continue
            match one.kind:
                case "course.deleted":
                    entry = (one.version, None, *entry[2:])
                case "course.restored":
                    entry = (None, one.version, *entry[2:])
                case _:
                    entry = (*entry[:2], one.version, one.token, one.valid_until)
        return entry

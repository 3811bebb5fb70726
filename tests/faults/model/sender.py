"""What the sender should do, told a second time: no database, and nothing of the sender's code."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

WAITS = [timedelta(seconds=one) for one in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)]
MOST_ATTEMPTS = 10
ASKED = timedelta(minutes=2)
"""The wait that an answer `LATER` asks for."""

SHORT, LONG = timedelta(seconds=15), timedelta(minutes=15)
APART = timedelta(hours=36)
GIVEN_UP_AFTER = timedelta(days=5)
PATIENCE = 5


class Result(Enum):
    """What can come of a POST."""

    TAKEN = "2xx"
    BUSY = "503"
    LATER = "429 with Retry-After"
    REFUSED = "401"
    HOPELESS = "422"
    GONE = "410"
    SILENT = "no answer, though it may have arrived"
    OURS = "a fault of ours, before anything was sent"


_WELL = {Result.TAKEN, Result.HOPELESS, Result.GONE}


@dataclass
class Delivery:
    """One event for one endpoint, as far as it has come."""

    number: int
    event: str
    endpoint: int
    due: datetime
    status: str = "pending"
    lane: str = "first"
    attempts: int = 0
    lease: str | None = None
    until: datetime | None = None
    decided: list[str] = field(default_factory=list)
    replays: int = 0

    def may_be_claimed(self, now: datetime) -> bool:
        """Whether it is due and nobody's."""
        return self.status == "pending" and self.lease is None and self.due <= now

    def is_lost(self, now: datetime) -> bool:
        """Whether it is under a lease that ran out."""
        return self.status == "pending" and self.until is not None and self.until <= now

    def begin_anew(self, now: datetime) -> None:
        """Be due now, at the beginning of the schedule; an attempt under way stays alone."""
        self.status, self.due, self.attempts, self.lane = "pending", now, 0, "retry"

    def end(self, status: str) -> None:
        """Stand so from now on, under no lease."""
        self.status, self.lease, self.until = status, None, None


@dataclass
class Endpoint:
    """An endpoint: what it wants, whether it is sent anything, and how it has been answering."""

    wants: Collection[str]
    disabled: bool = False
    failures: int = 0
    since: datetime | None = None
    last: datetime | None = None
    paused_until: datetime | None = None
    secrets: dict[str, datetime | None] = field(default_factory=dict)

    def rotate(self, name: str, overlap: timedelta, now: datetime) -> None:
        """Sign with a new secret, and with the others no longer than the overlap."""
        for other, ends in self.secrets.items():
            self.secrets[other] = now + overlap if ends is None else min(ends, now + overlap)
        self.secrets[name] = None

    def signing(self, now: datetime) -> list[str]:
        """Return the names of the secrets that sign now, the newest first."""
        return [one for one, ends in self.secrets.items() if ends is None or ends > now][::-1]

    def be_well(self) -> None:
        """Forget all trouble."""
        self.failures, self.since, self.last, self.paused_until = 0, None, None, None

    def fail(self, asked: timedelta, now: datetime) -> None:
        """Count a failure; with the fifth in a row, or where it was asked for, begin a pause."""
        if self.last is None or now - self.last > APART:
            self.be_well()
        self.since = self.since or now
        self.failures, self.last = self.failures + 1, now
        pause = min(asked, LONG)
        if self.failures >= PATIENCE or self.paused_until is not None:
            pause = max(pause, min(max((now - self.since) / 2, SHORT), LONG))
        if pause:
            self.paused_until = max(self.paused_until or now, now + pause)

    def is_paused(self, now: datetime) -> bool:
        """Whether nothing is sent just now."""
        return self.paused_until is not None and now < self.paused_until

    def is_tried(self, now: datetime) -> bool:
        """Whether a single attempt may tell if it is well again."""
        return self.paused_until is not None and now >= self.paused_until

    def is_given_up(self, now: datetime) -> bool:
        """Whether it has failed often enough, for days."""
        if self.since is None or self.failures < PATIENCE:
            return False
        return now - self.since >= GIVEN_UP_AFTER


@dataclass(frozen=True)
class Claim:
    """A delivery under a lease: which attempt of its schedule this is."""

    delivery: Delivery
    attempt: int
    lease: str

    def is_fenced(self) -> bool:
        """Whether the delivery went to another, or begins anew."""
        return (self.delivery.lease, self.delivery.attempts) != (self.lease, self.attempt)


@dataclass(frozen=True)
class Room:
    """How many may be claimed: in all, for each endpoint, and not for the first time."""

    total: int
    endpoint: int
    retry: int
    isolated: int


@dataclass
class Sender:
    """Every delivery and endpoint."""

    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)

    def emit(self, event: str, kind: str, numbers: Mapping[int, int], now: datetime) -> None:
        """Write one delivery for each endpoint that wants the event, under the number it got."""
        for one, endpoint in self.endpoints.items():
            if kind in endpoint.wants:
                status = "held" if endpoint.disabled else "pending"
                self.deliveries.append(Delivery(numbers[one], event, one, now, status))

    def settle(self, finished: Sequence[tuple[Claim, Result]], now: datetime) -> None:
        """Take what came of attempts; a success always counts, a failure only under its lease."""
        for claim, result in finished:
            self._take_sign(self.endpoints[claim.delivery.endpoint], result, now)
        fenced = [claim for claim, _ in finished if claim.is_fenced()]
        for claim, result in finished:
            self._settle(claim, result, fenced=claim in fenced, now=now)
        for claim, result in finished:
            if result is Result.GONE and claim not in fenced:
                self.disable(claim.delivery.endpoint)
        tried = {claim.delivery.endpoint for claim, result in finished if result is not Result.OURS}
        for one in sorted(tried):
            if not self.endpoints[one].disabled and self.endpoints[one].is_given_up(now):
                self.disable(one)

    def reclaim_expired(self, now: datetime) -> None:
        """Count what lost workers left as attempts, and let it go on by itself."""
        for one in self.deliveries:
            if one.is_lost(now):
                one.decided.append("retry" if one.attempts < MOST_ATTEMPTS else "dead")
                one.end("pending" if one.attempts < MOST_ATTEMPTS else "dead")
                one.lane = "isolated" if one.status == "pending" else one.lane

    def choose(self, room: Room, now: datetime) -> list[Delivery]:
        """Return what a claim takes: the longest due first, as long as there is room."""
        chosen: list[Delivery] = []
        taken: Counter[object] = Counter()
        for one in sorted(self.deliveries, key=lambda each: (each.due, each.number)):
            bounds = self._bounds(one, room, now)
            if one.may_be_claimed(now) and all(taken[key] < most for key, most in bounds.items()):
                chosen.append(one)
                taken.update(bounds.keys())
        return chosen

    def claim(self, chosen: Iterable[Delivery], lease: str, until: datetime, now: datetime) -> None:
        """Put deliveries under a lease and count their attempts."""
        for one in chosen:
            one.attempts += 1
            one.lease, one.until = lease, until
            endpoint = self.endpoints[one.endpoint]
            if endpoint.is_tried(now):
                endpoint.paused_until = now + SHORT

    def replay(self, one: Delivery, now: datetime) -> None:
        """Begin a delivery's schedule anew; whoever has it under a lease has it no more."""
        for endpoint in self.endpoints.values():
            if not endpoint.disabled and endpoint.is_paused(now):
                endpoint.paused_until = now
        one.replays += 1
        one.begin_anew(now)
        one.end("pending")

    def disable(self, endpoint: int) -> None:
        """Send no more to an endpoint, and hold what is open for it."""
        self.endpoints[endpoint].disabled = True
        for one in self.deliveries:
            if one.endpoint == endpoint and one.status == "pending":
                one.status = "held"

    def enable(self, endpoint: int, now: datetime) -> None:
        """Send to an endpoint again, as to a well one; what was held begins anew."""
        self.endpoints[endpoint].disabled = False
        self.endpoints[endpoint].be_well()
        for one in self.deliveries:
            if one.endpoint == endpoint and one.status == "held":
                one.begin_anew(now)

    def next_due(self, now: datetime) -> datetime | None:
        """Return the next moment at which something becomes due, a lease or a pause ends."""
        moments = [one.due for one in self.deliveries if one.status == "pending"]
        moments += [one.until for one in self.deliveries if one.until]
        moments += [one.paused_until for one in self.endpoints.values() if one.paused_until]
        return min((one for one in moments if one > now), default=None)

    def _bounds(self, one: Delivery, room: Room, now: datetime) -> dict[object, int]:
        endpoint = self.endpoints[one.endpoint]
        most = 1 if endpoint.is_tried(now) else room.endpoint
        bounds: dict[object, int] = {"all": room.total, one.endpoint: most}
        if endpoint.disabled or endpoint.is_paused(now):
            bounds["nothing"] = 0
        if one.lane != "first":
            bounds["retry"] = room.retry
        if one.lane == "isolated":
            bounds["isolated"] = room.isolated
        return bounds

    def _take_sign(self, endpoint: Endpoint, result: Result, now: datetime) -> None:
        if endpoint.disabled or result is Result.OURS:
            return
        if result in _WELL:
            endpoint.be_well()
        else:
            endpoint.fail(_asked(result), now)

    def _settle(self, claim: Claim, result: Result, *, fenced: bool, now: datetime) -> None:
        one, decided = claim.delivery, _decided(claim, result)
        one.decided.append("too late" if fenced and decided != "delivered" else decided)
        if decided == "delivered":
            one.end("delivered")
        if one.status == "delivered":
            return
        if fenced:
            if one.lease == claim.lease:
                one.end(one.status)
            return
        match decided:
            case "retry":
                one.due = now + max(WAITS[claim.attempt - 1], _asked(result))
                one.lane = "retry"
                one.end(one.status)
            case "dead":
                one.end("dead")
            case "disable":
                one.end("held")


def _asked(result: Result) -> timedelta:
    return ASKED if result is Result.LATER else timedelta(0)


def _decided(claim: Claim, result: Result) -> str:
    match result:
        case Result.TAKEN:
            return "delivered"
        case Result.GONE:
            return "disable"
        case Result.HOPELESS:
            return "dead"
    return "retry" if claim.attempt < MOST_ATTEMPTS else "dead"

"""One turn of a worker in the database: settle, take back, claim; one transaction, no HTTP."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import counters
from notifier.models import CounterShard
from notifier.webhooks import circuit_breaker, deliveries, endpoints, retry_policy
from notifier.webhooks.circuit_breaker import Answers, Health
from notifier.webhooks.deliveries import Claimed, Settled, Settlement
from notifier.webhooks.retry_policy import Answer, Disable, Failure
from notifier.worker import claims, metrics
from notifier.worker.claims import Lost, Places


@dataclass(frozen=True)
class Finished:
    """An attempt that has been made, and what came back."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    answer: Answer | Failure


@dataclass(frozen=True)
class Terms:
    """How long a lease lasts, for how long an endpoint may fail, and how waits are spread."""

    lease: timedelta
    disable_after: timedelta
    jitter: Callable[[], float]


@dataclass(frozen=True)
class Turn:
    """What a turn did: settled, taken back, given up; and what it claimed, with its secrets.

    `given_up` names the endpoints that were disabled because they kept failing, with the reason.
    """

    settled: Sequence[Settlement] = ()
    lost: Sequence[Lost] = ()
    given_up: Mapping[int, str] = field(default_factory=dict)
    claimed: Sequence[Claimed] = ()
    encrypted: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def take(
    session: Session,
    finished: Sequence[Finished],
    places_for: Callable[[Mapping[int, Health]], Places],
    terms: Terms,
    *,
    now: datetime,
) -> Turn:
    """Settle what has finished, take back what was lost, claim for the places that are free.

    What an attempt leads to is decided here, by the database's clock. Endpoints are locked before
    deliveries, in their order: whoever else locks both does the same.
    """
    settled = [_settlement(one, terms.jitter(), now) for one in finished]
    answers = _by_endpoint(finished)
    gone = {one.claimed.endpoint_id for one in settled if isinstance(one.outcome, Disable)}
    before = circuit_breaker.examine(session, answers, also=gone, now=now)
    after = {
        one: circuit_breaker.fold(each, answers.get(one, ()), now=now)
        for one, each in before.items()
    }
    stood = _settle(session, settled, now)
    ailing = {one: each for one, each in after.items() if each.failures and each != before[one]}
    given_up = _give_up(session, ailing, terms.disable_after, now)
    lost = claims.take_back(session, now=now)
    standing = {one: each for one, each in after.items() if one not in given_up}
    claimed = claims.claim(session, places_for(standing), lease=terms.lease, now=now)
    after |= _tried(standing, claimed, now)
    circuit_breaker.write(
        session, {one: each for one, each in after.items() if each != before[one]}
    )
    counters.add(session, CounterShard, metrics.of_turn(settled, stood, lost, now=now))
    wanted = sorted({one.endpoint_id for one in claimed})
    return Turn(
        settled,
        lost,
        given_up,
        claimed,
        endpoints.encrypted_secrets(session, wanted, now=now) if wanted else {},
    )


def _settlement(one: Finished, jitter: float, now: datetime) -> Settlement:
    outcome = retry_policy.decide(one.answer, one.claimed.attempts, now=now, jitter=jitter)
    settled = Settlement(one.claimed, one.started_at, one.milliseconds, outcome)
    match one.answer:
        case Answer(status, _, said):
            return replace(settled, status=status, detail=said or None)
        case Failure(kind, detail):
            return replace(settled, failure=kind, detail=detail)


def _by_endpoint(finished: Sequence[Finished]) -> dict[int, Answers]:
    answers: defaultdict[int, list[Answer | Failure]] = defaultdict(list)
    for one in finished:
        answers[one.claimed.endpoint_id].append(one.answer)
    return dict(answers)


def _settle(session: Session, settled: Sequence[Settlement], now: datetime) -> Settled:
    if not settled:
        return Settled([], [])
    stood = deliveries.settle(session, settled, now=now)
    for one in settled:
        if isinstance(one.outcome, Disable) and one not in stood.fenced:
            endpoints.disable(session, one.claimed.endpoint_id, one.outcome.reason, now=now)
    return stood


def _give_up(
    session: Session, ailing: Mapping[int, Health], lasting: timedelta, now: datetime
) -> dict[int, str]:
    given_up = {
        endpoint_id: f"it has been failing since {each.failing_since:%Y-%m-%d %H:%M} UTC"
        for endpoint_id, each in ailing.items()
        if circuit_breaker.has_failed_for(each, lasting, now=now)
    }
    for endpoint_id, reason in given_up.items():
        endpoints.disable(session, endpoint_id, reason, now=now)
    return given_up


def _tried(
    standing: Mapping[int, Health], claimed: Sequence[Claimed], now: datetime
) -> dict[int, Health]:
    """Return the health of endpoints that are tried now: no other worker tries them as well."""
    return {
        endpoint_id: replace(
            standing[endpoint_id], paused_until=now + circuit_breaker.SHORTEST_PAUSE
        )
        for endpoint_id in {one.endpoint_id for one in claimed}
        if standing[endpoint_id].is_half_open(now)
    }

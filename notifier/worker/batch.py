"""One turn of a worker in the database: settle, take back, claim; one transaction, no HTTP."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import counters
from notifier.models import CounterShard
from notifier.webhooks import circuit_breaker, deliveries, endpoints, retry_policy
from notifier.webhooks.circuit_breaker import Answers, BreakerState
from notifier.webhooks.deliveries import Claimed, Settlement, SettleResult
from notifier.webhooks.retry_policy import Disable, Failure, WebhookResponse
from notifier.worker import claims, metrics
from notifier.worker.claims import ClaimLimits, ExpiredClaim


@dataclass(frozen=True)
class Finished:
    """An attempt that has been made, and what came back."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    answer: WebhookResponse | Failure


@dataclass(frozen=True)
class BatchSettings:
    """How long a lease lasts, for how long an endpoint may fail, and how waits are spread."""

    lease: timedelta
    disable_after: timedelta
    jitter: Callable[[], float]


@dataclass(frozen=True)
class BatchResult:
    """What a turn did: settled, taken back, given up; and what it claimed, with its secrets.

    `given_up` names the endpoints that were disabled because they kept failing, with the reason.
    """

    settled: Sequence[Settlement] = ()
    lost: Sequence[ExpiredClaim] = ()
    given_up: Mapping[int, str] = field(default_factory=dict)
    claimed: Sequence[Claimed] = ()
    encrypted: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def process_batch(
    session: Session,
    finished: Sequence[Finished],
    limits_for: Callable[[Mapping[int, BreakerState]], ClaimLimits],
    terms: BatchSettings,
    *,
    now: datetime,
) -> BatchResult:
    """Settle what has finished, take back what was lost, claim for the places that are free.

    What an attempt leads to is decided here, by the database's clock. Endpoints are locked before
    deliveries, in their order: whoever else locks both does the same.
    """
    settled = [_settlement(one, terms.jitter(), now) for one in finished]
    answers = _by_endpoint(finished)
    gone = {one.claimed.endpoint_id for one in settled if isinstance(one.outcome, Disable)}
    before = circuit_breaker.read_and_lock(session, answers, also=gone, now=now)
    after = {
        one: circuit_breaker.record_results(each, answers.get(one, ()), now=now)
        for one, each in before.items()
    }
    stood = _settle(session, settled, now)
    ailing = {one: each for one, each in after.items() if each.failures and each != before[one]}
    given_up = _give_up(session, ailing, terms.disable_after, now)
    lost = claims.reclaim_expired(session, now=now)
    states = {one: each for one, each in after.items() if one not in given_up}
    claimed = claims.claim(session, limits_for(states), lease=terms.lease, now=now)
    after |= _tried(states, claimed, now)
    circuit_breaker.write_states(
        session, {one: each for one, each in after.items() if each != before[one]}
    )
    counters.add(session, CounterShard, metrics.of_turn(settled, stood, lost, now=now))
    wanted = sorted({one.endpoint_id for one in claimed})
    return BatchResult(
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
        case WebhookResponse(status, _, said):
            return replace(settled, status=status, detail=said or None)
        case Failure(kind, detail):
            return replace(settled, failure=kind, detail=detail)


def _by_endpoint(finished: Sequence[Finished]) -> dict[int, Answers]:
    answers: defaultdict[int, list[WebhookResponse | Failure]] = defaultdict(list)
    for one in finished:
        answers[one.claimed.endpoint_id].append(one.answer)
    return dict(answers)


def _settle(session: Session, settled: Sequence[Settlement], now: datetime) -> SettleResult:
    if not settled:
        return SettleResult([], [])
    stood = deliveries.settle(session, settled, now=now)
    for one in settled:
        if isinstance(one.outcome, Disable) and one not in stood.fenced:
            endpoints.disable(session, one.claimed.endpoint_id, one.outcome.reason, now=now)
    return stood


def _give_up(
    session: Session, ailing: Mapping[int, BreakerState], lasting: timedelta, now: datetime
) -> dict[int, str]:
    given_up = {
        endpoint_id: f"it has been failing since {each.failing_since:%Y-%m-%d %H:%M} UTC"
        for endpoint_id, each in ailing.items()
        if circuit_breaker.is_failing_for(each, lasting, now=now)
    }
    for endpoint_id, reason in given_up.items():
        endpoints.disable(session, endpoint_id, reason, now=now)
    return given_up


def _tried(
    states: Mapping[int, BreakerState], claimed: Sequence[Claimed], now: datetime
) -> dict[int, BreakerState]:
    """Return the health of endpoints that are tried now: no other worker tries them as well."""
    return {
        endpoint_id: replace(states[endpoint_id], paused_until=now + circuit_breaker.SHORTEST_PAUSE)
        for endpoint_id in {one.endpoint_id for one in claimed}
        if states[endpoint_id].is_half_open(now)
    }

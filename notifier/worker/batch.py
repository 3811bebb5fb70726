"""One transaction of a worker: settle finished attempts, reclaim expired claims, claim due work."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import counters
from notifier.models import CounterShard
from notifier.webhooks import circuit_breaker, deliveries, endpoints, retry_policy
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed, Settlement, SettleResult
from notifier.webhooks.retry_policy import AttemptResult, Disable
from notifier.worker import claims, metrics
from notifier.worker.claims import ClaimLimits, ExpiredClaim


@dataclass(frozen=True)
class Finished:
    """An attempt that was made, and its result."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    result: AttemptResult


@dataclass(frozen=True)
class BatchSettings:
    """How long a lease lasts, how long an endpoint may fail, and the source of jitter (0 to 1)."""

    lease: timedelta
    disable_after: timedelta
    jitter: Callable[[], float]


@dataclass(frozen=True)
class BatchResult:
    """What a batch did, and the claimed deliveries with the encrypted secrets of their endpoints.

    `disabled` holds the endpoints that were disabled because they kept failing, and the reason.
    """

    settled: Sequence[Settlement] = ()
    expired: Sequence[ExpiredClaim] = ()
    disabled: Mapping[int, str] = field(default_factory=dict)
    claimed: Sequence[Claimed] = ()
    encrypted: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def process_batch(
    session: Session,
    finished: Sequence[Finished],
    limits_for: Callable[[Mapping[int, BreakerState]], ClaimLimits],
    settings: BatchSettings,
    *,
    now: datetime,
) -> BatchResult:
    """Settle finished attempts, reclaim expired claims, then claim within the limits.

    `limits_for` returns the limits for the endpoints that are enabled after settling. `now` is the
    database's clock. Endpoints are locked before deliveries, both in the order of their ids, as in
    every transaction that locks both.
    """
    settled = [_settlement(one, settings.jitter(), now) for one in finished]
    results = _by_endpoint(finished)
    gone = {one.claimed.endpoint_id for one in settled if isinstance(one.decision, Disable)}
    before = circuit_breaker.read_and_lock(session, results, also=gone, now=now)
    after = {
        endpoint_id: circuit_breaker.record_results(state, results.get(endpoint_id, ()), now=now)
        for endpoint_id, state in before.items()
    }
    applied = _settle(session, settled, now)
    newly_failing = {
        endpoint_id: state
        for endpoint_id, state in after.items()
        if state.failures and state != before[endpoint_id]
    }
    disabled = _disable_failing(session, newly_failing, settings.disable_after, now)
    expired = claims.reclaim_expired(session, now=now)
    enabled = {one: state for one, state in after.items() if one not in disabled}
    claimed = claims.claim(session, limits_for(enabled), lease=settings.lease, now=now)
    after |= _pause_half_open(enabled, claimed, now)
    circuit_breaker.write_states(
        session, {one: state for one, state in after.items() if state != before[one]}
    )
    counters.add(session, CounterShard, metrics.of_batch(settled, applied, expired, now=now))
    claimed_for = sorted({one.endpoint_id for one in claimed})
    secrets = endpoints.encrypted_secrets(session, claimed_for, now=now) if claimed else {}
    return BatchResult(settled, expired, disabled, claimed, secrets)


def _settlement(one: Finished, jitter: float, now: datetime) -> Settlement:
    decision = retry_policy.decide(one.result, one.claimed.attempts, now=now, jitter=jitter)
    columns = retry_policy.columns_of(one.result)
    return Settlement(one.claimed, one.started_at, one.milliseconds, decision, **columns)


def _by_endpoint(finished: Sequence[Finished]) -> Mapping[int, Sequence[AttemptResult]]:
    results: defaultdict[int, list[AttemptResult]] = defaultdict(list)
    for one in finished:
        results[one.claimed.endpoint_id].append(one.result)
    return results


def _settle(session: Session, settled: Sequence[Settlement], now: datetime) -> SettleResult:
    if not settled:
        return SettleResult([], [])
    result = deliveries.settle(session, settled, now=now)
    for one in settled:
        if isinstance(one.decision, Disable) and one not in result.fenced:
            endpoints.disable(session, one.claimed.endpoint_id, one.decision.reason, now=now)
    return result


def _disable_failing(
    session: Session, failing: Mapping[int, BreakerState], disable_after: timedelta, now: datetime
) -> dict[int, str]:
    disabled = {
        endpoint_id: f"it has been failing since {state.failing_since:%Y-%m-%d %H:%M} UTC"
        for endpoint_id, state in failing.items()
        if circuit_breaker.is_failing_for(state, disable_after, now=now)
    }
    for endpoint_id, reason in disabled.items():
        endpoints.disable(session, endpoint_id, reason, now=now)
    return disabled


def _pause_half_open(
    states: Mapping[int, BreakerState], claimed: Sequence[Claimed], now: datetime
) -> dict[int, BreakerState]:
    """Return the half-open endpoints claimed for, paused again: one worker tries them at a time."""
    return {
        endpoint_id: replace(states[endpoint_id], paused_until=now + circuit_breaker.SHORTEST_PAUSE)
        for endpoint_id in {one.endpoint_id for one in claimed}
        if states[endpoint_id].is_half_open(now)
    }

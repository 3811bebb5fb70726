"""One transaction of a worker: settle finished attempts, reclaim expired claims, claim due work."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import counters
from notifier.webhooks import breaker_store, circuit_breaker, deliveries, endpoints, retry_policy
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed, Settlement, SettleResult
from notifier.webhooks.retry_policy import AttemptResult, Disable
from notifier.worker import claims, metrics
from notifier.worker.claims import ClaimLimits, ExpiredClaim


@dataclass(frozen=True)
class Finished:
    """An attempt that was made, and its result; `jitter`, from 0 to 1, delays a retry."""

    claimed: Claimed
    started_at: datetime
    milliseconds: int
    result: AttemptResult
    jitter: float = 0.0


@dataclass(frozen=True)
class SettledBatch:
    """What settling did, and the breaker states of the endpoints to claim for.

    `superseded` are the settlements that came too late to change their deliveries. `disabled` holds
    the endpoints that were disabled because they kept failing, and the reason.
    """

    settlements: Sequence[Settlement]
    superseded: Sequence[Settlement]
    expired: Sequence[ExpiredClaim]
    disabled: Mapping[int, str]
    states: Mapping[int, BreakerState]


@dataclass(frozen=True)
class ClaimedBatch:
    """Claimed deliveries, and the encrypted secrets of their endpoints."""

    deliveries: Sequence[Claimed]
    encrypted: Mapping[int, tuple[str, ...]]


def settle(
    session: Session, finished: Sequence[Finished], *, disable_after: timedelta, now: datetime
) -> SettledBatch:
    """Settle finished attempts, update the breakers of their endpoints, reclaim expired claims.

    An endpoint that has been failing for `disable_after` is disabled. `now` is the database's
    clock. Endpoints are locked before deliveries, both in the order of their ids, as in every
    transaction that locks both.
    """
    settled = [_settlement(attempt, now) for attempt in finished]
    results = _by_endpoint(finished)
    to_disable = {
        settlement.claimed.endpoint_id
        for settlement in settled
        if isinstance(settlement.decision, Disable)
    }
    before = breaker_store.read_and_lock_changing(session, results, also=to_disable, now=now)
    after = {
        endpoint_id: circuit_breaker.record_results(state, results.get(endpoint_id, ()), now=now)
        for endpoint_id, state in before.items()
    }
    changed = {one: state for one, state in after.items() if state != before[one]}
    applied = _settle(session, settled, now)
    disabled = _disable_failing(session, changed, disable_after, now)
    expired = claims.reclaim_expired(session, now=now)
    breaker_store.write_states(session, changed)
    counters.add(session, metrics.of_batch(settled, applied, expired, now=now))
    enabled = {one: state for one, state in after.items() if one not in disabled}
    superseded = [settlement for settlement in settled if settlement not in applied.applied]
    return SettledBatch(applied.applied, superseded, expired, disabled, enabled)


def claim(
    session: Session,
    states: Mapping[int, BreakerState],
    limits: ClaimLimits,
    *,
    lease: timedelta,
    now: datetime,
) -> ClaimedBatch:
    """Claim due deliveries within the limits, in the transaction of `settle`.

    `states` are those that `settle` returned. A half-open endpoint is paused again, so that one
    worker tries it at a time.
    """
    claimed = claims.claim(session, limits, lease=lease, now=now)
    endpoint_ids = sorted({one.endpoint_id for one in claimed})
    paused = {
        one: states[one].pause_for_trial(now)
        for one in endpoint_ids
        if states[one].is_half_open(now)
    }
    breaker_store.write_states(session, paused)
    secrets = endpoints.encrypted_secrets(session, endpoint_ids, now=now) if claimed else {}
    return ClaimedBatch(claimed, secrets)


def _settlement(one: Finished, now: datetime) -> Settlement:
    decision = retry_policy.decide(one.result, one.claimed.attempts, now=now, jitter=one.jitter)
    columns = deliveries.result_columns(one.result)
    return Settlement(one.claimed, one.started_at, one.milliseconds, decision, **columns)


def _by_endpoint(finished: Sequence[Finished]) -> Mapping[int, Sequence[AttemptResult]]:
    results: defaultdict[int, list[AttemptResult]] = defaultdict(list)
    for attempt in finished:
        results[attempt.claimed.endpoint_id].append(attempt.result)
    return results


def _settle(session: Session, settled: Sequence[Settlement], now: datetime) -> SettleResult:
    if not settled:
        return SettleResult([], [])
    result = deliveries.settle(session, settled, now=now)
    for settlement in settled:
        decision = settlement.decision
        if isinstance(decision, Disable) and settlement not in result.fenced:
            endpoints.disable(session, settlement.claimed.endpoint_id, decision.reason, now=now)
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

"""The steps of a worker's transaction: settle finished attempts, then claim due deliveries."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import audit, counters
from foundation.db.audit import Actor, Channel
from foundation.text import readable
from notifier.webhooks import breaker_store, circuit_breaker, deliveries, endpoints, retry_policy
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed, Finished, Settlement
from notifier.webhooks.retry_policy import AttemptResult, Disable
from notifier.worker import claims, metrics
from notifier.worker.claims import ExpiredClaim

# Who disables an endpoint that is gone or keeps failing, in the audit table.
_WORKER = Actor("worker", Channel.WORKER)


@dataclass(frozen=True)
class BreakerChange:
    """The state of an endpoint's breaker before and after a batch, and when it changed."""

    before: BreakerState
    after: BreakerState
    at: datetime

    @property
    def is_recovery(self) -> bool:
        """Whether an endpoint that was failing works again."""
        return self.before.failures > 0 and self.after.failures == 0

    @property
    def is_pause(self) -> bool:
        """Whether the endpoint was not paused before and is now."""
        return self.before.paused_until is None and self.after.paused_until is not None


@dataclass(frozen=True)
class SettledBatch:
    """What settling did.

    `changed` holds the endpoints whose breakers changed, `disabled` those that were disabled, and
    the reason. Nothing may be sent now to the endpoints in `blocked`.
    """

    settlements: Sequence[Settlement]
    expired: Sequence[ExpiredClaim]
    changed: Mapping[int, BreakerChange]
    disabled: Mapping[int, str]
    blocked: Collection[int]


def settle(
    session: Session,
    finished: Sequence[Finished],
    *,
    unsent: Sequence[Claimed] = (),
    queued: Collection[int] = (),
    reclaim: bool = True,
    disable_after: timedelta,
    now: datetime,
) -> SettledBatch:
    """Settle finished attempts, update the breakers of their endpoints, reclaim expired claims.

    An endpoint that has been failing for `disable_after` is disabled. `unsent` are claims to give
    back, `queued` the endpoints of claims that are still to be sent. `now` is the database's clock.
    Endpoints are locked before deliveries, both in the order of their ids, as in every transaction
    that locks both. A success of a healthy endpoint locks none.
    """
    settled = [_settlement(attempt, now) for attempt in finished]
    results = _by_endpoint(finished)
    watched = {*results, *queued}
    states = breaker_store.read_states(session, only=watched) if watched else {}
    disabling = {one.claimed.endpoint_id for one in settled if isinstance(one.decision, Disable)}
    changing = {
        one for one, state in states.items() if _record(state, results.get(one), now) != state
    }
    changing |= disabling
    before = breaker_store.read_states(session, only=changing, lock=True) if changing else {}
    after = {one: _record(state, results.get(one), now) for one, state in before.items()}
    changed = {one: state for one, state in after.items() if state != before[one]}
    failing = {
        one: state
        for one, state in changed.items()
        if circuit_breaker.is_failing_for(state, disable_after, now=now)
    }
    if unsent or disabling or failing:
        claimed = [*(one.claimed for one in finished), *unsent]
        deliveries.lock(session, claimed, pending_of=disabling.union(failing))
    if unsent:
        claims.give_back(session, unsent)
    settled = deliveries.settle(session, settled, now=now) if settled else []
    disabled = _disable_gone(session, settled, now) | _disable_failing(session, failing, now)
    expired = claims.reclaim_expired(session, now=now) if reclaim else []
    breaker_store.write_states(session, changed)
    counters.add(session, metrics.of_batch(settled, expired, now=now))
    states |= after
    blocked = {
        one
        for one in watched
        if one not in states or one in disabled or one in disabling or states[one].is_paused(now)
    }
    changes = {one: BreakerChange(before[one], state, now) for one, state in changed.items()}
    return SettledBatch(settled, expired, changes, disabled, blocked)


def claim(
    session: Session,
    wanted: Mapping[int, int],
    settled: SettledBatch,
    *,
    half_open: Collection[int],
    newest_first: bool,
    lease: timedelta,
    now: datetime,
) -> list[Claimed]:
    """Claim up to the `wanted` number of due deliveries by endpoint, in `settle`'s transaction.

    A `half_open` endpoint gets one, and is paused again: one worker tries it at a time.
    """
    wanted = {one: number for one, number in wanted.items() if one not in settled.blocked}
    on_trial = breaker_store.lock_half_open(session, wanted.keys() & half_open, now=now)
    numbers = {
        endpoint_id: min(number, 1) if endpoint_id in on_trial else number
        for endpoint_id, number in wanted.items()
        if endpoint_id in on_trial or endpoint_id not in half_open
    }
    claimed = claims.claim(session, numbers, newest_first=newest_first, lease=lease, now=now)
    tried = on_trial.keys() & {one.endpoint_id for one in claimed}
    paused = {one: on_trial[one].pause_for_trial(now + lease) for one in tried}
    breaker_store.write_states(session, paused)
    return claimed


def _settlement(one: Finished, now: datetime) -> Settlement:
    decision = retry_policy.decide(one.result, one.claimed.attempts, now=now, jitter=one.jitter)
    return Settlement(one, decision)


def _by_endpoint(finished: Sequence[Finished]) -> Mapping[int, Sequence[AttemptResult]]:
    results: defaultdict[int, list[AttemptResult]] = defaultdict(list)
    for attempt in finished:
        results[attempt.claimed.endpoint_id].append(attempt.result)
    return results


def _record(
    state: BreakerState, results: Sequence[AttemptResult] | None, now: datetime
) -> BreakerState:
    return circuit_breaker.record_results(state, results, now=now) if results else state


def _disable_gone(session: Session, settled: Sequence[Settlement], now: datetime) -> dict[int, str]:
    """Disable the endpoints that responded with 410; return those that were enabled."""
    gone = {
        one.claimed.endpoint_id: one.decision.reason
        for one in settled
        if isinstance(one.decision, Disable) and not one.is_late
    }
    return {
        endpoint_id: reason
        for endpoint_id, reason in gone.items()
        if _disable(session, endpoint_id, reason, now)
    }


def _disable_failing(
    session: Session, failing: Mapping[int, BreakerState], now: datetime
) -> dict[int, str]:
    disabled = {
        endpoint_id: f"it has been failing since {readable(state.failing_since)}"
        for endpoint_id, state in failing.items()
    }
    for endpoint_id, reason in disabled.items():
        _disable(session, endpoint_id, reason, now)
    return disabled


def _disable(session: Session, endpoint_id: int, reason: str, now: datetime) -> bool:
    """Disable an endpoint; return True, and record it, if it was enabled."""
    was_enabled = endpoints.disable(session, endpoint_id, reason, now=now)
    if was_enabled:
        audit.record(session, _WORKER, "endpoint.disable", endpoint_id, reason, now=now)
    return was_enabled

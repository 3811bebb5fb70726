"""The steps of a worker's transaction: settle finished attempts, then claim due deliveries."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import audit, counters
from foundation.db.audit import Actor, Channel
from foundation.text import readable
from notifier.webhooks import breaker_store, deliveries, endpoints
from notifier.webhooks.circuit_breaker import BreakerState, is_failing_for, record_results
from notifier.webhooks.deliveries import Claimed, Finished, Settlement
from notifier.webhooks.retry_policy import AttemptResult, Disable, decide, is_gone
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
    settlements = [
        Settlement(
            attempt,
            decide(attempt.result, attempt.claimed.attempts, now=now, jitter=attempt.jitter),
        )
        for attempt in finished
    ]
    results: defaultdict[int, list[AttemptResult]] = defaultdict(list)
    for attempt in finished:
        results[attempt.claimed.endpoint_id].append(attempt.result)
    watched = {*results, *queued}
    states = breaker_store.read_states(session, only=watched) if watched else {}
    gone = {endpoint_id for endpoint_id in results if any(map(is_gone, results[endpoint_id]))}
    changing = {
        endpoint_id
        for endpoint_id, state in states.items()
        if record_results(state, results[endpoint_id], now=now) != state
    }
    changing |= gone
    before = breaker_store.read_states(session, only=changing, lock=True) if changing else {}
    after = {
        endpoint_id: record_results(state, results[endpoint_id], now=now)
        for endpoint_id, state in before.items()
    }
    changed = {
        endpoint_id: BreakerChange(before[endpoint_id], state, now)
        for endpoint_id, state in after.items()
        if state != before[endpoint_id]
    }
    reasons = {
        endpoint_id: f"it has been failing since {readable(change.after.failing_since)}"
        for endpoint_id, change in changed.items()
        if is_failing_for(change.after, disable_after, now=now)
    }
    if unsent or gone or reasons:
        claimed = [*(attempt.claimed for attempt in finished), *unsent]
        deliveries.lock(session, claimed, pending_of=gone.union(reasons))
    if unsent:
        claims.give_back(session, unsent)
    settlements = deliveries.settle(session, settlements, now=now) if settlements else []
    for settlement in settlements:
        if isinstance(settlement.decision, Disable) and not settlement.is_late:
            reasons[settlement.claimed.endpoint_id] = settlement.decision.reason
    disabled = {
        endpoint_id: reason
        for endpoint_id, reason in reasons.items()
        if _disable(session, endpoint_id, reason, now)
    }
    expired = claims.reclaim_expired(session, now=now) if reclaim else []
    breaker_store.write_states(session, {one: change.after for one, change in changed.items()})
    counters.add(session, metrics.of_batch(settlements, expired, now=now))
    sendable = {one for one, state in (states | after).items() if not state.is_paused(now)}
    blocked = watched - sendable | gone | disabled.keys()
    return SettledBatch(settlements, expired, changed, disabled, blocked)


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


def _disable(session: Session, endpoint_id: int, reason: str, now: datetime) -> bool:
    """Disable an endpoint; return True, and record it, if it was enabled."""
    was_enabled = endpoints.disable(session, endpoint_id, reason, now=now)
    if was_enabled:
        audit.record(session, _WORKER, "endpoint.disable", endpoint_id, reason, now=now)
    return was_enabled

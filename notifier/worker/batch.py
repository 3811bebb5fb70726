"""The steps of a worker's transaction: settle finished attempts, then claim due deliveries."""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
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
    blocked: Set[int]


def settle(
    session: Session,
    finished: Sequence[Finished],
    *,
    unsent: Sequence[Claimed] = (),
    queued: Collection[int] = (),
    trials: Collection[int] = (),
    reclaim: bool = True,
    disable_after: timedelta,
    now: datetime,
) -> SettledBatch:
    """Settle finished attempts, update the breakers of their endpoints, reclaim expired claims.

    An endpoint that has been failing for `disable_after` is disabled. `unsent` are claims to give
    back, `queued` the endpoints of claims that are still to be sent, `trials` those whose trial has
    finished or is given back: the pause for it ends. `now` is the database's clock.
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
    gone = {endpoint_id for endpoint_id in results if any(map(is_gone, results[endpoint_id]))}
    watched = {*results, *queued, *trials}
    changed, sendable = _record(session, watched, results, gone, trials, now)
    reasons = {
        endpoint_id: f"it has been failing since {readable(change.after.failing_since)}"
        for endpoint_id, change in changed.items()
        if is_failing_for(change.after, disable_after, now=now)
    }
    if unsent:
        deliveries.lock(session, [*(attempt.claimed for attempt in finished), *unsent])
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
    counters.add(session, metrics.of_batch(settlements, expired, now=now))
    blocked = watched - sendable | gone | disabled.keys()
    return SettledBatch(settlements, expired, changed, disabled, blocked)


def claim(
    session: Session,
    wanted: Mapping[int, int],
    *,
    half_open: Set[int],
    lease: timedelta,
    now: datetime,
) -> list[Claimed]:
    """Claim up to the `wanted` number of due deliveries by endpoint, in `settle`'s transaction.

    Endpoints that are paused or disabled get none. A `half_open` endpoint gets one, and is paused
    again: one worker tries it at a time.
    """
    on_trial = breaker_store.lock_half_open(session, wanted.keys() & half_open, now=now)
    numbers = {endpoint_id: wanted[endpoint_id] for endpoint_id in wanted.keys() - half_open}
    numbers |= dict.fromkeys(on_trial, 1)
    # Half of the turns each, so that neither a backlog of retries delays new events, nor new events
    # the backlog.
    newest = bool(random.getrandbits(1))
    claimed = claims.claim(session, numbers, newest=newest, on_trial=on_trial, lease=lease, now=now)
    tried = on_trial.keys() & {claim.endpoint_id for claim in claimed}
    paused = {
        endpoint_id: on_trial[endpoint_id].pause_for_trial(now + lease) for endpoint_id in tried
    }
    breaker_store.write_states(session, paused)
    return claimed


def _record(
    session: Session,
    watched: Collection[int],
    results: Mapping[int, Sequence[AttemptResult]],
    gone: Collection[int],
    trials: Collection[int],
    now: datetime,
) -> tuple[dict[int, BreakerChange], set[int]]:
    """Lock the endpoints whose breakers change or that are gone, and record the results.

    Returns the changes, and those of the `watched` endpoints that are neither disabled nor paused.
    """

    def recorded(states: Mapping[int, BreakerState]) -> dict[int, BreakerChange]:
        changes = {}
        for endpoint_id, state in states.items():
            tried = state.end_pause(now) if endpoint_id in trials else state
            after = record_results(tried, results.get(endpoint_id, ()), now=now)
            if after != state:
                changes[endpoint_id] = BreakerChange(state, after, now)
        return changes

    states = breaker_store.read_states(session, only=watched) if watched else {}
    locking = recorded(states).keys() | gone
    locked = breaker_store.read_states(session, only=locking, lock=True) if locking else {}
    changed = recorded(locked)
    after = {endpoint_id: change.after for endpoint_id, change in changed.items()}
    breaker_store.write_states(session, after)
    states |= locked | after
    sendable = {endpoint_id for endpoint_id in states if not states[endpoint_id].is_paused(now)}
    return changed, sendable


def _disable(session: Session, endpoint_id: int, reason: str, now: datetime) -> bool:
    """Disable an endpoint; return True, and record it, if it was enabled."""
    was_enabled = endpoints.disable(session, endpoint_id, reason, now=now)
    if was_enabled:
        audit.record(session, _WORKER, "endpoint.disable", endpoint_id, reason, now=now)
    return was_enabled

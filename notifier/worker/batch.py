"""The steps of a worker's transaction: settle what has finished, and what follows from it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.db import audit, counters
from foundation.db.audit import Actor, Channel
from foundation.text import readable
from notifier.webhooks import circuit_breaker, deliveries, endpoints
from notifier.webhooks.circuit_breaker import BreakerState, is_failing_for, record_results
from notifier.webhooks.deliveries import Claimed, Finished, Settlement
from notifier.webhooks.retry_policy import AttemptResult, Disable, decide, is_gone, is_healthy
from notifier.worker import claims, metrics

# Who disables an endpoint that is gone or keeps failing, in the audit table.
_WORKER = Actor("worker", Channel.WORKER)


@dataclass(frozen=True)
class SettledBatch:
    """What settling did.

    `changed` holds the endpoints whose breakers changed, with the states before and after, and
    `disabled` those that were disabled, with the reason. `now` is the database's clock.
    """

    settlements: Sequence[Settlement]
    changed: Mapping[int, tuple[BreakerState, BreakerState]]
    disabled: Mapping[int, str]
    now: datetime


def settle(
    session: Session,
    finished: Sequence[Finished],
    *,
    unsent: Sequence[Claimed] = (),
    disable_after: timedelta,
    now: datetime,
) -> SettledBatch:
    """Settle finished attempts, and those whose leases expired; update the breakers of endpoints.

    An endpoint that has been failing for `disable_after` is disabled. `unsent` are claims to give
    back. `now` is the database's clock.
    Endpoints are locked before deliveries, both in the order of their ids, as in every transaction
    that locks both. A success of a healthy endpoint locks none.
    """
    results: defaultdict[int, list[AttemptResult]] = defaultdict(list)
    for attempt in finished:
        results[attempt.claimed.endpoint_id].append(attempt.result)
    changed = _record(session, results, now)
    reasons = {
        endpoint_id: f"it has been failing since {readable(after.failing_since)}"
        for endpoint_id, (_, after) in changed.items()
        if is_failing_for(after, disable_after, now=now)
    }
    if unsent:
        deliveries.lock(session, [*(attempt.claimed for attempt in finished), *unsent])
        claims.give_back(session, unsent)
    decided = [
        Settlement(one, decide(one.result, one.claimed.attempts, now=now, jitter=one.jitter))
        for one in finished
    ]
    settlements = deliveries.settle(session, decided, now=now)
    settlements += deliveries.settle(session, claims.expired(session, now=now), now=now)
    for settlement in settlements:
        if isinstance(settlement.decision, Disable) and not settlement.is_late:
            reasons[settlement.claimed.endpoint_id] = settlement.decision.reason
    disabled = {}
    for endpoint_id, reason in reasons.items():
        if endpoints.disable(session, endpoint_id, reason, now=now):
            audit.record(session, _WORKER, "endpoint.disable", endpoint_id, reason, now=now)
            disabled[endpoint_id] = reason
    counters.add(session, metrics.of_batch(settlements, now=now))
    return SettledBatch(settlements, changed, disabled, now)


def _record(
    session: Session, results: Mapping[int, Sequence[AttemptResult]], now: datetime
) -> dict[int, tuple[BreakerState, BreakerState]]:
    """Record results in the breakers of endpoints; return the states before and after a change.

    An endpoint that just goes on being healthy is not locked. One that is gone is: it will be
    disabled.
    """
    calm = {
        endpoint_id
        for endpoint_id, of_endpoint in results.items()
        if not any(is_healthy(one) is False or is_gone(one) for one in of_endpoint)
    }
    states = circuit_breaker.lock_states(session, results.keys() - calm, if_failing=calm)
    after = {one: record_results(states[one], results[one], now=now) for one in states}
    changed = {one: (states[one], after[one]) for one in states if after[one] != states[one]}
    circuit_breaker.write_states(session, {one: after[one] for one in changed})
    return changed

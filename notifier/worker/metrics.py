"""Counters of attempts and settled deliveries, increased in the transaction of a batch."""

import collections
from collections.abc import Sequence
from datetime import datetime

from foundation.db import counters
from foundation.db.counters import CounterMetric, HistogramMetric, Key
from notifier.webhooks.deliveries import Settlement, SettleResult
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import Dead, Delivered
from notifier.worker.claims import ExpiredClaim

SETTLED = CounterMetric(
    "notifier_deliveries_settled_total",
    "Deliveries that were delivered or became dead.",
    ("outcome", "event_type"),
)
ATTEMPTS = CounterMetric(
    "notifier_attempts_total",
    "Attempts by status class of the response, or by failure if there was no response.",
    ("status_class", "failure"),
)
CLAIM_TO_SETTLE = HistogramMetric(
    "notifier_claim_to_settle_seconds",
    "Time from the claim of a delivery until its attempt was settled.",
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60),
)
EVENT_TO_DELIVERY = HistogramMetric(
    "notifier_event_to_delivery_seconds",
    "Time from the event until it was delivered, including retries and replays.",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800, 86400, 259200),
)
ALL = (SETTLED, ATTEMPTS, CLAIM_TO_SETTLE, EVENT_TO_DELIVERY)


def of_batch(
    settlements: Sequence[Settlement],
    result: SettleResult,
    expired: Sequence[ExpiredClaim],
    *,
    now: datetime,
) -> collections.Counter[Key]:
    """Return what a batch adds to the counters."""
    return counters.total(
        [
            *(_of_attempt(one, now) for one in settlements),
            *(_of_applied(one, now) for one in result.applied),
            *(_of_expired(one) for one in expired),
        ]
    )


def _of_attempt(one: Settlement, now: datetime) -> collections.Counter[Key]:
    status_class = "none" if one.status is None else f"{one.status // 100}xx"
    bag = ATTEMPTS.of(status_class, one.failure or "")
    bag.update(CLAIM_TO_SETTLE.of((now - one.claimed.claimed_at).total_seconds()))
    return bag


def _of_applied(one: Settlement, now: datetime) -> collections.Counter[Key]:
    match one.decision:
        case Delivered():
            bag = SETTLED.of("delivered", one.claimed.event_type)
            bag.update(EVENT_TO_DELIVERY.of((now - one.claimed.occurred_at).total_seconds()))
            return bag
        case Dead():
            return SETTLED.of("dead", one.claimed.event_type)
        case _:
            return collections.Counter()


def _of_expired(one: ExpiredClaim) -> collections.Counter[Key]:
    bag = ATTEMPTS.of("none", FailureKind.WORKER_LOST)
    if one.dead_reason:
        bag.update(SETTLED.of("dead", one.event_type))
    return bag

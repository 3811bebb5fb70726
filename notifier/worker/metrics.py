"""Counters of attempts, settled deliveries and heartbeats, increased where they are stored."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from foundation.db.counters import Amounts, CounterMetric, HistogramMetric
from notifier.webhooks.deliveries import Settlement
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import AttemptResult, Dead, Delivered, Failure

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
HEARTBEATS = CounterMetric(
    "notifier_heartbeats_total", "Heartbeats that were sent, by outcome.", ("outcome",)
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
ALL = (SETTLED, ATTEMPTS, HEARTBEATS, CLAIM_TO_SETTLE, EVENT_TO_DELIVERY)


def of_batch(settlements: Sequence[Settlement], *, now: datetime) -> Amounts:
    """Return what a batch adds to the counters."""
    applied = [settlement for settlement in settlements if not settlement.is_late]
    attempts = [_labels(settlement.attempt.result) for settlement in settlements]
    claimed = [
        settlement.claimed
        for settlement, (_, failure) in zip(settlements, attempts, strict=True)
        if failure != FailureKind.WORKER_LOST  # its claim was another worker's
    ]
    delivered = [each.claimed for each in applied if isinstance(each.decision, Delivered)]
    dead = [each.claimed for each in applied if isinstance(each.decision, Dead)]
    settled = [("delivered", claim.event_type) for claim in delivered]
    settled += [("dead", claim.event_type) for claim in dead]
    return {
        **ATTEMPTS.count(attempts),
        **SETTLED.count(settled),
        **CLAIM_TO_SETTLE.count(_seconds(now, (claim.claimed_at for claim in claimed))),
        **EVENT_TO_DELIVERY.count(_seconds(now, (claim.occurred_at for claim in delivered))),
    }


def _seconds(now: datetime, since: Iterable[datetime]) -> list[float]:
    return [(now - at).total_seconds() for at in since]


def _labels(result: AttemptResult) -> tuple[str, str]:
    if isinstance(result, Failure):
        return "none", result.kind
    return f"{result.status // 100}xx", ""

"""The numbers of eAssessment: what is counted as it happens, and how things stand when asked."""

from collections import Counter as Bag
from collections.abc import Iterable, Sequence
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import select
from sqlalchemy.orm import Session

from foundation.db import counters
from foundation.db import session as db
from foundation.db.counters import Counter, Histogram, Key
from notifier.models import CounterShard, DeliveryStatus, Endpoint
from notifier.webhooks import replay
from notifier.webhooks.deliveries import Settlement, SettleResult
from notifier.webhooks.failures import FailureKind
from notifier.webhooks.replay import Backlog
from notifier.webhooks.retry_policy import Dead, Delivered
from notifier.worker.claims import ExpiredClaim

SETTLED = Counter(
    "notifier_deliveries_settled_total",
    "Deliveries that were delivered or given up, since the service was first run.",
    ("outcome", "event_type"),
)
ATTEMPTS = Counter(
    "notifier_attempts_total",
    "Attempts by the class of the answer's status; none came where there is a failure instead.",
    ("status_class", "failure"),
)
CLAIM_TO_SETTLE = Histogram(
    "notifier_claim_to_settle_seconds",
    "From the claim of a delivery until its attempt was settled.",
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60),
)
EVENT_TO_DELIVERY = Histogram(
    "notifier_event_to_delivery_seconds",
    "From what happened until it was delivered, retries and replays included.",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800, 86400, 259200),
)

_WAITING = (DeliveryStatus.PENDING, DeliveryStatus.HELD, DeliveryStatus.DEAD)
_STATES = ("well", "paused", "disabled")


def of_turn(
    settlements: Sequence[Settlement],
    settled: SettleResult,
    lost: Sequence[ExpiredClaim],
    *,
    now: datetime,
) -> Bag[Key]:
    """Return what a turn of a worker adds to the tallies."""
    return counters.total(
        [
            *(_of_attempt(one, now) for one in settlements),
            *(_of_settled(one, now) for one in settled.standing),
            *(_of_lost(one) for one in lost),
        ]
    )


def numbers(session: Session) -> Iterable[Metric]:
    """Return every number of the service; none of the queries reads what was delivered."""
    now = db.now(session)
    amounts = counters.read(session, CounterShard)
    backlog = replay.backlog(session, now=now)
    return [
        *(one.family(amounts) for one in (SETTLED, ATTEMPTS, CLAIM_TO_SETTLE, EVENT_TO_DELIVERY)),
        _deliveries(backlog),
        _oldest_due(backlog, now),
        _endpoints(session),
    ]


def _of_attempt(one: Settlement, now: datetime) -> Bag[Key]:
    status_class = "none" if one.status is None else f"{one.status // 100}xx"
    bag = ATTEMPTS.of(status_class, one.failure or "")
    bag.update(CLAIM_TO_SETTLE.of((now - one.claimed.claimed_at).total_seconds()))
    return bag


def _of_settled(one: Settlement, now: datetime) -> Bag[Key]:
    match one.outcome:
        case Delivered():
            bag = SETTLED.of("delivered", one.claimed.event_type)
            bag.update(EVENT_TO_DELIVERY.of((now - one.claimed.occurred_at).total_seconds()))
            return bag
        case Dead():
            return SETTLED.of("dead", one.claimed.event_type)
        case _:
            return Bag()


def _of_lost(one: ExpiredClaim) -> Bag[Key]:
    bag = ATTEMPTS.of("none", FailureKind.WORKER_LOST)
    if one.dead:
        bag.update(SETTLED.of("dead", one.event_type))
    return bag


def _deliveries(backlog: Backlog) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "notifier_deliveries", "Deliveries that are not delivered, by status.", labels=["status"]
    )
    for status in _WAITING:
        family.add_metric([status], backlog.counts.get(status, 0))
    return family


def _oldest_due(backlog: Backlog, now: datetime) -> GaugeMetricFamily:
    due_at = backlog.oldest_due_at
    return GaugeMetricFamily(
        "notifier_oldest_due_seconds",
        "For how long the oldest delivery has been due that no pause holds back; 0 if none is.",
        0.0 if due_at is None else max(0.0, (now - due_at).total_seconds()),
    )


def _endpoints(session: Session) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "notifier_endpoints", "Endpoints by state; a paused one keeps failing.", labels=["state"]
    )
    rows = session.execute(select(Endpoint.disabled_at, Endpoint.paused_until))
    found = Bag(
        "disabled" if disabled_at else "paused" if paused_until else "well"
        for disabled_at, paused_until in rows
    )
    for state in _STATES:
        family.add_metric([state], found[state])
    return family

"""All metrics of eAssessment: the stored counters, and gauges read on each scrape."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from foundation.db import counters
from foundation.db import session as db
from notifier.models import CounterShard, DeliveryStatus, Endpoint
from notifier.webhooks import delivery_queries, endpoints
from notifier.worker.metrics import ALL

_STATUSES = (DeliveryStatus.PENDING, DeliveryStatus.HELD, DeliveryStatus.DEAD)
_STATES = ("healthy", "paused", "disabled", "disabled_on_purpose")


def collect(session: Session) -> Iterable[Metric]:
    """Return every metric; no query reads delivered deliveries."""
    now = db.now(session)
    amounts = counters.read(session, CounterShard)
    backlog = delivery_queries.backlog(session, now=now)
    deliveries = GaugeMetricFamily(
        "notifier_deliveries", "Deliveries that are not delivered, by status.", labels=["status"]
    )
    for status in _STATUSES:
        deliveries.add_metric([status], backlog.counts.get(status, 0))
    due_at = backlog.oldest_due_at
    oldest_due = GaugeMetricFamily(
        "notifier_oldest_due_seconds",
        "Age of the oldest due delivery whose endpoint is not paused; 0 if there is none.",
        0.0 if due_at is None else max(0.0, (now - due_at).total_seconds()),
    )
    counted = (counter.family(amounts) for counter in ALL)
    return [*counted, deliveries, oldest_due, _endpoints(session)]


def _endpoints(session: Session) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "notifier_endpoints",
        "Endpoints by state; a paused one keeps failing, and a person disabled one on purpose.",
        labels=["state"],
    )
    counts = Counter(_state(endpoint) for endpoint in endpoints.list_all(session))
    for state in _STATES:
        family.add_metric([state], counts[state])
    return family


def _state(endpoint: Endpoint) -> str:
    if endpoint.disabled_at:
        return "disabled_on_purpose" if endpoint.disabled_by else "disabled"
    return "paused" if endpoint.paused_until else "healthy"

"""The metrics of ELMS: stored counters, and gauges that are computed for each scrape."""

from collections.abc import Iterable
from math import inf

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from foundation.db import counters
from foundation.db import session as db
from foundation.db.counters import CounterMetric
from receiver.models import CounterShard
from receiver.registry import history, listing
from receiver.runs import store as runs
from receiver.runs.store import RunStatus
from receiver.sources import store as sources

WEBHOOKS = CounterMetric(
    "receiver_webhooks_total",
    "Accepted webhooks, by outcome.",
    ("outcome",),
)


def collect(session: Session) -> Iterable[Metric]:
    """Return all metrics of the service."""
    now = db.now(session)
    entries = GaugeMetricFamily(
        "receiver_entries", "Courses in grade sync, by status.", labels=["status"]
    )
    for status, count in listing.counts(session, now=now).items():
        entries.add_metric([status], count)
    totals = runs.totals(session, now=now)
    ended = CounterMetricFamily("receiver_runs", "Ended grade syncs, by ending.", labels=["ending"])
    for run_status in RunStatus:
        if run_status is not RunStatus.RUNNING:
            ended.add_metric([run_status.value], totals.runs.get(run_status, 0))
    courses = CounterMetricFamily(
        "receiver_run_courses", "Courses in all grade syncs, by outcome.", labels=["outcome"]
    )
    for outcome, count in totals.courses.items():
        courses.add_metric([outcome], count)
    received = GaugeMetricFamily(
        "receiver_source_last_received_timestamp_seconds",
        "When the last valid webhook of a source was received; missing if none was.",
        labels=["source"],
    )
    heartbeats = GaugeMetricFamily(
        "receiver_source_heartbeat_seconds",
        "Interval of the heartbeats of a source; missing if it sends none.",
        labels=["source"],
    )
    silent = GaugeMetricFamily(
        "receiver_source_silent",
        "1 if a source that sends heartbeats was silent for more than two intervals, else 0; "
        "the time before ELMS started does not count.",
        labels=["source"],
    )
    for name, reception in sources.receptions(session).items():
        if reception.last_at is not None:
            received.add_metric([name], reception.last_at.timestamp())
        if reception.heartbeat is not None:
            heartbeats.add_metric([name], reception.heartbeat.total_seconds())
            silent.add_metric([name], reception.is_silent(now))
    missed = GaugeMetricFamily(
        "receiver_missed_webhooks",
        f"Facts of the last {history.MISSED_IN.days} days that a grade sync found although a "
        "webhook should have brought them, by event; missing if there are none.",
        labels=["source", "event"],
    )
    for name, numbers in history.missed_webhooks(session, now=now).items():
        for event, number in numbers.items():
            missed.add_metric([name, event], number)
    since = (now - totals.completed_at).total_seconds() if totals.completed_at else inf
    return [
        WEBHOOKS.family(counters.read(session, CounterShard)),
        received,
        heartbeats,
        silent,
        missed,
        entries,
        ended,
        courses,
        GaugeMetricFamily(
            "receiver_seconds_since_good_run",
            "Seconds since a sync of all courses ended without failures; infinite if none did.",
            since,
        ),
    ]

"""The numbers of ELMS: what is counted as it happens, and how things stand when asked."""

from collections import Counter as Bag
from collections.abc import Iterable
from math import inf
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from foundation import database as db
from foundation import tallies
from foundation.tallies import Counter
from receiver import registry, runs
from receiver.memory import Memory, Status, columns_of, status_of
from receiver.models import Entry, Tally
from receiver.runs import CourseOutcome, Ending, Totals

WEBHOOKS = Counter(
    "receiver_webhooks_total",
    "Webhooks that were signed and understood, by what they did.",
    ("outcome",),
)

_REMEMBERED = [getattr(Entry, name) for name in ("held_token_id", *columns_of(Memory()))]

_IN_DOUBT = or_(
    Entry.deleted_version.is_not(None),
    Entry.announced_version.is_not(None),
    Entry.refused_token_id.is_not(None),
)


def numbers(session: Session) -> Iterable[Metric]:
    """Return every number of the service."""
    now = db.now(session)
    totals = runs.totals(session, now=now)
    since = (now - totals.well_at).total_seconds() if totals.well_at else inf
    return [
        WEBHOOKS.family(tallies.read(session, Tally)),
        _entries(session),
        *_runs(totals),
        GaugeMetricFamily(
            "receiver_seconds_since_good_run",
            "Since a sync of every course ended with no failure; infinite if none ever did.",
            since,
        ),
    ]


def _entries(session: Session) -> GaugeMetricFamily:
    enrolled = select(*_REMEMBERED).where(Entry.enrolled_at.is_not(None))
    rows: Iterable[Any] = session.execute(enrolled.where(_IN_DOUBT))
    found = Bag(status_of(registry.memory_of(row)) for row in rows)
    # Of the others, which are most, nothing was said that could make them anything but active.
    others = select(func.count()).where(Entry.enrolled_at.is_not(None), ~_IN_DOUBT)
    found[Status.ACTIVE] += session.scalar(others) or 0
    family = GaugeMetricFamily(
        "receiver_entries", "Courses in grade sync, by status.", labels=["status"]
    )
    for status in Status:
        family.add_metric([status], found[status])
    return family


def _runs(totals: Totals) -> Iterable[Metric]:
    ended = CounterMetricFamily("receiver_runs", "Grade syncs that are over.", labels=["ending"])
    for ending in Ending:
        if ending is not Ending.AT_WORK:
            ended.add_metric([ending.name.lower()], totals.runs.get(ending, 0))
    courses = CounterMetricFamily(
        "receiver_run_courses", "Courses of all grade syncs, by outcome.", labels=["outcome"]
    )
    for outcome in CourseOutcome:
        courses.add_metric([outcome], totals.courses[outcome])
    return ended, courses

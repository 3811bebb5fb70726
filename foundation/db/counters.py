"""Counters and histograms in the database, written in the transaction of what they count.

They are the same for every process and machine, survive restarts, and never count what was
rolled back.
"""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from sqlalchemy import Double, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from foundation.db.bulk import RowsStatement

# Rows per counter, so that concurrent transactions rarely wait for each other.
SHARDS = 8

_SUM = "sum"
_BETWEEN = ","
Key = tuple[str, str]
Amounts = Mapping[Key, float]
"""Amounts by the counter's name and labels."""

_ADD = RowsStatement(
    {"name": String(60), "labels": String(120), "amount": Double()},
    "INSERT INTO counters (name, labels, shard, amount) "
    "SELECT name, labels, CAST(:shard AS integer), amount FROM {given} WHERE true "
    "ON CONFLICT (name, labels, shard) DO UPDATE SET amount = counters.amount + excluded.amount",
)


class CounterColumns:
    """The columns of a service's table of counters."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    labels: Mapped[str] = mapped_column(String(120), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[float] = mapped_column(Double)


@dataclass(frozen=True)
class CounterMetric:
    """A number that only grows, for each combination of label values, of which there are few."""

    name: str
    meaning: str
    labels: tuple[str, ...]

    def count(self, events: Iterable[tuple[str, ...]]) -> Amounts:
        """Return the amounts to add for events, each given as its label values."""
        return {
            (self.name, _BETWEEN.join(values)): number for values, number in Counter(events).items()
        }

    def family(self, amounts: Amounts) -> CounterMetricFamily:
        """Return the counter for Prometheus."""
        family = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        for (name, values), amount in sorted(amounts.items()):
            if name == self.name:
                family.add_metric(values.split(_BETWEEN), amount)
        return family


@dataclass(frozen=True)
class HistogramMetric:
    """Durations in seconds, in buckets with upper bounds."""

    name: str
    meaning: str
    bounds: tuple[float, ...]

    def count(self, durations: Sequence[float]) -> Amounts:
        """Return the amounts to add for durations."""
        if not durations:
            return {}
        buckets = Counter(bisect_left(self.bounds, seconds) for seconds in durations)
        bounds = (*self.bounds, inf)
        counts = {(self.name, f"{bounds[at]:g}"): number for at, number in buckets.items()}
        return {**counts, (self.name, _SUM): sum(max(seconds, 0.0) for seconds in durations)}

    def family(self, amounts: Amounts) -> HistogramMetricFamily:
        """Return the histogram for Prometheus, whose buckets are cumulative."""
        bounds = [f"{bound:g}" for bound in (*self.bounds, inf)]
        counts = accumulate(amounts.get((self.name, bound), 0) for bound in bounds)
        buckets = [
            ("+Inf" if bound == "inf" else bound, count)
            for bound, count in zip(bounds, counts, strict=True)
        ]
        family = HistogramMetricFamily(self.name, self.meaning)
        family.add_metric([], buckets, amounts.get((self.name, _SUM), 0))
        return family


def add(session: Session, amounts: Amounts) -> None:
    """Add amounts to the counters, in one statement; call it last in the transaction.

    The rows stay locked until the commit. They are locked in one order, so that concurrent
    transactions cannot deadlock.
    """
    rows = [
        {"name": name, "labels": labels, "amount": amount}
        for (name, labels), amount in sorted(amounts.items())
    ]
    if rows:
        _ADD.execute(session, rows, shard=random.randrange(SHARDS))  # noqa: S311 - no secret


def read(session: Session, table: type[Any]) -> dict[Key, float]:
    """Return all counters."""
    rows = session.execute(
        select(table.name, table.labels, func.sum(table.amount)).group_by(table.name, table.labels)
    )
    return {(name, labels): amount for name, labels, amount in rows}

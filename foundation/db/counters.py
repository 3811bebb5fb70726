"""Counters and histograms in the database, written in the transaction of what they count.

They are the same for every process and machine, survive restarts, and never count what was
rolled back.
"""

import collections
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from sqlalchemy import Double, String, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

# Rows per counter, so that concurrent transactions rarely wait for each other.
SHARDS = 8

_SUM = "sum"
_BETWEEN = ","
Key = tuple[str, str]
Amounts = Mapping[Key, float]
"""Amounts by the counter's name and labels."""


# As text, because SQLAlchemy compiles an INSERT with ON CONFLICT again each time.
_ADD = text(
    "INSERT INTO counters (name, labels, shard, amount) VALUES (:name, :labels, :shard, :amount) "
    "ON CONFLICT (name, labels, shard) DO UPDATE SET amount = counters.amount + excluded.amount"
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

    def of(self, *values: str, amount: float = 1) -> collections.Counter[Key]:
        """Return the amount to add for one event, or for several."""
        return collections.Counter({(self.name, _BETWEEN.join(values)): amount})

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

    def of(self, seconds: float) -> collections.Counter[Key]:
        """Return the amounts to add for one duration."""
        bound = next((bound for bound in self.bounds if seconds <= bound), inf)
        return collections.Counter(
            {(self.name, f"{bound:g}"): 1, (self.name, _SUM): max(seconds, 0.0)}
        )

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
    """Add amounts to the counters, as one batch; call it last in the transaction.

    The rows stay locked until the commit. They are locked in one order, so that concurrent
    transactions cannot deadlock.
    """
    if not amounts:
        return
    shard = random.randrange(SHARDS)  # noqa: S311 - no secret
    rows = [
        {"name": name, "labels": labels, "shard": shard, "amount": float(amount)}
        for (name, labels), amount in sorted(amounts.items())
    ]
    session.connection().execute(_ADD, rows)


def read(session: Session, table: type[Any]) -> dict[Key, float]:
    """Return all counters."""
    rows = session.execute(
        select(table.name, table.labels, func.sum(table.amount)).group_by(table.name, table.labels)
    )
    return {(name, labels): amount for name, labels, amount in rows}


def total(parts: Sequence[Amounts]) -> collections.Counter[Key]:
    """Return the sum of the amounts."""
    sums: collections.Counter[Key] = collections.Counter()
    for part in parts:
        sums.update(part)
    return sums

"""Counters: what happened, counted in the transaction in which it happened.

A service is several processes on several machines, which come and go. A number that stands in the
database is right whichever of them is asked, survives each of them, and is never of something that
was rolled back.
"""

import random
from collections import Counter as Bag
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from sqlalchemy import Double, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from foundation.db import session as db

SHARDS = 8
"""Rows that share one number, so that transactions at the same time hardly wait for each other."""

_SUM = "sum"
_BETWEEN = ","
Key = tuple[str, str]
Amounts = Mapping[Key, float]
"""How much of what, by the name of the number and its labels."""


class CounterColumns:
    """The columns of a service's table of tallies."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    labels: Mapped[str] = mapped_column(String(120), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[float] = mapped_column(Double)


@dataclass(frozen=True)
class Counter:
    """A number that only grows, for each combination of labels, whose values are few."""

    name: str
    meaning: str
    labels: tuple[str, ...]

    def of(self, *values: str, amount: float = 1) -> Bag[Key]:
        """Return what is added for one thing that happened, or for several."""
        return Bag({(self.name, _BETWEEN.join(values)): amount})

    def family(self, amounts: Amounts) -> CounterMetricFamily:
        """Return the number as Prometheus reads it."""
        family = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        for (name, values), amount in sorted(amounts.items()):
            if name == self.name:
                family.add_metric(values.split(_BETWEEN), amount)
        return family


@dataclass(frozen=True)
class Histogram:
    """How long something took, in seconds, told by upper bounds."""

    name: str
    meaning: str
    bounds: tuple[float, ...]

    def of(self, seconds: float) -> Bag[Key]:
        """Return what is added for one duration."""
        bound = next((bound for bound in self.bounds if seconds <= bound), inf)
        return Bag({(self.name, f"{bound:g}"): 1, (self.name, _SUM): max(seconds, 0.0)})

    def family(self, amounts: Amounts) -> HistogramMetricFamily:
        """Return the durations as Prometheus reads them: each bucket holds those below it too."""
        bounds = [f"{bound:g}" for bound in (*self.bounds, inf)]
        counts = accumulate(amounts.get((self.name, bound), 0) for bound in bounds)
        buckets = [
            ("+Inf" if bound == "inf" else bound, count)
            for bound, count in zip(bounds, counts, strict=True)
        ]
        family = HistogramMetricFamily(self.name, self.meaning)
        family.add_metric([], buckets, amounts.get((self.name, _SUM), 0))
        return family


def add(session: Session, table: type[Any], amounts: Amounts) -> None:
    """Add to the tallies, in one statement; it has to be the last of its transaction.

    The rows stay locked until the commit, so nothing that takes time may come between. They are
    taken in one order: two transactions at once do not lock each other out.
    """
    if not amounts:
        return
    shard = random.randrange(SHARDS)  # noqa: S311 - no secret
    rows = [
        {"name": name, "labels": labels, "shard": shard, "amount": float(amount)}
        for (name, labels), amount in sorted(amounts.items())
    ]
    statement = db.insert(session, table).values(rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=("name", "labels", "shard"),
            set_={"amount": table.amount + statement.excluded.amount},
        )
    )


def read(session: Session, table: type[Any]) -> dict[Key, float]:
    """Return every number that was ever added to."""
    rows = session.execute(
        select(table.name, table.labels, func.sum(table.amount)).group_by(table.name, table.labels)
    )
    return {(name, labels): amount for name, labels, amount in rows}


def total(parts: Sequence[Amounts]) -> Bag[Key]:
    """Return what is added for all of what happened in a transaction."""
    bag: Bag[Key] = Bag()
    for part in parts:
        bag.update(part)
    return bag

"""Refused webhooks, counted in the memory of a process: what is not signed causes no queries."""

import threading
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from flask import Flask
from prometheus_client.core import CounterMetricFamily

from contract import signatures
from foundation.errors import Refusal
from receiver.errors import SourceUnknownError

_REFUSALS = "webhook_refusals"
# Names from URLs whose last refusal is kept, and the characters of a name and of a detail.
_MAX_NAMES, _MAX_NAME, _MAX_DETAIL = 1000, 100, 300
REASONS: dict[type, str] = {
    signatures.MissingHeaderError: "header-missing",
    signatures.MalformedHeaderError: "header-malformed",
    signatures.TimestampError: "timestamp-not-current",
    signatures.NoMatchError: "signature-mismatch",
    SourceUnknownError: "source-unknown",
}
"""The reasons that are no type of problem, by the error that causes the refusal."""


@dataclass(frozen=True)
class LastRefusal:
    """Why the webhooks of a source are refused: since when, the last time, and how many were."""

    status: int
    reason: str
    detail: str
    since: datetime
    last_at: datetime
    count: int = 1


class RefusedWebhooks:
    """The refusals of an app since it started: their number by reason, and the last of each source.

    The last one is forgotten when a webhook of the source is accepted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, LastRefusal] = {}

    @classmethod
    def of(cls, app: Flask) -> "RefusedWebhooks":
        """Return the refusals of an app."""
        refusals: RefusedWebhooks = app.extensions.setdefault(_REFUSALS, cls())
        return refusals

    def record(self, source: str, refusal: Refusal, *, now: datetime) -> None:
        """Count a refusal at the route of a source; there may be no source of this name."""
        if refusal.problem is None:
            return
        reason = REASONS.get(type(refusal.__cause__), str(refusal.problem))
        detail = str(refusal)[:_MAX_DETAIL]
        with self._lock:
            self._counts[reason] += 1
            if len(source) > _MAX_NAME:
                return
            last = self._last.pop(source, None)
            if last is None or last.reason != reason:
                last = LastRefusal(refusal.problem.status, reason, detail, now, now)
            else:
                last = replace(last, detail=detail, last_at=now, count=last.count + 1)
            self._last[source] = last
            if len(self._last) > _MAX_NAMES:
                del self._last[next(iter(self._last))]

    def forget(self, source: str) -> None:
        """Forget the last refusal of a source, because a webhook of it was accepted."""
        if source in self._last:
            with self._lock:
                self._last.pop(source, None)

    def last(self, source: str) -> LastRefusal | None:
        """Return the last refusal at the route of a source, if nothing was accepted since."""
        return self._last.get(source)

    def family(self) -> CounterMetricFamily:
        """Return the counter for Prometheus."""
        family = CounterMetricFamily(
            "receiver_webhooks_refused_total",
            "Webhooks that this process refused since it started, by reason.",
            labels=["reason"],
        )
        with self._lock:
            counts = sorted(self._counts.items())
        for reason, count in counts:
            family.add_metric([reason], count)
        return family

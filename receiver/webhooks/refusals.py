"""Refused webhooks, counted in the memory of a process: what is not signed causes no queries.

That a known source is refused for its secret, its name or its clock is also stored, so that other
processes know it: at most once a minute, and once after each accepted webhook.
"""

import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from flask import Flask
from prometheus_client.core import CounterMetricFamily

from contract import signatures
from contract.problems import ProblemType
from foundation.errors import Refusal
from receiver.errors import SourceUnknownError
from receiver.sources.store import CLOCK_DIFFERS, LastRefusal, Reception

_REFUSALS = "webhook_refusals"
# Names from URLs whose last refusal is remembered, and the characters of a name and of a detail.
_MAX_NAMES, _MAX_NAME, _MAX_DETAIL = 1000, 100, 300
REASONS: dict[type, str] = {
    signatures.MissingHeaderError: "header-missing",
    signatures.MalformedHeaderError: "header-malformed",
    signatures.TimestampError: CLOCK_DIFFERS,
    signatures.NoMatchError: "signature-mismatch",
    SourceUnknownError: "source-unknown",
}
"""The reasons that are no type of problem, by the error that causes the refusal."""

# The reasons that are stored for a source, and how often.
_STORED = (REASONS[signatures.NoMatchError], str(ProblemType.SOURCE_MISMATCH), CLOCK_DIFFERS)
_STORED_EVERY = timedelta(minutes=1)


class RefusedWebhooks:
    """The refusals of an app since it started: their number by reason, and the last of each source.

    The last one is forgotten when a webhook of the source is accepted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, LastRefusal] = {}
        self._stored_at: dict[str, datetime] = {}

    @classmethod
    def of(cls, app: Flask) -> "RefusedWebhooks":
        """Return the refusals of an app."""
        refusals: RefusedWebhooks = app.extensions.setdefault(_REFUSALS, cls())
        return refusals

    def record(self, source: str, refusal: Refusal, *, now: datetime) -> LastRefusal | None:
        """Count a refusal at the route of a source; there may be no source of this name.

        Return it if it has to be stored, should there be such a source.
        """
        if refusal.problem is None:
            return None
        reason = REASONS.get(type(refusal.__cause__), str(refusal.problem))
        detail = str(refusal)[:_MAX_DETAIL]
        with self._lock:
            self._counts[reason] += 1
            if len(source) > _MAX_NAME:
                return None
            last = self._last.pop(source, None)
            if last is None or last.reason != reason:
                last = LastRefusal(refusal.problem.status, reason, detail, now, now)
            else:
                last = replace(last, detail=detail, last_at=now)
            self._last[source] = last
            if len(self._last) > _MAX_NAMES:
                oldest = next(iter(self._last))
                del self._last[oldest]
                self._stored_at.pop(oldest, None)
            if reason not in _STORED or self._was_stored_recently(source, now):
                return None
            self._stored_at[source] = now
            return last

    def _was_stored_recently(self, source: str, now: datetime) -> bool:
        stored_at = self._stored_at.get(source)
        return stored_at is not None and now - stored_at < _STORED_EVERY

    def forget(self, source: str) -> None:
        """Forget the last refusal of a source, because a webhook of it was accepted."""
        if source in self._last or source in self._stored_at:
            with self._lock:
                self._last.pop(source, None)
                self._stored_at.pop(source, None)

    def last(self, source: str, reception: Reception) -> LastRefusal | None:
        """Return the last refusal of a source, here or stored, if nothing was received since."""
        known = [one for one in (self._last.get(source), reception.refusal) if one is not None]
        last = max(known, key=lambda one: one.last_at, default=None)
        if last is None or (reception.last_at is not None and last.last_at < reception.last_at):
            return None
        return last

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

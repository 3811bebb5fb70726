"""A worker's pace: how many deliveries it takes now, in all, for each endpoint, and of which lane.

An endpoint gets more places with each good answer and half as many with each failure, so that one
that has just come back is not run over; and no more starts in a second than its rate.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

from notifier.models import Lane
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import EndpointSignal
from notifier.worker.claims import ClaimLimits, EndpointLimit

_RESERVED = 4
"""One place in so many is kept for first attempts."""

_FEWEST = 2
"""An ailing endpoint keeps one place for first attempts and one for the others."""


class Limiter:
    """Counts what is under way, and says what may be claimed beside it."""

    def __init__(
        self,
        *,
        threads: int,
        per_endpoint: int,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = threads
        self._most = min(threads, per_endpoint)
        self._rate = rate
        self._clock = clock
        self._busy: Counter[tuple[int, str]] = Counter()
        self._windows: dict[int, int] = {}
        self._starts: dict[int, tuple[float, float]] = {}

    @property
    def busy(self) -> int:
        """How many attempts are under way."""
        return self._busy.total()

    def start(self, claimed: Claimed) -> None:
        """Count an attempt that begins."""
        self._busy[claimed.endpoint_id, claimed.lane] += 1
        self._starts[claimed.endpoint_id] = (
            self._starts_left(claimed.endpoint_id) - 1,
            self._clock(),
        )

    def finish(self, claimed: Claimed, sign: EndpointSignal) -> None:
        """Count an attempt that has ended, and what it says of its endpoint."""
        self._busy[claimed.endpoint_id, claimed.lane] -= 1
        window = self._windows.get(claimed.endpoint_id, self._most)
        match sign:
            case EndpointSignal.HEALTHY:
                self._windows[claimed.endpoint_id] = min(window + 1, self._most)
            case EndpointSignal.FAILING:
                self._windows[claimed.endpoint_id] = max(window // 2, min(_FEWEST, self._most))

    def limits(self, states: Mapping[int, BreakerState], *, now: datetime) -> ClaimLimits:
        """Return what may be claimed now for the endpoints that are enabled."""
        total = self._threads - self.busy
        return ClaimLimits(
            total=total,
            retry=total - max(0, _reserved(self._threads) - self._busy_in(Lane.FIRST)),
            isolated=max(0, 1 - self._busy_in(Lane.ISOLATED)),
            by_endpoint={
                endpoint_id: self._share(endpoint_id, health, now)
                for endpoint_id, health in states.items()
                if not health.is_paused(now)
            },
        )

    def is_throttled(self) -> bool:
        """Whether some endpoint has had as many starts as its rate allows."""
        return any(self._starts_left(endpoint_id) < 1 for endpoint_id in self._starts)

    def _share(self, endpoint_id: int, health: BreakerState, now: datetime) -> EndpointLimit:
        if health.is_half_open(now):
            return EndpointLimit(1, 1)
        window = self._windows.get(endpoint_id, self._most)
        first = self._busy[endpoint_id, Lane.FIRST]
        busy = sum(self._busy[endpoint_id, lane] for lane in Lane)
        starts = int(self._starts_left(endpoint_id))
        total = window - busy
        retry = total - max(0, _reserved(window) - first)
        return EndpointLimit(min(total, starts), min(retry, starts))

    def _busy_in(self, wanted: Lane) -> int:
        return sum(count for (_, lane), count in self._busy.items() if lane == wanted)

    def _starts_left(self, endpoint_id: int) -> float:
        full = max(1.0, self._rate)
        left, at = self._starts.get(endpoint_id, (full, 0.0))
        return min(full, left + (self._clock() - at) * self._rate)


def _reserved(limits: int) -> int:
    return max(1, limits // _RESERVED) if limits > 1 else 0

"""Limits of a worker: how many deliveries it may claim now, in total, by endpoint and by lane.

The concurrency of an endpoint grows by one with each success and halves with each failure, so
that an endpoint that has just recovered is not flooded. A rate limits the starts per second.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

from notifier.models import Lane
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import EndpointHealth
from notifier.worker.claims import ClaimLimits, EndpointLimit

# One slot in this many is reserved for first attempts.
_RESERVED = 4
# The smallest concurrency of a failing endpoint: one first attempt and one other.
_MINIMUM = 2


class Limiter:
    """Counts the attempts in progress and computes what may be claimed in addition."""

    def __init__(
        self,
        *,
        threads: int,
        per_endpoint: int,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = threads
        self._maximum = min(threads, per_endpoint)
        self._rate = rate
        self._clock = clock
        self._busy: Counter[tuple[int, str]] = Counter()
        self._concurrency: dict[int, int] = {}
        # For each endpoint the starts that are left, and when that was.
        self._buckets: dict[int, tuple[float, float]] = {}

    @property
    def busy(self) -> int:
        """The number of attempts in progress."""
        return self._busy.total()

    def start(self, claimed: Claimed) -> None:
        """Count an attempt that starts."""
        self._busy[claimed.endpoint_id, claimed.lane] += 1
        self._buckets[claimed.endpoint_id] = (
            self._starts_left(claimed.endpoint_id) - 1,
            self._clock(),
        )

    def finish(self, claimed: Claimed, health: EndpointHealth) -> None:
        """Count an attempt that has ended, and adapt the endpoint's concurrency."""
        self._busy[claimed.endpoint_id, claimed.lane] -= 1
        current = self._concurrency.get(claimed.endpoint_id, self._maximum)
        match health:
            case EndpointHealth.HEALTHY:
                self._concurrency[claimed.endpoint_id] = min(current + 1, self._maximum)
            case EndpointHealth.FAILING:
                minimum = min(_MINIMUM, self._maximum)
                self._concurrency[claimed.endpoint_id] = max(current // 2, minimum)

    def limits(self, states: Mapping[int, BreakerState], *, now: datetime) -> ClaimLimits:
        """Return what may be claimed now for the enabled endpoints."""
        total = self._threads - self.busy
        return ClaimLimits(
            total=total,
            retry=total - max(0, _reserved(self._threads) - self._busy_in(Lane.FIRST)),
            isolated=max(0, 1 - self._busy_in(Lane.ISOLATED)),
            by_endpoint={
                endpoint_id: self._endpoint_limit(endpoint_id, state, now)
                for endpoint_id, state in states.items()
                if not state.is_paused(now)
            },
        )

    def is_throttled(self) -> bool:
        """Return True if some endpoint has reached its rate."""
        return any(self._starts_left(endpoint_id) < 1 for endpoint_id in self._buckets)

    def _endpoint_limit(
        self, endpoint_id: int, state: BreakerState, now: datetime
    ) -> EndpointLimit:
        if state.is_half_open(now):
            return EndpointLimit(1, 1)
        concurrency = self._concurrency.get(endpoint_id, self._maximum)
        first = self._busy[endpoint_id, Lane.FIRST]
        total = concurrency - sum(self._busy[endpoint_id, lane] for lane in Lane)
        retry = total - max(0, _reserved(concurrency) - first)
        starts = int(self._starts_left(endpoint_id))
        return EndpointLimit(min(total, starts), min(retry, starts))

    def _busy_in(self, lane: Lane) -> int:
        return sum(count for (_, busy_lane), count in self._busy.items() if busy_lane == lane)

    def _starts_left(self, endpoint_id: int) -> float:
        """Return the starts in the endpoint's bucket, which holds at most those of one second."""
        full = max(1.0, self._rate)
        left, at = self._buckets.get(endpoint_id, (full, 0.0))
        return min(full, left + (self._clock() - at) * self._rate)


def _reserved(slots: int) -> int:
    return max(1, slots // _RESERVED) if slots > 1 else 0

"""The limits of a worker: reserved slots, adaptive concurrency, rate."""

from dataclasses import dataclass

import pytest

from foundation import tracing
from notifier.models import Lane
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import EndpointSignal
from notifier.worker.claims import EndpointLimit
from notifier.worker.limiter import Limiter
from tests.notifier.conftest import BODY, MINUTE, NINE

HEALTHY = BreakerState()


@dataclass
class Clock:
    """A clock that a test sets."""

    seconds: float = 100.0

    def __call__(self) -> float:
        """Return its time."""
        return self.seconds


def make_limiter(clock: Clock | None = None, *, rate: float = 1000.0) -> Limiter:
    """Return a limiter of 32 threads, 8 for each endpoint, and a rate that is never reached."""
    return Limiter(threads=32, per_endpoint=8, rate=rate, clock=clock or Clock())


def make_claimed(endpoint_id: int = 1, lane: Lane = Lane.FIRST) -> Claimed:
    """Return a claimed delivery."""
    return Claimed(
        *(1, endpoint_id, "msg_1", "course.deleted", "CS101", "https://elms.example/w", BODY),
        lane=lane,
        attempts=1,
        lease_token="t",
        occurred_at=NINE,
        claimed_at=NINE,
        span=tracing.new_span(),
    )


def finish(limiter: Limiter, *signals: EndpointSignal, endpoint_id: int = 1) -> None:
    """Start and finish attempts one after the other."""
    for signal in signals:
        claimed = make_claimed(endpoint_id)
        limiter.start(claimed)
        limiter.finish(claimed, signal)


def limit_of(
    limiter: Limiter, endpoint_id: int = 1, health: BreakerState = HEALTHY
) -> EndpointLimit:
    """Return the limit of an endpoint at nine."""
    return limiter.limits({endpoint_id: health}, now=NINE).by_endpoint[endpoint_id]


def test_a_quarter_of_the_slots_is_reserved_for_first_attempts() -> None:
    limits = make_limiter().limits({1: HEALTHY}, now=NINE)

    assert (limits.total, limits.retry, limits.isolated) == (32, 24, 1)
    assert limits.by_endpoint == {1: EndpointLimit(8, 6)}


def test_first_attempts_use_the_reserved_slots_first() -> None:
    limiter = make_limiter()
    for _ in range(2):
        limiter.start(make_claimed())

    limits = limiter.limits({1: HEALTHY}, now=NINE)

    assert (limits.total, limits.retry) == (30, 24)
    assert limits.by_endpoint == {1: EndpointLimit(6, 6)}


def test_one_isolated_delivery_at_a_time() -> None:
    """No second one is claimed while one is in progress (F9)."""
    limiter = make_limiter()
    suspect = make_claimed(lane=Lane.ISOLATED)
    limiter.start(suspect)

    during = limiter.limits({1: HEALTHY}, now=NINE).isolated
    limiter.finish(suspect, EndpointSignal.HEALTHY)
    after = limiter.limits({1: HEALTHY}, now=NINE).isolated

    assert (during, after) == (0, 1)


def test_failures_halve_the_concurrency_down_to_two() -> None:
    """A failing endpoint keeps one slot for first attempts and one for others (F11)."""
    limiter = make_limiter()
    totals = []
    for _ in range(4):
        finish(limiter, EndpointSignal.FAILING)
        totals.append(limit_of(limiter).total)

    assert totals == [4, 2, 2, 2]
    assert limit_of(limiter) == EndpointLimit(2, 1)


def test_each_success_adds_one_slot_up_to_the_maximum() -> None:
    """A recovered endpoint gets one more slot with each success (F24)."""
    limiter = make_limiter()
    finish(limiter, *[EndpointSignal.FAILING] * 3)
    totals = []
    for _ in range(7):
        finish(limiter, EndpointSignal.HEALTHY)
        totals.append(limit_of(limiter).total)

    assert totals == [3, 4, 5, 6, 7, 8, 8]


def test_internal_failure_changes_nothing() -> None:
    limiter = make_limiter()
    finish(limiter, EndpointSignal.NONE)

    assert limit_of(limiter).total == 8


def test_paused_endpoint_has_no_limit_and_half_open_one_slot() -> None:
    limiter = make_limiter()
    paused = BreakerState(5, NINE, NINE, NINE + MINUTE)
    half_open = BreakerState(5, NINE, NINE, NINE)

    by_endpoint = limiter.limits({1: paused, 2: half_open}, now=NINE).by_endpoint

    assert by_endpoint == {2: EndpointLimit(1, 1)}


@pytest.mark.parametrize(
    ("later", "starts"),
    [
        pytest.param(0.0, 0, id="at once"),
        pytest.param(0.5, 2, id="half a second on"),
        pytest.param(60.0, 4, id="a minute on"),
    ],
)
def test_rate_limits_the_starts_per_second(later: float, starts: int) -> None:
    """A backlog is sent at the endpoint's rate; unused starts do not add up (F24)."""
    clock = Clock()
    limiter = make_limiter(clock, rate=4)
    finish(limiter, *[EndpointSignal.HEALTHY] * 4)

    clock.seconds += later

    assert limit_of(limiter).total == starts
    assert limiter.is_throttled() is (starts == 0)

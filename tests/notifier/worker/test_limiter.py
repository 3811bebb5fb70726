"""The limits of a worker: reserved slots, adaptive concurrency, rate."""

from collections.abc import Callable

import pytest

from foundation import tracing
from notifier.models import Lane
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import EndpointHealth
from notifier.worker.claims import ClaimLimits, EndpointLimit
from notifier.worker.limiter import Limiter
from tests.notifier.conftest import BODY, MINUTE, NINE


def make_limiter(*, rate: float = 1000.0, clock: Callable[[], float] = lambda: 0.0) -> Limiter:
    """Return a limiter of 32 threads, 8 for each endpoint, and a rate that is never reached."""
    return Limiter(threads=32, per_endpoint=8, rate=rate, clock=clock)


def make_claimed(lane: Lane = Lane.FIRST) -> Claimed:
    """Return a claimed delivery of endpoint 1."""
    return Claimed(
        *(1, 1, "msg_1", "course.deleted", "CS101", "https://elms.example/w", BODY),
        lane=lane,
        attempts=1,
        lease_token="t",
        occurred_at=NINE,
        claimed_at=NINE,
        span=tracing.new_span(),
    )


def finish(limiter: Limiter, health: EndpointHealth) -> int:
    """Start and finish an attempt; return how many the endpoint may then have."""
    claimed = make_claimed()
    limiter.start(claimed)
    limiter.finish(claimed, health)
    return limits(limiter).by_endpoint[1].total


def limits(limiter: Limiter) -> ClaimLimits:
    """Return the limits while endpoint 1 is healthy."""
    return limiter.limits({1: BreakerState()}, now=NINE)


def test_first_attempts_use_a_reserved_quarter_of_the_slots_first() -> None:
    limiter = make_limiter()

    before = limits(limiter)
    for _ in range(2):
        limiter.start(make_claimed())

    assert before == ClaimLimits(32, 24, 1, {1: EndpointLimit(8, 6)})
    assert limits(limiter) == ClaimLimits(30, 24, 1, {1: EndpointLimit(6, 6)})


def test_one_isolated_delivery_at_a_time() -> None:
    """No second one is claimed while one is in progress (F9)."""
    limiter = make_limiter()
    suspect = make_claimed(Lane.ISOLATED)
    limiter.start(suspect)

    during = limits(limiter).isolated
    limiter.finish(suspect, EndpointHealth.HEALTHY)

    assert (during, limits(limiter).isolated) == (0, 1)


def test_failures_halve_the_concurrency_and_successes_add_one() -> None:
    """A failing endpoint keeps one slot for first attempts and one for others (F24)."""
    limiter = make_limiter()

    failing = [finish(limiter, EndpointHealth.FAILING) for _ in range(3)]
    smallest = limits(limiter).by_endpoint[1]
    healthy = [finish(limiter, EndpointHealth.HEALTHY) for _ in range(7)]

    assert (failing, smallest) == ([4, 2, 2], EndpointLimit(2, 1))
    assert healthy == [3, 4, 5, 6, 7, 8, 8]


def test_internal_failure_changes_nothing() -> None:
    assert finish(make_limiter(), EndpointHealth.NONE) == 8


def test_limits_of_an_endpoint_are_its_own() -> None:
    """A failing endpoint leaves others their slots; paused has none, half-open one (F25)."""
    limiter = make_limiter()
    finish(limiter, EndpointHealth.FAILING)
    paused = BreakerState(5, NINE, NINE, NINE + MINUTE)
    half_open = BreakerState(5, NINE, NINE, NINE)
    states = {1: BreakerState(), 2: BreakerState(), 3: paused, 4: half_open}

    by_endpoint = limiter.limits(states, now=NINE).by_endpoint

    assert {one: limit.total for one, limit in by_endpoint.items()} == {1: 4, 2: 8, 4: 1}


@pytest.mark.parametrize(
    ("later", "starts"),
    [
        pytest.param(0.0, 0, id="at once"),
        pytest.param(0.5, 2, id="after half a second"),
        pytest.param(60.0, 4, id="after a minute"),
    ],
)
def test_rate_limits_the_starts_per_second(later: float, starts: int) -> None:
    """A backlog is sent at the endpoint's rate; unused starts do not add up (F24)."""
    seconds = 100.0
    limiter = make_limiter(rate=4, clock=lambda: seconds)
    for _ in range(4):
        finish(limiter, EndpointHealth.HEALTHY)

    seconds += later

    assert limits(limiter).by_endpoint[1].total == starts
    assert limiter.is_throttled() is (starts == 0)

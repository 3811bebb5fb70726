"""A worker's pace: reserved places, fewer for who fails, more for who recovers, and a rate."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from foundation import tracing
from notifier.models import Lane
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import EndpointSignal
from notifier.worker.claims import EndpointLimit
from notifier.worker.limiter import Limiter
from tests.notifier.conftest import BODY, NINE

HEALTHY = BreakerState()
MINUTE = timedelta(minutes=1)


@dataclass
class Clock:
    """A clock that goes when it is told to."""

    seconds: float = 100.0

    def __call__(self) -> float:
        """Return its time."""
        return self.seconds


def make_pace(clock: Clock | None = None, **overrides: float) -> Limiter:
    """Return a pace of 32 threads, 8 for each endpoint, that bounds no rate one could reach."""
    given = {"threads": 32, "per_endpoint": 8, "rate": 1000.0, **overrides}
    return Limiter(
        threads=int(given["threads"]),
        per_endpoint=int(given["per_endpoint"]),
        rate=given["rate"],
        clock=clock or Clock(),
    )


def attempt(endpoint_id: int = 1, lane: Lane = Lane.FIRST) -> Claimed:
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


def share_of(pace: Limiter, endpoint_id: int = 1, health: BreakerState = HEALTHY) -> EndpointLimit:
    """Return the share of an endpoint at nine."""
    return pace.limits({endpoint_id: health}, now=NINE).by_endpoint[endpoint_id]


def test_a_quarter_of_all_places_is_kept_for_first_attempts() -> None:
    limits = make_pace().limits({1: HEALTHY}, now=NINE)

    assert (limits.total, limits.retry, limits.isolated) == (32, 24, 1)
    assert limits.by_endpoint == {1: EndpointLimit(8, 6)}


def test_first_attempts_under_way_use_the_reserved_places_first() -> None:
    pace = make_pace()
    for _ in range(2):
        pace.start(attempt())

    limits = pace.limits({1: HEALTHY}, now=NINE)

    assert (limits.total, limits.retry) == (30, 24)
    assert limits.by_endpoint == {1: EndpointLimit(6, 6)}


def test_one_place_cannot_be_divided() -> None:
    limits = make_pace(threads=1, per_endpoint=1).limits({1: HEALTHY}, now=NINE)

    assert (limits.total, limits.retry, limits.by_endpoint) == (1, 1, {1: EndpointLimit(1, 1)})


def test_one_delivery_that_lost_its_worker_is_under_way_at_a_time() -> None:
    """While one of these is under way no other is claimed (F9)."""
    pace = make_pace()
    suspect = attempt(lane=Lane.ISOLATED)
    pace.start(suspect)

    during = pace.limits({1: HEALTHY}, now=NINE).isolated
    pace.finish(suspect, EndpointSignal.HEALTHY)
    after = pace.limits({1: HEALTHY}, now=NINE).isolated

    assert (during, after) == (0, 1)


def test_failures_halve_the_places_down_to_two() -> None:
    """An ailing endpoint keeps a place for first attempts and one for the others (F11)."""
    pace = make_pace()
    totals = []
    for _ in range(4):
        one = attempt()
        pace.start(one)
        pace.finish(one, EndpointSignal.FAILING)
        totals.append(share_of(pace).total)

    assert totals == [4, 2, 2, 2]
    assert share_of(pace) == EndpointLimit(2, 1)


def test_successes_give_the_places_back_one_by_one() -> None:
    """A recovered endpoint is not run over: each success adds one place, up to its own (F24)."""
    pace = make_pace()
    for sign in [EndpointSignal.FAILING] * 3 + [EndpointSignal.HEALTHY] * 8:
        one = attempt()
        pace.start(one)
        pace.finish(one, sign)
        if sign is EndpointSignal.HEALTHY:
            assert share_of(pace).total <= 8

    assert share_of(pace).total == 8


def test_a_fault_of_ours_changes_no_places() -> None:
    pace = make_pace()
    one = attempt()
    pace.start(one)
    pace.finish(one, EndpointSignal.NONE)

    assert share_of(pace).total == 8


def test_trouble_of_one_endpoint_is_not_anothers() -> None:
    """Another endpoint keeps its places (F25)."""
    pace = make_pace()
    one = attempt(endpoint_id=1)
    pace.start(one)
    pace.finish(one, EndpointSignal.FAILING)

    assert (share_of(pace, 1).total, share_of(pace, 2).total) == (4, 8)


def test_paused_endpoint_has_no_share_and_half_open_one_place() -> None:
    pace = make_pace()
    paused = BreakerState(5, NINE, NINE, NINE + MINUTE)
    half_open = BreakerState(5, NINE, NINE, NINE)

    by_endpoint = pace.limits({1: paused, 2: half_open}, now=NINE).by_endpoint

    assert by_endpoint == {2: EndpointLimit(1, 1)}


@pytest.mark.parametrize(
    ("later", "starts"),
    [
        pytest.param(0.0, 0, id="at once"),
        pytest.param(0.5, 2, id="half a second on"),
        pytest.param(60.0, 4, id="a minute on"),
    ],
)
def test_no_more_start_in_a_second_than_the_rate(later: float, starts: int) -> None:
    """A backlog drains at the endpoint's rate; what was not used does not add up (F24)."""
    clock = Clock()
    pace = make_pace(clock, rate=4)
    for _ in range(4):
        one = attempt()
        pace.start(one)
        pace.finish(one, EndpointSignal.HEALTHY)

    clock.seconds += later

    assert share_of(pace).total == starts
    assert pace.is_throttled() is (starts == 0)

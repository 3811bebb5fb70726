"""The circuit breaker: pauses, half-open endpoints, long failures."""

from datetime import timedelta

import pytest

from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import (
    LONGEST_PAUSE,
    PAUSED_AFTER,
    SHORTEST_PAUSE,
    BreakerState,
    record_results,
)
from notifier.webhooks.retry_policy import AttemptResult, Failure, WebhookResponse
from tests.notifier.conftest import MINUTE, NINE

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
DAY = timedelta(days=1)
REFUSED = Failure("refused", "connection refused")
FAILING = BreakerState(1, NINE - HOUR, NINE - HOUR, None)
PAUSED = BreakerState(PAUSED_AFTER, NINE - HOUR, NINE, NINE + MINUTE)


@pytest.mark.parametrize(
    ("result", "state"),
    [
        pytest.param(WebhookResponse(200), BreakerState(), id="success resets"),
        pytest.param(WebhookResponse(400), BreakerState(), id="refused event resets"),
        pytest.param(Failure("internal", "ours"), FAILING, id="internal failure changes nothing"),
        pytest.param(REFUSED, BreakerState(2, NINE - HOUR, NINE, None), id="failure counts"),
        pytest.param(
            WebhookResponse(503), BreakerState(2, NINE - HOUR, NINE, None), id="503 counts"
        ),
    ],
)
def test_result_changes_the_state(result: AttemptResult, state: BreakerState) -> None:
    assert record_results(FAILING, [result], now=NINE) == state


def test_five_failures_in_a_row_pause() -> None:
    """The fifth failure pauses the endpoint, for a short time at first (F25)."""
    one_short = record_results(BreakerState(), [REFUSED] * (PAUSED_AFTER - 1), now=NINE)

    paused = record_results(one_short, [REFUSED], now=NINE)

    assert one_short.paused_until is None
    assert paused.paused_until == NINE + SHORTEST_PAUSE
    assert paused.is_paused(NINE)
    assert not paused.is_paused(NINE + SHORTEST_PAUSE)


@pytest.mark.parametrize(
    ("lasted", "pause"),
    [
        pytest.param(timedelta(0), SHORTEST_PAUSE, id="just now"),
        pytest.param(MINUTE, MINUTE / 2, id="a minute"),
        pytest.param(20 * MINUTE, 10 * MINUTE, id="twenty minutes"),
        pytest.param(3 * HOUR, LONGEST_PAUSE, id="three hours"),
    ],
)
def test_pause_is_half_as_long_as_the_failure(lasted: timedelta, pause: timedelta) -> None:
    paused = BreakerState(PAUSED_AFTER, NINE - lasted, NINE - SECOND, NINE)

    assert record_results(paused, [REFUSED], now=NINE).paused_until == NINE + pause


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        pytest.param("60", MINUTE, id="a minute"),
        pytest.param("86400", LONGEST_PAUSE, id="a day, capped"),
        pytest.param("1e300", None, id="nonsense"),
        pytest.param("0", None, id="nothing"),
    ],
)
def test_retry_after_pauses_at_once(retry_after: str, pause: timedelta | None) -> None:
    """`Retry-After` pauses the endpoint for that time, up to a maximum (F11)."""
    paused = record_results(BreakerState(), [WebhookResponse(429, retry_after)], now=NINE)

    assert paused.paused_until == (pause and NINE + pause)


def test_a_pause_is_never_shortened_by_a_failure() -> None:
    paused = record_results(BreakerState(), [WebhookResponse(503, "600")], now=NINE)

    again = record_results(paused, [REFUSED], now=NINE)

    assert again.paused_until == NINE + 10 * MINUTE


def test_old_failure_does_not_count() -> None:
    old = BreakerState(4, NINE - 4 * DAY, NINE - 37 * HOUR, None)

    assert record_results(old, [REFUSED], now=NINE) == BreakerState(1, NINE, NINE, None)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(BreakerState(), False, id="healthy"),
        pytest.param(BreakerState(PAUSED_AFTER, NINE - 5 * DAY, NINE, NINE), True, id="five days"),
        pytest.param(
            BreakerState(PAUSED_AFTER, NINE - 5 * DAY + SECOND, NINE, NINE),
            False,
            id="a second less",
        ),
        pytest.param(
            BreakerState(PAUSED_AFTER - 1, NINE - 9 * DAY, NINE, None), False, id="hardly tried"
        ),
    ],
)
def test_failing_for_days(state: BreakerState, expected: bool) -> None:
    assert circuit_breaker.is_failing_for(state, 5 * DAY, now=NINE) is expected

"""The retry policy: the table of statuses, the schedule, and every kind of `Retry-After`."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.webhooks import retry_policy
from notifier.webhooks.retry_policy import (
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER,
    SCHEDULE,
    AttemptResult,
    Dead,
    Delivered,
    Disable,
    Failure,
    RetryAt,
    WebhookResponse,
)

NINE = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST = timedelta(seconds=5)


@pytest.mark.parametrize("status", [200, 299])
def test_every_2xx_is_delivered(status: int) -> None:
    assert retry_policy.decide(WebhookResponse(status), 1, now=NINE) == Delivered()


@pytest.mark.parametrize("attempts", [1, MAX_ATTEMPTS])
def test_410_disables_the_endpoint(attempts: int) -> None:
    assert isinstance(retry_policy.decide(WebhookResponse(410), attempts, now=NINE), Disable)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_status_that_a_retry_cannot_change_is_dead_at_once(status: int) -> None:
    decision = retry_policy.decide(WebhookResponse(status), 1, now=NINE)

    assert decision == Dead(f"the receiver responded with {status}: a retry would not help")


@pytest.mark.parametrize(
    "status", [199, 302, 307, 399, 401, 403, 404, 408, 429, 499, 500, 503, 599, 999]
)
def test_every_other_status_is_retried(status: int) -> None:
    assert retry_policy.decide(WebhookResponse(status), 1, now=NINE) == RetryAt(NINE + FIRST)


@pytest.mark.parametrize("kind", ["deadline", "secret-unreadable"])
def test_every_failure_is_retried(kind: str) -> None:
    assert retry_policy.decide(Failure(kind, "detail"), 1, now=NINE) == RetryAt(NINE + FIRST)


def test_schedule_is_that_of_standard_webhooks() -> None:
    at, waits = NINE, []
    while isinstance(
        decision := retry_policy.decide(WebhookResponse(500), len(waits) + 1, now=at), RetryAt
    ):
        waits.append((decision.due_at - at).total_seconds())
        at = decision.due_at

    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert at - NINE == timedelta(hours=75, minutes=35, seconds=5)


@pytest.mark.parametrize(
    ("result", "last"),
    [
        pytest.param(WebhookResponse(503), "status 503", id="response"),
        pytest.param(Failure("dns", "no such host"), "dns", id="failure"),
    ],
)
def test_last_failed_attempt_is_dead(result: AttemptResult, last: str) -> None:
    decision = retry_policy.decide(result, MAX_ATTEMPTS, now=NINE)

    assert decision == Dead(f"10 attempts failed, the last with {last}")


@given(attempts=st.integers(1, MAX_ATTEMPTS - 1), jitter=st.floats(0, 1, allow_nan=False))
def test_jitter_only_adds(attempts: int, jitter: float) -> None:
    decision = retry_policy.decide(WebhookResponse(500), attempts, now=NINE, jitter=jitter)

    wait = SCHEDULE[attempts - 1]
    assert isinstance(decision, RetryAt)
    assert wait <= decision.due_at - NINE <= wait * 1.1


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        pytest.param("120", timedelta(seconds=120), id="seconds"),
        pytest.param("0", FIRST, id="zero"),
        pytest.param("4", FIRST, id="sooner than the schedule"),
        pytest.param("86401", DAY, id="more than a day"),
        pytest.param("9" * 5000, DAY, id="5000 digits"),
        pytest.param("Sun, 22 Nov 2026 09:02:00 GMT", timedelta(minutes=2), id="date"),
        pytest.param("Sunday, 22-Nov-26 09:02:00 GMT", timedelta(minutes=2), id="RFC 850"),
        pytest.param("Sun Nov 22 09:02:00 2026", timedelta(minutes=2), id="asctime"),
        pytest.param("Sun, 22 Nov 2026 10:02:00 +0100", timedelta(minutes=2), id="time zone"),
        pytest.param("Sun, 22 Nov 2026 08:59:59 GMT", FIRST, id="past date"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", DAY, id="beyond the last date"),
        pytest.param("Sun, 22 Nov 2026 09:02:00 +99999999999999", FIRST, id="invalid zone"),
        pytest.param("Sun, 99 Nov 2026 09:02:00 GMT", FIRST, id="invalid day"),
        pytest.param("1e300", FIRST, id="1e300"),
        pytest.param("nan", FIRST, id="nan"),
        pytest.param("-120", FIRST, id="negative"),
        pytest.param("", FIRST, id="empty"),
        pytest.param(None, FIRST, id="none"),
    ],
)
def test_retry_after_delays_only(given: str | None, wait: timedelta) -> None:
    assert retry_policy.decide(WebhookResponse(503, given), 1, now=NINE) == RetryAt(NINE + wait)


def test_retry_after_does_not_shorten_the_schedule() -> None:
    assert retry_policy.decide(WebhookResponse(429, "60"), 9, now=NINE) == RetryAt(NINE + DAY)


@given(
    given=st.one_of(
        st.text(),
        st.integers().map(str),
        st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{1,9} \d\d:\d\d:\d\d [+-]?\d{0,9}"),
    )
)
def test_no_retry_after_costs_a_delivery(given: str) -> None:
    decision = retry_policy.decide(WebhookResponse(503, given), 1, now=NINE)

    assert isinstance(decision, RetryAt)
    assert FIRST <= decision.due_at - NINE <= MAX_RETRY_AFTER


@pytest.mark.parametrize(
    ("result", "healthy"),
    [
        pytest.param(WebhookResponse(204), True, id="delivered"),
        pytest.param(WebhookResponse(422), True, id="refused event"),
        pytest.param(WebhookResponse(410), True, id="gone"),
        pytest.param(WebhookResponse(401), False, id="refused signature"),
        pytest.param(WebhookResponse(503), False, id="unavailable"),
        pytest.param(Failure("refused", ""), False, id="failure"),
        pytest.param(Failure("internal", ""), None, id="internal failure"),
    ],
)
def test_health_by_a_result(result: AttemptResult, healthy: bool | None) -> None:
    assert retry_policy.is_healthy(result) is healthy

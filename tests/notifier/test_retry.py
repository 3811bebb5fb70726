"""What an answer means: the design's table, the schedule, and every kind of `Retry-After`."""

from datetime import UTC, datetime, timedelta

import pytest

from notifier.webhooks import retry_policy
from notifier.webhooks.retry_policy import (
    MAX_ATTEMPTS,
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


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_every_2xx_is_delivered(status: int) -> None:
    assert retry_policy.decide(WebhookResponse(status), 1, now=NINE) == Delivered()


@pytest.mark.parametrize("attempts", [1, MAX_ATTEMPTS])
def test_410_disables_the_endpoint(attempts: int) -> None:
    outcome = retry_policy.decide(WebhookResponse(410), attempts, now=NINE)

    assert outcome == Disable("the receiver responded with 410: it wants no more events")


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_what_a_retry_cannot_help_is_dead_at_once(status: int) -> None:
    outcome = retry_policy.decide(WebhookResponse(status), 1, now=NINE)

    assert outcome == Dead(f"the receiver responded with {status}: a retry would not help")


@pytest.mark.parametrize(
    "answer",
    [
        *(
            pytest.param(WebhookResponse(status), id=str(status))
            for status in (
                *(100, 199, 301, 302, 303, 304, 307, 308, 399),
                *(401, 403, 404, 405, 408, 418, 429, 451, 499),
                *(500, 501, 502, 503, 504, 507, 599, 600, 999),
            )
        ),
        pytest.param(Failure("deadline", "no response within 15 s"), id="deadline"),
        pytest.param(Failure("refused", "connection refused"), id="refused"),
        pytest.param(Failure("secret-unreadable", "no key opens it"), id="encrypted"),
    ],
)
def test_all_else_is_retried(answer: WebhookResponse | Failure) -> None:
    assert retry_policy.decide(answer, 1, now=NINE) == RetryAt(NINE + FIRST)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    list(enumerate([5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400], start=1)),
)
def test_waits_are_those_of_standard_webhooks(attempts: int, seconds: int) -> None:
    outcome = retry_policy.decide(WebhookResponse(500), attempts, now=NINE)

    assert outcome == RetryAt(NINE + timedelta(seconds=seconds))


def test_schedule_lasts_75_hours() -> None:
    moment, attempts = NINE, 1
    while isinstance(
        outcome := retry_policy.decide(WebhookResponse(500), attempts, now=moment), RetryAt
    ):
        moment, attempts = outcome.due_at, attempts + 1

    assert attempts == 10
    assert moment - NINE == timedelta(hours=75, minutes=35, seconds=5)

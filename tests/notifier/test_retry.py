"""What an answer means: the design's table, the schedule, and every kind of `Retry-After`."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.webhooks import retry_policy
from notifier.webhooks.retry_policy import (
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER,
    SCHEDULE,
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

    assert outcome == Disable("the receiver answered 410: it wants no more events")


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_what_a_retry_cannot_help_is_dead_at_once(status: int) -> None:
    outcome = retry_policy.decide(WebhookResponse(status), 1, now=NINE)

    assert outcome == Dead(f"the receiver answered {status}, and a retry cannot change that")


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
        pytest.param(Failure("deadline", "no answer within 15 s"), id="deadline"),
        pytest.param(Failure("refused", "nobody listens there"), id="refused"),
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


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(WebhookResponse(503), "status 503", id="an answer"),
        pytest.param(Failure("dns", "no such host"), "dns", id="a failure"),
    ],
)
def test_last_failure_makes_it_dead(answer: WebhookResponse | Failure, words: str) -> None:
    outcome = retry_policy.decide(answer, MAX_ATTEMPTS, now=NINE)

    assert outcome == Dead(f"10 attempts failed, the last with {words}")


@given(attempts=st.integers(1, MAX_ATTEMPTS - 1), jitter=st.floats(0, 1, allow_nan=False))
def test_jitter_only_adds(attempts: int, jitter: float) -> None:
    outcome = retry_policy.decide(WebhookResponse(500), attempts, now=NINE, jitter=jitter)

    wait = SCHEDULE[attempts - 1]
    assert isinstance(outcome, RetryAt)
    assert wait <= outcome.due_at - NINE <= wait * 1.1


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        pytest.param("120", timedelta(seconds=120), id="seconds"),
        pytest.param("  120 ", timedelta(seconds=120), id="spaces around"),
        pytest.param("0", FIRST, id="nought"),
        pytest.param("4", FIRST, id="sooner than the schedule"),
        pytest.param("86400", DAY, id="a day"),
        pytest.param("86401", DAY, id="more than a day"),
        pytest.param("999999999", DAY, id="thirty years"),
        pytest.param("9" * 30, DAY, id="30 digits"),
        pytest.param("9" * 5000, DAY, id="5000 digits"),
        pytest.param("Sun, 22 Nov 2026 09:02:00 GMT", timedelta(minutes=2), id="a date"),
        pytest.param("Sunday, 22-Nov-26 09:02:00 GMT", timedelta(minutes=2), id="RFC 850"),
        pytest.param("Sun Nov 22 09:02:00 2026", timedelta(minutes=2), id="asctime"),
        pytest.param("Sun, 22 Nov 2026 10:02:00 +0100", timedelta(minutes=2), id="a zone"),
        pytest.param("Sun, 22 Nov 2026 08:59:59 GMT", FIRST, id="a date gone by"),
        pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", FIRST, id="long gone by"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", DAY, id="the last date"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", DAY, id="beyond the last date"),
        pytest.param("Sun, 22 Nov 2026 09:02:00 +99999999999999", FIRST, id="no zone on earth"),
        pytest.param("Sun, 22 Nov 99999999 09:02:00 GMT", FIRST, id="no year"),
        pytest.param("Sun, 99 Nov 2026 09:02:00 GMT", FIRST, id="no day"),
        pytest.param("1e300", FIRST, id="1e300"),
        pytest.param("inf", FIRST, id="inf"),
        pytest.param("nan", FIRST, id="nan"),
        pytest.param("-120", FIRST, id="negative"),
        pytest.param("+120", FIRST, id="a sign"),
        pytest.param("120.5", FIRST, id="a fraction"),
        pytest.param("120, 240", FIRST, id="two of them"),
        pytest.param("soon", FIRST, id="garbage"),
        pytest.param("\x00", FIRST, id="NUL"),
        pytest.param("", FIRST, id="empty"),
        pytest.param(None, FIRST, id="none"),
    ],
)
def test_retry_after_pushes_out_only(given: str | None, wait: timedelta) -> None:
    outcome = retry_policy.decide(WebhookResponse(503, given), 1, now=NINE)

    assert outcome == RetryAt(NINE + wait)


def test_retry_after_counts_with_any_status_that_is_retried() -> None:
    assert retry_policy.decide(WebhookResponse(429, "600"), 2, now=NINE) == RetryAt(
        NINE + timedelta(minutes=10)
    )


def test_retry_after_does_not_shorten_a_long_wait() -> None:
    assert retry_policy.decide(WebhookResponse(503, "60"), 9, now=NINE) == RetryAt(NINE + DAY)


@given(
    given=st.one_of(
        st.text(),
        st.integers().map(str),
        st.floats().map(str),
        st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{1,9} \d\d:\d\d:\d\d [+-]?\d{0,9}"),
    )
)
def test_no_retry_after_costs_a_delivery(given: str) -> None:
    outcome = retry_policy.decide(WebhookResponse(503, given), 1, now=NINE)

    assert isinstance(outcome, RetryAt)
    assert FIRST <= outcome.due_at - NINE <= MAX_RETRY_AFTER


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(WebhookResponse(503, said="sorry"), "status 503", id="an answer"),
        pytest.param(Failure("deadline", "no answer within 15 s"), "deadline", id="a failure"),
    ],
)
def test_describe_is_a_few_words(answer: WebhookResponse | Failure, words: str) -> None:
    assert retry_policy.describe(answer) == words

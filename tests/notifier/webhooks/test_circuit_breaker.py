"""The health of endpoints: paused when they keep failing, tried again, given up after days."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from foundation.db.session import Database
from notifier.models import Endpoint
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import (
    LONGEST_PAUSE,
    PAUSED_AFTER,
    SHORTEST_PAUSE,
    BreakerState,
    record_results,
)
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.notifier.conftest import NINE, MakeEndpoint

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)
REFUSED = Failure("refused", "connection refused")
ILL = BreakerState(PAUSED_AFTER, NINE - HOUR, NINE, NINE + MINUTE)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(WebhookResponse(200), id="200"),
        pytest.param(WebhookResponse(204), id="204"),
        pytest.param(WebhookResponse(400), id="a refused event"),
        pytest.param(WebhookResponse(422), id="an invalid event"),
        pytest.param(WebhookResponse(410), id="gone"),
    ],
)
def test_an_answer_about_the_event_makes_an_endpoint_well(answer: WebhookResponse) -> None:
    assert record_results(ILL, [answer], now=NINE) == BreakerState()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(REFUSED, id="nobody listens"),
        pytest.param(Failure("deadline", "no response within 15 s"), id="deadline"),
        pytest.param(Failure("blocked", "loopback"), id="barred address"),
        pytest.param(WebhookResponse(302), id="302"),
        pytest.param(WebhookResponse(401), id="401"),
        pytest.param(WebhookResponse(404), id="404"),
        pytest.param(WebhookResponse(429), id="429"),
        pytest.param(WebhookResponse(500), id="500"),
        pytest.param(WebhookResponse(503), id="503"),
    ],
)
def test_a_failure_is_counted(answer: WebhookResponse | Failure) -> None:
    assert record_results(BreakerState(), [answer], now=NINE) == BreakerState(1, NINE, NINE, None)


@pytest.mark.parametrize("kind", ["internal", "secret-unreadable"])
def test_a_fault_of_ours_says_nothing_of_the_endpoint(kind: str) -> None:
    assert record_results(ILL, [Failure(kind, "ours")], now=NINE) == ILL


def test_failures_in_a_row_pause() -> None:
    """The fifth failure pauses the endpoint, shortly at first (F11)."""
    one_short = record_results(BreakerState(), [REFUSED] * (PAUSED_AFTER - 1), now=NINE)

    paused = record_results(one_short, [REFUSED], now=NINE)

    assert one_short.paused_until is None
    assert paused.paused_until == NINE + SHORTEST_PAUSE
    assert paused.is_paused(NINE)
    assert not paused.is_half_open(NINE)
    assert paused.is_half_open(NINE + SHORTEST_PAUSE)
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
def test_a_pause_is_half_as_long_as_the_trouble(lasted: timedelta, pause: timedelta) -> None:
    ill = BreakerState(PAUSED_AFTER, NINE - lasted, NINE - SECOND, NINE)

    assert record_results(ill, [REFUSED], now=NINE).paused_until == NINE + pause


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
    """An endpoint that says for how long it cannot is left alone so long, within reason (F11)."""
    paused = record_results(BreakerState(), [WebhookResponse(429, retry_after)], now=NINE)

    assert paused.paused_until == (pause and NINE + pause)


def test_a_pause_is_never_shortened_by_a_failure() -> None:
    asked = record_results(BreakerState(), [WebhookResponse(503, "600")], now=NINE)

    again = record_results(asked, [REFUSED], now=NINE)

    assert again.paused_until == NINE + 10 * MINUTE


def test_a_success_among_failures_begins_anew() -> None:
    answers = [REFUSED] * 4 + [WebhookResponse(200)] + [REFUSED] * 4

    after = record_results(BreakerState(), answers, now=NINE)

    assert (after.failures, after.paused_until) == (4, None)


def test_an_old_failure_belongs_to_another_trouble() -> None:
    old = BreakerState(4, NINE - 4 * DAY, NINE - 37 * HOUR, None)

    assert record_results(old, [REFUSED], now=NINE) == BreakerState(1, NINE, NINE, None)


@pytest.mark.parametrize(
    ("standing", "given_up"),
    [
        pytest.param(BreakerState(), False, id="well"),
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
def test_days_of_failure_give_an_endpoint_up(standing: BreakerState, given_up: bool) -> None:
    assert circuit_breaker.is_failing_for(standing, 5 * DAY, now=NINE) is given_up


def test_health_is_stored_and_read(database: Database, make_endpoint: MakeEndpoint) -> None:
    ill, well = make_endpoint(), make_endpoint()

    with database.writing() as session:
        circuit_breaker.write_states(session, {ill.id: ILL})

    with database.reading() as session:
        assert circuit_breaker.read_states(session) == {ill.id: ILL, well.id: BreakerState()}


def test_disabled_endpoints_have_no_health(database: Database, make_endpoint: MakeEndpoint) -> None:
    make_endpoint(disabled=True)

    with database.reading() as session:
        assert circuit_breaker.read_states(session) == {}


def test_examination_of_the_well_locks_nothing(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    endpoint = make_endpoint()

    with database.writing() as session:
        before = database.statements
        found = circuit_breaker.read_and_lock(
            session, {endpoint.id: [WebhookResponse(200)]}, also=(), now=NINE
        )

    assert found == {endpoint.id: BreakerState()}
    assert database.statements - before == 1


def test_lifting_makes_paused_endpoints_tried_at_once(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    ill, well = make_endpoint(), make_endpoint()
    with database.writing() as session:
        circuit_breaker.write_states(session, {ill.id: ILL})

    with database.writing() as session:
        circuit_breaker.end_pauses(session, now=NINE)

    with database.reading() as session:
        after = circuit_breaker.read_states(session)
    assert after[ill.id].is_half_open(NINE)
    assert (after[ill.id].failures, after[ill.id].failing_since) == (PAUSED_AFTER, NINE - HOUR)
    assert after[well.id] == BreakerState()


def test_enabling_makes_an_endpoint_well(
    database: Database, make_endpoint: MakeEndpoint, endpoint_of: Callable[[int], Endpoint]
) -> None:
    """An endpoint that was disabled for its failures starts without them (F12)."""
    endpoint = make_endpoint()
    with database.writing() as session:
        circuit_breaker.write_states(session, {endpoint.id: ILL})
        endpoints.disable(session, endpoint.id, "it kept failing", now=NINE)

    with database.writing() as session:
        endpoints.enable(session, endpoint.id, now=NINE)

    row = endpoint_of(endpoint.id)
    assert (row.failures, row.failing_since, row.failed_at, row.paused_until) == (
        *(0, None, None, None),
    )

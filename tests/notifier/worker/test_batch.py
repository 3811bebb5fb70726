"""A batch of a worker: settlements, breaker states, operational events."""

import itertools
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from contract.events import OPERATIONAL_TYPES, wire_time
from foundation import logging
from foundation.db import audit
from notifier.models import Delivery, Event
from notifier.webhooks import endpoints
from notifier.webhooks.circuit_breaker import PAUSED_AFTER, SHORTEST_PAUSE, BreakerState
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import MAX_ATTEMPTS, AttemptResult, Failure, WebhookResponse
from notifier.worker import batch, claims, reporter
from notifier.worker.batch import SettledBatch
from notifier.worker.reporter import WorkerTotals
from tests.notifier.conftest import LOOPBACK, MINUTE, NINE, SITE, Store

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
REFUSED = Failure("refused", "connection refused")
HALF_OPEN = BreakerState(5, NINE - HOUR, NINE - MINUTE, NINE)


def process(
    store: Store,
    *finished: tuple[Claimed, AttemptResult],
    unsent: Sequence[Claimed] = (),
    now: datetime = NINE,
) -> tuple[SettledBatch, Sequence[Claimed]]:
    """Settle with a result for each claim, then claim as an idle worker does."""
    made = [Finished(claimed, NINE, 12, result) for claimed, result in finished]
    with store.database.writing() as session:
        due, _ = claims.find_due(session, 0, now=now)
        settled = batch.settle(session, made, unsent=unsent, disable_after=5 * DAY, now=now)
        claimed = claims.claim(session, dict.fromkeys(due, 9), newest=False, lease=MINUTE, now=now)
    return settled, claimed


def operational_events(store: Store) -> list[dict[str, Any]]:
    """Return the operational events that were written."""
    bodies = store.all(select(Event.body).where(Event.type.in_(OPERATIONAL_TYPES)))
    return [json.loads(body) for body in bodies]


def test_pause_uses_up_no_attempts(store: Store) -> None:
    """After five failures the other deliveries stay due and unattempted (F25)."""
    failing, healthy = store.add_endpoint(), store.add_endpoint()
    store.add_deliveries(failing.id, PAUSED_AFTER)
    claimed = store.claim()
    waiting, sent = store.add_delivery(failing.id), store.add_delivery(healthy.id)

    _, then = process(store, *((one, REFUSED) for one in claimed))

    endpoint, row = store.endpoint(failing.id), store.delivery(waiting)
    assert (endpoint.failures, endpoint.failing_since) == (5, NINE)
    assert endpoint.paused_until == NINE + SHORTEST_PAUSE
    assert [one.delivery_id for one in then] == [sent]
    assert (row.status, row.attempts, row.due_at) == ("pending", 0, NINE)


def test_success_ends_a_row_of_failures(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_delivery(endpoint.id)
    store.set_state(endpoint.id, HALF_OPEN)
    _, (tried,) = process(store)

    process(store, (tried, WebhookResponse(200)))

    row = store.endpoint(endpoint.id)
    assert (row.failures, row.failing_since, row.paused_until) == (0, None, None)


def test_endpoint_that_fails_after_a_pause_is_paused_again(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_delivery(endpoint.id)
    store.set_state(endpoint.id, BreakerState(5, NINE - MINUTE / 2, NINE, NINE))
    _, (tried,) = process(store)

    process(store, (tried, REFUSED))

    assert store.endpoint(endpoint.id).paused_until == NINE + SHORTEST_PAUSE


def test_claims_are_given_back_before_expired_ones_are_settled(store: Store) -> None:
    """After an outage a worker does not count its own unsent claims as lost."""
    delivery_id = store.add_delivery(store.add_endpoint().id)
    unsent = store.claim(lease=SECOND)

    with store.database.writing() as session:
        batch.settle(session, [], unsent=unsent, disable_after=5 * DAY, now=NINE + MINUTE)

    row = store.delivery(delivery_id)
    assert (row.attempts, row.lost_claims, row.lease_token) == (0, 0, None)
    assert store.attempts(delivery_id) == []


def test_days_of_failure_disable_the_endpoint(store: Store) -> None:
    endpoint = store.add_endpoint()
    ids = store.add_deliveries(endpoint.id, 2)
    store.set_state(endpoint.id, BreakerState(40, NINE - 5 * DAY, NINE - MINUTE, NINE))
    _, (tried, _) = process(store)

    settled, _ = process(store, (tried, REFUSED))

    row = store.endpoint(endpoint.id)
    assert settled.disabled == {endpoint.id: "it has been failing since 2026-11-17 09:00:00 UTC"}
    assert (row.disabled_at, row.disabled_reason) == (NINE, settled.disabled[endpoint.id])
    assert store.statuses(*ids) == ["held", "held"]
    [change] = store.read(lambda session: audit.about(session, "endpoint", endpoint.id))
    assert (change.actor, change.channel, change.action) == ("worker", "worker", "endpoint.disable")
    assert change.detail == row.disabled_reason


def test_time_alone_disables_nothing(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_delivery(endpoint.id)
    long_ago = NINE - 4 * DAY
    store.set_state(endpoint.id, BreakerState(40, NINE - 9 * DAY, long_ago, long_ago))

    _, (tried,) = process(store)
    settled, _ = process(store, (tried, Failure("internal", "ValueError")))

    assert (settled.disabled, store.endpoint(endpoint.id).disabled_at) == ({}, None)


def test_subscriber_is_notified_of_a_disabled_endpoint(store: Store) -> None:
    """The event is written in the transaction of its cause (F12)."""
    gone = store.add_endpoint("https://elms.example/webhooks?key=1")
    operations = store.add_endpoint(event_types=["endpoint.disabled"])
    store.add_delivery(gone.id)
    (claimed,) = store.claim()

    process(store, (claimed, WebhookResponse(410)))
    _, then = process(store)

    assert [one.endpoint_id for one in then] == [operations.id]
    assert operational_events(store) == [
        {
            "type": "endpoint.disabled",
            "timestamp": "2026-11-22T09:00:00.123456Z",
            "data": {
                "source": SITE,
                "endpoint_id": gone.id,
                "url": "https://elms.example/webhooks",
                "reason": "the receiver no longer accepts events (410 Gone)",
            },
        }
    ]


def test_subscriber_is_notified_once_of_a_manual_disable(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_endpoint(event_types=["endpoint.disabled"])

    for reason in ("by hand", "again"):
        store.write(endpoints.disable, endpoint.id, reason, now=NINE)

    assert [one["data"]["reason"] for one in operational_events(store)] == ["by hand"]


def test_subscriber_is_notified_of_dead_deliveries(store: Store) -> None:
    """Each dead delivery is reported with its reason, including expired claims (F14, F9)."""
    endpoint = store.add_endpoint()
    store.add_endpoint(event_types=["delivery.dead"])
    refused = store.add_delivery(endpoint.id, course_id="CS1")
    lost = store.add_delivery(endpoint.id, course_id="CS2", attempts=MAX_ATTEMPTS - 1)
    claimed = store.claim(lease=MINUTE)

    process(store, (claimed[0], WebhookResponse(422)))
    process(store, now=NINE + 2 * MINUTE)

    reported = [one["data"] for one in operational_events(store)]
    assert {one["delivery_id"]: (one["course_id"], one["reason"]) for one in reported} == {
        refused: ("CS1", "the receiver responded with 422: a retry would not help"),
        lost: ("CS2", "10 attempts failed, the last because its worker was lost"),
    }


def test_operational_event_without_subscriber_is_not_written(store: Store) -> None:
    store.add_delivery(store.add_endpoint().id)
    (claimed,) = store.claim()

    process(store, (claimed, WebhookResponse(422)))

    assert operational_events(store) == []


def test_dead_operational_event_causes_no_further_event(store: Store) -> None:
    operations = store.add_endpoint(event_types=list(OPERATIONAL_TYPES))
    store.add_delivery(operations.id, type="delivery.dead", course_id="")
    (claimed,) = store.claim()

    process(store, (claimed, WebhookResponse(422)))

    assert [row.status for row in store.all(Delivery)] == ["dead"]


def test_success_of_a_healthy_endpoint_locks_and_writes_no_state(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_deliveries(endpoint.id, 2)
    first, second = store.claim()
    success = WebhookResponse(200)

    healthy = store.count_statements(lambda: process(store, (first, success)))
    store.set_state(endpoint.id, BreakerState(1, NINE, NINE))
    recovering = store.count_statements(lambda: process(store, (second, success)))

    assert recovering == healthy + 1


def test_statements_of_a_batch_do_not_grow(store: Store) -> None:
    endpoint = store.add_endpoint()
    store.add_endpoint(event_types=list(OPERATIONAL_TYPES))

    def statements_for(count: int) -> int:
        store.add_deliveries(endpoint.id, count)
        claimed = [one for one in store.claim() if one.endpoint_id == endpoint.id]
        results = itertools.cycle(WebhookResponse(status) for status in (200, 500, 422))
        finished = list(zip(claimed, results, strict=False))
        return store.count_statements(lambda: process(store, *finished))

    assert statements_for(3) == statements_for(30)


def test_result_ends_a_row_of_lost_claims(store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id, lost_claims=2)
    (claimed,) = store.claim()

    process(store, (claimed, WebhookResponse(500)))

    assert store.delivery(delivery_id).lost_claims == 0


def test_database_clock_decides_when_a_retry_is_due(store: Store) -> None:
    """A worker whose clock is an hour behind does not retry earlier (F18)."""
    delivery_id = store.add_delivery(store.add_endpoint().id)
    (claimed,) = store.claim()

    process(store, (claimed, WebhookResponse(500)), now=NINE + HOUR)

    assert store.delivery(delivery_id).due_at == NINE + HOUR + 5 * SECOND
    assert store.attempts(delivery_id)[0].started_at == NINE


def test_late_410_does_not_disable(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that lost its lease disables no endpoint, and does not log that it did (F6)."""
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id)
    (late,) = store.claim(lease=SECOND)
    (current,) = store.claim(now=NINE + MINUTE)

    process(store, (current, WebhookResponse(200)))
    settled, _ = process(store, (late, WebhookResponse(410)))
    totals = WorkerTotals()
    logging.configure("INFO", "json")
    reporter.report(settled, totals)

    assert store.endpoint(endpoint.id).disabled_at is None
    assert totals == WorkerTotals()
    assert (
        json.loads(capsys.readouterr().err)["event"] == "result came too late and changes nothing"
    )
    assert store.statuses(delivery_id) == ["delivered"]


def test_410_of_the_url_before_the_correction_does_not_disable(store: Store) -> None:
    endpoint = store.add_endpoint()
    delivery_id = store.add_delivery(endpoint.id)
    (claimed,) = store.claim()

    store.write(
        endpoints.correct_url, endpoint.id, "https://elms.example/right", guard=LOOPBACK, now=NINE
    )
    process(store, (claimed, WebhookResponse(410)))

    assert store.endpoint(endpoint.id).disabled_at is None
    assert store.statuses(delivery_id) == ["pending"]
    assert len(store.claim()) == 1


def reported(
    capsys: pytest.CaptureFixture[str], settled: SettledBatch, level: str = "INFO"
) -> list[dict[str, Any]]:
    """Return the log lines of a batch."""
    capsys.readouterr()
    logging.configure(level, "json")
    reporter.report(settled, WorkerTotals())
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_outage_is_logged_once_per_endpoint_and_state(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    failing, other = store.add_endpoint(), store.add_endpoint()
    store.add_deliveries(failing.id, 20)
    store.add_deliveries(other.id, 2)
    claimed = store.claim()
    mine = [one for one in claimed if one.endpoint_id == failing.id]
    first = [(one, REFUSED) for one in claimed if one not in mine[4:]]
    ok = WebhookResponse(200)

    def lines_of(*finished: tuple[Claimed, AttemptResult], level: str = "INFO") -> list[Any]:
        settled, _ = process(store, *finished)
        lines = reported(capsys, settled, level)
        return [
            (one["level"], one["event"], one["endpoint_id"])
            for one in lines
            if one["event"] != "event delivered"
        ]

    failed = "attempt failed, will be retried"
    assert sorted(lines_of(*first)) == [
        ("warning", failed, failing.id),
        ("warning", failed, other.id),
    ]
    assert lines_of((mine[4], REFUSED)) == [("warning", "endpoint paused", failing.id)]
    assert lines_of(*((one, REFUSED) for one in mine[5:10])) == []
    assert lines_of((mine[10], REFUSED), level="DEBUG") == [("debug", failed, failing.id)]
    assert lines_of((mine[11], ok)) == [("info", "endpoint accepts events again", failing.id)]
    assert lines_of((mine[12], ok)) == []


def test_recovery_is_logged_with_duration_and_failures(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = store.add_endpoint()
    store.add_delivery(endpoint.id)
    store.set_state(endpoint.id, BreakerState(7, NINE - HOUR, NINE - MINUTE, NINE))
    _, (tried,) = process(store)

    settled, _ = process(store, (tried, WebhookResponse(200)), now=NINE + MINUTE)

    _, line = reported(capsys, settled)
    assert line["failing_since"] == wire_time(NINE - HOUR)
    assert (line["failing_seconds"], line["failed_attempts"]) == (3660, 7)


def test_many_dead_deliveries_are_few_lines(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = store.add_endpoint()
    store.add_deliveries(endpoint.id, 30)

    settled, _ = process(store, *((one, WebhookResponse(422)) for one in store.claim()))

    *each, last = reported(capsys, settled)
    assert [line["event"] for line in each] == ["delivery is dead"] * 5
    assert (last["event"], last["count"]) == ("more deliveries are dead", 25)
    assert last["endpoint_ids"] == [endpoint.id]


def test_410_of_many_attempts_is_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = store.add_endpoint()
    store.add_deliveries(endpoint.id, 3)
    first, *others = ((one, WebhookResponse(410)) for one in store.claim())

    settled = [process(store, *finished)[0] for finished in ([first], others)]

    lines = [line for one in settled for line in reported(capsys, one)]
    assert [line["event"] for line in lines] == ["endpoint disabled, its deliveries held"]


@pytest.mark.parametrize(
    ("attempts", "event", "totals"),
    [
        pytest.param(1, "attempt failed, will be retried", WorkerTotals(to_retry=1), id="retried"),
        pytest.param(MAX_ATTEMPTS, "delivery is dead", WorkerTotals(dead=1), id="dead"),
    ],
)
def test_lost_worker_is_reported(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    attempts: int,
    event: str,
    totals: WorkerTotals,
) -> None:
    store.add_delivery(store.add_endpoint().id, attempts=attempts - 1)
    store.claim(lease=SECOND)

    settled, _ = process(store, now=NINE + MINUTE)
    counted = WorkerTotals()
    logging.configure("INFO", "json")
    reporter.report(settled, counted)

    assert json.loads(capsys.readouterr().err)["event"] == event
    assert counted == totals

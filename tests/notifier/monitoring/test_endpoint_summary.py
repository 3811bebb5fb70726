"""Summaries of endpoints."""

from typing import Any

import pytest

from notifier.errors import EndpointUnknownError
from notifier.models import DeliveryStatus, EndpointPing
from notifier.monitoring import endpoint_summary
from notifier.monitoring.endpoint_status import EndpointStatus
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.conftest import MINUTE, NINE, Store


def test_new_endpoint_has_no_result(store: Store) -> None:
    summary = store.read(endpoint_summary.read_one, store.add_endpoint().id)

    assert (summary.pending, summary.held, summary.dead) == (0, 0, 0)
    assert summary.status_details.status == EndpointStatus.ENABLED
    assert (summary.last, summary.ping, summary.has_accepted) == (None, None, False)


def test_deliveries_are_counted_by_endpoint(store: Store) -> None:
    one, other = store.add_endpoint(), store.add_endpoint(disabled=True)
    for status, many in (("pending", 3), ("dead", 1), ("delivered", 4)):
        store.add_deliveries(one.id, many, status=status)
    store.add_delivery(other.id)

    summaries = store.read(endpoint_summary.read)

    assert [one.endpoint.id for one in summaries] == [one.id, other.id]
    assert [(one.pending, one.held, one.dead) for one in summaries] == [(3, 0, 1), (0, 1, 0)]
    assert [one.has_accepted for one in summaries] == [True, False]


def test_accepted_ping_counts_as_a_response(store: Store) -> None:
    made = store.add_endpoint()
    with store.database.writing() as session:
        session.add(
            EndpointPing(
                endpoint_id=made.id, started_at=NINE, milliseconds=9, status=200, accepted=True
            )
        )

    summary = store.read(endpoint_summary.read_one, made.id)

    assert summary.has_accepted
    assert summary.ping is not None


def test_last_result_is_the_newest_attempt(store: Store) -> None:
    one, other = store.add_endpoint(), store.add_endpoint()
    first, second = store.add_delivery(one.id), store.add_delivery(one.id)
    store.add_attempt(second, status=200)
    store.add_attempt(first, status=503)
    store.add_attempt(store.add_delivery(other.id), failure="refused")

    last = {one.endpoint.id: one.last for one in store.read(endpoint_summary.read)}

    assert last[one.id].status == 503  # type: ignore[union-attr]
    assert last[other.id].failure == "refused"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param({"status": DeliveryStatus.DELIVERED}, id="delivered"),
        pytest.param({"status": DeliveryStatus.DEAD}, id="dead"),
        pytest.param({"attempts": 1}, id="to be retried"),
    ],
)
def test_quiet_endpoint_keeps_its_last_result(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any]
) -> None:
    monkeypatch.setattr(endpoint_summary, "_RECENT_ATTEMPTS", 2)
    quiet, busy = store.add_endpoint(), store.add_endpoint()
    store.add_attempt(store.add_delivery(quiet.id, **kind), status=418)
    loud = store.add_delivery(busy.id)
    for _ in range(3):
        store.add_attempt(loud, status=200)

    summary = store.read(endpoint_summary.read_one, quiet.id)

    assert summary.last is not None
    assert summary.last.status == 418


def test_unknown_endpoint_is_refused(store: Store) -> None:
    with pytest.raises(EndpointUnknownError) as refused:
        store.read(endpoint_summary.read_one, 7)

    assert str(refused.value) == "there is no endpoint 7"


def test_paused_endpoint_has_a_next_attempt(store: Store) -> None:
    made = store.add_endpoint()
    store.set_state(made.id, BreakerState(7, NINE, NINE + MINUTE, NINE + 9 * MINUTE))

    details = store.read(endpoint_summary.read_one, made.id).status_details

    assert (details.status, details.since) == (EndpointStatus.PAUSED, NINE)
    assert details.tried_at == NINE + 9 * MINUTE
    assert details.reason == "7 failures in a row"

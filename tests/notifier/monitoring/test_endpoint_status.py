"""Summaries of endpoints, and the number of statements."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from foundation.db.session import Database
from notifier.errors import EndpointUnknownError
from notifier.models import Attempt, DeliveryStatus, EndpointPing
from notifier.monitoring import endpoint_status
from notifier.monitoring.endpoint_status import EndpointSummary
from notifier.webhooks.circuit_breaker import EndpointState
from tests.notifier.conftest import MINUTE, NINE, MakeDelivery, MakeEndpoint

Attempted = Callable[..., None]


@pytest.fixture
def attempt(database: Database) -> Attempted:
    """Return a function that stores an attempt of a delivery."""

    def write(delivery_id: int, **overrides: Any) -> None:
        given = {"started_at": NINE, "milliseconds": 12, "decided": "retry", **overrides}
        with database.writing() as session:
            session.add(Attempt(delivery_id=delivery_id, **given))

    return write


def summary_of(database: Database, endpoint_id: int) -> EndpointSummary:
    """Return the summary of an endpoint."""
    with database.reading() as session:
        return endpoint_status.read_one(session, endpoint_id)


def test_new_endpoint_has_no_result(database: Database, make_endpoint: MakeEndpoint) -> None:
    report = summary_of(database, make_endpoint().id)

    assert (report.pending, report.held, report.dead) == (0, 0, 0)
    assert report.status.state == EndpointState.ENABLED
    assert (report.last, report.ping, report.has_answered) == (None, None, False)


def test_deliveries_are_counted_by_endpoint(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    one, other = make_endpoint(), make_endpoint()
    for status, many in (("pending", 3), ("held", 2), ("dead", 1), ("delivered", 4)):
        for _ in range(many):
            make_delivery(one.id, status=status)
    make_delivery(other.id)

    with database.reading() as session:
        reports = endpoint_status.read(session)

    assert [one.endpoint.id for one in reports] == [one.id, other.id]
    assert [(one.pending, one.held, one.dead) for one in reports] == [(3, 2, 1), (1, 0, 0)]
    assert [one.has_answered for one in reports] == [True, False]


def test_accepted_ping_counts_as_a_response(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    made = make_endpoint()
    with database.writing() as session:
        session.add(
            EndpointPing(
                endpoint_id=made.id, started_at=NINE, milliseconds=9, status=200, accepted=True
            )
        )

    report = summary_of(database, made.id)

    assert report.has_answered
    assert report.ping is not None


def test_last_result_is_the_newest_attempt(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    attempt: Attempted,
) -> None:
    one, other = make_endpoint(), make_endpoint()
    first, second = make_delivery(one.id), make_delivery(one.id)
    attempt(second, status=200)
    attempt(first, status=503)
    attempt(make_delivery(other.id), failure="refused")

    with database.reading() as session:
        last = {one.endpoint.id: one.last for one in endpoint_status.read(session)}

    assert last[one.id].status == 503  # type: ignore[union-attr]
    assert last[other.id].failure == "refused"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param({"status": DeliveryStatus.DELIVERED}, id="delivered"),
        pytest.param({"status": DeliveryStatus.DEAD}, id="dead"),
        pytest.param({"lane": "retry"}, id="to be retried"),
    ],
)
def test_quiet_endpoint_keeps_its_last_result(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    attempt: Attempted,
    monkeypatch: pytest.MonkeyPatch,
    kind: dict[str, Any],
) -> None:
    monkeypatch.setattr(endpoint_status, "_RECENT_ATTEMPTS", 2)
    quiet, busy = make_endpoint(), make_endpoint()
    attempt(make_delivery(quiet.id, **kind), status=418)
    loud = make_delivery(busy.id)
    for _ in range(3):
        attempt(loud, status=200)

    report = summary_of(database, quiet.id)

    assert report.last is not None
    assert report.last.status == 418


def test_unknown_endpoint_is_refused(database: Database) -> None:
    with pytest.raises(EndpointUnknownError) as refused:
        summary_of(database, 7)

    assert str(refused.value) == "there is no endpoint 7"


def test_paused_endpoint_has_a_next_attempt(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    made = make_endpoint()
    with database.writing() as session:
        row = endpoint_status.read_one(session, made.id).endpoint
        row.failures, row.failing_since, row.failed_at = 7, NINE, NINE + MINUTE
        row.paused_until = NINE + timedelta(minutes=9)

    status = summary_of(database, made.id).status

    assert (status.state, status.since) == (EndpointState.PAUSED, NINE)
    assert status.tried_at == NINE + timedelta(minutes=9)
    assert status.reason == "failures in a row: 7"

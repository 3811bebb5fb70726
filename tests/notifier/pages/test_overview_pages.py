"""The overview: what needs attention with its buttons, the backlog, and the last day."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from foundation.db.audit import AuditEntry
from notifier import services
from notifier.models import DeliveryStatus, EndpointPing, Replay
from notifier.monitoring import doctor
from notifier.webhooks import endpoints
from tests.notifier.conftest import MINUTE, NINE, Store
from tests.notifier.pages.conftest import Browser, SetFailing

MakeDelivery = Callable[..., int]

PENDING = DeliveryStatus.PENDING
REASON = 'the receiver answered 422 <b>"no"</b>'


@pytest.fixture
def make(store: Store, now: datetime) -> MakeDelivery:
    """Return a function that makes a delivery to endpoint 1, which has accepted one just now."""
    endpoint = store.add_endpoint()

    def make(**overrides: Any) -> int:
        created_at = now - timedelta(milliseconds=150)
        given = {"settled_at": now, "due_at": now, "created_at": created_at, **overrides}
        return store.add_delivery(endpoint.id, **given)

    make(status=DeliveryStatus.DELIVERED)
    return make


@pytest.fixture
def make_dead(make: MakeDelivery) -> MakeDelivery:
    """Return a function that makes a dead delivery to endpoint 1."""
    return lambda reason=REASON: make(status=DeliveryStatus.DEAD, reason=reason)


def headings(page: str) -> list[str]:
    """Return what needs attention, in the order of the page."""
    return re.findall(r"<h3>(.*?)</h3>", page)


def test_first_step_is_an_endpoint(ada: Browser) -> None:
    page = ada.look("/")

    assert "Needs attention (1)" in page
    assert headings(page) == ["Endpoints"]
    assert "All checks passed" not in page
    assert "No deliveries in the last 24 hours." in page
    assert "<svg viewBox" not in page


def test_overview_without_problems_says_so(ada: Browser, make: MakeDelivery) -> None:
    page, part = ada.look("/"), ada.look("/overview/live")

    assert headings(page) == []
    assert "Not tested yet" not in page
    assert 'data-refresh="/overview/live"' in page
    assert "<html" not in part
    assert "All checks passed" in page
    assert "All checks passed" in part


def test_endpoint_disabled_on_purpose_is_no_finding(ada: Browser, store: Store) -> None:
    store.write(endpoints.disable, store.add_endpoint().id, "moving", by="Ada", now=NINE)

    page = ada.look("/")

    assert "All checks passed" in page
    assert "1 endpoint is disabled on purpose." in page
    assert "Not tested yet" not in page
    assert "badge-bad" not in page


def test_endpoint_is_untested_until_it_accepts_something(
    ada: Browser, store: Store, now: datetime
) -> None:
    store.add_endpoint()
    untested = ada.look("/")
    ping = {"started_at": now, "milliseconds": 9, "status": 204, "accepted": True}
    with store.database.writing() as session:
        session.add(EndpointPing(endpoint_id=1, **ping))

    tested = ada.look("/")

    assert "Not tested yet" in untested
    assert 'action="/endpoints/1/ping"' in untested
    assert "All checks passed" not in untested
    assert "All checks passed" in tested


def test_disabled_endpoint_can_be_enabled(
    ada: Browser, make: MakeDelivery, store: Store, now: datetime
) -> None:
    for _ in range(3):
        make(status=PENDING)
    store.write(endpoints.disable, 1, "answered <i>410</i>", now=now)

    page = ada.look("/")

    assert headings(page) == ["Endpoints"]
    assert "answered &lt;i&gt;410&lt;/i&gt;" in page
    assert "3 deliveries are waiting." in page
    assert 'action="/endpoints/1/enable"' in page
    assert "Enable and send 3 held deliveries" in page


@pytest.mark.parametrize(
    ("failures", "attempt", "needs", "texts"),
    [
        pytest.param(
            9,
            {"failure": "tls-expired", "detail": "elms: expired"},
            ["Endpoints"],
            ["tls-expired: <bdi", "renew the certificate", 'action="/endpoints/1/try"'],
            id="paused",
        ),
        pytest.param(
            1,
            {"failure": "refused", "detail": "connection refused"},
            [],
            ["Failing endpoints (1)", "refused: <bdi", "Check that the receiver is running"],
            id="failing",
        ),
        pytest.param(
            2,
            {"status": 401, "detail": '{"status":401,"detail":"no signature matches"}'},
            [],
            [
                '401: <bdi class="text">no signature matches</bdi>',
                "Enter the current secret of this endpoint at the receiver",
                '<a href="/endpoints/1">Endpoint 1</a>',
            ],
            id="wrong secret",
        ),
    ],
)
def test_failing_endpoint_shows_its_last_response_and_what_to_do(
    ada: Browser,
    store: Store,
    make: MakeDelivery,
    set_failing: SetFailing,
    now: datetime,
    failures: int,
    attempt: dict[str, Any],
    needs: list[str],
    texts: list[str],
) -> None:
    store.add_attempt(make(status=PENDING, due_at=now + 5 * MINUTE), started_at=now, **attempt)
    set_failing(1, failures)

    page = ada.look("/")

    assert headings(page) == needs
    assert "All checks passed" not in page
    assert re.search(rf"{failures} failures? in a row", page)
    assert 'action="/endpoints/1/ping"' in page
    for text in texts:
        assert text in page


def test_late_backlog_names_the_command(ada: Browser, make: MakeDelivery, now: datetime) -> None:
    make(status=PENDING, due_at=now - timedelta(minutes=42, seconds=5))

    page = ada.look("/")

    assert headings(page) == ["Backlog"]
    assert "the oldest has been due for 42 min, and nothing was attempted yet" in page
    assert "<code>notifier work</code>" in page
    assert "oldest waiting for 42 min" in page


def test_dead_deliveries_are_replayed_by_reason_up_to_a_limit(
    ada: Browser, make_dead: MakeDelivery, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.pages.overview.MAX_REPLAYED", 2)
    for _ in range(3):
        make_dead()
    make_dead(reason="10 attempts failed")

    before = ada.look("/")
    response = ada.send("/overview/replay", endpoint_id=1, reason=REASON)
    after = ada.look("/")

    assert headings(before) == ["Dead deliveries"]
    assert "4 in the last 7 days. Fix the cause" in before
    assert "the receiver answered 422 &lt;b&gt;" in before
    assert "Replay 2 deliveries" in before
    assert "The latest 2 are sent again now" in before
    assert "Replay 1 delivery" in before
    assert (response.status_code, response.location) == (303, "/")
    assert "2 deliveries queued for replay." in after
    assert "2 in the last 7 days" in after
    assert len(store.all(Replay)) == 2
    assert [(one.actor, one.detail) for one in store.all(AuditEntry)] == [("Ada", "2 deliveries")]


def test_dead_deliveries_of_a_disabled_endpoint_are_not_replayed(
    ada: Browser, make_dead: MakeDelivery, store: Store, now: datetime
) -> None:
    make_dead()
    store.write(endpoints.disable, 1, "moved", now=now)

    page = ada.look("/")
    response = ada.send("/overview/replay", endpoint_id=1, reason=REASON)

    assert "This endpoint is disabled. Enable it first, then replay them." in page
    assert "/overview/replay" not in page
    assert response.status_code == 409
    assert '<a href="/endpoints/1">Endpoint 1</a>' in response.text


def test_invalid_replay_is_refused(ada: Browser) -> None:
    response = ada.send("/overview/replay", endpoint_id="x", reason="")

    assert response.status_code == 422
    assert "Go back to the overview" in response.text


def test_overview_shows_the_findings_of_the_doctor(ada: Browser, make_dead: MakeDelivery) -> None:
    make_dead()
    here = services.of(ada.client.application)

    findings = doctor.examine(here.database, here.vault)
    page = ada.look("/")

    assert [one.title for one in findings] == re.findall(r'<th scope="row">([a-z ]+)</th>', page)
    assert "1 encrypted, all can be decrypted" in page


def test_last_day_is_drawn(
    ada: Browser, store: Store, make: MakeDelivery, make_dead: MakeDelivery, now: datetime
) -> None:
    make_dead()
    retried = make(status=DeliveryStatus.PENDING)
    store.add_attempt(retried, started_at=now)

    page = ada.look("/")

    assert page.count('<figure class="chart">') == 2
    assert "failed attempts 1</title>" in page
    assert "delivered 1</title>" in page
    assert "dead 1</title>" in page
    assert '<span class="figure-value">150 ms</span>' in page
    assert "95th percentile 150 ms" in page

"""The overview: what needs a person comes first, with the button that mends it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.db import session as db
from foundation.db.session import Database
from notifier import services
from notifier.models import Attempt, Delivery, DeliveryStatus, EndpointPing, Event, Replay
from notifier.monitoring import doctor
from notifier.webhooks import circuit_breaker, endpoints, outbox
from notifier.webhooks.circuit_breaker import BreakerState

Look = Callable[..., str]
Send = Callable[..., TestResponse]
REASON = 'the receiver answered 422 <b>"no"</b>'


@pytest.fixture
def now(database: Database) -> datetime:
    """The database's clock."""
    with database.reading() as session:
        return db.now(session)


@pytest.fixture
def add(database: Database, now: datetime) -> Callable[..., int]:
    """Return what writes a delivery to endpoint 1, delivered just now unless given."""

    def write(**overrides: Any) -> int:
        status = overrides.get("status", DeliveryStatus.DELIVERED)
        is_settled = status in {DeliveryStatus.DELIVERED, DeliveryStatus.DEAD}
        given = {
            "endpoint_id": 1,
            "status": status,
            "attempts": 1,
            "due_at": now,
            "created_at": now - timedelta(milliseconds=150),
            "settled_at": now if is_settled else None,
            **overrides,
        }
        with database.writing() as session:
            event = Event(
                id=outbox.new_webhook_id(),
                type="course.deleted",
                course_id="CS101",
                course_version=2,
                body="{}",
                occurred_at=given["created_at"],
            )
            session.add(event)
            session.flush()
            row = Delivery(event_id=event.id, **given)
            session.add(row)
            session.flush()
            return row.id

    return write


@pytest.fixture
def well(make_endpoint: Callable[..., int], add: Callable[..., int]) -> int:
    """An endpoint that has taken a delivery."""
    endpoint_id = make_endpoint()
    add()
    return endpoint_id


def headings(page: str) -> list[str]:
    """Return what needs a person, in the order of the page."""
    return re.findall(r"<h3>(.*?)</h3>", page)


def test_the_first_step_is_an_endpoint(look: Look) -> None:
    page = look("/")

    assert "Needs attention (1)" in page
    assert headings(page) == ["Endpoints"]
    assert "There are no endpoints, so nothing is sent." in page
    assert '<a class="button main" href="/endpoints/new">' in page
    assert "All checks passed" not in page


def test_all_is_well_is_said_plainly(look: Look, well: int) -> None:
    page = look("/")

    assert "All checks passed" in page
    assert "need a person" not in page
    assert headings(page) == []
    assert "Not tested yet" not in page


def test_an_endpoint_that_never_answered_is_to_be_tested(
    look: Look, make_endpoint: Callable[..., int], database: Database, now: datetime
) -> None:
    make_endpoint()
    untried = look("/")

    with database.writing() as session:
        session.add(
            EndpointPing(endpoint_id=1, started_at=now, milliseconds=9, status=204, accepted=True)
        )

    assert "Not tested yet" in untried
    assert 'action="/endpoints/1/ping"' in untried
    assert "All checks passed" not in untried
    assert "All checks passed" in look("/")


def test_a_disabled_endpoint_has_its_button(
    look: Look, well: int, add: Callable[..., int], database: Database, now: datetime
) -> None:
    for _ in range(3):
        add(status=DeliveryStatus.PENDING)
    with database.writing() as session:
        endpoints.disable(session, well, "answered <i>410</i>", now=now)

    page = look("/")

    assert headings(page) == ["Endpoints"]
    assert "answered &lt;i&gt;410&lt;/i&gt;" in page
    assert "3 deliveries are waiting." in page
    assert 'action="/endpoints/1/enable"' in page
    assert "Enable and send 3 held deliveries" in page


def test_a_failing_endpoint_has_its_last_answer_and_its_buttons(
    look: Look, well: int, add: Callable[..., int], database: Database, now: datetime
) -> None:
    waiting = add(status=DeliveryStatus.PENDING, due_at=now - timedelta(hours=1))
    with database.writing() as session:
        later = now + timedelta(minutes=9)
        circuit_breaker.write_states(
            session, {well: BreakerState(9, now - timedelta(hours=2), now, later)}
        )
        failed = {"failure": "tls-expired", "detail": "elms: expired", "decided": "retry"}
        session.add(Attempt(delivery_id=waiting, started_at=now, milliseconds=8, **failed))

    page = look("/")

    assert headings(page) == ["Endpoints"]
    assert "failures in a row: 9" in page
    assert "tls-expired: <bdi" in page
    assert "renew the certificate" in page
    assert 'action="/endpoints/1/ping"' in page
    assert 'action="/endpoints/1/try"' in page


def test_a_secret_that_does_not_match_is_mended_from_the_overview(
    look: Look, well: int, add: Callable[..., int], database: Database, now: datetime
) -> None:
    waiting = add(status=DeliveryStatus.PENDING, due_at=now + timedelta(minutes=5))
    with database.writing() as session:
        circuit_breaker.write_states(session, {well: BreakerState(2, now, now)})
        refused = {"status": 401, "detail": "no signature matches", "decided": "retry"}
        session.add(Attempt(delivery_id=waiting, started_at=now, milliseconds=8, **refused))

    page = look("/")

    assert "Enter the current secret of this endpoint at the receiver" in page
    assert '<a href="/endpoints/1">Endpoint 1</a>' in page


def test_all_is_not_well_where_an_endpoint_has_begun_to_fail(
    look: Look, well: int, add: Callable[..., int], database: Database, now: datetime
) -> None:
    waiting = add(status=DeliveryStatus.PENDING, due_at=now + timedelta(minutes=5))
    with database.writing() as session:
        circuit_breaker.write_states(session, {well: BreakerState(1, now, now)})
        failed = {"failure": "refused", "detail": "nobody listens", "decided": "retry"}
        session.add(Attempt(delivery_id=waiting, started_at=now, milliseconds=8, **failed))

    page = look("/")

    assert "All checks passed" not in page
    assert "Failing endpoints (1)" in page
    assert headings(page) == []
    assert "failures in a row: 1" in page
    assert "refused: <bdi" in page
    assert "Check that the receiver is running" in page
    assert 'action="/endpoints/1/ping"' in page


def test_a_backlog_that_nobody_works_on_says_the_command(
    look: Look, well: int, add: Callable[..., int], now: datetime
) -> None:
    add(status=DeliveryStatus.PENDING, due_at=now - timedelta(minutes=42, seconds=5))

    page = look("/")

    assert headings(page) == ["Backlog"]
    assert "the oldest has been due for 42 min, and nothing was attempted yet" in page
    assert "<code>notifier work</code>" in page
    assert "oldest waiting for 42 min" in page


class TestDeadLetters:
    """By endpoint and reason, each with its replay."""

    def test_they_are_shown_with_what_a_replay_does(
        self, look: Look, well: int, add: Callable[..., int]
    ) -> None:
        for _ in range(2):
            add(status=DeliveryStatus.DEAD, reason=REASON)
        add(status=DeliveryStatus.DEAD, reason="10 attempts failed")

        page = look("/")

        assert headings(page) == ["Dead letters"]
        assert "3 in the last 7 days. Fix the cause" in page
        assert "2 deliveries</a>" in page
        assert "Replay 2 deliveries" in page
        assert "Replay 1 delivery" in page
        assert "the receiver answered 422 &lt;b&gt;" in page

    def test_those_of_one_reason_are_replayed(
        self, look: Look, send: Send, well: int, add: Callable[..., int], database: Database
    ) -> None:
        mine = [add(status=DeliveryStatus.DEAD, reason=REASON) for _ in range(2)]
        other = add(status=DeliveryStatus.DEAD, reason="10 attempts failed")

        answer = send("/overview/replay", endpoint_id=well, reason=REASON)

        with database.reading() as session:
            rows = {row.id: row.status for row in session.query(Delivery)}
            replayed = [(row.delivery_id, row.replayed_by) for row in session.query(Replay)]
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        assert [rows[one] for one in mine] == ["pending", "pending"]
        assert rows[other] == "dead"
        assert replayed == [(one, "Ada on the pages") for one in mine]
        assert "2 deliveries queued for replay." in look("/")

    def test_no_more_are_replayed_than_was_said(
        self,
        look: Look,
        send: Send,
        well: int,
        add: Callable[..., int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("notifier.pages.dashboard.MAX_REPLAYED", 2)
        for _ in range(3):
            add(status=DeliveryStatus.DEAD, reason=REASON)

        page = look("/")
        send("/overview/replay", endpoint_id=well, reason=REASON)

        assert "The latest 2 are sent again now" in page
        assert "2 deliveries queued for replay." in look("/")
        send("/overview/replay", endpoint_id=well, reason=REASON)
        assert "1 delivery queued for replay." in look("/")
        assert "Replay 1 delivery" not in look("/")

    def test_those_of_a_disabled_endpoint_wait(
        self,
        look: Look,
        send: Send,
        well: int,
        add: Callable[..., int],
        database: Database,
        now: datetime,
    ) -> None:
        add(status=DeliveryStatus.DEAD, reason=REASON)
        with database.writing() as session:
            endpoints.disable(session, well, "moved", now=now)

        page = look("/")
        answer = send("/overview/replay", endpoint_id=well, reason=REASON)

        assert "This endpoint is disabled. Enable it first, then replay them." in page
        assert "/overview/replay" not in page
        assert answer.status_code == 409
        assert '<a href="/endpoints/1">Endpoint 1</a>' in answer.text

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({}, id="nothing"),
            pytest.param({"endpoint_id": "x", "reason": ""}, id="no number"),
            pytest.param({"endpoint_id": 1, "reason": "", "also": 1}, id="another field"),
        ],
    )
    def test_what_no_page_sends_is_refused(
        self, send: Send, well: int, fields: dict[str, Any]
    ) -> None:
        answer = send("/overview/replay", **fields)

        assert answer.status_code == 422
        assert "Go back to the overview" in answer.text

    def test_nothing_is_replayed_without_the_form_of_a_page(
        self, ada: FlaskClient, well: int, add: Callable[..., int], database: Database
    ) -> None:
        dead = add(status=DeliveryStatus.DEAD, reason=REASON)

        answer = ada.post("/overview/replay", data={"endpoint_id": well, "reason": REASON})

        with database.reading() as session:
            assert session.get_one(Delivery, dead).status == "dead"
        assert answer.status_code == 400


def test_the_doctors_words_are_the_pages(
    look: Look, well: int, add: Callable[..., int], ada: FlaskClient
) -> None:
    add(status=DeliveryStatus.DEAD, reason=REASON)
    here = services.of(ada.application)

    findings = doctor.examine(here.database, here.vault)
    page = look("/")

    assert len(findings) == 7
    for finding in findings:
        assert f'<th scope="row">{finding.check}</th>' in page
    assert "3 sealed" not in page
    assert "1 encrypted, all can be decrypted" in page


def test_the_last_day_is_drawn(look: Look, well: int, add: Callable[..., int]) -> None:
    add(status=DeliveryStatus.DEAD, reason="x")

    page = look("/")

    assert page.count('<figure class="chart">') == 2
    assert "delivered 1</title>" in page
    assert "dead 1</title>" in page
    assert '<span class="figure-value">150 ms</span>' in page
    assert "95th percentile 150 ms" in page


def test_a_day_without_any_says_so(look: Look) -> None:
    page = look("/")

    assert "No deliveries in the last 24 hours." in page
    assert "<svg viewBox" not in page


def test_it_refreshes_itself(look: Look, well: int) -> None:
    page, part = look("/"), look("/overview/live")

    assert 'data-refresh="/overview/live"' in page
    assert "All checks passed" in part
    assert "<html" not in part
    assert part.count('<section class="figures') == 1


def test_statements_do_not_grow(
    statements: Callable[..., int], well: int, add: Callable[..., int]
) -> None:
    counts = []
    for many in (1, 25):
        for number in range(many):
            add()
            add(status=DeliveryStatus.PENDING)
            add(status=DeliveryStatus.HELD)
            add(status=DeliveryStatus.DEAD, reason=f"reason {number % 12}")
        counts.append(statements("/"))

    assert counts[0] == counts[1]

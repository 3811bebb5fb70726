"""The pages of endpoints: registered, tested, disabled, enabled, rotated; secrets shown once."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import escape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.signatures import Secret
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import SCHEMA, Delivery, DeliveryStatus, Endpoint, EndpointSecret
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure
from tests.notifier.conftest import Reply
from tests.notifier.pages.conftest import URL

Look = Callable[..., str]
Send = Callable[..., TestResponse]
SECRET = re.compile(r"<code data-copy-text>(whsec_[\w+/=]+)</code>")
TYPES = ["course.deleted", "token.regenerated"]


@pytest.fixture
def app(make_app: Callable[..., Flask], make_database_url: Callable[..., str]) -> Flask:
    """eAssessment on an empty database, whose receivers are on this machine."""
    return make_app(database_url=make_database_url(SCHEMA), allow_loopback=True)


@pytest.fixture
def endpoint_of(database: Database) -> Callable[[int], Endpoint]:
    """Return what reads an endpoint as it stands in the database now."""

    def read(endpoint_id: int) -> Endpoint:
        with database.reading() as session:
            return session.get_one(Endpoint, endpoint_id)

    return read


@pytest.fixture
def pause(database: Database) -> Callable[[int], None]:
    """Return what lets an endpoint have failed for two hours, and pauses it for one more."""

    def make(endpoint_id: int) -> None:
        with database.writing() as session:
            now = db.now(session)
            ailing = BreakerState(9, now - timedelta(hours=2), now, now + timedelta(hours=1))
            circuit_breaker.write_states(session, {endpoint_id: ailing})

    return make


@pytest.fixture
def make_waiting(
    database: Database, make_endpoint: Callable[..., int], make_delivery: Callable[..., int]
) -> Callable[..., None]:
    """Return what makes a delivery to endpoint 1 that is due in five minutes."""

    def make(url: str = URL) -> None:
        make_endpoint(url)
        delivery_id = make_delivery("CS101")
        with database.writing() as session:
            row = session.get_one(Delivery, delivery_id)
            row.due_at = db.now(session) + timedelta(minutes=5)

    return make


def secrets_of(database: Database, endpoint_id: int) -> list[EndpointSecret]:
    """Return the secrets that an endpoint ever had, the newest first."""
    with database.reading() as session:
        return endpoints.secrets_of(session, endpoint_id)


def test_empty_list_says_what_to_do_first(look: Look) -> None:
    page = look("/endpoints")

    assert "No endpoints yet, so nothing is sent." in page
    assert 'href="/endpoints/new"' in page


class TestRegistering:
    """The form, and the secret that comes of it."""

    def test_the_secret_is_shown_once(
        self, send: Send, look: Look, database: Database, endpoint_of: Callable[[int], Endpoint]
    ) -> None:
        answer = send("/endpoints/new", url=f" {URL} ", event_types=TYPES)

        (secret,) = SECRET.findall(answer.text)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert Secret.parse(secret).reveal() == secret
        assert (endpoint_of(1).url, endpoint_of(1).event_types) == (URL, None)
        assert len(secrets_of(database, 1)) == 1
        for path in ("/endpoints/1", "/endpoints/1/live", "/endpoints", "/"):
            assert "whsec_" not in look(path)

    def test_a_form_that_is_sent_again_registers_nothing(
        self, send: Send, database: Database
    ) -> None:
        send("/endpoints/new", url=URL, event_types=TYPES)

        again = send("/endpoints/new", url=URL, event_types=TYPES)

        assert again.status_code == 422
        assert f"{URL} is registered already. " in again.text
        assert SECRET.findall(again.text) == []
        assert len(secrets_of(database, 1)) == 1

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            pytest.param("http://elms.example/", "is not https", id="plain http"),
            pytest.param(
                "https://10.0.0.7/", "10.0.0.7 is for private use", id="a private address"
            ),
            pytest.param("<script>alert(1)</script>", "is not an http or https URL", id="markup"),
            pytest.param("", "is not an http or https URL", id="nothing"),
            pytest.param("https://elms.example/" + "x" * 9000, "is longer than", id="long"),
        ],
    )
    def test_what_cannot_be_an_endpoint_is_said_beside_the_field(
        self, send: Send, look: Look, url: str, said: str
    ) -> None:
        answer = send("/endpoints/new", url=url, event_types=["delivery.dead"])

        assert answer.status_code == 422
        assert said in answer.text
        assert f'value="{escape(url)}"' in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert 'value="delivery.dead" checked' in answer.text
        assert 'value="course.deleted" checked' not in answer.text
        assert "<script>alert" not in answer.text
        assert "No endpoints yet" in look("/endpoints")

    @pytest.mark.parametrize(
        ("types", "said"),
        [
            pytest.param([], "Choose at least one event type", id="none"),
            pytest.param(["endpoint.ping"], "Choose from the listed event types", id="unknown"),
        ],
    )
    def test_what_it_wants_has_to_be_chosen(self, send: Send, types: list[str], said: str) -> None:
        answer = send("/endpoints/new", url=URL, event_types=types)

        assert answer.status_code == 422
        assert said in answer.text


class TestTesting:
    """A test ping, and what is shown of its answer."""

    def test_a_test_that_is_taken(
        self, send: Send, look: Look, sink: Any, make_endpoint: Callable[..., int]
    ) -> None:
        endpoint_id = make_endpoint(sink.url())

        answer = send(f"/endpoints/{endpoint_id}/ping")

        page = look(f"/endpoints/{endpoint_id}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/endpoints/1")
        assert "webhook-signature" in sink.received[0].headers
        assert "Test OK: 200." in page
        assert "200: <bdi" in page
        assert escape('{"outcome":"applied"}', quote=False) in page.replace("&#34;", '"')
        assert "The test was taken" not in look(f"/endpoints/{endpoint_id}")

    def test_a_test_that_is_refused(
        self, send: Send, look: Look, sink: Any, make_endpoint: Callable[..., int]
    ) -> None:
        sink.always(Reply(status=401, body=b"<script>alert(1)</script>"))

        send(f"/endpoints/{make_endpoint(sink.url())}/ping")

        page = look("/endpoints/1")
        assert 'role="alert">Test failed: 401.' in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page

    def test_a_test_that_nobody_hears_says_what_to_do(
        self, send: Send, look: Look, make_endpoint: Callable[..., int]
    ) -> None:
        send(f"/endpoints/{make_endpoint('http://127.0.0.1:9/')}/ping")

        page = look("/endpoints/1")
        assert "Test failed: 127.0.0.1:9: " in page
        assert "Check that the receiver is running and listens on this port." in page

    def test_what_answers_like_a_command_is_no_advice(
        self,
        send: Send,
        look: Look,
        make_endpoint: Callable[..., int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whoever answers there, in whichever way, puts no link on the page (B7)."""
        said = "the response is not HTTP: `notifier endpoints list` <b>"
        failure = Failure(FailureKind.PROTOCOL, said)
        monkeypatch.setattr(Transport, "post", lambda *_: failure)

        send(f"/endpoints/{make_endpoint()}/ping")

        flashed = look("/endpoints/1").partition('role="alert">')[2].partition("</p>")[0]
        assert flashed == f"Test failed: {escape(said)}."

    def test_a_test_that_is_taken_sends_what_waits(
        self,
        send: Send,
        look: Look,
        sink: Any,
        make_waiting: Callable[..., None],
        pause: Callable[[int], None],
        endpoint_of: Callable[[int], Endpoint],
        database: Database,
    ) -> None:
        make_waiting(sink.url())
        pause(1)

        send("/endpoints/1/ping")

        with database.reading() as session:
            now = db.now(session)
            assert endpoint_of(1).paused_until <= now  # type: ignore[operator]
            assert session.get_one(Delivery, 1).due_at <= now
        assert "Test OK: 200. 1 waiting delivery queued." in look("/endpoints/1")

    def test_a_disabled_endpoint_is_not_tested(
        self, send: Send, look: Look, sink: Any, make_endpoint: Callable[..., int]
    ) -> None:
        endpoint_id = make_endpoint(sink.url())
        send(f"/endpoints/{endpoint_id}/disable")

        send(f"/endpoints/{endpoint_id}/ping")

        assert "No test was sent: Endpoint 1 is disabled." in look(f"/endpoints/{endpoint_id}")
        assert sink.received == []

    def test_a_secret_that_cannot_be_opened_is_said(
        self, send: Send, look: Look, sink: Any, make_endpoint: Callable[..., int], database: Any
    ) -> None:
        endpoint_id = make_endpoint(sink.url())
        with database.writing() as session:
            endpoints.secrets_of(session, endpoint_id)[0].encrypted = "sealed by nobody"

        send(f"/endpoints/{endpoint_id}/ping")

        assert "Add the key that encrypted it" in look(f"/endpoints/{endpoint_id}")
        assert sink.received == []


class TestDisablingAndEnabling:
    """What is held, and what is let go."""

    def test_disabling_holds_what_is_open(
        self,
        send: Send,
        look: Look,
        make_delivery: Callable[..., int],
        endpoint_of: Callable[[int], Endpoint],
    ) -> None:
        make_delivery("CS101")

        answer = send("/endpoints/1/disable", reason="ELMS <b>moves</b>")

        page = look("/endpoints/1")
        assert answer.status_code == 303
        assert endpoint_of(1).disabled_reason == "ELMS <b>moves</b> (Ada on the pages)"
        assert "ELMS &lt;b&gt;moves&lt;/b&gt; (Ada on the pages)" in page
        assert 'href="/deliveries?status=held&amp;endpoint_id=1">1 held</a>' in page
        assert "Enable and send 1 held delivery" in page
        assert "Disable…" not in page

    def test_enabling_says_how_many_are_let_go(
        self, send: Send, look: Look, make_delivery: Callable[..., int]
    ) -> None:
        make_delivery("CS101")
        make_delivery("CS102")
        send("/endpoints/1/disable")

        send("/endpoints/1/enable")

        page = look("/endpoints/1")
        assert "Endpoint enabled; 2 held deliveries queued." in page
        assert ">2 pending</a>" in page

    def test_the_first_reason_stays(
        self, send: Send, make_endpoint: Callable[..., int], endpoint_of: Callable[[int], Endpoint]
    ) -> None:
        endpoint_id = make_endpoint()

        send(f"/endpoints/{endpoint_id}/disable", reason="  ")
        send(f"/endpoints/{endpoint_id}/disable", reason="another")

        assert endpoint_of(endpoint_id).disabled_reason == "disabled by hand (Ada on the pages)"

    def test_trying_now_makes_due_what_waits(
        self,
        send: Send,
        look: Look,
        make_waiting: Callable[..., None],
        pause: Callable[[int], None],
    ) -> None:
        make_waiting()
        pause(1)
        before = look("/endpoints/1")

        send("/endpoints/1/try")

        after = look("/endpoints/1")
        assert "Retry now" in before
        assert re.search(r"failures in a row: 9</bdi>; next attempt at <time", before)
        assert "1 waiting delivery queued." in after
        assert "failures in a row: 9</bdi>; the pause has ended; the next attempt is due" in after

    def test_a_pause_that_is_over_promises_no_attempt_before_one_is_due(
        self, look: Look, make_waiting: Callable[..., None], database: Database
    ) -> None:
        make_waiting()
        with database.writing() as session:
            now = db.now(session)
            circuit_breaker.write_states(
                session, {1: BreakerState(9, now - timedelta(hours=2), now, now)}
            )

        page = look("/endpoints/1")

        assert "; the pause has ended; next attempt at <time" in page
        assert "a worker tries it next" not in page

    def test_there_is_nothing_to_try_where_nothing_waits(
        self, look: Look, make_endpoint: Callable[..., int], pause: Callable[[int], None]
    ) -> None:
        pause(make_endpoint())

        page = look("/endpoints/1")

        assert "Send test" in page
        assert "Retry now" not in page
        assert "the next delivery is the next attempt" in page


class TestRotating:
    """A new secret, and how long the old one signs beside it."""

    def rotate(self, send: Send, look: Look, overlap: str = "24h") -> TestResponse:
        """Send the form that is on the endpoint's page."""
        (newest,) = re.findall(r'name="newest" value="(\d+)"', look("/endpoints/1"))
        return send("/endpoints/1/secret", overlap=overlap, newest=newest)

    def test_the_new_secret_is_shown_once_and_the_old_one_signs_on(
        self, send: Send, look: Look, make_endpoint: Callable[..., int], database: Database
    ) -> None:
        make_endpoint()

        answer = self.rotate(send, look)

        new, old = secrets_of(database, 1)
        (secret,) = SECRET.findall(answer.text)
        assert Secret.parse(secret).reveal() == secret
        assert answer.headers["Cache-Control"] == "no-store"
        assert new.expires_at is None
        assert old.expires_at == new.created_at + timedelta(hours=24)
        page = look("/endpoints/1")
        assert "2 secrets are valid until" in page
        assert re.search(r"in (1 d|23 h)", page)
        assert secret not in page

    def test_a_leaked_secret_ends_at_once(
        self, send: Send, look: Look, make_endpoint: Callable[..., int], database: Database
    ) -> None:
        make_endpoint()

        answer = self.rotate(send, look, overlap="none")

        assert "receiver sources remove-secret" in answer.text
        assert secrets_of(database, 1)[1].expires_at == secrets_of(database, 1)[0].created_at
        assert "One, since" in look("/endpoints/1")

    def test_a_form_that_is_sent_again_makes_no_other_secret(
        self, send: Send, look: Look, make_endpoint: Callable[..., int], database: Database
    ) -> None:
        make_endpoint()
        newest = secrets_of(database, 1)[0].id
        self.rotate(send, look)

        again = send("/endpoints/1/secret", overlap="24h", newest=newest)

        assert again.status_code == 409
        assert "Endpoint 1 has a newer secret." in again.text
        assert SECRET.findall(again.text) == []
        assert len(secrets_of(database, 1)) == 2

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"overlap": "1y", "newest": 1}, id="another overlap"),
            pytest.param({"overlap": "24h"}, id="no number"),
            pytest.param({"overlap": "24h", "newest": "9" * 30}, id="too large a number"),
        ],
    )
    def test_what_no_page_sends_is_refused(
        self,
        send: Send,
        make_endpoint: Callable[..., int],
        database: Database,
        fields: dict[str, Any],
    ) -> None:
        make_endpoint()

        answer = send("/endpoints/1/secret", **fields)

        assert answer.status_code == 422
        assert "Go back to the page of the endpoint" in answer.text
        assert len(secrets_of(database, 1)) == 1


def test_what_it_wants_is_changed(
    send: Send,
    look: Look,
    make_endpoint: Callable[..., int],
    endpoint_of: Callable[[int], Endpoint],
) -> None:
    make_endpoint()

    answer = send("/endpoints/1/types", event_types=["course.deleted", "delivery.dead"])

    assert answer.status_code == 303
    assert endpoint_of(1).event_types == ["course.deleted", "delivery.dead"]
    page = look("/endpoints/1")
    assert 'value="delivery.dead" checked' in page
    assert 'value="token.regenerated" checked' not in page


class TestCorrectingTheUrl:
    """One that was mistyped, which is found out before anything is taken there."""

    def test_the_right_url_takes_its_place(
        self,
        send: Send,
        look: Look,
        make_waiting: Callable[..., None],
        pause: Callable[[int], None],
        endpoint_of: Callable[[int], Endpoint],
    ) -> None:
        make_waiting("https://elms.example/webhooks/wrnog")
        pause(1)
        before = look("/endpoints/1")

        answer = send("/endpoints/1/url", url=f" {URL} ")

        after = look("/endpoints/1")
        assert 'action="/endpoints/1/url"' in before
        assert answer.status_code == 303
        assert endpoint_of(1).url == URL
        assert "URL changed. Send a test. 1 waiting delivery" in after
        assert "failures in a row" not in after

    def test_it_is_not_offered_where_something_was_taken(
        self, send: Send, look: Look, make_delivery: Callable[..., int]
    ) -> None:
        make_delivery("CS101", DeliveryStatus.DELIVERED)

        page, answer = look("/endpoints/1"), send("/endpoints/1/url", url=f"{URL}/2")

        assert "/endpoints/1/url" not in page
        assert "The URL cannot be changed because the endpoint has accepted deliveries." in page
        assert answer.status_code == 422
        assert "Endpoint 1 has accepted deliveries at its current URL." in answer.text
        assert '<a href="/endpoints/new">' in answer.text


def test_wanting_nothing_is_refused_in_words(send: Send, make_endpoint: Callable[..., int]) -> None:
    make_endpoint()

    answer = send("/endpoints/1/types")

    assert answer.status_code == 422
    assert "Event types: Choose at least one event type." in answer.text


def test_list_shows_how_each_endpoint_stands(
    look: Look,
    make_delivery: Callable[..., int],
    make_endpoint: Callable[..., int],
    pause: Callable[[int], None],
) -> None:
    make_delivery("CS101", DeliveryStatus.DEAD)
    make_delivery("CS102")
    pause(make_endpoint(f"{URL}/2", event_types=["course.deleted"]))

    page = look("/endpoints")

    assert 'href="/endpoints/2"' in page
    assert 'href="/deliveries?status=pending&amp;endpoint_id=1">1<' in page
    assert 'href="/deliveries?status=dead&amp;endpoint_id=1">1<' in page
    assert "failures in a row: 9" in page
    assert "all course events" in page
    assert look("/endpoints/live").count("<tr>") == page.count("<tr>") == 3


@pytest.mark.parametrize("verb", ["ping", "try", "disable", "enable", "secret", "types", "url"])
def test_an_endpoint_that_there_is_not_is_a_page_that_says_so(send: Send, verb: str) -> None:
    fields = {
        "secret": {"overlap": "24h", "newest": 1},
        "types": {"event_types": ["course.deleted"]},
        "url": {"url": URL},
    }

    answer = send(f"/endpoints/99/{verb}", **fields.get(verb, {}))

    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "There is no endpoint 99." in answer.text


def test_a_page_of_none_is_a_404(look: Look) -> None:
    assert "There is no endpoint 99." in look("/endpoints/99", 404)
    look("/endpoints/99/live", 404)


def test_nothing_is_done_without_the_form_of_a_page(
    ada: FlaskClient, make_endpoint: Callable[..., int], rows: Callable[[], dict[str, list[Any]]]
) -> None:
    make_endpoint()
    before = rows()
    verbs = ("ping", "try", "disable", "enable", "secret", "types", "url")

    answers = [
        ada.post(path) for path in ("/endpoints/new", *(f"/endpoints/1/{one}" for one in verbs))
    ]

    assert [answer.status_code for answer in answers] == [400] * 8
    assert before == rows()


@pytest.mark.parametrize("path", ["/endpoints", "/"])
def test_statements_do_not_grow(
    path: str,
    statements: Callable[..., int],
    make_endpoint: Callable[..., int],
) -> None:
    counts = []
    for some in (range(2), range(2, 30)):
        for number in some:
            make_endpoint(f"{URL}/{number}")
        counts.append(statements(path))

    assert counts[0] == counts[1]

"""The pages of endpoints: list, status, test, and changes; secrets are shown once."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import escape, unescape
from typing import Any

import pytest

from contract.signatures import Secret
from foundation.db import session as db
from notifier.models import DeliveryStatus
from notifier.webhooks import endpoints
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure
from tests.notifier.conftest import MINUTE, NINE, Reply, Sink, Store
from tests.notifier.pages.conftest import URL, Browser, SetFailing

SECRET = re.compile(r"<code data-copy-text>(whsec_[\w+/=]+)</code>")
COURSE_TYPES = ["course.deleted", "course.restored", "token.regenerated"]


@pytest.fixture
def make_waiting(store: Store, set_failing: SetFailing, now: Any) -> Callable[..., None]:
    """Return a function that makes a paused endpoint with a delivery due in five minutes."""

    def make(url: str = URL, **overrides: Any) -> None:
        endpoint = store.add_endpoint(url)
        store.add_delivery(endpoint.id, due_at=now + 5 * MINUTE)
        set_failing(endpoint.id, **overrides)

    return make


def test_list_shows_the_status_of_each_endpoint(
    ada: Browser, store: Store, set_failing: SetFailing
) -> None:
    first = store.add_endpoint(URL)
    store.add_delivery(first.id, status=DeliveryStatus.DEAD, settled_at=NINE)
    store.add_delivery(first.id)
    set_failing(store.add_endpoint(f"{URL}/2", event_types=["course.deleted"]).id)

    page = ada.look("/endpoints")

    assert 'href="/endpoints/2"' in page
    assert 'href="/deliveries?status=pending&amp;endpoint_id=1">1<' in page
    assert 'href="/deliveries?status=dead&amp;endpoint_id=1">1<' in page
    assert "9 failures in a row" in page
    assert "all course events" in page
    assert ada.look("/endpoints/live").count("<tr>") == page.count("<tr>") == 3


def test_removed_endpoints_are_shown_on_request(ada: Browser, store: Store) -> None:
    store.add_endpoint(URL)
    store.write(endpoints.remove, store.add_endpoint(f"{URL}/2").id, by="Ada", now=NINE)

    page = ada.look("/endpoints")
    every = ada.look("/endpoints", removed="true")
    exported = ada.client.get("/endpoints.csv?removed=true").text.splitlines()

    assert "Show removed (1)" in page
    assert (f"{URL}/2" in page, f"{URL}/2" in every) == (False, True)
    assert 'data-refresh="/endpoints/live?removed=true"' in every
    assert "1 endpoint." in page
    assert len(ada.client.get("/endpoints.csv").text.splitlines()) == 2
    assert exported[2].startswith(f"2,,{URL}/2,course.deleted course.restored token.regenerated,")
    assert ada.client.get("/endpoints?removd=true").status_code == 422


def test_response_times_are_drawn(ada: Browser, store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(URL).id)
    store.add_attempt(delivery_id, milliseconds=12, decided="delivered")
    one, listed = ada.look("/endpoints/1"), ada.look("/endpoints")
    store.add_attempt(delivery_id, milliseconds=2000, decided="retry")

    page = ada.look("/endpoints/1")

    described = "Response times of the last 2 attempts: median 12 ms, longest 2 s, 1 failed"
    assert "Response times" not in one + listed
    assert f'aria-label="{described}"' in ada.look("/endpoints")
    assert f'aria-label="{described}"' in ada.look("/")
    assert "<figcaption>Response times of the last 2 attempts</figcaption>" in page
    assert "failed 2 s</title>" in page


def test_registered_endpoint_shows_its_secret_once(ada: Browser, store: Store) -> None:
    fields = {"url": f" {URL} ", "name": " ELMS ", "event_types": COURSE_TYPES}
    response = ada.send("/endpoints/new", **fields)

    (secret,) = SECRET.findall(response.text)
    assert "the name cannot be resolved: Name or service not known" in response.text
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert Secret.parse(secret).reveal() == secret
    endpoint = store.endpoint(1)
    assert (endpoint.url, endpoint.name, endpoint.event_types) == (URL, "ELMS", None)
    for path in ("/endpoints/1", "/endpoints/1/live", "/endpoints", "/"):
        assert "whsec_" not in ada.look(path)


@pytest.mark.parametrize(
    ("url", "event_types", "text"),
    [
        pytest.param("http://elms.example/", ["delivery.dead"], "is not https", id="plain http"),
        pytest.param("<script>", ["delivery.dead"], "is not an http or https URL", id="markup"),
        pytest.param(URL, ["delivery.dead"], f"{URL} is registered already. ", id="registered"),
        pytest.param(f"{URL}/2", [], "Choose at least one event type", id="no event type"),
        pytest.param(
            f"{URL}/2", ["endpoint.ping"], "Choose from the listed event types", id="unknown type"
        ),
    ],
)
def test_invalid_endpoint_is_not_registered(
    ada: Browser, store: Store, url: str, event_types: list[str], text: str
) -> None:
    store.add_endpoint(URL)
    before = store.rows()

    response = ada.send("/endpoints/new", url=url, event_types=event_types)

    assert response.status_code == 422
    assert text in response.text
    assert f'value="{escape(url)}"' in response.text
    assert re.findall(r'value="([a-z.]+)" checked', response.text) == [
        one for one in event_types if one != "endpoint.ping"
    ]
    assert "<script>" not in response.text.partition("<main")[2]
    assert SECRET.findall(response.text) == []
    assert store.rows() == before


def test_accepted_test_makes_waiting_deliveries_due(
    ada: Browser, sink: Sink, make_waiting: Callable[..., None], store: Store
) -> None:
    make_waiting(sink.url())

    response = ada.send("/endpoints/1/ping")

    page = unescape(ada.look("/endpoints/1"))
    assert (response.status_code, response.location) == (303, "/endpoints/1")
    assert "webhook-signature" in sink.received[0].headers
    assert "Test OK: 200. 1 waiting delivery queued." in page
    assert '{"outcome":"applied"}' in page
    assert store.delivery(1).due_at <= store.read(db.now)


def test_refused_test_shows_the_escaped_response(ada: Browser, sink: Sink, store: Store) -> None:
    store.add_endpoint(sink.url())
    store.write(endpoints.set_name, 1, "ELMS & co")
    sink.always(Reply(status=401, body=b"<script>alert(1)</script>"))

    ada.send("/endpoints/1/ping")

    page, overview = ada.look("/endpoints/1"), ada.look("/")
    assert 'role="alert">Test failed: 401.' in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Needs attention (1)" in overview
    assert "1 endpoint does not accept deliveries" in overview
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in overview
    assert "webhook route.</p>" in page
    assert 'webhook route. <a href="/endpoints/1">ELMS &amp; co</a></p>' in overview


def test_failed_test_says_what_to_do_without_links_from_its_detail(
    ada: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B7: what a receiver sends becomes no link."""
    store.add_endpoint()
    detail = "no response: `notifier endpoints list` <b>"
    failure = Failure(FailureKind.REFUSED, detail)
    monkeypatch.setattr(Transport, "post", lambda *_: failure)

    ada.send("/endpoints/1/ping")

    page = ada.look("/endpoints/1")
    flashed = page.partition('role="alert">')[2].partition("</div>")[0]
    assert flashed == f"Test failed: {escape(detail)}."
    assert "Check that the receiver is running and listens on this port." in page


def test_check_shows_what_the_receiver_does(ada: Browser, sink: Sink, store: Store) -> None:
    store.add_endpoint(sink.url())

    response = ada.send("/endpoints/1/check")

    assert response.status_code == 200
    assert "Accepts anything, signed or not" in response.text
    assert response.text.count('<th scope="row">') == len(sink.received) == 10
    assert 'action="/endpoints/1/check"' in ada.look("/endpoints/1")


def test_disabled_endpoint_is_neither_tested_nor_checked(
    ada: Browser, sink: Sink, store: Store
) -> None:
    store.add_endpoint(sink.url(), disabled=True)

    ada.send("/endpoints/1/ping")
    ada.send("/endpoints/1/check")

    page = ada.look("/endpoints/1")
    assert "No test was sent: Endpoint 1 is disabled." in page
    assert "No ping was sent: Endpoint 1 is disabled." in page
    assert sink.received == []


@pytest.mark.parametrize(
    ("reason", "stored"),
    [
        pytest.param("ELMS <b>moves</b>", "ELMS <b>moves</b> (Ada on the pages)", id="given"),
        pytest.param("  ", "disabled by hand (Ada on the pages)", id="empty"),
    ],
)
def test_disabling_holds_deliveries_until_enabled(
    ada: Browser, store: Store, reason: str, stored: str
) -> None:
    store.add_delivery(store.add_endpoint().id)

    response = ada.send("/endpoints/1/disable", reason=reason)
    disabled = ada.look("/endpoints/1")
    row = store.endpoint(1)
    ada.send("/endpoints/1/enable")
    enabled = ada.look("/endpoints/1")

    assert response.status_code == 303
    assert row.disabled_reason == stored
    assert escape(stored) in disabled
    assert 'href="/deliveries?status=held&amp;endpoint_id=1">1 held</a>' in disabled
    assert "Enable and send 1 held delivery" in disabled
    assert "Disable…" not in disabled
    assert "Endpoint enabled; 1 held delivery queued." in enabled
    assert ">1 pending</a>" in enabled


def test_name_is_shown_in_the_list(ada: Browser, store: Store) -> None:
    store.add_endpoint()

    ada.send("/endpoints/1/name", name=" ELMS <1> ")

    assert escape("ELMS <1>") in ada.look("/endpoints")
    assert store.endpoint(1).name == "ELMS <1>"


def test_removal_asks_then_keeps_the_history(ada: Browser, store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id)
    before = ada.look("/endpoints/1")

    response = ada.send("/endpoints/1/remove")
    after, listed = ada.look("/endpoints/1"), ada.look("/endpoints")

    assert "Remove permanently" in before
    assert "1 open delivery is cancelled." in before
    assert response.status_code == 303
    assert "Endpoint removed; 1 delivery was cancelled." in after
    assert "the endpoint was removed (Ada on the pages)" in after
    assert "Rotate secret…" not in after
    assert "No endpoints yet" in listed
    shown = ada.look(f"/deliveries/{delivery_id}")
    assert "Cancelled: the endpoint was removed (Ada on the pages)." in shown
    assert "Replay" not in shown


def test_retry_now_ends_the_pause(ada: Browser, make_waiting: Callable[..., None]) -> None:
    make_waiting()
    before = ada.look("/endpoints/1")

    ada.send("/endpoints/1/try")

    after = ada.look("/endpoints/1")
    assert "Retry now" in before
    assert re.search(r"9 failures in a row</bdi>; next attempt at <time", before)
    assert "1 waiting delivery queued." in after
    assert "9 failures in a row</bdi>; the pause has ended; the next attempt is due" in after


def test_status_says_when_the_next_attempt_is(
    ada: Browser, make_waiting: Callable[..., None], store: Store, set_failing: SetFailing
) -> None:
    make_waiting(pause=timedelta(0))
    set_failing(store.add_endpoint().id)

    waiting, empty = ada.look("/endpoints/1"), ada.look("/endpoints/2")

    assert "; the pause has ended; next attempt at <time" in waiting
    assert "it is tried again with the next delivery" in empty
    assert "Send test" in empty
    assert "Retry now" not in empty


@pytest.mark.parametrize(
    ("overlap", "hours", "in_response", "in_page"),
    [
        pytest.param("24h", 24, "shown only once", "2 secrets are valid until", id="overlap"),
        pytest.param("none", 0, "receiver sources remove-secret", "One, since", id="leaked"),
    ],
)
def test_rotated_secret_is_shown_once(
    ada: Browser, store: Store, overlap: str, hours: int, in_response: str, in_page: str
) -> None:
    store.add_endpoint()
    (newest,) = re.findall(r'name="newest" value="(\d+)"', ada.look("/endpoints/1"))

    response = ada.send("/endpoints/1/secret", overlap=overlap, newest=newest)

    new, old = store.read(endpoints.secrets_of, 1)
    (secret,) = SECRET.findall(response.text)
    assert Secret.parse(secret).reveal() == secret
    assert response.headers["Cache-Control"] == "no-store"
    assert in_response in response.text
    assert new.expires_at is None
    assert old.expires_at == new.created_at + timedelta(hours=hours)
    page = ada.look("/endpoints/1")
    assert in_page in page
    assert secret not in page


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        pytest.param(
            {"overlap": "24h", "newest": 7}, 409, "Endpoint 1 has a newer secret.", id="sent twice"
        ),
        pytest.param(
            {"overlap": "1y", "newest": 1}, 422, "Go back to the page of the endpoint", id="invalid"
        ),
    ],
)
def test_refused_rotation_changes_nothing(
    ada: Browser, store: Store, fields: dict[str, Any], status: int, text: str
) -> None:
    store.add_endpoint()
    before = store.rows()

    response = ada.send("/endpoints/1/secret", **fields)

    assert response.status_code == status
    assert text in response.text
    assert SECRET.findall(response.text) == []
    assert store.rows() == before


def test_event_types_are_changed(ada: Browser, store: Store) -> None:
    store.add_endpoint()
    wanted = ["course.deleted", "delivery.dead"]

    response = ada.send("/endpoints/1/types", event_types=wanted)
    refused = ada.send("/endpoints/1/types")

    assert response.status_code == 303
    assert store.endpoint(1).event_types == wanted
    assert re.findall(r'value="([a-z.]+)" checked', ada.look("/endpoints/1")) == wanted
    assert refused.status_code == 422
    assert "Event types: Choose at least one event type." in refused.text


def test_url_is_corrected(ada: Browser, make_waiting: Callable[..., None], store: Store) -> None:
    make_waiting("https://elms.example/webhooks/wrnog")
    before = ada.look("/endpoints/1")

    response = ada.send("/endpoints/1/url", url=f" {URL} ")

    after = ada.look("/endpoints/1")
    assert 'action="/endpoints/1/url"' in before
    assert (response.status_code, store.endpoint(1).url) == (303, URL)
    assert "URL changed. Send a test. 1 waiting delivery" in after
    assert "the name cannot be resolved" in after
    assert "failures in a row" not in after


def test_url_is_not_corrected_after_a_delivery(ada: Browser, store: Store) -> None:
    store.add_delivery(store.add_endpoint().id, status=DeliveryStatus.DELIVERED, settled_at=NINE)

    page, response = ada.look("/endpoints/1"), ada.send("/endpoints/1/url", url=f"{URL}/2")

    assert "/endpoints/1/url" not in page
    assert "The URL cannot be changed because the endpoint has accepted deliveries." in page
    assert response.status_code == 422
    assert "Endpoint 1 has accepted deliveries at its current URL." in response.text
    assert '<a href="/endpoints/new">' in response.text

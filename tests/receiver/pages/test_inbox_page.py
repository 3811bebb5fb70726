"""The page of the received webhooks."""

from datetime import timedelta

import pytest

from contract.events import UnknownEvent
from tests.receiver.conftest import NINE, Store, make_deleted
from tests.receiver.pages.conftest import Browser


@pytest.fixture
def messages(store: Store) -> None:
    """Four webhooks and a duplicate, one second apart; CS101 is in the registry."""
    store.add_course("CS101")
    for seconds, (webhook_id, event) in enumerate(
        [
            ("msg_1", make_deleted(5)),
            ("msg_1", make_deleted(5)),
            ("msg_2", make_deleted(4)),
            ("msg_3", UnknownEvent(type="endpoint.ping")),
            ("msg_4", make_deleted(4, "CS999")),
        ]
    ):
        store.receive(webhook_id, event, at=NINE + timedelta(seconds=seconds))


def test_each_webhook_has_its_result(browser: Browser, messages: None) -> None:
    page = browser.get("/inbox")

    assert page.rows == [
        "course.deleted msg_4 2026-11-22 09:00:04 UTC CS999 version 4 applied "
        "Applied to the registry. not in grade sync",
        "endpoint.ping msg_3 2026-11-22 09:00:03 UTC \N{EN DASH} ignored "
        "ELMS ignores this event type. \N{EN DASH}",
        "course.deleted msg_2 2026-11-22 09:00:02 UTC CS101 version 4 stale "
        "Already known, or older than what is known: nothing changed. course deleted",
        "course.deleted msg_1 2026-11-22 09:00:00 UTC CS101 version 5 applied "
        "Applied to the registry. course deleted",
    ]
    assert '<a href="/entries/1">' in page.html


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("outcome=stale", ["msg_2"], id="outcome"),
        pytest.param("webhook_id=%20msg_1%20", ["msg_1"], id="webhook id"),
        pytest.param("source=two", [], id="source"),
        pytest.param("course_id=CS101&outcome=applied", ["msg_1"], id="several filters"),
        pytest.param("q=cs9&since=2026-11-22T09:00:04", ["msg_4"], id="part of the course id"),
    ],
)
def test_query_string_filters(
    browser: Browser, messages: None, store: Store, query: str, expected: list[str]
) -> None:
    store.add_source("two")

    page = browser.get(f"/inbox?{query}")

    exported = browser.get(f"/inbox.csv?{query}").html.splitlines()[1:]

    assert [row.split()[1] for row in page.rows] == expected
    assert [row.split(",")[2] for row in exported] == expected


def test_filters_and_total_are_shown(browser: Browser, messages: None) -> None:
    page = browser.get("/inbox?outcome=applied&since=2026-11-22")

    assert "Results 2 webhooks" in page.text
    assert "Remove the filter Outcome: applied" in page.text
    assert '<a href="/inbox?outcome=applied">' in page.html


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param("outcome=none", "'none' is not an outcome; choose one", id="outcome"),
        pytest.param("source=none", "There is no source 'none'.", id="source"),
        pytest.param("until=soon", "'soon' is not a time such as 2h", id="time"),
        pytest.param("until=2000-01-01&since=1h", "The period is empty", id="period"),
        pytest.param(f"q={'x' * 256}", "At most 255 characters are allowed.", id="length"),
    ],
)
def test_invalid_filter_is_shown_with_its_message(
    browser: Browser, messages: None, query: str, message: str
) -> None:
    page = browser.get(f"/inbox?webhook_id=msg_1&{query}")

    assert (page.status, message in page.text, page.rows) == (200, True, [])
    assert 'value="msg_1"' in page.html
    assert query.partition("=")[2].partition("&")[0] in page.html  # as it was entered
    assert "Download as CSV" not in page.text
    assert browser.get(f"/inbox.csv?{query}").status in {404, 422}


def test_unknown_parameter_is_refused(browser: Browser) -> None:
    page = browser.get("/inbox?course=CS101")

    assert (page.status, "The parameter 'course' is unknown" in page.text) == (422, True)

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
        pytest.param("outcome=none&course_id=CS101", ["msg_2", "msg_1"], id="unknown outcome"),
    ],
)
def test_query_string_filters(
    browser: Browser, messages: None, store: Store, query: str, expected: list[str]
) -> None:
    store.add_source("two")

    page = browser.get(f"/inbox?{query}")

    assert [row.split()[1] for row in page.rows] == expected

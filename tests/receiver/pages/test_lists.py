"""All pages with lists: pages of long lists, constant statements, nothing to show, not found."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from receiver.models import Base, Entry, HistoryEntry, InboxMessage, Run, RunCourse
from tests.receiver.conftest import NINE, Store
from tests.receiver.pages.conftest import Browser

Fill = Callable[[int, int], None]


@pytest.fixture
def fill(store: Store) -> Fill:
    """Return a function that adds to every list: courses, history, webhooks, runs, results."""
    store.add_course("CS101")  # entry 1, with a long history
    run = {"holder": "ada@elms", "started_at": NINE}
    course = {"source_id": 1, "created_at": NINE, "added_at": NINE}
    webhook = {"source_id": 1, "type": "x", "outcome": "ignored", "body_sha256": ""}
    line = {"entry_id": 1, "at": NINE, "actor": "webhook", "actor_name": "m", "status": "active"}

    def add(first: int, last: int) -> None:
        numbers = range(first, last)
        rows: dict[type[Base], list[dict[str, Any]]] = {
            Entry: [{**course, "course_id": f"CS2{n:02}"} for n in numbers],
            InboxMessage: [
                {**webhook, "webhook_id": f"msg_{n:02}", "received_at": NINE} for n in numbers
            ],
            HistoryEntry: [{**line, "event": f"event {n}"} for n in numbers],
            Run: [run for _ in numbers],
            RunCourse: [
                {"run_id": 1, "source": "one", "course_id": f"X{n}", "outcome": "failed"}
                for n in numbers
            ],
        }
        with store.database.writing() as session:
            for model, added in rows.items():
                session.execute(insert(model), added)

    return add


@pytest.mark.parametrize(
    ("path", "last_page"),
    [
        pytest.param("/?q=CS", 6, id="registry"),
        pytest.param("/inbox?source=one", 5, id="inbox"),
        pytest.param("/runs", 5, id="runs"),
        pytest.param("/runs/1?outcome=failed", 5, id="courses of a run"),
        pytest.param("/entries/1", 6, id="history of a course"),
    ],
)
def test_long_list_has_pages(browser: Browser, fill: Fill, path: str, last_page: int) -> None:
    fill(0, 55)

    first = browser.get(path)
    second = browser.get(str(first.link("next")))
    back = browser.get(str(second.link("prev")))

    assert first.link("prev") is None
    assert second.link("next") is None
    assert (len(first.rows), len(second.rows)) == (50, last_page)
    assert not set(first.rows) & set(second.rows)
    assert back.rows == first.rows


@pytest.mark.parametrize(
    ("path", "most"),
    [("/", 12), ("/inbox", 5), ("/runs", 8), ("/runs/1", 8), ("/entries/1", 8), ("/sources", 6)],
)
def test_statements_do_not_grow_with_the_list(
    browser: Browser, fill: Fill, path: str, most: int
) -> None:
    fill(0, 2)
    few = browser.statements(path)
    fill(2, 30)

    many = browser.statements(path)

    assert few == many
    assert few <= most


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        pytest.param(
            "/", 200, "No sources yet. Add eAssessment , then add its courses", id="registry"
        ),
        pytest.param("/?source=none", 200, "There is no source 'none'", id="unknown source"),
        pytest.param("/entries/new", 200, "There are no sources yet. Add eAssessment", id="add"),
        pytest.param(
            "/entries/7", 404, "There is no entry 7 in the registry.", id="unknown course"
        ),
        pytest.param("/entries/2147483648", 404, "", id="number that no course can have"),
        pytest.param("/inbox", 200, "No webhooks received yet.", id="inbox"),
        pytest.param("/inbox?webhook_id=x", 200, "No webhooks match.", id="inbox, filtered"),
        pytest.param("/sources", 200, "No sources yet. Add eAssessment ; its name", id="sources"),
        pytest.param("/runs", 200, "No runs yet. Press “Run now”, and let cron", id="runs"),
        pytest.param("/runs/7", 404, "There is no run 7.", id="unknown run"),
    ],
)
def test_page_says_what_is_missing(browser: Browser, path: str, status: int, text: str) -> None:
    page = browser.get(path)

    assert (page.status, text in page.text) == (status, True)
    assert "Last run:" not in page.text


@pytest.mark.parametrize("form", ["new", "1/token", "1/activity", "1/remove"])
def test_form_without_csrf_token_changes_nothing(browser: Browser, store: Store, form: str) -> None:
    store.add_course("CS101")
    before = store.everything()

    response = browser.client.post(f"/entries/{form}", data={"token": "x", "course_id": "y"})

    assert response.status_code == 400
    assert store.everything() == before

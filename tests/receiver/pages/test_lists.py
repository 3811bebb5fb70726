"""All pages with lists: pages of long lists, constant statements, nothing to show, not found."""

from collections.abc import Callable

import pytest
from sqlalchemy import insert

from contract.events import CourseDeleted, CourseDeletedData, dump
from foundation.db.session import Database
from receiver.course_state import TokenAnnounced
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.receiver.conftest import NINE, WEBHOOK, Store
from tests.receiver.pages.conftest import Browser

Fill = Callable[[int, int], None]


@pytest.fixture
def fill(database: Database, store: Store) -> Fill:
    """Return a function that adds to every list: courses, history, webhooks, runs, results."""
    entry = store.add_course("CS101")  # entry 1, with a long history
    source = WebhookSource(entry.source_id, "one", ())

    def add(first: int, last: int) -> None:
        results, rows = [], []
        with database.writing() as session:
            for number in range(first, last):
                course_id, version = f"X{number}", number + 1
                data = CourseDeletedData(source="one", course_id=course_id, course_version=version)
                event = CourseDeleted(timestamp=NINE, data=data)
                raw = dump(event).encode()
                inbox.accept(session, source, f"msg_{number}", event, raw, now=NINE)
                fact = TokenAnnounced(version, "new", NINE)
                registry.apply(session, 1, "CS101", fact, actor=WEBHOOK, now=NINE)
                runs.begin(session, "ada@elms", now=NINE)
                results.append(CourseResult("one", course_id, CourseOutcome.FAILED))
                rows.append({"source_id": 1, "course_id": f"CS2{number:02}"})
            runs.record(session, 1, results)
            common = {"created_at": NINE, "added_at": NINE}
            session.execute(insert(Entry), [{**row, **common} for row in rows])

    return add


@pytest.mark.parametrize(
    ("path", "last_page"),
    [
        pytest.param("/?begins=CS", 6, id="registry"),
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
    [("/", 12), ("/inbox", 5), ("/runs", 6), ("/runs/1", 6), ("/entries/1", 8), ("/sources", 6)],
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
    ("path", "text"),
    [
        pytest.param(
            "/", "No sources yet. Add eAssessment with receiver sources add", id="registry"
        ),
        pytest.param("/entries/new", "There are no sources yet. Add eAssessment with", id="add"),
        pytest.param("/inbox", "No webhooks received yet.", id="inbox"),
        pytest.param("/inbox?webhook_id=x", "No webhooks match.", id="inbox, filtered"),
        pytest.param("/sources", "No sources yet. Add eAssessment with", id="sources"),
        pytest.param("/runs", "No runs yet. Run receiver sync-grades , and", id="runs"),
    ],
)
def test_empty_page_says_what_to_do_first(browser: Browser, path: str, text: str) -> None:
    page = browser.get(path)

    assert text in page.text
    assert "Last run:" not in page.text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("/?source=none", "There is no source 'none'", id="source"),
        pytest.param("/entries/7", "There is no entry 7 in the registry.", id="course"),
        pytest.param("/entries/2147483648", "", id="number that no course can have"),
        pytest.param("/runs/7", "There is no run 7.", id="run"),
    ],
)
def test_unknown_object_is_404(browser: Browser, path: str, text: str) -> None:
    page = browser.get(path)

    assert page.status == 404
    assert text in page.text


@pytest.mark.parametrize("form", ["new", "1/token", "1/activity", "1/remove"])
def test_form_without_csrf_token_changes_nothing(browser: Browser, store: Store, form: str) -> None:
    store.add_course("CS101")
    before = store.everything()

    response = browser.client.post(f"/entries/{form}", data={"token": "x", "course_id": "y"})

    assert response.status_code == 400
    assert store.everything() == before

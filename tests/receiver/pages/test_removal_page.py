"""The removal of many courses on the page of the registry."""

import pytest

from receiver.course_state import Deleted
from receiver.models import Entry
from receiver.registry import bulk
from tests.receiver.conftest import NINE, Store
from tests.receiver.pages.conftest import Browser

FOUND = {"everything": "true", "status": "course_deleted"}


@pytest.fixture(autouse=True)
def courses(store: Store) -> None:
    """Eleven deleted courses and an active one."""
    for number in range(11):
        store.add_course(f"CS1{number:02}", Deleted(4, NINE))
    store.add_course("MA101")


def added(store: Store) -> int:
    """Return the number of courses in the registry."""
    return sum(entry.is_added for entry in store.rows(Entry))


def test_registry_offers_to_remove_what_a_search_found(browser: Browser) -> None:
    every, searched = browser.get("/"), browser.get("/?status=course_deleted&q=CS10")

    assert "Remove all" not in every.text
    above_the_list = searched.html.partition('name="entry_id"')[0]
    assert 'form="remove-found">Remove all 10 found…</button>' in above_the_list
    assert '<input type="hidden" name="q" value="CS10">' in searched.html


def test_confirmation_names_number_and_samples(browser: Browser, store: Store) -> None:
    page = browser.post("/entries/remove", **FOUND)

    assert "Remove 11 courses from the grade sync?" in page.text
    assert "CS100 , CS101 , CS102 " in page.text
    assert "CS109 and 1 more" in page.text
    assert "active" not in page.text
    assert added(store) == 12


def test_ticked_courses_are_removed(browser: Browser, store: Store) -> None:
    chosen = str(store.entry("MA101").id)

    asked = browser.post("/entries/remove", entry_id=chosen)
    page = browser.submit("/entries/remove/confirmed", entry_id=chosen)

    assert "1 course is active." in asked.text
    assert "1 course was removed from the grade sync." in page.text
    assert (added(store), store.entry("MA101").is_added) == (11, False)


def test_all_that_was_found_is_removed_in_batches(
    browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "REMOVED_AT_ONCE", 3)

    page = browser.submit("/entries/remove/confirmed", **FOUND, expected="11")

    assert "11 courses were removed from the grade sync." in page.text
    assert added(store) == 1


def test_another_number_than_confirmed_is_asked_again(browser: Browser, store: Store) -> None:
    page = browser.post("/entries/remove/confirmed", **FOUND, expected="10")

    assert page.status == 409
    assert "Remove 11 courses from the grade sync?" in page.text
    assert added(store) == 12


def test_nothing_selected_is_refused(browser: Browser) -> None:
    page = browser.post("/entries/remove")

    assert (page.status, "No course is selected" in page.text) == (422, True)

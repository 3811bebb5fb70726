"""The page of the registry, and the form that adds a course."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from contract.tokens import CourseToken
from receiver.course_state import Deleted, TokenAnnounced
from receiver.models import MOODLE, Entry, HistoryEntry
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.conftest import NINE, Store
from tests.receiver.pages.conftest import Browser

NEW = TokenAnnounced(4, "new", NINE)


def test_courses_that_need_attention_come_first(browser: Browser, store: Store) -> None:
    store.add_course("CS101")
    waiting = store.add_course("CS102", NEW)

    page = browser.get("/")

    assert page.rows[0] == (
        f"CS102 the token was regenerated: current new, stored {waiting.stored_token_id} "
        "2026-11-22 09:00:00 UTC a webhook Enter token of CS102"
    )
    assert "Needs attention (1)" in page.text
    assert f'href="/entries/{waiting.id}#enter-token"' in page.html
    assert 'href="/inbox?webhook_id=msg_1"' in page.html


def test_failing_course_of_a_moodle_is_not_shown_as_active(browser: Browser, store: Store) -> None:
    store.add_source("moodle", kind=MOODLE)
    entry = store.add_course("7", source="moodle")
    failed = CourseResult("moodle", "7", CourseOutcome.FAILED, "transient", "no data for 240 s")
    store.add_run(failed)

    listed, shown = browser.get("/").rows[0], browser.get(f"/entries/{entry.id}")

    assert listed.startswith(
        "7 failing 2026-11-22 09:00:00 UTC the grade sync fails: no data for 240 s"
    )
    assert "The grade sync fails: no data for 240 s Since 2026-11-22 09:00:00 UTC" in shown.text
    assert "not announced by Moodle" in shown.text


def test_course_whose_history_was_pruned_is_shown(browser: Browser, store: Store) -> None:
    store.add_course("CS101", NEW)
    with store.database.writing() as session:
        session.execute(delete(HistoryEntry))

    page = browser.get("/")

    assert page.rows[0].endswith("2026-11-22 09:00:00 UTC \N{EN DASH} Enter token of CS101")


def test_at_most_five_courses_come_first(browser: Browser, store: Store) -> None:
    for number in range(6):
        store.add_course(f"CS{number}", NEW)

    page, filtered = browser.get("/"), browser.get("/?status=token_invalid")

    assert "First 5 of 6: show all 6 ." in page.text
    assert (len(page.rows), len(filtered.rows)) == (11, 6)


def test_courses_are_counted_and_filtered(browser: Browser, store: Store) -> None:
    store.add_course("CS1")
    store.add_course("CS2", Deleted(4, NINE))
    store.add_course("CS3", NEW)
    store.add_course("PH4", source="two")

    def found(query: str) -> list[str]:
        return [row.split()[0] for row in browser.get(f"/?{query}").rows]

    assert "1 token invalid token needed 2 active 1 course deleted" in browser.get("/").text
    assert found("status=course_deleted") == ["CS2"]
    assert found("q=%20ph%20") == ["PH4"]
    assert found("q=s&since=2026-11-22&sort=-course") == ["CS3", "CS2"]
    assert found("source=two") == ["PH4"]
    assert found("after=junk&before=&q=CS") == ["CS1", "CS2", "CS3"]
    assert "No courses match." in browser.get("/?q=cs9").text


def test_search_is_counted_and_exported(browser: Browser, store: Store) -> None:
    for course_id in ("CS1", "CS2", "=MA1"):
        store.add_course(course_id, NEW)

    page = browser.get("/?status=token_invalid&q=S&sort=-course")
    exported = browser.get("/registry.csv?status=token_invalid&q=S&sort=-course")
    formula = browser.get("/registry.csv?q=ma")

    assert "Results 2 courses" in page.text
    assert "Remove the filter Status: token invalid" in page.text
    assert '<a href="/?status=token_invalid&amp;sort=-course">' in page.html
    assert 'aria-sort="descending"><a class="sort" href="/?q=S&amp;status=' in page.html
    assert [row.split(",")[1] for row in exported.html.splitlines()] == ["course_id", "CS2", "CS1"]
    assert ",'=MA1,token_invalid," in formula.html


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param("status=none", "'none' is not a status; choose one", id="status"),
        pytest.param("source=none", "There is no source 'none'.", id="source"),
        pytest.param("since=soon", "'soon' is not a time such as 2h", id="time"),
        pytest.param("sort=token", "'token' is not a column to sort by", id="sort"),
        pytest.param(f"q={'x' * 256}", "At most 255 characters are allowed.", id="length"),
    ],
)
def test_invalid_filter_is_shown_with_its_message(
    browser: Browser, store: Store, query: str, message: str
) -> None:
    store.add_course("CS101")

    page = browser.get(f"/?q=CS&{query}" if not query.startswith("q=") else f"/?{query}")

    assert (page.status, message in page.text, page.rows) == (200, True, [])
    assert query.partition("=")[2] in page.html  # as it was entered
    assert "Download as CSV" not in page.text
    assert browser.get(f"/registry.csv?{query}").status in {404, 422}


def test_unknown_parameter_is_refused(browser: Browser) -> None:
    page = browser.get("/?begins=CS")

    assert (page.status, "The parameter 'begins' is unknown" in page.text) == (422, True)


def test_empty_registry_offers_to_add_a_course(browser: Browser, store: Store) -> None:
    store.add_source("one")

    page = browser.get("/")

    assert "No courses yet. Add a course" in page.text
    assert 'href="/entries/new"' in page.html


@pytest.mark.parametrize("failed", [False, True], ids=["good", "failed"])
def test_last_run_is_shown(browser: Browser, store: Store, failed: bool) -> None:
    store.add_course("CS101")
    results = [CourseResult("one", "CS101", CourseOutcome.FAILED, "transient")] * failed
    store.add_run(*results, at=datetime.now(UTC) - timedelta(minutes=7))

    page = browser.get("/")

    assert "Last run: run 1 started 7 min ago: 0 synced" in page.text
    assert ('<a href="/runs/1">Run 1</a>' in page.html) is failed


def test_names_are_shown_as_text(  # B7
    browser: Browser, store: Store
) -> None:
    store.add_course("<script>alert(1)</script>")
    store.add_course("\u062a\u0627\u0631\u064a\u062e", NEW)

    page = browser.get("/")

    assert "<script>alert" not in page.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.html
    assert '<bdi class="name">\u062a\u0627\u0631\u064a\u062e</bdi>' in page.html


@pytest.mark.parametrize("course_id", ["CS101", "<b>`receiver runs show 1`"])
def test_course_is_added(browser: Browser, store: Store, course_id: str) -> None:
    token = CourseToken.generate()
    store.add_source("one")

    page = browser.submit(
        "/entries/new", source="one", course_id=f" {course_id} ", token=token.reveal()
    )

    [line] = store.rows(HistoryEntry)
    assert page.text.startswith(f"{course_id} was added with the token {token.token_id}.")
    assert token.secret not in page.html
    assert store.entry(course_id).stored_token_id == token.token_id
    assert (line.actor, line.actor_name, line.event) == ("administrator", "Ada", "course.added")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"token": "junk"}, "this was cut off or mistyped.", id="token"),
        pytest.param({"course_id": "/x"}, "begin with '/'", id="course id"),
        pytest.param({"course_id": ""}, "This field is required", id="no course id"),
        pytest.param({"source": "none"}, "There is no source 'none'.", id="source"),
        pytest.param({"course_id": "CS999"}, "To change its token", id="in the registry"),
    ],
)
def test_invalid_field_is_shown_with_its_message(
    browser: Browser, store: Store, fields: dict[str, str], message: str
) -> None:
    store.add_course("CS999")
    token = CourseToken.generate().reveal()
    sent = {"source": "one", "course_id": "CS101", "token": token, **fields}

    page = browser.post("/entries/new", **sent)

    assert page.status == 422
    assert message in page.text
    assert f'value="{sent["course_id"]}"' in page.html
    assert sent["token"] not in page.html
    assert [entry.course_id for entry in store.rows(Entry)] == ["CS999"]


def test_form_can_be_filled_by_its_url(browser: Browser, store: Store) -> None:
    store.add_source("one")

    page = browser.get("/entries/new?course_id=CS%22101&source=one")

    assert 'value="CS&#34;101"' in page.html

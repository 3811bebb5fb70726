"""The pages of courses: list, one course, adding one, and its tokens, which are shown once."""

import re
from datetime import timedelta
from html import escape, unescape

import pytest
from sqlalchemy import select

from contract.tokens import CourseToken
from notifier.courses import service as courses
from notifier.models import Event
from tests.notifier.conftest import NINE, Store
from tests.notifier.pages.conftest import MARKUP, Browser

TOKEN = re.compile(r"<code data-copy-text>(eas_\w+)</code>")


@pytest.fixture
def token(store: Store) -> CourseToken:
    """The token of CS101; CS102 is deleted, and the tokens of 7731 are issued by a Moodle."""
    token = store.add_course("CS101")
    store.add_course("CS102")
    store.write(courses.delete_course, "CS102", now=NINE)
    store.write(courses.ensure_course, "7731", "In a Moodle", now=NINE)
    return token


def ids_on(page: str) -> list[str]:
    """Return the ids of the courses that a list shows."""
    return re.findall(r'<th scope="row"><a href="[^"]+"><bdi class="name">(.*?)</bdi>', page)


def current_token(store: Store, course_id: str) -> tuple[int, str | None]:
    """Return a course's version and the id of its token."""
    course = store.course(course_id)
    return course.version, store.read(courses.current_token, course)


def test_deleted_course_can_be_restored_on_its_page(ada: Browser, store: Store) -> None:
    store.add_course("CS101")
    store.add_course("OLD")
    ada.send("/courses/delete/confirmed", course_id="CS101")
    store.write(courses.delete_course, "OLD", now=NINE - timedelta(days=400))

    before = ada.look("/courses/one", course_id="CS101")
    final = ada.look("/courses/one", course_id="OLD")
    after = ada.look(ada.send("/courses/restore", course_id="CS101").location)

    assert "Undo deletion" in before
    assert "Can be restored" in before
    assert "Undo deletion" not in final
    assert "is final: it could be restored until " in final
    assert "Delete course…" in after
    assert "Restored: CS101." in after


def test_list_shows_the_state_of_each_course(ada: Browser, token: CourseToken) -> None:
    page = ada.look("/courses")
    deleted = ada.look("/courses", state="deleted")

    assert ids_on(page) == ["7731", "CS101", "CS102"]
    assert token.token_id in page
    assert "issued by a Moodle" in page
    assert page.count('name="course_id"') == 3
    assert "Delete selected courses" in page
    assert ids_on(deleted) == ["CS102"]
    assert "Delete selected courses" not in deleted
    assert ids_on(ada.look("/courses", state="active")) == ["7731", "CS101"]


def test_search_has_pages(ada: Browser, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.pages.courses._ROWS", 2)
    for number in range(5):
        store.add_course(f"CS10{number}", title="Música" if number else "Law")

    first = ada.look("/courses", q="musica")
    (next_url,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = ada.look(unescape(next_url))

    assert ids_on(first) == ["CS101", "CS102"]
    assert ids_on(second) == ["CS103", "CS104"]
    assert 'rel="next"' not in second
    assert "No courses match." in ada.look("/courses", q="zzz")


def test_list_is_counted_sorted_and_filtered(ada: Browser, token: CourseToken) -> None:
    page = ada.look("/courses", q="cs 101", sort="-changed", deleted_since="", state="active")
    deleted = ada.look("/courses", deleted_since="2026-11-22")

    assert "1 course found." in page
    assert '<a href="/courses?state=active&amp;sort=-changed">' in page  # without the search
    assert 'aria-sort="descending"><a class="sort" href="/courses?q=cs+101' in page
    assert (ids_on(page), ids_on(deleted)) == (["CS101"], ["CS102"])
    assert "3 courses; sorted by id." in ada.look("/courses")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        pytest.param("sort=size", "&#39;size&#39; is not a column to sort by", id="column"),
        pytest.param("state=gone", "&#39;gone&#39; is not a state; choose one", id="state"),
        pytest.param("deleted_since=soon", "&#39;soon&#39; is not a time", id="time"),
    ],
)
def test_search_that_is_invalid_says_why(ada: Browser, query: str, detail: str) -> None:
    page = ada.look(f"/courses?q=law&{query}")

    assert detail in page
    assert 'value="law"' in page
    assert "Download as CSV" not in page
    assert ada.client.get(f"/courses.csv?{query}").status_code == 422


def test_search_that_is_too_long_is_refused(ada: Browser) -> None:
    assert "At most 255 characters are allowed." in ada.look("/courses", q="x" * 256)


def test_unknown_parameter_is_refused(ada: Browser) -> None:
    page = ada.client.get("/courses?title=law")

    assert page.status_code == 422
    assert "parameter &#39;title&#39; is unknown" in page.text


def test_list_can_be_downloaded(ada: Browser, store: Store) -> None:
    store.add_course("CS101", title="@Música")
    store.add_course("LAW1")

    response = ada.client.get("/courses.csv?q=musica&state=active")

    header, *rows = response.text.removeprefix("\ufeff").splitlines()
    assert response.headers["Content-Disposition"] == "attachment; filename=courses.csv"
    assert header.startswith("course_id,title,")
    assert [row.split(",")[:2] for row in rows] == [["CS101", "'@Música"]]
    assert 'href="/courses.csv?q=musica"' in ada.look("/courses", q="musica")


def test_names_are_escaped(ada: Browser, store: Store) -> None:
    store.add_endpoint()
    course_id = "A<i>&\"'/../é`notifier courses list`"
    ada.send("/courses/new", course_id=course_id, title=MARKUP + "x" * 9_000)

    pages = [
        ada.look("/courses"),
        ada.look("/courses/one", course_id=course_id),
        ada.send("/courses/new", course_id=course_id, title="x").text,
        ada.send("/courses/delete", course_id=course_id).text,
        ada.send("/courses/tokens", course_id=course_id).text,
        ada.send("/courses/token", course_id=course_id, version=1).text,
        ada.look("/deliveries"),
        ada.look("/deliveries/1"),
        ada.look(ada.send("/courses/delete/confirmed", course_id=course_id).location),
        ada.look(ada.send("/courses/delete/confirmed", course_id=course_id).location),
    ]

    for page in pages:
        assert "<script>alert" not in page
        assert escape(course_id) in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


def test_added_course_shows_its_token_once(
    ada: Browser, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    response = ada.send("/courses/new", course_id="CS101", title="Algorithms")

    (token,) = TOKEN.findall(response.text)
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert current_token(store, "CS101") == (1, CourseToken.parse(token).token_id)
    assert token not in ada.look("/courses/one", course_id="CS101") + ada.look("/courses")
    assert token not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("course_id", "title", "text"),
    [
        pytest.param(" CS1", "x", "must not begin or end with a space", id="invalid id"),
        pytest.param("C" * 256, "x", "At most 255 characters", id="long id"),
        pytest.param("CS1", "", "This field is required", id="no title"),
        pytest.param("CS101", "x", 'href="/courses/one?course_id=CS101"', id="taken"),
    ],
)
def test_invalid_course_is_not_added(
    ada: Browser, token: CourseToken, store: Store, course_id: str, title: str, text: str
) -> None:
    before = store.rows()

    response = ada.send("/courses/new", course_id=course_id, title=title)

    assert response.status_code == 422
    assert text in response.text
    assert 'aria-invalid="true"' in response.text
    assert store.rows() == before


def test_regenerated_token_is_shown_once(ada: Browser, token: CourseToken, store: Store) -> None:
    store.add_endpoint()

    response = ada.send("/courses/token", course_id="CS101", version=1)

    (new,) = TOKEN.findall(response.text)
    assert current_token(store, "CS101") == (2, CourseToken.parse(new).token_id)
    assert 'data-refresh="/courses/one/live?course_id=CS101"' in response.text
    assert "waiting for a worker" in ada.look("/courses/one/live", course_id="CS101")
    page = ada.look("/courses/one", course_id="CS101")
    assert token.token_id in page
    assert new not in page


def test_old_token_of_an_overlap_is_shown(ada: Browser, token: CourseToken, store: Store) -> None:
    response = ada.send("/courses/token", course_id="CS101", version=1, overlap="24h")

    page = ada.look("/courses/one", course_id="CS101")
    assert "Until then the old token is good" in response.text
    assert "The token before it is good until" in page
    assert "Only this id is stored here" in page


def test_token_that_elms_can_claim_need_not_be_sent(
    ada: Browser, token: CourseToken, store: Store
) -> None:
    store.add_endpoint(may_claim_tokens=True)

    response = ada.send("/courses/token", course_id="CS101", version=1, overlap="24h")

    page = ada.look("/courses/one", course_id="CS101")
    assert "ELMS may take this token over itself" in response.text
    assert "ELMS can claim the current one" in page
    assert "Only this id is stored here" not in page


@pytest.mark.parametrize(
    ("course_id", "version", "status", "text"),
    [
        pytest.param("CS101", 0, 409, "is at version 1, no longer at 0", id="sent twice"),
        pytest.param("CS102", 1, 410, "was deleted at", id="deleted"),
        pytest.param("7731", 1, 409, "issued by its Moodle", id="of a Moodle"),
    ],
)
def test_refused_regeneration_changes_nothing(
    ada: Browser,
    token: CourseToken,
    store: Store,
    course_id: str,
    version: int,
    status: int,
    text: str,
) -> None:
    before = store.rows()

    response = ada.send("/courses/token", course_id=course_id, version=version)

    assert response.status_code == status
    assert text in response.text
    assert "What to do" in response.text
    assert TOKEN.findall(response.text) == []
    assert store.rows() == before


@pytest.mark.parametrize(
    "entered",
    [pytest.param("0123456789abcdef0123456789abcdef", id="known"), pytest.param("", id="unknown")],
)
def test_new_moodle_token_is_announced_and_not_stored(
    ada: Browser, token: CourseToken, store: Store, entered: str
) -> None:
    response = ada.send("/courses/announce", course_id="7731", version=1, token=entered)

    page = ada.look(response.location)
    assert (response.status_code, response.location) == (303, "/courses/one?course_id=7731")
    assert "All endpoints are notified" in page
    assert "is in a Moodle" in page
    (event,) = store.all(select(Event).where(Event.type == "token.regenerated"))
    assert re.search(r'"token_id":"m[0-9a-f]{16}"', event.body)
    assert not entered or entered not in event.body


def test_malformed_moodle_token_is_refused_and_not_shown(
    ada: Browser, token: CourseToken, store: Store
) -> None:
    before = store.rows()

    response = ada.send("/courses/announce", course_id="7731", version=1, token="planted-token")

    assert response.status_code == 422
    assert "planted-token" not in response.text
    assert store.rows() == before


def test_page_of_a_course_shows_what_happens_to_its_notifications(
    ada: Browser, token: CourseToken, store: Store
) -> None:
    without_endpoints = ada.look("/courses/one", course_id="CS101")
    store.add_endpoint(disabled=True)
    store.write(courses.delete_course, "CS101", now=NINE)

    page = ada.look("/courses/one", course_id="CS101")

    assert "There are no endpoints" in without_endpoints
    assert "waiting until the endpoint is enabled" in page
    assert "2026-11-22 09:00:00 UTC" in page
    assert "Delete course" not in page
    assert "Regenerate" not in page

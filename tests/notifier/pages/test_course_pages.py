"""The pages of courses: found, looked at, added; tokens shown once."""

import re
from collections.abc import Callable
from html import escape
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import Course, Event, IssuedToken
from notifier.webhooks import endpoints
from tests.notifier.conftest import NINE
from tests.notifier.pages.conftest import MARKUP

Look = Callable[..., str]
Send = Callable[..., TestResponse]
TOKEN = re.compile(r"<code data-copy-text>(eas_\w+)</code>")


@pytest.fixture
def make_moodle_course(database: Database) -> Callable[..., None]:
    """Return what takes in a course that lives in a Moodle."""

    def make(course_id: str) -> None:
        with database.writing() as session:
            courses.ensure_course(session, course_id, "In a Moodle", now=NINE)

    return make


def ids_on(page: str) -> list[str]:
    """Return the ids of the courses that a list shows."""
    return re.findall(r'<th scope="row"><a href="[^"]+"><bdi class="name">(.*?)</bdi>', page)


def present(database: Database, course_id: str) -> tuple[int, str | None]:
    """Return a course's version and its present token's id."""
    with database.reading() as session:
        course = courses.get_course(session, course_id)
        return course.version, courses.current_token(session, course)


def test_empty_list_says_what_to_do_first(look: Look) -> None:
    page = look("/courses")

    assert "No courses yet." in page
    assert 'href="/courses/new"' in page


def test_list_shows_how_each_course_stands(
    look: Look,
    database: Database,
    make_course: Callable[..., str],
    make_moodle_course: Callable[..., None],
) -> None:
    token = make_course("CS101")
    make_course("CS102")
    make_moodle_course("7731")
    with database.writing() as session:
        courses.delete_course(session, "CS102", now=NINE)

    page = look("/courses")

    assert ids_on(page) == ["7731", "CS101", "CS102"]
    assert CourseToken.parse(token).token_id in page
    assert token not in page
    assert "issued by a Moodle" in page
    assert page.count('type="checkbox"') == 2
    assert "Delete selected courses" in page
    gone = look("/courses", state="deleted")
    assert ids_on(gone) == ["CS102"]
    assert "Delete selected courses" not in gone
    assert ids_on(look("/courses", state="present")) == ["7731", "CS101"]


def test_list_is_searched_and_leafed_through(
    look: Look, make_course: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.pages.courses._ROWS", 2)
    for number in range(5):
        make_course(f"CS10{number}", title="Música" if number else "Law")

    first = look("/courses", q="musica")
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = look(following.replace("&amp;", "&"))

    assert ids_on(first) == ["CS101", "CS102"]
    assert ids_on(second) == ["CS103", "CS104"]
    assert 'rel="next"' not in second
    assert "No courses match." in look("/courses", q="zzz")


@pytest.mark.parametrize("query", [{}, {"q": "a"}, {"state": "present"}])
def test_statements_of_the_list_do_not_grow(
    statements: Callable[..., int], database: Database, query: dict[str, str]
) -> None:
    counts = []
    for some in (range(2), range(2, 40)):
        with database.writing() as session:
            for number in some:
                courses.add_course(session, f"A{number}", "Algebra", now=NINE)
        counts.append(statements("/courses", **query))

    assert counts[0] == counts[1]


def test_names_are_shown_as_they_are(
    look: Look, send: Send, make_endpoint: Callable[..., int]
) -> None:
    make_endpoint()
    course_id = "A<i>&\"'/../é"
    send("/courses/new", course_id=course_id, title=MARKUP + "x" * 9_000)

    pages = [
        look("/courses"),
        look("/courses/one", course_id=course_id),
        send("/courses/delete", course_id=course_id).text,
        send("/courses/token", course_id=course_id, version=1).text,
        look("/deliveries"),
        look("/deliveries/1"),
    ]

    for page in pages:
        assert "<script>alert" not in page
        assert "A<i>" not in page
        assert str(escape(course_id, quote=False)) in page.replace("&#34;", '"').replace(
            "&#39;", "'"
        )


def test_added_course_shows_its_token_this_once(
    ada: FlaskClient,
    send: Send,
    look: Look,
    database: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = send("/courses/new", course_id="CS101", title="Algorithms")

    (token,) = TOKEN.findall(answer.text)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert present(database, "CS101") == (1, CourseToken.parse(token).token_id)
    assert token not in look("/courses/one", course_id="CS101") + look("/courses")
    assert token not in capsys.readouterr().err
    assert token not in str(ada.get_cookie("__Host-notifier"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"course_id": "", "title": "x"}, "This field is required", id="no id"),
        pytest.param(
            {"course_id": " CS1", "title": "x"}, "must not begin or end with a space", id="space"
        ),
        pytest.param({"course_id": "C" * 256, "title": "x"}, "At most 255", id="a long id"),
        pytest.param({"course_id": "CS1", "title": ""}, "This field is required", id="no title"),
        pytest.param({"course_id": "CS101", "title": "x"}, "is taken", id="taken"),
    ],
)
def test_course_that_cannot_be_is_not_added(
    send: Send,
    make_course: Callable[..., str],
    rows: Callable[[], dict[str, list[Any]]],
    fields: dict[str, str],
    said: str,
) -> None:
    make_course("CS101")
    before = rows()

    answer = send("/courses/new", **fields)

    assert answer.status_code == 422
    assert said in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert before == rows()


def test_form_that_is_sent_again_adds_nothing(send: Send, database: Database) -> None:
    send("/courses/new", course_id="CS101", title="Algorithms")
    before = present(database, "CS101")

    again = send("/courses/new", course_id="CS101", title="Algorithms")

    assert again.status_code == 422
    assert 'href="/courses/one?course_id=CS101"' in again.text
    assert before == present(database, "CS101")


def test_regenerated_token_is_shown_once_and_told(
    send: Send,
    look: Look,
    make_course: Callable[..., str],
    make_endpoint: Callable[..., int],
    database: Database,
) -> None:
    make_endpoint()
    old = make_course("CS101")

    answer = send("/courses/token", course_id="CS101", version=1)

    (token,) = TOKEN.findall(answer.text)
    assert token != old
    assert present(database, "CS101") == (2, CourseToken.parse(token).token_id)
    assert "token.regenerated" in answer.text
    assert 'data-refresh="/courses/one/live?course_id=CS101"' in answer.text
    assert "waiting for a worker" in look("/courses/one/live", course_id="CS101")
    page = look("/courses/one", course_id="CS101")
    assert CourseToken.parse(old).token_id in page
    assert token not in page


def test_token_is_not_regenerated_again_by_a_reload(
    send: Send,
    make_course: Callable[..., str],
    rows: Callable[[], dict[str, list[Any]]],
) -> None:
    make_course("CS101")
    send("/courses/token", course_id="CS101", version=1)
    before = rows()

    again = send("/courses/token", course_id="CS101", version=1)

    assert again.status_code == 409
    assert "is at version 2, no longer at 1" in again.text.replace("&#39;", "'")
    assert "Course changed" in again.text
    assert TOKEN.findall(again.text) == []
    assert before == rows()


@pytest.mark.parametrize(
    ("course_id", "status", "said"),
    [
        pytest.param("GONE", 410, "was deleted at", id="deleted"),
        pytest.param("7731", 409, "issued by its Moodle", id="of a Moodle"),
        pytest.param("NONE", 404, "there is no course", id="unknown"),
    ],
)
def test_token_that_is_not_ours_to_make_is_refused(
    send: Send,
    database: Database,
    make_course: Callable[..., str],
    make_moodle_course: Callable[..., None],
    course_id: str,
    status: int,
    said: str,
) -> None:
    make_moodle_course("7731")
    make_course("GONE")
    with database.writing() as session:
        courses.delete_course(session, "GONE", now=NINE)

    answer = send("/courses/token", course_id=course_id, version=1)

    assert answer.status_code == status
    assert said in answer.text.lower() or said in answer.text
    assert "What to do" in answer.text


@pytest.mark.parametrize(
    ("entered", "told"),
    [
        pytest.param("0123456789abcdef0123456789abcdef", r"m[0-9a-f]{16}", id="entered"),
        pytest.param("", r"m[0-9a-f]{16}", id="not known"),
    ],
)
def test_moodles_new_token_is_told_and_not_kept(
    send: Send,
    look: Look,
    database: Database,
    make_endpoint: Callable[..., int],
    make_moodle_course: Callable[..., None],
    entered: str,
    told: str,
) -> None:
    make_endpoint()
    make_moodle_course("7731")
    assert "is in a Moodle" in look("/courses/one", course_id="7731")

    answer = send("/courses/announce", course_id="7731", version=1, token=entered)

    assert (answer.status_code, answer.location) == (303, "/courses/one?course_id=7731")
    with database.reading() as session:
        event = session.scalars(select(Event)).one()
    assert event.type == "token.regenerated"
    assert re.search(rf'"token_id":"{told}"', event.body)
    assert not entered or entered not in event.body
    assert "All endpoints are notified" in look("/courses/one", course_id="7731")


def test_moodles_token_that_is_none_is_refused_and_not_repeated(
    send: Send, make_moodle_course: Callable[..., None], rows: Callable[[], Any]
) -> None:
    make_moodle_course("7731")
    before = rows()

    answer = send("/courses/announce", course_id="7731", version=1, token="planted-secret")

    assert answer.status_code == 422
    assert "planted-secret" not in answer.text
    assert before == rows()


@pytest.mark.parametrize("course_id", ["7731", "", " ", "x" * 300], ids=len)
def test_moodles_new_token_is_told_of_no_course_that_nobody_saw(
    send: Send, rows: Callable[[], Any], course_id: str
) -> None:
    """A form speaks of the course whose page it is on; none is taken in by it (B7)."""
    before = rows()

    answer = send("/courses/announce", course_id=course_id, version=1)

    assert (answer.status_code, before) == (404, rows())


def test_page_of_a_course_tells_all_of_it(
    look: Look,
    send: Send,
    database: Database,
    make_course: Callable[..., str],
    make_endpoint: Callable[..., int],
) -> None:
    make_course("CS101")
    assert "There are no endpoints" in look("/courses/one", course_id="CS101")
    endpoint_id = make_endpoint()
    with database.writing() as session:
        endpoints.disable(session, endpoint_id, "out of order", now=NINE)
        courses.delete_course(session, "CS101", now=NINE)

    page = look("/courses/one", course_id="CS101")

    assert "waiting until the endpoint is enabled" in page
    assert "2026-11-22 09:00:00 UTC" in page
    assert "Delete the course" not in page
    assert "Regenerate" not in page
    assert "there is no course &#39;CS999&#39;" in look(
        "/courses/one", 404, course_id="CS999"
    ).lower().replace("cs999", "CS999")


@pytest.mark.parametrize(
    "path",
    [
        "/courses/new",
        "/courses/token",
        "/courses/announce",
        "/courses/delete",
        "/courses/delete/confirmed",
        "/deliveries/1/replay",
        "/deliveries/replay",
    ],
)
def test_form_of_another_site_changes_nothing(
    ada: FlaskClient,
    make_delivery: Callable[..., int],
    make_course: Callable[..., str],
    rows: Callable[[], Any],
    path: str,
) -> None:
    make_delivery("GONE")
    make_course("CS101")
    before = rows()

    fields = {"course_id": "CS101", "version": "1", "title": "x", "status": "pending"}
    answer = ada.post(path, data={"csrf_token": "guessed", **fields})

    assert answer.status_code == 400
    assert "the form is not from a page of this session" in answer.text.lower()
    assert before == rows()


def test_courses_have_no_token_but_one(
    send: Send, make_course: Callable[..., str], database: Database
) -> None:
    make_course("CS101")
    for version in (1, 2, 3):
        assert send("/courses/token", course_id="CS101", version=version).status_code == 200

    with database.reading() as session:
        issued = list(session.scalars(select(IssuedToken)))
        assert [row.superseded_at is None for row in issued] == [False, False, False, True]
        assert session.scalars(select(Course.version)).one() == 4

"""Courses are deleted together, after a page that says what will happen and who will be told."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from foundation.db.session import Database
from notifier import signals
from notifier.courses import service as courses
from notifier.models import Course, Delivery, Event
from notifier.webhooks import endpoints
from tests.notifier.conftest import NINE
from tests.notifier.pages.conftest import URL

Look = Callable[..., str]
Send = Callable[..., TestResponse]
DELETE = "/courses/delete"
CONFIRMED = "/courses/delete/confirmed"


@pytest.fixture
def three(make_course: Callable[..., str]) -> list[str]:
    """Three courses."""
    ids = ["CS101", "CS102", "CS103"]
    for course_id in ids:
        make_course(course_id)
    return ids


def deleted(database: Database) -> list[str]:
    """Return the ids of the courses that are deleted."""
    with database.reading() as session:
        return list(session.scalars(select(Course.course_id).where(Course.deleted_at.is_not(None))))


def test_it_asks_first_and_names_courses_and_endpoints(
    send: Send,
    database: Database,
    three: list[str],
    make_endpoint: Callable[..., int],
    rows: Callable[[], Any],
) -> None:
    make_endpoint()
    held = make_endpoint("https://held.example/hook")
    make_endpoint("https://other.example/hook", event_types=["token.regenerated"])
    with database.writing() as session:
        endpoints.disable(session, held, "out of order", now=NINE)
    before = rows()

    answer = send(DELETE, course_id=three[:2])

    assert answer.status_code == 200
    assert "Delete 2 courses permanently?" in answer.text
    assert all(course_id in answer.text for course_id in three[:2])
    assert three[2] not in answer.text
    assert URL in answer.text
    assert "when it is enabled; held until then" in answer.text
    assert "https://other.example/hook" not in answer.text
    assert before == rows()


def test_who_keeps_a_course_is_back_where_they_were(
    send: Send, ada: FlaskClient, three: list[str]
) -> None:
    course = "http://localhost/courses/one?course_id=CS101"
    ada.environ_base["HTTP_REFERER"] = course

    told = send(DELETE, course_id=three[0]).text
    ada.environ_base.pop("HTTP_REFERER")
    untold = send(DELETE, course_id=three[0]).text

    assert '<a class="button" href="/courses/one?course_id=CS101">Cancel</a>' in told
    assert '<a class="button" href="/courses">Cancel</a>' in untold


def test_nobody_to_tell_is_said_before(send: Send, three: list[str]) -> None:
    answer = send(DELETE, course_id=three[0])

    assert "No endpoint is subscribed to deletions." in answer.text
    assert '<a href="/endpoints/new">add its webhook URL</a> first' in answer.text


def test_many_are_deleted_at_one_moment_and_what_that_caused_is_shown(
    send: Send,
    look: Look,
    database: Database,
    three: list[str],
    make_course: Callable[..., str],
    make_endpoint: Callable[..., int],
) -> None:
    make_endpoint()
    for earlier_and_later in ("CS998", "CS999"):
        make_course(earlier_and_later)
    look(send(CONFIRMED, course_id="CS998").location)

    answer = send(CONFIRMED, course_id=three)

    assert answer.status_code == 303
    with database.reading() as session:
        moments = set(session.scalars(select(Course.deleted_at).where(Course.course_id.in_(three))))
    assert len(moments) == 1
    page = look(answer.location)
    assert "Deleted: 3 courses." in page
    assert all(course_id in page for course_id in three)
    look(send(CONFIRMED, course_id="CS999").location)
    page = look(answer.location)
    assert "CS998" not in page
    assert "CS999" not in page
    assert "<strong>3</strong> pending" in page


def test_one_leads_to_its_own_page(
    send: Send, look: Look, three: list[str], make_endpoint: Callable[..., int]
) -> None:
    make_endpoint()

    answer = send(CONFIRMED, course_id=three[0])

    assert (answer.status_code, answer.location) == (303, "/courses/one?course_id=CS101")
    page = look(answer.location)
    assert "Deleted: CS101." in page
    assert "course.deleted" in page
    assert 'data-refresh="/courses/one/live?course_id=CS101"' in page


def test_course_deleted_meanwhile_is_told_and_keeps_none_of_the_others(
    send: Send, look: Look, database: Database, three: list[str]
) -> None:
    with database.writing() as session:
        courses.delete_course(session, three[1], now=NINE)

    asked = send(DELETE, course_id=three)
    answer = send(CONFIRMED, course_id=[*three, "NEVER"])

    assert "Delete 2 courses permanently?" in asked.text
    assert "Already deleted" in asked.text
    page = look(answer.location)
    assert "Deleted: 2 courses." in page
    assert "2 courses not deleted" in page
    assert "CS102" in page
    assert "there is no course" in page
    assert sorted(deleted(database)) == three


def test_course_that_is_called_like_a_command_is_named_as_it_is(
    send: Send, look: Look, make_course: Callable[..., str]
) -> None:
    """What people named is no advice, in whichever sentence it stands (B7)."""
    called = "`notifier courses list`"
    make_course(called)

    added = send("/courses/new", course_id=called, title="x").text
    deleted = look(send(CONFIRMED, course_id=called).location)
    refused = look(send(CONFIRMED, course_id=called).location)

    assert f"&#39;{called}&#39;" in added
    assert f"Deleted: {called}." in deleted
    assert f"1 course not deleted: the course &#39;{called}&#39;" in refused


def test_all_of_them_deleted_before_is_said(
    send: Send, look: Look, database: Database, three: list[str]
) -> None:
    send(CONFIRMED, course_id=three[0])

    answer = send(CONFIRMED, course_id=three[0])

    assert answer.location == "/courses"
    assert "1 course not deleted" in look("/courses")
    assert deleted(database) == three[:1]
    assert "Nothing to delete" in send(DELETE, course_id=three[0]).text


@pytest.mark.parametrize("path", [DELETE, CONFIRMED])
def test_nothing_chosen_is_refused(send: Send, path: str, rows: Callable[[], Any]) -> None:
    before = rows()

    answer = send(path)

    assert answer.status_code == 422
    assert "No course is selected" in answer.text
    assert "select the ones to delete" in answer.text
    assert before == rows()


@pytest.mark.parametrize("path", [DELETE, CONFIRMED])
def test_more_than_are_deleted_at_once_are_refused(
    send: Send, path: str, three: list[str], rows: Callable[[], Any]
) -> None:
    before = rows()

    answer = send(path, course_id=[*three, *(f"x{number}" for number in range(4997))])

    assert answer.status_code == 422
    assert "5,000 courses are selected; at most 500 can be deleted at once." in answer.text
    assert before == rows()


def test_event_that_cannot_be_written_keeps_all_of_them(
    send: Send,
    database: Database,
    three: list[str],
    make_endpoint: Callable[..., int],
    rows: Callable[[], Any],
) -> None:
    make_endpoint()
    before = rows()

    def fail(_: Session, change: signals.CourseChange) -> None:
        if change.course_id == three[2]:
            raise LookupError("planted")

    with signals.course_deleted.connected_to(fail):
        answer = send(CONFIRMED, course_id=three)

    assert answer.status_code == 500
    assert "planted" not in answer.text
    assert before == rows()


def test_each_course_is_told_once_however_often_it_is_ticked(
    send: Send, database: Database, three: list[str], make_endpoint: Callable[..., int]
) -> None:
    make_endpoint()

    send(CONFIRMED, course_id=[three[0], three[0]])

    with database.reading() as session:
        assert len(session.scalars(select(Event)).all()) == 1
        assert len(session.scalars(select(Delivery)).all()) == 1

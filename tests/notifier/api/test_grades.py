"""The grades of one course: the response, and conditional requests for it."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from notifier.models import Course
from tests.notifier.conftest import Store, make_score

Get = Callable[..., TestResponse]
ChangeAt = Callable[[datetime], None]


@pytest.fixture
def token(store: Store) -> CourseToken:
    """The token of the course CS101."""
    return store.add_course("CS101")


@pytest.fixture
def get(client: FlaskClient, token: CourseToken) -> Get:
    """Return a function that requests the grades of CS101 with these headers."""

    def send(**headers: str) -> TestResponse:
        bearer = {"Authorization": f"Bearer {token.reveal()}"}
        return client.get("/api/v1/courses/CS101/grades", headers={**bearer, **headers})

    return send


@pytest.fixture
def change_at(store: Store) -> ChangeAt:
    """Return a function that sets when the grades of the course changed."""

    def change(at: datetime) -> None:
        with store.database.writing() as session:
            session.execute(update(Course).values(grades_changed_at=at))

    return change


def test_grades_are_returned(get: Get, store: Store, token: CourseToken) -> None:
    graded = make_score(user_id="åsa@example.ac.uk", score_given=Decimal("7.50"), comment="Très")
    store.load({"CS101": [graded, make_score(user_id="ben", score_given=None)]})

    response = get()

    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "WWW-Authenticate" not in response.headers
    common = {
        "scoreMaximum": "10",
        "timestamp": "2026-11-22T09:00:00.123456Z",
        "activityProgress": "Completed",
        "gradingProgress": "FullyGraded",
    }
    assert response.json == {
        "course_id": "CS101",
        "course_version": 1,
        "token_id": token.token_id,
        "scores": [
            {"userId": "ben", "scoreGiven": None, "comment": None, **common},
            {"userId": "åsa@example.ac.uk", "scoreGiven": "7.50", "comment": "Très", **common},
        ],
    }


@pytest.mark.parametrize(
    ("form", "status"),
    [
        pytest.param("{etag}", 304, id="same"),
        pytest.param('"other",W/{etag}', 304, id="weak, in a list"),
        pytest.param("*", 304, id="star"),
        pytest.param('"other"', 200, id="other"),
        pytest.param('"é\x7f,,,', 200, id="garbage"),
    ],
)
def test_etag_decides_whether_grades_are_sent(get: Get, form: str, status: int) -> None:
    etag = get().headers["ETag"]

    response = get(**{"If-None-Match": form.format(etag=etag)})

    assert response.status_code == status
    assert response.headers["ETag"] == etag
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert (response.data == b"") == (status == 304)


@pytest.mark.parametrize(
    ("since", "status"),
    [
        pytest.param("Sun, 22 Nov 2026 09:00:00 GMT", 200, id="that second"),
        pytest.param("Sun, 22 Nov 2026 09:00:01 GMT", 304, id="the second after"),
        pytest.param("Sat, 01 Jan 0100 00:00:00 GMT", 200, id="earliest year"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", 304, id="after the last second"),
        pytest.param("Sun, 22 Nov 99999 09:00:01 GMT", 200, id="invalid year"),
        pytest.param("yesterday", 200, id="no date"),
    ],
)
def test_time_decides_whether_grades_are_sent(
    get: Get, change_at: ChangeAt, since: str, status: int
) -> None:
    change_at(datetime(2026, 11, 22, 9, tzinfo=UTC))

    assert get(**{"If-Modified-Since": since}).status_code == status


def test_last_modified_is_rounded_up(get: Get, change_at: ChangeAt) -> None:
    change_at(datetime(2026, 11, 22, 9, 0, 0, 500_000, tzinfo=UTC))

    assert get().headers["Last-Modified"] == "Sun, 22 Nov 2026 09:00:01 GMT"


def test_grades_that_never_changed_have_no_last_modified(get: Get) -> None:
    assert "Last-Modified" not in get().headers


def test_etag_takes_precedence_over_time(get: Get, change_at: ChangeAt) -> None:
    change_at(datetime(2026, 11, 22, 9, tzinfo=UTC))
    later = "Mon, 23 Nov 2026 09:00:00 GMT"

    response = get(**{"If-None-Match": '"other"', "If-Modified-Since": later})

    assert response.status_code == 200


def test_change_in_the_same_second_is_sent(get: Get, store: Store) -> None:
    store.load({"CS101": [make_score(user_id="ada")]}, now=datetime.now(UTC))
    first = get()
    store.load({"CS101": [make_score(user_id="ben")]}, now=datetime.now(UTC))

    response = get(**{"If-Modified-Since": first.headers["Last-Modified"]})

    assert (response.status_code, len(response.json["scores"])) == (200, 2)


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("2026//CS/", id="slashes"),
        pytest.param("E\u0301conomie", id="decomposed accent"),
        pytest.param("a%2Fb", id="escape"),
        pytest.param("a?b#c&d=e;f", id="delimiters of URLs"),
        pytest.param("a/../b", id="dots"),
        pytest.param("x/grades", id="end of the path"),
    ],
)
def test_course_id_is_opaque(client: FlaskClient, store: Store, course_id: str) -> None:
    headers = {"Authorization": f"Bearer {store.add_course(course_id).reveal()}"}

    response = client.get(f"/api/v1/courses/{quote(course_id, safe='')}/grades", headers=headers)

    assert response.json["course_id"] == course_id

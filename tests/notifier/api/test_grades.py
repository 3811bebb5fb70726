"""The grades API: every row of the design's table, and what else may come to that door."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.models import Course

REALM = 'Bearer realm="eassessment"'
SCORES = [
    {
        "userId": "åsa@example.ac.uk",
        "scoreGiven": "7.50",
        "scoreMaximum": 10,
        "comment": "Très bien",
        "timestamp": "2026-11-22T10:00:00+01:00",
    },
    {"userId": "ben", "scoreMaximum": "10", "timestamp": "2026-11-22T09:30:00Z"},
]


def ask(client: FlaskClient, token: str, course_id: str = "CS101", **headers: str) -> TestResponse:
    """Ask for a course's grades as ELMS does."""
    path = f"/api/v1/courses/{quote(course_id, safe='')}/grades"
    return client.get(path, headers={"Authorization": f"Bearer {token}", **headers})


def test_a_good_token_reads_the_grades(
    client: FlaskClient, admin: Callable[..., TestResponse], make_course: Callable[..., str]
) -> None:
    token = make_course()
    admin("PUT", "/courses/CS101/grades", json={"scores": SCORES})

    answer = ask(client, token)

    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.json == {
        "course_id": "CS101",
        "course_version": 1,
        "token_id": CourseToken.parse(token).token_id,
        "scores": [
            {
                "userId": "ben",
                "scoreGiven": None,
                "scoreMaximum": "10",
                "comment": None,
                "timestamp": "2026-11-22T09:30:00.000000Z",
                "activityProgress": "Completed",
                "gradingProgress": "FullyGraded",
            },
            {
                "userId": "åsa@example.ac.uk",
                "scoreGiven": "7.50",
                "scoreMaximum": "10",
                "comment": "Très bien",
                "timestamp": "2026-11-22T09:00:00.000000Z",
                "activityProgress": "Completed",
                "gradingProgress": "FullyGraded",
            },
        ],
    }


def test_grades_are_for_their_bearer_only_and_asked_for_again(
    client: FlaskClient, make_course: Callable[..., str]
) -> None:
    token = make_course()

    answer = ask(client, token)

    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{etag}", id="as it was given"),
        pytest.param("W/{etag}", id="weak"),
        pytest.param('"another", {etag}', id="in a list"),
        pytest.param('"another",W/{etag},"third"', id="weak, in a list"),
        pytest.param("*", id="star"),
    ],
)
def test_unchanged_grades_are_not_sent_again(
    client: FlaskClient, make_course: Callable[..., str], form: str
) -> None:
    token = make_course()
    etag = ask(client, token).headers["ETag"]

    answer = ask(client, token, **{"If-None-Match": form.format(etag=etag)})

    assert answer.status_code == 304
    assert answer.data == b""
    assert answer.headers["ETag"] == etag
    assert answer.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    "form",
    [
        pytest.param('"another"', id="another"),
        pytest.param("", id="empty"),
        pytest.param("{bare}", id="without quotes and cut"),
        pytest.param('"é\x7f,,,', id="garbage"),
    ],
)
def test_an_etag_that_is_not_ours_gets_the_grades(
    client: FlaskClient, make_course: Callable[..., str], form: str
) -> None:
    token = make_course()
    etag = ask(client, token).headers["ETag"]

    answer = ask(client, token, **{"If-None-Match": form.format(bare=etag.strip('"')[:-1])})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("PUT", "/courses/CS101/grades", {"scores": SCORES}), id="grades loaded"),
        pytest.param(("POST", "/courses/CS101/token", None), id="token regenerated"),
    ],
)
def test_the_etag_changes_with_the_course(
    client: FlaskClient,
    admin: Callable[..., TestResponse],
    make_course: Callable[..., str],
    change: tuple[str, str, Any],
) -> None:
    token = make_course()
    before = ask(client, token).headers["ETag"]
    method, path, document = change

    changed = admin(method, path, json=document)
    after = ask(client, changed.json.get("token", token), **{"If-None-Match": before})

    assert after.status_code == 200
    assert after.headers["ETag"] != before


def test_grades_loaded_again_as_they_are_keep_the_etag(
    client: FlaskClient, admin: Callable[..., TestResponse], make_course: Callable[..., str]
) -> None:
    token = make_course()
    admin("PUT", "/courses/CS101/grades", json={"scores": SCORES})
    before = ask(client, token).headers["ETag"]

    admin("PUT", "/courses/CS101/grades", json={"scores": SCORES})
    after = ask(client, token, **{"If-None-Match": before})

    assert after.status_code == 304


def set_changed(database: Database, changed_at: datetime) -> None:
    """Say that the grades of every course changed then."""
    with database.writing() as session:
        session.execute(update(Course).values(grades_changed_at=changed_at))


@pytest.mark.parametrize(
    ("since", "status"),
    [
        pytest.param("Sun, 22 Nov 2026 09:00:00 GMT", 200, id="within the second before"),
        pytest.param("Sun, 22 Nov 2026 09:00:01 GMT", 304, id="the second after"),
        pytest.param("Sun Nov 22 09:00:01 2026", 304, id="as C writes it"),
        pytest.param("Mon, 23 Nov 2026 09:00:00 +0000", 304, id="a day later"),
        pytest.param("Sat, 01 Jan 0100 00:00:00 GMT", 200, id="the first year that is read"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 304, id="the last second"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", 304, id="beyond the last second"),
        pytest.param("Sun, 22 Nov 99999 09:00:01 GMT", 200, id="no year"),
        pytest.param("yesterday", 200, id="no date"),
        pytest.param("", 200, id="empty"),
    ],
)
def test_grades_that_did_not_change_since_are_not_sent_again(
    client: FlaskClient,
    database: Database,
    make_course: Callable[..., str],
    since: str,
    status: int,
) -> None:
    token = make_course()
    set_changed(database, datetime(2026, 11, 22, 9, 0, 0, 500_000, tzinfo=UTC))

    answer = ask(client, token, **{"If-Modified-Since": since})

    assert answer.status_code == status


def test_grades_say_when_they_changed_last(
    client: FlaskClient, database: Database, make_course: Callable[..., str]
) -> None:
    token = make_course()
    set_changed(database, datetime(2026, 11, 22, 9, 0, 0, 500_000, tzinfo=UTC))

    answer = ask(client, token)

    assert answer.headers["Last-Modified"] == "Sun, 22 Nov 2026 09:00:01 GMT"


def test_an_etag_counts_before_a_moment(
    client: FlaskClient, database: Database, make_course: Callable[..., str]
) -> None:
    token = make_course()
    set_changed(database, datetime(2026, 11, 22, 9, tzinfo=UTC))
    later = "Mon, 23 Nov 2026 09:00:00 GMT"

    answer = ask(client, token, **{"If-None-Match": '"another"', "If-Modified-Since": later})

    assert answer.status_code == 200


def test_a_change_in_the_same_second_is_not_lost(
    client: FlaskClient, admin: Callable[..., TestResponse], make_course: Callable[..., str]
) -> None:
    token = make_course()
    admin("PUT", "/courses/CS101/grades", json={"scores": SCORES[:1]})
    first = ask(client, token)
    admin("PUT", "/courses/CS101/grades", json={"scores": SCORES})

    answer = ask(client, token, **{"If-Modified-Since": first.headers["Last-Modified"]})

    assert answer.status_code == 200
    assert len(answer.json["scores"]) == 2


def test_grades_of_an_unknown_age_have_no_last_modified(
    client: FlaskClient, make_course: Callable[..., str]
) -> None:
    token = make_course()

    answer = ask(client, token, **{"If-Modified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"})

    assert answer.status_code == 200
    assert "Last-Modified" not in answer.headers


@pytest.mark.parametrize(
    "course_id", [pytest.param("CS101", id="exists"), pytest.param("NONE", id="never was")]
)
def test_a_stranger_cannot_tell_which_courses_exist(
    client: FlaskClient,
    make_course: Callable[..., str],
    refused: Callable[..., dict[str, Any]],
    course_id: str,
) -> None:
    make_course()

    answer = ask(client, CourseToken.generate().reveal(), course_id)

    refused(answer, 401, "token-unknown")


def test_a_regenerated_token_learns_what_replaced_it(
    client: FlaskClient,
    admin: Callable[..., TestResponse],
    make_course: Callable[..., str],
    refused: Callable[..., dict[str, Any]],
) -> None:
    old = make_course()
    new = admin("POST", "/courses/CS101/token").json

    answer = ask(client, old)

    document = refused(answer, 401, "token-regenerated")
    assert answer.headers["WWW-Authenticate"] == f'{REALM}, error="invalid_token"'
    assert document["course_id"] == "CS101"
    assert document["course_version"] == 2
    assert document["token_id"] == new["token_id"]
    assert datetime.fromisoformat(document["regenerated_at"]).utcoffset() is not None
    assert CourseToken.parse(old).token_id in document["detail"]
    assert document["next_step"] == (
        "Ask the eAssessment administrator for the new token and enter it in ELMS."
    )
    assert new["token"] not in answer.text


def test_a_token_of_three_generations_ago_names_the_present_one(
    client: FlaskClient,
    admin: Callable[..., TestResponse],
    make_course: Callable[..., str],
    refused: Callable[..., dict[str, Any]],
) -> None:
    old = make_course()
    present = [admin("POST", "/courses/CS101/token").json for _ in range(3)][-1]

    document = refused(ask(client, old), 401, "token-regenerated")

    assert document["token_id"] == present["token_id"]
    assert document["course_version"] == 4


def test_another_courses_token_lacks_scope(
    client: FlaskClient, make_course: Callable[..., str], refused: Callable[..., dict[str, Any]]
) -> None:
    make_course("CS101")
    token = make_course("CS102")

    answer = ask(client, token, "CS101")

    document = refused(answer, 403, "token-wrong-course")
    assert answer.headers["WWW-Authenticate"] == f'{REALM}, error="insufficient_scope"'
    assert document["token_id"] == CourseToken.parse(token).token_id
    assert "course_version" not in document


@pytest.mark.parametrize(
    "regenerations",
    [pytest.param(0, id="by its last token"), pytest.param(1, id="by a replaced token")],
)
def test_a_deleted_course_is_gone(
    client: FlaskClient,
    admin: Callable[..., TestResponse],
    make_course: Callable[..., str],
    refused: Callable[..., dict[str, Any]],
    regenerations: int,
) -> None:
    token = make_course()
    for _ in range(regenerations):
        admin("POST", "/courses/CS101/token")
    deleted = admin("DELETE", "/courses/CS101").json

    answer = ask(client, token)

    document = refused(answer, 410, "course-deleted")
    assert "WWW-Authenticate" not in answer.headers
    assert document["course_id"] == "CS101"
    assert document["course_version"] == 2 + regenerations
    assert document["deleted_at"] == deleted["deleted_at"]
    assert document["next_step"].startswith("Remove the course from the grade sync")


def test_a_good_token_at_a_course_that_never_was_is_a_404(
    client: FlaskClient, make_course: Callable[..., str], refused: Callable[..., dict[str, Any]]
) -> None:
    token = make_course()

    document = refused(ask(client, token, "CS999"), 404, "course-unknown")

    assert document["detail"] == "there is no course 'CS999'"
    assert document["course_id"] == "CS999"


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("2026/CS/101", id="slashes"),
        pytest.param("a//b", id="two slashes"),
        pytest.param("CS/", id="a slash at its end"),
        pytest.param("Économie-Größe", id="accents"),
        pytest.param("E\u0301conomie", id="accents, decomposed"),
        pytest.param("تاريخ-2026", id="right to left"),
        pytest.param("100%", id="a percent sign"),
        pytest.param("a%2Fb", id="an escape of its own"),
        pytest.param("a?b#c&d=e;f", id="what means something in URLs"),
        pytest.param("a/../b", id="dots inside"),
        pytest.param("x/grades", id="the name of a path's end"),
        pytest.param("grades", id="the name of a path's end alone"),
        pytest.param("=cmd()|' /C", id="a spreadsheet's formula"),
        pytest.param("x" * 255, id="255 characters"),
    ],
)
def test_a_course_id_is_opaque(
    client: FlaskClient, make_course: Callable[..., str], course_id: str
) -> None:
    token = make_course(course_id)

    answer = ask(client, token, course_id)

    assert answer.status_code == 200
    assert answer.json["course_id"] == course_id

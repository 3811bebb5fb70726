"""The grades API's batch: each course with the answer that it would have had by itself."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.grades import BatchResponse
from contract.tokens import CourseToken
from foundation.db.session import Database

PATH = "/api/v1/grades/batch"
SCORE = {
    "userId": "ada",
    "scoreGiven": "7.50",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:30:00Z",
}
Admin = Callable[..., TestResponse]
Refused = Callable[..., dict[str, Any]]


def question(course_id: str, token: str, **more: str) -> dict[str, str]:
    """Return one course of a batch."""
    return {"course_id": course_id, "token": token, **more}


def ask(client: FlaskClient, *questions: dict[str, str]) -> list[dict[str, Any]]:
    """Return what each question is answered."""
    answer = client.post(PATH, json={"courses": questions})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json["answers"]
    return items


def ask_alone(
    client: FlaskClient, course_id: str, token: str, headers: dict[str, str] | None = None
) -> TestResponse:
    """Ask for one course by itself."""
    bearer = {"Authorization": f"Bearer {token}"}
    return client.get(f"/api/v1/courses/{course_id}/grades", headers={**bearer, **(headers or {})})


@pytest.fixture
def every_kind(make_course: Callable[..., str], admin: Admin) -> list[dict[str, str]]:
    """A question of every kind: fine, then every refusal that the design names."""
    fine, old, gone = make_course("CS101"), make_course("CS102"), make_course("CS103")
    admin("PUT", "/courses/CS101/grades", json={"scores": [SCORE]})
    admin("POST", "/courses/CS102/token")
    admin("DELETE", "/courses/CS103")
    return [
        question("CS101", fine),
        question("CS101", ""),
        question("CS101", fine[:-1]),
        question("CS101", CourseToken.generate().reveal()),
        question("CS102", old),
        question("CS102", fine),
        question("CS103", gone),
        question("NONE", fine),
    ]


def test_each_course_gets_what_it_gets_by_itself(
    client: FlaskClient, every_kind: list[dict[str, str]]
) -> None:
    items = ask(client, *every_kind)

    for asked, item in zip(every_kind, items, strict=True):
        alone = ask_alone(client, asked["course_id"], asked["token"])
        document = alone.get_json(force=True)
        document.pop("request_id", None)
        expected: dict[str, Any] = {"course_id": asked["course_id"], "status": alone.status_code}
        if alone.status_code == 200:
            expected |= {"etag": alone.headers["ETag"], "grades": document}
        else:
            expected["problem"] = document
        assert item == expected
    assert [item["status"] for item in items] == [200, 401, 401, 401, 401, 403, 410, 404]


def test_a_batch_is_read_by_the_shape_that_both_sides_share(
    client: FlaskClient, every_kind: list[dict[str, str]]
) -> None:
    answer = client.post(PATH, json={"courses": every_kind})

    read = BatchResponse.model_validate_json(answer.data)
    assert [item.course_id for item in read.answers] == [one["course_id"] for one in every_kind]
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{etag}", id="as it was given"),
        pytest.param("W/{etag}", id="weak"),
        pytest.param('"another", W/{etag}', id="in a list"),
        pytest.param("*", id="star"),
    ],
)
def test_an_unchanged_course_costs_hardly_a_byte(
    client: FlaskClient, make_course: Callable[..., str], form: str
) -> None:
    token = make_course()
    (before,) = ask(client, question("CS101", token))

    asked = question("CS101", token, if_none_match=form.format(etag=before["etag"]))
    answer = client.post(PATH, json={"courses": [asked]})

    assert answer.text == '{"answers":[{"course_id":"CS101","status":304}]}'


@pytest.mark.parametrize("etag", ["", '"another"', "garbage,,,", "é"])
def test_another_etag_gets_the_grades_whatever_the_moment(
    client: FlaskClient, admin: Admin, make_course: Callable[..., str], etag: str
) -> None:
    token = make_course()
    admin("PUT", "/courses/CS101/grades", json={"scores": [SCORE]})
    since = "9999-12-31T23:59:59.999999Z"

    (item,) = ask(client, question("CS101", token, if_none_match=etag, if_modified_since=since))

    assert item["status"] == 200


@pytest.mark.parametrize(
    ("since", "status"),
    [
        pytest.param("2000-01-01T00:00:00Z", 200, id="long before"),
        pytest.param("0001-01-01T00:00:00Z", 200, id="the first moment"),
        pytest.param("9999-12-31T23:59:59.999999Z", 304, id="the last moment"),
    ],
)
def test_a_moment_tells_what_the_asker_has(
    client: FlaskClient, admin: Admin, make_course: Callable[..., str], since: str, status: int
) -> None:
    token = make_course()
    admin("PUT", "/courses/CS101/grades", json={"scores": [SCORE]})

    (item,) = ask(client, question("CS101", token, if_modified_since=since))

    assert item["status"] == status


def test_many_are_answered_together(
    client: FlaskClient,
    admin: Admin,
    make_course: Callable[..., str],
    database: Database,
) -> None:
    tokens = {f"CS{number}": make_course(f"CS{number}") for number in range(100)}
    items = ask(client, *(question(*pair) for pair in tokens.items()))
    admin("PUT", "/courses/CS7/grades", json={"scores": [SCORE]})
    before = database.statements

    again = ask(
        client,
        *(
            question(item["course_id"], tokens[item["course_id"]], if_none_match=item["etag"])
            for item in items
        ),
    )

    assert database.statements - before == 2
    assert [item["course_id"] for item in again if item["status"] == 200] == ["CS7"]
    assert [item["course_id"] for item in again] == list(tokens)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the lines that were logged, as they were before any redaction."""
    return [record.msg for record in caplog.records if isinstance(record.msg, dict)]


def test_a_batch_with_refusals_is_one_warning_that_names_them(
    caplog: pytest.LogCaptureFixture, client: FlaskClient, every_kind: list[dict[str, str]]
) -> None:
    caplog.clear()

    ask(client, *every_kind)

    lines = logged(caplog)
    (line,) = [line for line in lines if line["event"] == "batch answered"]
    assert line["level"] == "warning"
    assert (line["courses"], line["sent"], line["unchanged"]) == (8, 1, 0)
    assert line["refused"] == {
        "token-malformed": ["CS101", "CS101"],
        "token-unknown": ["CS101"],
        "token-regenerated": ["CS102"],
        "token-wrong-course": ["CS102"],
        "course-deleted": ["CS103"],
        "course-unknown": ["NONE"],
    }
    assert len(lines) == 2
    secrets = {one["token"] for one in every_kind} - {""}
    assert not [secret for secret in secrets if secret in json.dumps(lines)]


def test_a_batch_without_refusals_is_an_info(
    caplog: pytest.LogCaptureFixture, client: FlaskClient, make_course: Callable[..., str]
) -> None:
    token = make_course()
    caplog.clear()

    ask(client, question("CS101", token), question("CS101", token, if_none_match="*"))

    (line,) = [line for line in logged(caplog) if line["event"] == "batch answered"]
    assert line["level"] == "info"
    assert (line["courses"], line["sent"], line["unchanged"]) == (2, 1, 1)
    assert line["refused"] == {}


def test_a_full_batch_names_what_is_left_for_another(
    client: FlaskClient, admin: Admin, make_course: Callable[..., str]
) -> None:
    tokens = {course_id: make_course(course_id) for course_id in ("CS101", "CS102")}
    wordy = [{**SCORE, "userId": str(number), "comment": "x" * 10_000} for number in range(310)]
    for course_id, scores in (("CS101", wordy), ("CS102", [SCORE])):
        admin("PUT", f"/courses/{course_id}/grades", json={"scores": scores})

    first, second = ask(client, *(question(*pair) for pair in tokens.items()))

    assert (first["status"], second["status"]) == (200, 413)
    assert second["problem"] == {
        "type": "urn:problem-type:batch-full",
        "title": "Batch full",
        "status": 413,
        "detail": "the scores of 'CS102' do not fit into this batch",
        "next_step": "Request this course in another batch, or alone.",
        "course_id": "CS102",
    }


@pytest.mark.parametrize(
    "course_id", ["", "../admin", "' OR 1=1 --", "\r\nSet-Cookie: x=1", "🎓" * 255]
)
def test_strange_course_id_refuses_only_itself(
    client: FlaskClient, make_course: Callable[..., str], course_id: str
) -> None:
    token = make_course()

    items = ask(client, *(question(name, token) for name in ("CS101", course_id, "CS101")))

    assert [item["status"] for item in items] == [200, 404, 200]
    assert items[1]["course_id"] == course_id


def test_bearer_in_the_header_is_ignored(
    client: FlaskClient, make_course: Callable[..., str]
) -> None:
    bearer = {"Authorization": f"Bearer {make_course()}"}

    answer = client.post(PATH, json={"courses": [question("CS101", "")]}, headers=bearer)

    assert [item["status"] for item in answer.json["answers"]] == [401]

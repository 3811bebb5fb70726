"""The grades of a batch of courses: each has the response that its own request would have."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from contract.grades import BatchResponse
from contract.tokens import CourseToken
from notifier.courses import service as courses
from tests.notifier.conftest import NINE, Store, make_score

Logged = Callable[[str], list[dict[str, Any]]]
PATH = "/api/v1/grades/batch"
LAST_TIME = "9999-12-31T23:59:59.999999Z"


def item(course_id: str, token: CourseToken | str, **more: str) -> dict[str, str]:
    """Return one course of a batch request."""
    text = token if isinstance(token, str) else token.reveal()
    return {"course_id": course_id, "token": text, **more}


def post(client: FlaskClient, *items: dict[str, str]) -> list[dict[str, Any]]:
    """Return the responses of a batch."""
    response = client.post(PATH, json={"courses": items})
    assert response.status_code == 200, response.text
    answers: list[dict[str, Any]] = response.json["answers"]
    return answers


@pytest.fixture
def one_of_each(store: Store) -> list[dict[str, str]]:
    """A batch with a course that is returned, and with each kind of refusal."""
    good, superseded, deleted = map(store.add_course, ("CS101", "CS102", "CS103"))
    store.load({"CS101": [make_score()]})
    store.write(courses.regenerate_token, "CS102", now=NINE)
    store.write(courses.delete_course, "CS103", now=NINE)
    return [
        item("CS101", good),
        item("CS101", ""),
        item("CS101", CourseToken.generate()),
        item("CS102", superseded),
        item("CS102", good),
        item("CS103", deleted),
        item("NONE", good),
    ]


def test_each_course_gets_the_response_of_its_own_request(
    client: FlaskClient, one_of_each: list[dict[str, str]]
) -> None:
    response = client.post(PATH, json={"courses": one_of_each})

    assert BatchResponse.model_validate_json(response.data)
    assert response.headers["Cache-Control"] == "no-store"
    for request, answer in zip(one_of_each, response.json["answers"], strict=True):
        bearer = {"Authorization": f"Bearer {request['token']}"}
        alone = client.get(f"/api/v1/courses/{request['course_id']}/grades", headers=bearer)
        document = alone.get_json(force=True)
        document.pop("request_id", None)
        expected = {"course_id": request["course_id"], "status": alone.status_code}
        if alone.status_code == 200:
            expected |= {"etag": alone.headers["ETag"], "grades": document}
        else:
            expected["problem"] = document
        assert answer == expected


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        pytest.param({"if_none_match": '"other", W/{etag}'}, 304, id="same etag"),
        pytest.param(
            {"if_none_match": "garbage,,,", "if_modified_since": LAST_TIME}, 200, id="other etag"
        ),
        pytest.param({"if_modified_since": "0001-01-01T00:00:00Z"}, 200, id="changed since"),
        pytest.param({"if_modified_since": LAST_TIME}, 304, id="not changed since"),
    ],
)
def test_unchanged_course_is_not_sent_again(
    logged: Logged,
    client: FlaskClient,
    store: Store,
    condition: dict[str, str],
    status: int,
) -> None:
    token = store.add_course("CS101")
    store.load({"CS101": [make_score()]})
    (before,) = post(client, item("CS101", token))
    given = {name: text.format(etag=before.get("etag")) for name, text in condition.items()}

    (answer,) = post(client, item("CS101", token, **given))

    expected = before if status == 200 else {"course_id": "CS101", "status": 304}
    assert answer == expected
    *_, line = logged("batch answered")
    assert (line["level"], line["refused"]) == ("info", {})
    assert (line["courses"], line["sent"], line["unchanged"]) == (1, status == 200, status == 304)


def test_batch_with_refusals_is_logged_as_one_warning(
    logged: Logged, client: FlaskClient, one_of_each: list[dict[str, str]]
) -> None:
    post(client, *one_of_each)

    (line,) = logged("batch answered")
    assert line["level"] == "warning"
    assert (line["courses"], line["sent"], line["unchanged"]) == (7, 1, 0)
    assert line["refused"] == {
        "token-malformed": ["CS101"],
        "token-unknown": ["CS101"],
        "token-regenerated": ["CS102"],
        "token-wrong-course": ["CS102"],
        "course-deleted": ["CS103"],
        "course-unknown": ["NONE"],
    }
    tokens = {one["token"] for one in one_of_each} - {""}
    assert not [token for token in tokens if token in json.dumps(line)]


def test_full_batch_names_the_course_that_is_left_out(client: FlaskClient, store: Store) -> None:
    tokens = {course_id: store.add_course(course_id) for course_id in ("CS101", "CS102")}
    long = [make_score(user_id=str(number), comment="x" * 10_000) for number in range(310)]
    store.load({"CS101": long, "CS102": [make_score()]})

    first, second = post(client, *(item(*pair) for pair in tokens.items()))

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
    "course_id",
    [
        pytest.param("", id="empty"),
        pytest.param("\r\nSet-Cookie: x=1", id="line break"),
        pytest.param("🎓" * 255, id="long"),
    ],
)
def test_strange_course_id_refuses_only_itself(
    client: FlaskClient, store: Store, course_id: str
) -> None:
    token = store.add_course("CS101")

    answers = post(client, *(item(name, token) for name in ("CS101", course_id, "CS101")))

    assert [answer["status"] for answer in answers] == [200, 404, 200]
    assert answers[1]["course_id"] == course_id


def test_bearer_in_the_header_is_ignored(client: FlaskClient, store: Store) -> None:
    headers = {"Authorization": f"Bearer {store.add_course('CS101').reveal()}"}

    response = client.post(PATH, json={"courses": [item("CS101", "")]}, headers=headers)

    assert [answer["status"] for answer in response.json["answers"]] == [401]

"""`POST /api/v1/ingest/moodle`: shut without its secret, 200 for all it understands."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier import services
from notifier.models import SCHEMA, Course, Event, MoodleEventReceipt

DOOR = "/api/v1/ingest/moodle"
SECRET = "s3cret-token"
TOLD = json.loads((Path(__file__).parents[1] / "moodle_events.json").read_text(encoding="utf-8"))
Rows = Callable[[], dict[str, list[Any]]]
Refused = Callable[..., dict[str, Any]]


@pytest.fixture
def url(make_database_url: Callable[[Schema], str]) -> str:
    """The URL of an empty, migrated database."""
    return make_database_url(SCHEMA)


@pytest.fixture
def app(make_app: Callable[..., Flask], url: str) -> Flask:
    """eAssessment, hearing from a Moodle."""
    return make_app(database_url=url, ingest_secret=SECRET)


def post(
    client: FlaskClient, body: str | bytes, headers: dict[str, str] | None = None
) -> TestResponse:
    """Post a body as JSON, bearing the secret unless other headers are given."""
    given = {"X-Api-Key": SECRET} if headers is None else headers
    return client.post(DOOR, data=body, headers={"Content-Type": "application/json", **given})


def deletion(course_id: int = 7, **fields: Any) -> str:
    """Return what tells of a course's deletion."""
    told = {"eventname": r"\core\event\course_deleted", "objectid": course_id, "timecreated": 1}
    return json.dumps({**told, **fields})


def outcome(answer: TestResponse) -> Any:
    """Return the outcome of an answer that is exactly 200."""
    assert answer.status_code == 200, answer.text
    assert list(answer.json) == ["outcome"]
    return answer.json["outcome"]


def counted(database: Database) -> tuple[int | None, ...]:
    """Return how many courses, events and taken tellings there are."""
    with database.reading() as session:
        return tuple(
            session.scalar(select(func.count()).select_from(table))
            for table in (Course, Event, MoodleEventReceipt)
        )


def test_tool_trigger_is_heard(client: FlaskClient, database: Database) -> None:
    headers = {**TOLD["tool_trigger"]["headers"], "X-Api-Key": SECRET}

    first = client.post(DOOR, data=TOLD["tool_trigger"]["body"], headers=headers)
    again = client.post(DOOR, data=TOLD["tool_trigger"]["body"], headers=headers)

    assert (outcome(first), outcome(again)) == ("applied", "duplicate")
    with database.reading() as session:
        row = session.scalars(select(MoodleEventReceipt)).one()
        course = session.scalars(select(Course)).one()
    assert row.host == "eassessment.example"
    assert (course.course_id, course.title) == ("7", "HOOK-1795336476")
    assert course.deleted_at is not None


def test_local_webhooks_is_heard(client: FlaskClient, database: Database) -> None:
    told = TOLD["local_webhooks"]

    first = client.post(DOOR, data=told["body"], headers=told["headers"])
    again = client.post(DOOR, data=told["body"], headers=told["headers"])

    assert (outcome(first), outcome(again)) == ("applied", "duplicate")
    with database.reading() as session:
        assert session.scalars(select(MoodleEventReceipt.host)).one() == "moodle.example"
    assert counted(database) == (1, 1, 1)


def test_both_plugins_may_tell_the_same(client: FlaskClient, database: Database) -> None:
    told = TOLD["local_webhooks"]
    client.post(DOOR, data=told["body"], headers=told["headers"])

    answer = post(client, TOLD["tool_trigger"]["body"])

    assert outcome(answer) == "stale"
    assert counted(database) == (1, 1, 2)


def test_unrelated_event_is_ignored(client: FlaskClient, rows: Rows) -> None:
    told = TOLD["local_webhooks_unrelated"]
    before = rows()

    answer = client.post(DOOR, data=told["body"], headers=told["headers"])

    assert outcome(answer) == "ignored"
    assert before == rows()


def test_bearer_of_the_secret_is_heard(client: FlaskClient) -> None:
    answer = post(client, deletion(), {"Authorization": f"Bearer {SECRET}"})

    assert outcome(answer) == "applied"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(deletion(), {}, id="none"),
        pytest.param(deletion(), {"X-Api-Key": ""}, id="an empty header"),
        pytest.param(deletion(), {"X-Api-Key": "abc123"}, id="another"),
        pytest.param(deletion(), {"X-Api-Key": SECRET[:-1]}, id="a character less"),
        pytest.param(deletion(), {"X-Api-Key": f"{SECRET}x"}, id="a character more"),
        pytest.param(deletion(), {"X-Api-Key": SECRET.upper()}, id="another case"),
        pytest.param(deletion(), {"X-Api-Key": "\xe4\xff"}, id="not ASCII"),
        pytest.param(deletion(), {"X-Api-Key": "x" * 8192}, id="8 kB"),
        pytest.param(deletion(), {"Authorization": "Bearer"}, id="Bearer alone"),
        pytest.param(deletion(), {"Authorization": f"Basic {SECRET}"}, id="Basic"),
        pytest.param(
            deletion(token=SECRET), {"X-Api-Key": "planted"}, id="a wrong header, a right body"
        ),
        pytest.param(deletion(token="planted"), {}, id="a wrong body"),
        pytest.param(deletion(token=[SECRET]), {}, id="a list in the body"),
        pytest.param(deletion(other={"token": SECRET}), {}, id="deep in the body"),
        pytest.param(f'{{"token":"{SECRET}","token":"{SECRET}"}}', {}, id="twice in the body"),
        pytest.param(f'["{SECRET}"]', {}, id="an array"),
        pytest.param("", {}, id="an empty body"),
        pytest.param(b"\xff\xfe", {}, id="no UTF-8"),
        pytest.param("[" * 60_000, {}, id="nested deep"),
        pytest.param("{broken", {"X-Api-Key": "planted"}, id="a wrong header, a broken body"),
    ],
)
def test_without_the_secret_nothing_is_heard(
    client: FlaskClient, rows: Rows, refused: Refused, body: Any, headers: dict[str, str]
) -> None:
    before = rows()

    answer = post(client, body, headers)

    problem = refused(answer, 401, "ingest-refused")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="eassessment"'
    assert problem["detail"] in {
        "the request has no ingest secret",
        "the ingest secret is wrong",
    }
    assert SECRET not in answer.text
    assert before == rows()


def test_door_is_shut_while_no_secret_is_set(
    make_app: Callable[..., Flask], url: str, refused: Refused
) -> None:
    client = make_app(database_url=url).test_client()

    answers = [post(client, deletion(token=""), headers) for headers in ({}, {"X-Api-Key": ""})]

    for answer in answers:
        problem = refused(answer, 404, "not-found")
        assert problem["detail"] == "Moodle events are not enabled here"
        assert "NOTIFIER_INGEST_SECRET" in problem["next_step"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        pytest.param("", 400, "request-malformed", id="empty"),
        pytest.param("eventname=x", 400, "request-malformed", id="a form"),
        pytest.param("7", 400, "request-malformed", id="a scalar"),
        pytest.param(f"[{deletion()}]", 400, "request-malformed", id="an array"),
        pytest.param(deletion() + "x", 400, "request-malformed", id="trailing junk"),
        pytest.param("\ufeff" + deletion(), 400, "request-malformed", id="BOM"),
        pytest.param(deletion().encode("utf-16"), 400, "request-malformed", id="UTF-16"),
        pytest.param(
            deletion()[:-1] + ',"objectid":8}', 400, "request-malformed", id="a key twice"
        ),
        pytest.param(deletion()[:-1] + ',"x":NaN}', 400, "request-malformed", id="NaN"),
        pytest.param(
            deletion()[:-1] + ',"x":' + "9" * 5000 + "}", 400, "request-malformed", id="5000 digits"
        ),
        pytest.param(
            deletion()[:-1] + ',"x":' + "[" * 1000 + "]" * 1000 + "}",
            400,
            "request-malformed",
            id="nested 1000 deep",
        ),
        pytest.param(deletion(host="a\x00"), 400, "request-malformed", id="NUL"),
        pytest.param(deletion(host="\ud800"), 400, "request-malformed", id="lone surrogate"),
        pytest.param(deletion(pad="x" * 70_000), 413, "body-too-large", id="too large"),
        pytest.param("{}", 422, "request-invalid", id="no event"),
        pytest.param('{"event":true}', 422, "request-invalid", id="true for an event"),
        pytest.param(deletion(objectid=True), 422, "request-invalid", id="true for an id"),
        pytest.param(deletion(objectid=2**63 - 1, host=["x"]), 422, "request-invalid", id="a list"),
    ],
)
def test_bad_input_is_refused(
    client: FlaskClient, rows: Rows, refused: Refused, body: Any, status: int, kind: str
) -> None:
    before = rows()

    answer = post(client, body)

    refused(answer, status, kind)
    assert before == rows()


def test_deletion_without_an_id_is_pointed_to(client: FlaskClient, refused: Refused) -> None:
    problem = refused(
        post(client, r'{"event":"\\core\\event\\course_deleted","at":"1795336477"}'),
        422,
        "request-invalid",
    )

    assert problem["errors"] == [{"pointer": "/objectid", "detail": "Field required"}]


def test_body_must_be_said_to_be_json(client: FlaskClient, rows: Rows, refused: Refused) -> None:
    before = rows()

    answer = client.post(DOOR, data=deletion(), headers={"X-Api-Key": SECRET})

    refused(answer, 415, "media-type-unsupported")
    assert before == rows()


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        pytest.param("GET", DOOR, 405, "method-not-allowed", id="GET"),
        pytest.param("POST", f"{DOOR}/", 404, "not-found", id="trailing slash"),
    ],
)
def test_wrong_door_is_no_redirect(
    client: FlaskClient, refused: Refused, method: str, path: str, status: int, kind: str
) -> None:
    answer = client.open(path, method=method, data=deletion(), headers={"X-Api-Key": SECRET})

    refused(answer, status, kind)
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("é", id="NFC"),
        pytest.param("e\u0301", id="NFD"),
        pytest.param("\u202egnp.exe", id="right-to-left override"),
        pytest.param("🎓", id="emoji"),
        pytest.param("x" * 10_000, id="10 kB"),
        pytest.param("'; DROP TABLE courses; --", id="SQL"),
        pytest.param("<script>alert(1)</script>", id="markup"),
        pytest.param("=cmd()", id="a formula"),
        pytest.param("a\r\nb", id="line breaks"),
    ],
)
def test_title_is_stored_as_it_is(client: FlaskClient, database: Database, title: str) -> None:
    answer = post(client, deletion(other={"shortname": title}))

    assert outcome(answer) == "applied"
    with database.reading() as session:
        assert session.scalars(select(Course.title)).one() == title


def test_secret_shows_up_nowhere(
    capsys: pytest.CaptureFixture[str], client: FlaskClient, rows: Rows
) -> None:
    told = TOLD["local_webhooks"]

    answers = [
        client.post(DOOR, data=told["body"], headers=told["headers"]),
        post(client, deletion(objectid="x", token=SECRET), {}),
        post(client, deletion(token=SECRET)[:-1], {}),
        post(client, deletion(), {"X-Api-Key": f"{SECRET}x"}),
    ]

    assert [answer.status_code for answer in answers] == [200, 422, 401, 401]
    shown = f"{rows()} {[answer.text for answer in answers]} {capsys.readouterr()}"
    assert "Moodle deletion accepted" in shown  # so what was logged is looked at
    assert SECRET not in shown


def test_category_of_200_courses_is_heard(
    client: FlaskClient, admin: Callable[..., TestResponse], database: Database
) -> None:
    admin("POST", "/endpoints", json={"url": "https://elms.example/webhooks/eassessment"})

    first = [outcome(post(client, deletion(number))) for number in range(1, 201)]
    again = [outcome(post(client, deletion(number))) for number in range(1, 201)]

    assert (first, again) == (["applied"] * 200, ["duplicate"] * 200)
    assert counted(database) == (200, 200, 200)
    told = admin("GET", "/deliveries?limit=1000").json["deliveries"]
    assert len({one["course_id"] for one in told}) == len(told) == 200


def test_same_event_at_once_has_one_effect(app: Flask, database: Database) -> None:
    def tell(_: int) -> Any:
        return outcome(post(app.test_client(), deletion()))

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(tell, range(40)))

    assert outcomes == ["applied"] + ["duplicate"] * 39
    assert counted(database) == (1, 1, 1)


def test_restart_forgets_nothing(make_app: Callable[..., Flask], url: str) -> None:
    before = make_app(database_url=url, ingest_secret=SECRET)
    first = outcome(post(before.test_client(), deletion()))
    services.of(before).database.dispose()

    after = make_app(database_url=url, ingest_secret=SECRET)
    again = outcome(post(after.test_client(), deletion()))

    assert (first, again) == ("applied", "duplicate")


def test_database_that_is_away_is_a_503(
    make_app: Callable[..., Flask], tmp_path: Path, refused: Refused
) -> None:
    away = f"sqlite:///{tmp_path}/none/notifier.db"
    client = make_app(database_url=away, ingest_secret=SECRET).test_client()

    answer = post(client, deletion())

    refused(answer, 503, "database-unavailable")
    assert answer.headers["Retry-After"] == "5"

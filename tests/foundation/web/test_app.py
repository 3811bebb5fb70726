"""The shared Flask app: problems, request bodies and queries, guards, logs."""

import io
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from flask import Flask, request, url_for
from flask.testing import FlaskClient
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import (
    BadGateway,
    ImATeapot,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from werkzeug.test import TestResponse, create_environ, run_wsgi_app

from contract.problems import ProblemType
from foundation import logging
from foundation.errors import Refusal
from foundation.web import app as web
from foundation.web.errors import RETRY_AFTER_SECONDS, AdminKeyError

LIMIT = 100
ADMIN_KEY = "k" * 24
UNUSABLE = OperationalError("SELECT 1", None, Exception("no such table: nowhere"))


class CourseDeletedError(Refusal):
    problem = ProblemType.COURSE_DELETED


class InheritingError(CourseDeletedError):
    """Its problem type is inherited."""


class StrayError(Refusal):
    """It has no problem type."""


class Course(BaseModel):
    model_config = ConfigDict(strict=True)

    course_id: str
    version: int = 1
    tags: list[int] = []

    @field_validator("course_id")
    @classmethod
    def _check(cls, value: str) -> str:
        if value == "hunter2":
            raise ValueError("not a course id")
        return value


class Search(BaseModel):
    limit: Annotated[int, Field(ge=1)] = 10


def make_app(error: Exception | None = None) -> Flask:
    """Return an app with a view for each subject; `/error` raises the error."""
    app = web.new_app("test", {ProblemType.ADMIN_KEY_REFUSED: "Bearer"})

    def fail() -> None:
        raise error or KeyError("x")

    @web.guarded("admin", lambda: web.check_bearer(ADMIN_KEY, AdminKeyError, "admin key"))
    def admin() -> str:
        return "fine"

    app.add_url_rule("/fine", "fine", lambda: "fine")
    app.add_url_rule("/deep/fine", "deep", lambda: "fine")
    app.add_url_rule("/error", "error", fail)
    app.add_url_rule("/admin", "admin", admin)
    app.add_url_rule("/search", "search", lambda: web.parse_query(Search).model_dump())
    for name, view in {
        "raw": lambda: str(len(web.read_body(LIMIT))),
        "unlimited": lambda: request.get_data(),
        "courses": lambda: web.parse_body(Course, LIMIT).model_dump(),
    }.items():
        app.add_url_rule(f"/{name}", name, view, methods=["POST"])
    return app


@pytest.fixture
def client() -> FlaskClient:
    return make_app().test_client()


def response_to(error: Exception) -> TestResponse:
    return make_app(error).test_client().get("/error")


def problem_in(response: TestResponse, status: int, kind: str) -> dict[str, Any]:
    """Return the problem document of a response, which must be complete."""
    document: dict[str, Any] = response.get_json()
    assert (response.status_code, document["type"]) == (status, f"urn:problem-type:{kind}")
    assert response.content_type == "application/problem+json"
    assert document["status"] == status
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert document["detail"]
    assert document["next_step"]
    return document


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("path", ["/fine", "/nowhere", "/error"])
def test_every_response_has_a_request_id_and_is_not_cached(client: FlaskClient, path: str) -> None:
    responses = [client.get(path, headers={"X-Request-Id": "forged"}) for _ in range(2)]

    ids = {response.headers["X-Request-Id"] for response in responses}
    assert len(ids - {"forged"}) == 2
    assert {response.headers["Cache-Control"] for response in responses} == {"no-store"}
    assert {response.headers["X-Content-Type-Options"] for response in responses} == {"nosniff"}


def test_request_is_logged_in_one_line_without_its_query(
    client: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("INFO", "json")

    response = client.get("/fine?token=hunter2", headers={"Authorization": "Bearer hunter2"})

    (line,) = logged(capsys)
    assert (line["method"], line["url"], line["status"]) == ("GET", "http://localhost/fine", 200)
    assert line["request_id"] == response.headers["X-Request-Id"]
    assert line["milliseconds"] >= 0
    assert "hunter2" not in json.dumps(line)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/admin/fine", 200, id="prefix left in the path"),
        pytest.param("/fine", 200, id="prefix removed"),
        pytest.param("/administrator/fine", 404, id="longer word"),
        pytest.param("/admin", 404, id="prefix only"),
        pytest.param("/admin/admin/fine", 404, id="prefix twice"),
    ],
)
def test_prefix_is_part_of_every_url(
    capsys: pytest.CaptureFixture[str], path: str, status: int
) -> None:
    logging.configure("INFO", "json")
    app = make_app()
    app.wsgi_app = web.PathPrefix(app.wsgi_app, "/admin")
    app.add_url_rule("/where", "where", lambda: url_for("fine"))

    response = app.test_client().get(path)

    assert response.status_code == status
    if status == 200:
        assert logged(capsys)[0]["url"] == "http://localhost/admin/fine"
    assert app.test_client().get("/where").text == "/admin/fine"


def test_refusal_is_logged_with_its_type(
    client: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("INFO", "json")

    client.get("/nowhere")

    refused, _ = logged(capsys)
    assert (refused["event"], refused["level"]) == ("request refused", "warning")
    assert (refused["problem"], bool(refused["next_step"])) == ("not-found", True)


def test_refusal_becomes_a_problem_with_its_facts() -> None:
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    refusal = CourseDeletedError("deleted", course_id="CS101", deleted_at=at, unknown=None)

    document = problem_in(response_to(refusal), 410, "course-deleted")

    assert (document["detail"], document["course_id"]) == ("deleted", "CS101")
    assert document["deleted_at"] == "2026-11-22T09:00:00.000000Z"
    assert "unknown" not in document


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        pytest.param(InheritingError("x"), 410, "course-deleted", id="inherited type"),
        pytest.param(StrayError("x"), 500, "internal-error", id="refusal without a type"),
        pytest.param(NotFound(), 404, "not-found", id="404"),
        pytest.param(RequestEntityTooLarge(), 413, "body-too-large", id="413"),
        pytest.param(UnsupportedMediaType(), 415, "media-type-unsupported", id="415"),
        pytest.param(ImATeapot(), 400, "request-malformed", id="other 4xx"),
        pytest.param(BadGateway(), 500, "internal-error", id="other 5xx"),
        pytest.param(UNUSABLE, 503, "database-unavailable", id="database"),
    ],
)
def test_error_has_a_problem_type(error: Exception, status: int, kind: str) -> None:
    response = response_to(error)

    problem_in(response, status, kind)
    assert response.headers.get("Retry-After", type=int) == {503: RETRY_AFTER_SECONDS}.get(status)


@pytest.mark.parametrize(
    ("error", "logged_as"),
    [
        pytest.param(RuntimeError("nowhere.py"), "RuntimeError: nowhere.py", id="unexpected"),
        pytest.param(UNUSABLE, "no such table: nowhere", id="database"),
    ],
)
def test_cause_of_an_error_is_logged_and_not_shown(
    error: Exception, logged_as: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("INFO", "json")

    response = response_to(error)

    assert "nowhere" not in response.text
    assert "Traceback" not in response.text
    line = logged(capsys)[0]
    assert logged_as in line.get("exception", line.get("cause"))
    assert (line["request_id"], line["level"]) == (response.headers["X-Request-Id"], "error")


@pytest.mark.parametrize("path", ["", "/", "/nowhere", "/fine/", "/deep//fine", "//fine", "/FINE"])
def test_other_path_is_not_found_and_never_redirected(client: FlaskClient, path: str) -> None:
    response = client.open(environ_overrides={"PATH_INFO": path})

    problem_in(response, 404, "not-found")
    assert "Location" not in response.headers


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_other_method_is_refused_with_the_allowed_ones(client: FlaskClient, method: str) -> None:
    response = client.open("/raw", method=method)

    problem_in(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("protocol", "host", "statuses"),
    [
        pytest.param("HTTP/1.0", None, {200}, id="none in HTTP/1.0"),
        pytest.param("HTTP/1.1", None, {400}, id="none"),
        pytest.param("HTTP/1.1", "xn--zzzz99999", {200, 400}, id="not punycode"),
        pytest.param("HTTP/1.1", "\x00", {200, 400}, id="NUL"),
        pytest.param("HTTP/1.1", "é", {200, 400}, id="not ASCII"),
    ],
)
def test_invalid_host_is_not_an_internal_error(
    protocol: str, host: str | None, statuses: set[int]
) -> None:
    # The test client cannot send these.
    environ = {**create_environ("/fine"), "SERVER_PROTOCOL": protocol, "HTTP_HOST": host}
    if host is None:
        del environ["HTTP_HOST"]

    _, status, _ = run_wsgi_app(make_app(), environ)

    assert int(status.split()[0]) in statuses


@pytest.mark.parametrize("path", ["/nowhere%00", "/fine?name=a&name=%00"])
def test_nul_in_the_url_is_refused(client: FlaskClient, path: str) -> None:
    assert "NUL" in problem_in(client.get(path), 400, "request-malformed")["detail"]


class Endless(io.RawIOBase):
    """A body without an end that counts the bytes read of it."""

    bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b"x" * len(buffer)
        self.bytes_read += len(buffer)
        return len(buffer)


def post_stream(client: FlaskClient, stream: io.IOBase, length: str) -> TestResponse:
    """Post a body with a Content-Length, or chunked if that is empty."""
    environ: dict[str, Any] = {"wsgi.input": stream, "CONTENT_LENGTH": length}
    if not length:
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return client.post("/raw", environ_overrides=environ)


@pytest.mark.parametrize("length", ["", str(LIMIT)], ids=["chunked", "stated"])
def test_body_up_to_the_limit_is_read(client: FlaskClient, length: str) -> None:
    assert post_stream(client, io.BytesIO(b"x" * LIMIT), length).text == str(LIMIT)


@pytest.mark.parametrize(
    ("length", "most_read"), [(str(LIMIT + 1), 0), ("", 2 * 65_536)], ids=["stated", "chunked"]
)
def test_endless_body_is_refused_and_not_read_on(
    client: FlaskClient, length: str, most_read: int
) -> None:
    stream = Endless()

    problem_in(post_stream(client, stream, length), 413, "body-too-large")

    assert stream.bytes_read <= most_read


def test_chunked_body_just_above_the_limit_is_refused(client: FlaskClient) -> None:
    response = post_stream(client, io.BytesIO(b"x" * (LIMIT + 1)), "")

    problem_in(response, 413, "body-too-large")


@pytest.mark.parametrize("terminated", [{}, {"wsgi.input_terminated": True}])
def test_body_shorter_than_stated_is_refused(
    client: FlaskClient, terminated: dict[str, bool]
) -> None:
    stream = {"wsgi.input": io.BytesIO(b"short"), "CONTENT_LENGTH": str(LIMIT), **terminated}

    problem_in(client.post("/raw", environ_overrides=stream), 400, "request-malformed")


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 30])
def test_invalid_length_is_refused(client: FlaskClient, length: str) -> None:
    stated = {"CONTENT_LENGTH": length}

    response = client.post("/courses", json={"course_id": "a"}, environ_overrides=stated)

    assert response.status_code in {400, 413}


def test_view_without_a_limit_reads_nothing(client: FlaskClient) -> None:
    problem_in(client.post("/unlimited", data=b"x"), 413, "body-too-large")


def post_course(client: FlaskClient, raw: bytes, kind: str = "application/json") -> TestResponse:
    return client.post("/courses", data=raw, content_type=kind)


def test_valid_body_is_parsed(client: FlaskClient) -> None:
    raw = '{"course_id":"Übung","more":1}'.encode()

    response = post_course(client, raw, "application/json; charset=utf-8")

    assert response.get_json() == {"course_id": "Übung", "version": 1, "tags": []}


@pytest.mark.parametrize("kind", ["application/jsonx", ""])
def test_other_media_type_is_refused(client: FlaskClient, kind: str) -> None:
    response = post_course(client, b'{"course_id":"CS101"}', kind)

    assert kind in problem_in(response, 415, "media-type-unsupported")["detail"]


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        pytest.param("gzip", 415, id="other"),
        pytest.param("identity, br", 415, id="several"),
        pytest.param("Identity", 200, id="identity"),
        pytest.param("", 200, id="empty"),
    ],
)
def test_encoded_body_is_refused(client: FlaskClient, coding: str, status: int) -> None:
    response = client.post(
        "/courses", json={"course_id": "CS101"}, headers={"Content-Encoding": coding}
    )

    assert response.status_code == status
    if status == 415:
        problem = problem_in(response, 415, "media-type-unsupported")
        assert problem["detail"] == f"the content encoding is {coding!r}, not identity"
        assert problem["next_step"] == "Send the body as it is, without Content-Encoding."


def test_malformed_json_is_refused(client: FlaskClient) -> None:
    response = post_course(client, b'{"course_id":"a","course_id":"b"}')

    problem_in(response, 400, "request-malformed")


@pytest.mark.parametrize(
    ("raw", "pointers"),
    [
        pytest.param(b'{"course_id":7,"version":true}', ["/course_id", "/version"], id="two"),
        pytest.param(b'{"course_id":"a","tags":[1,"2"]}', ["/tags/1"], id="in an array"),
        pytest.param(b'{"course_id":"hunter2"}', ["/course_id"], id="validator"),
        pytest.param(b"[]", [""], id="not an object"),
    ],
)
def test_every_invalid_field_is_named_without_its_value(
    client: FlaskClient, raw: bytes, pointers: list[str]
) -> None:
    document = problem_in(post_course(client, raw), 422, "request-invalid")

    assert [error["pointer"] for error in document["errors"]] == pointers
    assert document["detail"].endswith(document["errors"][0]["detail"])
    assert "hunter2" not in json.dumps(document)


@pytest.mark.parametrize(("query", "limit"), [("limit=5", 5), ("other=1", 10)])
def test_valid_query_is_parsed(client: FlaskClient, query: str, limit: int) -> None:
    assert client.get(f"/search?{query}").get_json() == {"limit": limit}


@pytest.mark.parametrize("query", ["limit=0", "limit=" + "9" * 5000, "limit=1&limit=2"])
def test_invalid_query_is_refused(client: FlaskClient, query: str) -> None:
    document = problem_in(client.get(f"/search?{query}"), 422, "request-invalid")

    assert [error["pointer"] for error in document["errors"]] == ["/limit"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_admin_key_is_accepted(client: FlaskClient, scheme: str) -> None:
    response = client.get("/admin", headers={"Authorization": f"{scheme} {ADMIN_KEY}"})

    assert response.text == "fine"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("Bearer", id="scheme only"),
        pytest.param(ADMIN_KEY, id="no scheme"),
        pytest.param(f"Basic {ADMIN_KEY}", id="other scheme"),
        pytest.param("Bearer hunter2", id="other key"),
        pytest.param("Bearer é", id="not ASCII"),
    ],
)
def test_wrong_admin_key_is_refused_with_a_challenge(client: FlaskClient, header: str) -> None:
    response = client.get(f"/admin?admin_key={ADMIN_KEY}", headers={"Authorization": header})

    problem_in(response, 401, "admin-key-refused")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "hunter2" not in response.text
    assert ADMIN_KEY not in response.text


def test_guarded_view_states_its_guard() -> None:
    views = make_app().view_functions

    assert views["admin"].guard == "admin"  # type: ignore[attr-defined]
    assert not hasattr(views["fine"], "guard")

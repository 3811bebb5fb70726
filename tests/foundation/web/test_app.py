"""Every door's manners: problems for errors, one log line a request, limits, who may come in."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import text
from werkzeug.test import TestResponse, create_environ, run_wsgi_app

from contract.problems import Problem, ProblemType
from foundation import logging
from foundation.db.session import Database
from foundation.errors import Refusal
from foundation.web import app as web
from foundation.web.errors import RETRY_AFTER_SECONDS

LIMIT = 100
ADMIN_KEY = "k" * 24


class CourseDeletedError(Refusal):
    """The tests' own refusal, of a type in the table."""

    next_step = "Take the course out of the sync."


class LongDeletedError(CourseDeletedError):
    """A kind of the refusal above."""


class StrayError(Refusal):
    """A refusal that nobody put into the table."""


class Course(BaseModel):
    """What the tests send."""

    model_config = ConfigDict(strict=True)

    course_id: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)] = 1
    tags: list[int] = []

    @field_validator("course_id")
    @classmethod
    def _is_a_course(cls, value: str) -> str:
        if value == "hunter2":
            raise ValueError("a course id is no password")
        return value


class Search(BaseModel):
    """What the tests ask for."""

    limit: Annotated[int, Field(ge=1)] = 10


def make_app(fault: Callable[[], None] = lambda: None) -> Flask:
    """Return an app with a door for each kind of manners; `/fault` does what it is given."""
    app = web.new_app(
        "ground",
        {CourseDeletedError: ProblemType.COURSE_DELETED},
        lambda problem: {"X-Challenge": problem.type} if problem.status == 401 else {},
    )

    @app.get("/fine")
    def fine() -> dict[str, str]:
        return {"answer": "fine"}

    @app.get("/deep/fine")
    def deep() -> dict[str, str]:
        return {"answer": "fine"}

    @app.get("/fault")
    def faulty() -> dict[str, str]:
        fault()
        return {"answer": "no fault"}

    @app.post("/raw")
    def raw() -> dict[str, Any]:
        return {"bytes": len(web.read_body(LIMIT))}

    @app.post("/unlimited")
    def unlimited() -> dict[str, Any]:
        from flask import request

        return {"bytes": len(request.get_data())}

    @app.post("/courses")
    def courses() -> dict[str, Any]:
        return web.parse_body(Course, LIMIT).model_dump()

    @app.get("/search")
    def search() -> dict[str, Any]:
        return web.parse_query(Search).model_dump()

    @app.get("/admin")
    @web.guarded("admin", lambda: web.check_admin_key(ADMIN_KEY))
    def admin() -> dict[str, str]:
        return {"answer": "come in"}

    return app


@pytest.fixture
def client() -> FlaskClient:
    """A client of the app."""
    return make_app().test_client()


def faulty_client(fault: Callable[[], None]) -> FlaskClient:
    """Return a client of an app whose `/fault` does this."""
    return make_app(fault).test_client()


def raising(error: Exception) -> Callable[[], None]:
    """Return what raises the error."""

    def fail() -> None:
        raise error

    return fail


def status_of(**variables: str | None) -> int:
    """Return the status of a request that the test client, which looks up its Host, cannot make."""
    environ = {**create_environ("/fine"), **variables}
    given = {name: value for name, value in environ.items() if value is not None}
    _, status, _ = run_wsgi_app(make_app(), given)
    return int(status.split()[0])


def problem_of(answer: TestResponse, status: int, kind: str) -> dict[str, Any]:
    """Return an answer's problem document, of this status and type, complete in its form."""
    document = answer.get_json()
    assert (answer.status_code, document["type"]) == (status, f"urn:problem-type:{kind}")
    assert answer.content_type == "application/problem+json"
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert document["detail"]
    assert document["next_step"]
    assert isinstance(document, dict)
    return document


class TestEveryAnswer:
    """What each answer has, whatever it is."""

    @pytest.mark.parametrize("path", ["/fine", "/nowhere", "/fault"])
    def test_it_has_an_id_and_is_not_kept(self, path: str) -> None:
        client = faulty_client(raising(KeyError("ours")))

        answers = [client.get(path) for _ in range(2)]

        ids = {answer.headers["X-Request-Id"] for answer in answers}
        assert len(ids) == 2
        assert all(len(request_id) == 16 for request_id in ids)
        assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
        assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}

    def test_the_id_is_ours_and_not_the_callers(self, client: FlaskClient) -> None:
        answer = client.get("/fine", headers={"X-Request-Id": "forged"})

        assert answer.headers["X-Request-Id"] != "forged"

    @pytest.mark.usefixtures("logging_restored")
    def test_it_is_logged_in_one_line_without_its_query(
        self, client: FlaskClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logging.configure("INFO", "json")

        answer = client.get("/fine?token=hunter2", headers={"Authorization": "Bearer hunter2"})

        (line,) = map(json.loads, capsys.readouterr().err.splitlines())
        assert line["event"] == "request answered"
        assert (line["method"], line["url"], line["status"]) == (
            "GET",
            "http://localhost/fine",
            200,
        )
        assert line["request_id"] == answer.headers["X-Request-Id"]
        assert line["milliseconds"] >= 0
        assert "hunter2" not in json.dumps(line)


class TestProblems:
    """Every error is a problem document."""

    def test_a_refusal_is_the_problem_of_its_type(self) -> None:
        refused = CourseDeletedError(
            "the course is deleted",
            course_id="CS101",
            deleted_at=datetime(2026, 11, 22, 9, tzinfo=UTC),
            unknown=None,
        )

        answer = faulty_client(raising(refused)).get("/fault")

        document = problem_of(answer, 410, "course-deleted")
        assert document == {
            "type": "urn:problem-type:course-deleted",
            "title": "Course deleted",
            "status": 410,
            "detail": "the course is deleted",
            "next_step": "Take the course out of the sync.",
            "course_id": "CS101",
            "deleted_at": "2026-11-22T09:00:00+00:00",
            "request_id": answer.headers["X-Request-Id"],
        }

    def test_a_kind_of_a_refusal_is_of_its_type(self) -> None:
        answer = faulty_client(raising(LongDeletedError("long ago"))).get("/fault")

        assert problem_of(answer, 410, "course-deleted")["detail"] == "long ago"

    def test_a_refusal_that_has_no_type_is_a_fault_of_ours(self) -> None:
        answer = faulty_client(raising(StrayError("stray"))).get("/fault")

        problem_of(answer, 500, "internal-error")

    def test_a_challenge_goes_with_a_refusal(self, client: FlaskClient) -> None:
        answer = client.get("/admin")

        assert answer.headers["X-Challenge"] == "admin-key-refused"

    @pytest.mark.parametrize(
        "path", ["/nowhere", "/fine/", "/fine//", "/deep//fine", "//", "/", "/FINE"]
    )
    def test_another_path_is_not_found_and_never_redirected(
        self, client: FlaskClient, path: str
    ) -> None:
        answer = client.get(environ_overrides={"PATH_INFO": path})

        assert "redirected" in problem_of(answer, 404, "not-found")["next_step"]
        assert "Location" not in answer.headers

    @pytest.mark.parametrize("path", ["/raw/", "/raw//"])
    def test_a_post_to_another_path_is_not_redirected_either(
        self, client: FlaskClient, path: str
    ) -> None:
        answer = client.post(data=b"x", environ_overrides={"PATH_INFO": path})

        problem_of(answer, 404, "not-found")
        assert "Location" not in answer.headers

    def test_two_slashes_in_front_are_another_path(self, client: FlaskClient) -> None:
        """A path has one spelling, though werkzeug takes leading slashes for one (B12)."""
        answer = client.post(data=b"x", environ_overrides={"PATH_INFO": "//raw"})

        problem_of(answer, 404, "not-found")

    def test_a_request_without_a_host_is_malformed(self, client: FlaskClient) -> None:
        statuses = {
            protocol: status_of(SERVER_PROTOCOL=protocol, HTTP_HOST=None)
            for protocol in ("HTTP/1.0", "HTTP/1.1")
        }

        assert statuses == {"HTTP/1.0": 200, "HTTP/1.1": 400}

    @pytest.mark.parametrize(
        "host",
        [
            pytest.param("xn--a", id="no name in IDNA"),
            pytest.param("xn--zzzz99999", id="no punycode"),
            pytest.param("..", id="dots"),
            pytest.param("[", id="half an address"),
            pytest.param("a" * 300, id="too long"),
            pytest.param("\x00", id="NUL"),
            pytest.param("<script>", id="markup"),
            pytest.param("é", id="not ASCII"),
        ],
    )
    def test_no_host_makes_a_request_fail(self, host: str) -> None:
        assert status_of(HTTP_HOST=host) in {200, 400}

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    def test_another_method_is_told_which_are_allowed(
        self, client: FlaskClient, method: str
    ) -> None:
        answer = client.open("/raw", method=method)

        problem_of(answer, 405, "method-not-allowed")
        assert answer.headers["Allow"] == "POST"

    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            (400, 400, "request-malformed"),
            (404, 404, "not-found"),
            (413, 413, "body-too-large"),
            (415, 415, "media-type-unsupported"),
            (418, 400, "request-malformed"),
            (431, 400, "request-malformed"),
            (500, 500, "internal-error"),
            (502, 500, "internal-error"),
        ],
    )
    def test_each_http_error_is_a_problem_with_a_type_of_ours(
        self, code: int, status: int, kind: str
    ) -> None:
        def stop() -> None:
            abort(code)

        problem_of(faulty_client(stop).get("/fault"), status, kind)

    @pytest.mark.usefixtures("logging_restored")
    def test_what_nobody_foresaw_is_a_500_with_an_id_and_no_trace(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logging.configure("INFO", "json")
        client = faulty_client(raising(RuntimeError("hunter2 at /srv/secret.py")))

        answer = client.get("/fault")

        document = problem_of(answer, 500, "internal-error")
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        (failed,) = [line for line in lines if line["event"] == "request failed unforeseen"]
        assert document["detail"] == "the request failed for a reason that is ours"
        assert not any(
            told in answer.get_data(as_text=True) for told in ("hunter2", "Traceback", ".py")
        )
        assert "RuntimeError: hunter2 at /srv/secret.py" in failed["exception"]
        assert failed["request_id"] == document["request_id"]
        assert failed["level"] == "error"

    @pytest.mark.usefixtures("logging_restored")
    def test_a_database_that_cannot_be_used_is_a_503(
        self, new_sqlite: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logging.configure("INFO", "json")

        def ask() -> None:
            with new_sqlite.reading() as session:
                session.execute(text("SELECT * FROM nowhere"))

        answer = faulty_client(ask).get("/fault")

        document = problem_of(answer, 503, "database-unavailable")
        assert answer.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
        assert document["next_step"] == "Try again after 5 seconds."
        assert "nowhere" not in answer.get_data(as_text=True)
        assert "no such table: nowhere" in capsys.readouterr().err

    def test_a_locked_database_is_a_503(self, new_sqlite: Database) -> None:
        def write() -> None:
            with new_sqlite.writing() as session:
                session.connection()

        with new_sqlite.writing() as other:
            other.connection()
            answer = faulty_client(write).get("/fault")

        problem_of(answer, 503, "database-unavailable")

    def test_a_refusal_is_logged_once_with_its_type(
        self, capsys: pytest.CaptureFixture[str], logging_restored: None
    ) -> None:
        logging.configure("INFO", "json")

        make_app().test_client().get("/nowhere")

        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        (refused,) = [line for line in lines if line["event"] == "request refused"]
        assert (refused["problem"], refused["level"]) == ("not-found", "warning")
        assert refused["next_step"] == "Check the path; nothing is redirected here."
        assert [line["event"] for line in lines] == ["request refused", "request answered"]

    @pytest.mark.parametrize("path", ["/nowhere%00", "/fine?name=a%00b", "/fine?name=a&name=%00"])
    def test_nul_in_the_url_is_refused_at_the_door(self, client: FlaskClient, path: str) -> None:
        answer = client.get(path)

        assert "NUL" in problem_of(answer, 400, "request-malformed")["detail"]


class Unreadable(io.RawIOBase):
    """A body that must not be read."""

    def readable(self) -> bool:
        """Say that it could be."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fail the test."""
        raise AssertionError("the body was read")


class Endless(io.RawIOBase):
    """A body without an end, that counts what was read of it."""

    given = 0

    def readable(self) -> bool:
        """Say that it can be."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill whatever is asked for."""
        buffer[:] = b"x" * len(buffer)
        self.given += len(buffer)
        return len(buffer)


def post_stream(client: FlaskClient, stream: io.IOBase, length: str) -> TestResponse:
    """Post a body that is said to be so long."""
    return client.post("/raw", environ_overrides={"wsgi.input": stream, "CONTENT_LENGTH": length})


def post_chunked(client: FlaskClient, stream: io.IOBase) -> TestResponse:
    """Post a body of no stated length, as a server hands on a chunked one."""
    return client.post(
        "/raw",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={
            "wsgi.input": stream,
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": "",
        },
    )


class TestBody:
    """Bodies, up to their limit."""

    @pytest.mark.parametrize("size", [0, 1, LIMIT])
    def test_a_body_up_to_the_limit_is_read(self, client: FlaskClient, size: int) -> None:
        assert client.post("/raw", data=b"x" * size).get_json() == {"bytes": size}

    @pytest.mark.parametrize("size", [0, 1, LIMIT])
    def test_a_chunked_body_up_to_the_limit_is_read(self, client: FlaskClient, size: int) -> None:
        answer = post_chunked(client, io.BytesIO(b"x" * size))

        assert answer.get_json() == {"bytes": size}

    def test_a_larger_body_is_refused_unread(self, client: FlaskClient) -> None:
        answer = post_stream(client, Unreadable(), str(LIMIT + 1))

        document = problem_of(answer, 413, "body-too-large")
        assert document["detail"] == f"the body is larger than {LIMIT} bytes"

    @pytest.mark.parametrize("size", [LIMIT + 1, 10_000])
    def test_a_larger_chunked_body_is_refused_and_not_cut(
        self, client: FlaskClient, size: int
    ) -> None:
        answer = post_chunked(client, io.BytesIO(b"x" * size))

        problem_of(answer, 413, "body-too-large")

    def test_an_endless_chunked_body_is_refused_in_bounded_memory(
        self, client: FlaskClient
    ) -> None:
        stream = Endless()

        answer = post_chunked(client, stream)

        problem_of(answer, 413, "body-too-large")
        assert stream.given <= 2 * 65_536

    def test_a_body_shorter_than_it_says_is_refused(self, client: FlaskClient) -> None:
        answer = post_stream(client, io.BytesIO(b"short"), str(LIMIT))

        problem_of(answer, 400, "request-malformed")

    def test_a_body_that_the_server_saw_end_early_is_refused(self, client: FlaskClient) -> None:
        """What arrived before the client went away is not taken for the whole (B5)."""
        stream = {"wsgi.input": io.BytesIO(b"short"), "wsgi.input_terminated": True}

        answer = client.post("/raw", environ_overrides={**stream, "CONTENT_LENGTH": str(LIMIT)})

        document = problem_of(answer, 400, "request-malformed")
        assert document["detail"] == f"the body ended after 5 of {LIMIT} bytes"

    @pytest.mark.parametrize("length", ["-1", "abc", "1e3", "9" * 30])
    def test_a_nonsensical_length_is_no_500(self, client: FlaskClient, length: str) -> None:
        answer = client.post(
            "/courses",
            input_stream=io.BytesIO(b"{}"),
            content_type="application/json",
            environ_overrides={"CONTENT_LENGTH": length},
        )

        assert answer.status_code in {400, 413}
        assert answer.content_type == "application/problem+json"

    def test_a_view_that_states_no_limit_reads_nothing(self, client: FlaskClient) -> None:
        answer = client.post("/unlimited", data=b"x")

        problem_of(answer, 413, "body-too-large")


def post_course(client: FlaskClient, raw: bytes, kind: str = "application/json") -> TestResponse:
    """Post a course as these bytes."""
    return client.post("/courses", data=raw, content_type=kind)


class TestParsed:
    """A body as a model."""

    @pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
    def test_a_good_body_is_a_model(self, client: FlaskClient, kind: str) -> None:
        answer = post_course(client, '{"course_id":"Übung","more":1}'.encode(), kind)

        assert answer.get_json() == {"course_id": "Übung", "version": 1, "tags": []}

    @pytest.mark.parametrize(
        ("kind", "named"),
        [
            ("text/plain", "'text/plain'"),
            ("application/x-www-form-urlencoded", "'application/x-www-form-urlencoded'"),
            ("application/jsonx", "'application/jsonx'"),
            ("", "'nothing'"),
        ],
    )
    def test_another_media_type_is_refused(
        self, client: FlaskClient, kind: str, named: str
    ) -> None:
        answer = post_course(client, b'{"course_id":"CS101"}', kind)

        document = problem_of(answer, 415, "media-type-unsupported")
        assert document["detail"] == f"the body is said to be {named}, not JSON"

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            pytest.param(b"", "the body is not JSON", id="empty"),
            pytest.param(b"{", "the body is not JSON", id="cut short"),
            pytest.param(b"\xff", "the body is not UTF-8", id="not UTF-8"),
            pytest.param(b'{"course_id":"a","course_id":"b"}', "duplicate key", id="same key"),
            pytest.param(b'{"course_id":"a","x":NaN}', "NaN is not a JSON number", id="NaN"),
            pytest.param(b'{"x":1e999}', "too large", id="an infinite number"),
            pytest.param(b"[" * 48 + b"]" * 48, "nested deeper than 32 levels", id="deep"),
            pytest.param(b'{"course_id":"\\u0000"}', "NUL or a lone surrogate", id="NUL"),
            pytest.param(b'{"course_id":"\\ud800"}', "NUL or a lone surrogate", id="surrogate"),
            pytest.param(b'{"version":9223372036854775808}', "64 bits", id="2^63"),
        ],
    )
    def test_what_is_no_plain_json_is_malformed(
        self, client: FlaskClient, raw: bytes, message: str
    ) -> None:
        assert message in problem_of(post_course(client, raw), 400, "request-malformed")["detail"]

    def test_thousands_of_levels_are_no_500(self) -> None:
        app = make_app()

        @app.post("/large")
        def large() -> dict[str, Any]:
            return web.parse_body(Course, 1_000_000).model_dump()

        answer = app.test_client().post(
            "/large", data=b"[" * 400_000, content_type="application/json"
        )

        assert "nested" in problem_of(answer, 400, "request-malformed")["detail"]

    @pytest.mark.parametrize(
        ("raw", "faults"),
        [
            pytest.param(b"{}", {"/course_id": "Field required"}, id="missing"),
            pytest.param(
                b'{"course_id":7,"version":true}',
                {
                    "/course_id": "Input should be a valid string",
                    "/version": "Input should be a valid integer",
                },
                id="two of another type",
            ),
            pytest.param(
                b'{"course_id":"a","version":0}',
                {"/version": "Input should be greater than or equal to 1"},
                id="out of bounds",
            ),
            pytest.param(
                b'{"course_id":"a","tags":[1,"2"]}',
                {"/tags/1": "Input should be a valid integer"},
                id="deep in an array",
            ),
            pytest.param(
                b'{"course_id":"hunter2"}',
                {"/course_id": "a course id is no password"},
                id="a rule of our own",
            ),
        ],
    )
    def test_every_wrong_field_is_pointed_to(
        self, client: FlaskClient, raw: bytes, faults: dict[str, str]
    ) -> None:
        document = problem_of(post_course(client, raw), 422, "request-invalid")

        assert {fault["pointer"]: fault["detail"] for fault in document["errors"]} == faults
        first, message = next(iter(faults.items()))
        assert document["detail"] == f"{first}: {message}"
        assert "hunter2" not in json.dumps(document)

    @pytest.mark.parametrize("raw", [b"[]", b"7", b"null", b'"x"'])
    def test_what_is_no_object_is_told_of_the_whole(self, client: FlaskClient, raw: bytes) -> None:
        document = problem_of(post_course(client, raw), 422, "request-invalid")

        assert document["errors"][0]["pointer"] == ""
        assert document["detail"].startswith("the whole of it: Input should be")


class TestQuery:
    """A query string as a model."""

    @pytest.mark.parametrize(("query", "limit"), [("", 10), ("limit=5", 5), ("other=1", 10)])
    def test_a_good_query_is_a_model(self, client: FlaskClient, query: str, limit: int) -> None:
        assert client.get(f"/search?{query}").get_json() == {"limit": limit}

    @pytest.mark.parametrize("value", ["0", "x", "1.5", "", "9" * 5000])
    def test_a_wrong_value_is_pointed_to(self, client: FlaskClient, value: str) -> None:
        document = problem_of(client.get(f"/search?limit={value}"), 422, "request-invalid")

        assert [fault["pointer"] for fault in document["errors"]] == ["/limit"]

    def test_a_name_given_twice_is_refused(self, client: FlaskClient) -> None:
        document = problem_of(client.get("/search?limit=1&limit=2"), 422, "request-invalid")

        assert document["detail"] == "/limit: is given more than once"


class TestAdminKey:
    """Who may administer."""

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_the_key_opens(self, client: FlaskClient, scheme: str) -> None:
        answer = client.get("/admin", headers={"Authorization": f"{scheme} {ADMIN_KEY}"})

        assert answer.get_json() == {"answer": "come in"}

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            pytest.param(None, "the request bears no admin key", id="no header"),
            pytest.param("", "the request bears no admin key", id="an empty one"),
            pytest.param("Bearer", "the request bears no admin key", id="a scheme alone"),
            pytest.param(ADMIN_KEY, "the request bears no admin key", id="no scheme"),
            pytest.param(f"Basic {ADMIN_KEY}", "the request bears no admin key", id="Basic"),
            pytest.param("Bearer hunter2", "the admin key is wrong", id="another key"),
            pytest.param(f"Bearer {ADMIN_KEY}k", "the admin key is wrong", id="longer"),
            pytest.param(f"Bearer {ADMIN_KEY[:-1]}", "the admin key is wrong", id="shorter"),
            pytest.param(f"Bearer {ADMIN_KEY.upper()}", "the admin key is wrong", id="other case"),
            pytest.param("Bearer é", "the admin key is wrong", id="not ASCII"),
            pytest.param(f"Bearer Bearer {ADMIN_KEY}", "the admin key is wrong", id="twice"),
        ],
    )
    def test_nothing_else_does(self, client: FlaskClient, header: str | None, message: str) -> None:
        headers = {} if header is None else {"Authorization": header}

        answer = client.get("/admin", headers=headers)

        document = problem_of(answer, 401, "admin-key-refused")
        assert document["detail"] == message
        assert "hunter2" not in answer.get_data(as_text=True)
        assert ADMIN_KEY not in answer.get_data(as_text=True)

    def test_a_key_in_the_query_does_not_count(self, client: FlaskClient) -> None:
        problem_of(client.get(f"/admin?admin_key={ADMIN_KEY}"), 401, "admin-key-refused")

    def test_a_route_states_its_guard(self) -> None:
        app = make_app()

        assert app.view_functions["admin"].guard == "admin"  # type: ignore[attr-defined]
        assert not hasattr(app.view_functions["fine"], "guard")


def test_facts_are_json_ready() -> None:
    facts = web.to_json({"at": datetime(2026, 11, 22, 9, tzinfo=UTC), "n": 1, "none": None})

    assert facts == {"at": "2026-11-22T09:00:00+00:00", "n": 1}


def test_a_challenge_is_asked_of_every_problem_by_a_refusal() -> None:
    asked: list[Problem] = []

    def challenge(problem: Problem) -> dict[str, str]:
        asked.append(problem)
        return {}

    app = web.new_app("ground", {CourseDeletedError: ProblemType.COURSE_DELETED}, challenge)
    app.add_url_rule("/fault", view_func=raising(CourseDeletedError("gone", course_id="CS101")))

    app.test_client().get("/fault")

    assert [(problem.type, problem.facts) for problem in asked] == [
        (ProblemType.COURSE_DELETED, {"course_id": "CS101"})
    ]

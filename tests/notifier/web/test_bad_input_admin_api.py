"""Bad input at the admin API, row by row: the right 4xx, and not a byte of state changes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation import logging
from foundation.cli import output
from foundation.db.session import Database
from foundation.text import escaped
from notifier.models import DeliveryStatus

BASE = "/api/v1/admin"
URL = "https://elms.example/webhooks/another"
SCORE = {
    "userId": "ben",
    "scoreGiven": "7.5",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:30:00Z",
}
WRITES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/courses"): {"course_id": "CS300", "title": "x"},
    ("PUT", "/courses/CS101/grades"): {"scores": [SCORE]},
    ("POST", "/endpoints"): {"url": URL},
    ("POST", "/deliveries/replay"): {"filter": {}},
}
"""Every route that takes a body, with one that it would take."""
Rows = Callable[[], dict[str, list[Any]]]
Refused = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Sent:
    """A request of somebody who bears the admin key."""

    method: str
    path: str
    body: bytes = b""
    content_type: str | None = "application/json"
    environ: Mapping[str, Any] = field(default_factory=dict)


Send = Callable[[Sent], TestResponse]


@pytest.fixture
def careless(app: Flask) -> FlaskClient:
    """A client that does not look at what it sends."""
    return FlaskClient(app, app.response_class, use_cookies=False)


@pytest.fixture
def send(careless: FlaskClient, admin_key: str) -> Send:
    """Return what sends a request with the admin key, unless another header is given."""

    def give(sent: Sent) -> TestResponse:
        return careless.open(
            f"{BASE}{sent.path}",
            method=sent.method,
            data=sent.body,
            content_type=sent.content_type,
            environ_overrides={"HTTP_AUTHORIZATION": f"Bearer {admin_key}", **sent.environ},
        )

    return give


@pytest.fixture
def lived_in(
    make_course: Callable[..., str],
    make_delivery: Callable[..., int],
    admin: Callable[..., TestResponse],
) -> None:
    """An eAssessment with a course and its grades, a deleted one, and a dead delivery."""
    make_course("CS101")
    admin("PUT", "/courses/CS101/grades", json={"scores": [SCORE]})
    make_delivery("CS200", DeliveryStatus.DEAD)


def test_every_write_here_would_be_taken(lived_in: None, send: Send) -> None:
    answers = [
        send(Sent(method, path, json.dumps(document).encode()))
        for (method, path), document in WRITES.items()
    ]

    assert {answer.status_code for answer in answers} <= {200, 201}


KEYS: list[tuple[str, Callable[[str], str]]] = [
    ("empty", lambda key: ""),
    ("the key alone", lambda key: key),
    ("the scheme alone", lambda key: "Bearer"),
    ("Basic", lambda key: f"Basic {key}"),
    ("Bearer twice", lambda key: f"Bearer Bearer {key}"),
    ("the header twice", lambda key: f"Bearer {key},Bearer {key}"),
    ("a character less", lambda key: f"Bearer {key[:-1]}"),
    ("a character more", lambda key: f"Bearer {key}x"),
    ("another case", lambda key: f"Bearer {key.upper()}"),
    ("NUL after it", lambda key: f"Bearer {key}\x00"),
    ("a tab for a space", lambda key: f"Bearer\t{key}"),
    ("not ASCII", lambda key: "Bearer \xe4\xff"),
    ("of 8 kB", lambda key: "Bearer " + "x" * 8192),
    ("a course token", lambda key: f"Bearer {CourseToken.generate().reveal()}"),
]


def test_without_the_key_nothing_is_read_asked_or_changed(
    app: Flask,
    lived_in: None,
    send: Send,
    database: Database,
    admin_key: str,
    rows: Rows,
    refused: Refused,
) -> None:
    """Each route is a 401 with a plain challenge, whatever the body is (B1, B13)."""
    before, statements = rows(), database.statements
    bodies = {place: json.dumps(document).encode() for place, document in WRITES.items()}
    bodies["DELETE", "/courses/CS101"] = b"\xff" * 70_000

    answers = {
        (name, method, path): send(
            Sent(method, path, body, environ={"HTTP_AUTHORIZATION": borne(admin_key)})
        )
        for name, borne in KEYS
        for (method, path), body in bodies.items()
    }

    counted = database.statements - statements
    for name, answer in answers.items():
        refused(answer, 401, "admin-key-refused")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="eassessment"', name
        assert admin_key not in answer.text, name
    assert counted == 0
    assert rows() == before


def test_a_key_in_the_url_is_no_key(
    careless: FlaskClient, lived_in: None, admin_key: str, rows: Rows, refused: Refused
) -> None:
    """It would stand in every log between here and there (B13)."""
    before = rows()

    for name in ("access_token", "key", "admin_key", "authorization"):
        answer = careless.delete(f"{BASE}/courses/CS101?{name}={admin_key}")
        refused(answer, 401, "admin-key-refused")

    assert rows() == before


def deep(document: dict[str, Any], opening: bytes, closing: bytes) -> bytes:
    """Return the document with something 1,000 deep beside what it holds."""
    return with_text(document, opening * 1000 + b"1" + closing * 1000)


def with_text(document: dict[str, Any], raw: bytes) -> bytes:
    """Return the document with this for a field more, whatever it is."""
    return json.dumps(document).encode()[:-1] + b',"x":' + raw + b"}"


BODIES: list[tuple[str, Callable[[dict[str, Any]], bytes]]] = [
    ("B4 empty", lambda good: b""),
    ("B4 no JSON", lambda good: b"course_id=CS300"),
    ("B4 cut short", lambda good: json.dumps(good).encode()[:-1]),
    ("B4 trailing junk", lambda good: json.dumps(good).encode() + b"x"),
    ("B4 twice", lambda good: json.dumps(good).encode() * 2),
    ("B4 BOM", lambda good: b"\xef\xbb\xbf" + json.dumps(good).encode()),
    ("B4 UTF-16", lambda good: json.dumps(good).encode("utf-16")),
    ("B4 not UTF-8", lambda good: json.dumps({**good, "x": "y"}).encode().replace(b"y", b"\xff")),
    ("B6 arrays", lambda good: deep(good, b"[", b"]")),
    ("B6 objects", lambda good: deep(good, b'{"a":', b"}")),
    ("B6 NaN", lambda good: json.dumps({**good, "x": float("nan")}).encode()),
    ("B6 infinity", lambda good: json.dumps({**good, "x": float("inf")}).encode()),
    ("B6 5,000 digits", lambda good: with_text(good, b"9" * 5000)),
    ("B6 1e999", lambda good: with_text(good, b"1e999")),
    ("B6 2^63", lambda good: json.dumps({**good, "x": 2**63}).encode()),
    ("B6 a key twice", lambda good: with_text(good, b'1,"x":2')),
    ("B6 a lone surrogate", lambda good: json.dumps({**good, "x": "\ud800"}).encode()),
    ("B6 NUL", lambda good: json.dumps({**good, "x": "\x00"}).encode()),
]  # fmt: skip


def test_a_body_that_two_readers_could_read_differently_is_400(
    lived_in: None, send: Send, database: Database, rows: Rows, refused: Refused
) -> None:
    """Every route that takes a body refuses it before it asks the database (B4, B6)."""
    before, statements = rows(), database.statements

    answers = {
        f"{path} {name}": send(Sent(method, path, spoilt(document)))
        for (method, path), document in WRITES.items()
        for name, spoilt in BODIES
    }

    counted = database.statements - statements
    for answer in answers.values():
        refused(answer, 400, "request-malformed")
    assert len(answers) == len(WRITES) * len(BODIES)
    assert counted == 0
    assert rows() == before


FIELDS: list[tuple[str, str, Any, str]] = [
    *((method, path, wrong, "") for method, path in WRITES for wrong in (None, 1, "x", [], True)),
    *((method, path, {**document, "unknown": 1}, "/unknown")
      for (method, path), document in WRITES.items()),
    *(("POST", "/courses", {"course_id": wrong, "title": "x"}, "/course_id")
      for wrong in (None, 1, True, [], {}, "", " a", "a\nb", ".", "..", "/x", "x" * 256, "\u202e")),
    *(("POST", "/courses", {"course_id": "CS300", "title": wrong}, "/title")
      for wrong in (None, 1, True, [], "", "x" * 10_001)),
    *(("POST", "/endpoints", {"url": wrong}, "/url") for wrong in (None, 1, [], "", "x" * 2001)),
    *(("POST", "/endpoints", {"url": URL, "event_types": wrong}, "/event_types")
      for wrong in (1, "course.deleted", [], {})),
    *(("POST", "/deliveries/replay", {"ids": [wrong]}, "/ids/0")
      for wrong in (None, True, "1", 1.0, 0, -1, 2**31, 2**53)),
    ("POST", "/deliveries/replay", {"ids": [1] * 1001}, "/ids"),
    *(("POST", "/deliveries/replay", {"filter": {}, "limit": wrong}, "/limit")
      for wrong in (True, "1", 0, -1, 1001)),
    *(("POST", "/deliveries/replay", {"filter": {name: wrong}}, f"/filter/{name}")
      for name, wrong in (("status", "x"), ("endpoint_id", True), ("endpoint_id", 2**31),
                          ("event_type", "x"), ("since", 1), ("until", "now"), ("course_id", 1))),
    *(("PUT", "/courses/CS101/grades", {"scores": [{**SCORE, name: wrong}]}, f"/scores/0/{name}")
      for name, wrong in (("userId", ""), ("userId", 1), ("userId", "x" * 256), ("scoreGiven", 1.5),
                          ("scoreGiven", True), ("scoreGiven", "-1"), ("scoreMaximum", None),
                          ("scoreMaximum", "1e3"), ("scoreMaximum", 2**62), ("comment", 1),
                          ("comment", "x" * 10_001), ("timestamp", 1), ("timestamp", "x"),
                          ("activityProgress", "x"), ("gradingProgress", True))),
    ("PUT", "/courses/CS101/grades", {"scores": {}}, "/scores"),
]  # fmt: skip


def test_a_wrong_field_is_422_with_its_pointer(
    lived_in: None, send: Send, database: Database, rows: Rows, refused: Refused
) -> None:
    """Missing, of another type, out of bounds: pointed to before the database is asked (B9)."""
    before, statements = rows(), database.statements

    answers = [
        send(Sent(method, path, json.dumps(document).encode()))
        for method, path, document, _ in FIELDS
    ]

    counted = database.statements - statements
    for (_, path, document, pointer), answer in zip(FIELDS, answers, strict=True):
        problem = refused(answer, 422, "request-invalid")
        assert pointer in [fault["pointer"] for fault in problem["errors"]], (path, document)
    assert counted == 0
    assert rows() == before


def test_size_kind_and_length_are_held_to_before_anything_is_asked(
    lived_in: None, send: Send, database: Database, rows: Rows, refused: Refused
) -> None:
    """Too large, chunked, lying, or said to be something else (B5, B12)."""
    before, statements = rows(), database.statements

    for (method, path), document in WRITES.items():
        raw = json.dumps(document).encode()
        limit = 16 * 1024 * 1024 if path.endswith("grades") else 64 * 1024
        chunked = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
        huge = {"CONTENT_LENGTH": str(10**15)}
        longer = {"CONTENT_LENGTH": str(len(raw) + 1), "wsgi.input_terminated": True}
        shorter = {"CONTENT_LENGTH": str(len(raw) - 1)}
        spaces = b" " * (limit + 1)

        refused(send(Sent(method, path, spaces)), 413, "body-too-large")
        refused(send(Sent(method, path, spaces, environ=chunked)), 413, "body-too-large")
        refused(send(Sent(method, path, raw, environ=huge)), 413, "body-too-large")
        refused(send(Sent(method, path, raw, environ=longer)), 400, "request-malformed")
        refused(send(Sent(method, path, raw, environ=shorter)), 400, "request-malformed")
        for kind in (None, "", "text/json", "application/xml", "multipart/form-data; boundary=x"):
            refused(send(Sent(method, path, raw, kind)), 415, "media-type-unsupported")

    assert database.statements == statements
    assert rows() == before


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ALLOWED = {
    "/courses": {"GET", "POST"},
    "/courses/CS101": {"GET", "DELETE"},
    "/courses/CS101/token": {"POST"},
    "/courses/CS101/grades": {"PUT"},
    "/endpoints": {"GET", "POST"},
    "/deliveries": {"GET"},
    "/deliveries/replay": {"POST"},
}
PATHS = (
    "", "/", "/courses/", "//courses", "/endpoints/", "/endpoints/1", "/deliveries/1",
    "/deliveries/replay/", "/../admin/courses", "/COURSES", "/users", "/.git/config",
)  # fmt: skip


def test_another_method_or_path_is_told_and_never_redirected(
    lived_in: None, send: Send, rows: Rows, refused: Refused
) -> None:
    """The right key opens no door that is not there (B12)."""
    before = rows()

    methods = {
        (method, path): send(Sent(method, path))
        for path, allowed in ALLOWED.items()
        for method in METHODS
        if method not in allowed
    }
    paths = {path: send(Sent("POST", "", environ={"PATH_INFO": f"{BASE}{path}"})) for path in PATHS}

    for (method, path), answer in methods.items():
        if path.endswith(("/token", "/grades")) and method in {"GET", "DELETE"}:
            refused(answer, 404, "course-unknown")  # it names a course of that id
        else:
            refused(answer, 405, "method-not-allowed")
    for path, answer in paths.items():
        refused(answer, 404, "not-found")
        assert "Location" not in answer.headers, path
    assert rows() == before


TITLES = [
    pytest.param("\u00c9conomie", id="NFC"),
    pytest.param("E\u0301conomie", id="NFD"),
    pytest.param("\u202egnp.esruoc\u2066", id="right-to-left override"),
    pytest.param("\U0001f393\U0001f468\u200d\U0001f469\u200d\U0001f467", id="emoji"),
    pytest.param("x" * 10_000, id="10 kB"),
    pytest.param("'; DROP TABLE courses; --", id="SQL"),
    pytest.param("<script>alert(1)</script>", id="markup"),
    pytest.param("=cmd()|' /C calc'!A0", id="formula"),
    pytest.param("a\r\nb\tc\x1b[31m\x07\u2028\x85", id="line breaks and control characters"),
]


@pytest.mark.parametrize("text", TITLES)
def test_people_may_write_what_they_like(
    lived_in: None,
    send: Send,
    client: FlaskClient,
    admin: Callable[..., TestResponse],
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    """Titles and comments are stored as they are, and act in no terminal, JSON or log (B7)."""
    logging.configure("INFO", "json")
    course = {"course_id": "CS300", "title": text}
    comment = {"scores": [{**SCORE, "comment": text, "userId": text[:255]}]}

    added = send(Sent("POST", "/courses", json.dumps(course).encode()))
    stored = send(Sent("PUT", "/courses/CS300/grades", json.dumps(comment).encode()))
    read = admin("GET", "/courses/CS300").json["title"]
    found = send(Sent("GET", "/courses", environ={"QUERY_STRING": "after=%E2%80%AE"}))
    grades = client.get(
        "/api/v1/courses/CS300/grades", headers={"Authorization": f"Bearer {added.json['token']}"}
    )

    assert (added.status_code, stored.status_code, found.status_code) == (201, 200, 200)
    assert read == text
    assert grades.json["scores"][0]["comment"] == text
    assert grades.json["scores"][0]["userId"] == text[:255]
    logging.get_logger("titles").info("a title", title=text)
    logged = capsys.readouterr().err
    assert "a title" in logged
    assert all(map(str.isprintable, logged.split("\n")))
    assert output.cell(text).isprintable()
    assert all(map(str.isprintable, escaped(json.dumps(text, ensure_ascii=False))))

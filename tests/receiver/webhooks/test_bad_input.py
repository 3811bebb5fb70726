"""Bad input at the webhook door, row by row: the right 4xx, and not a byte of state changes."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from freezegun import freeze_time
from werkzeug.test import TestResponse

from contract import signatures
from contract.problems import ProblemType
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation import logging
from receiver import services
from receiver.models import Entry, InboxMessage, Source
from receiver.webhooks.views import MAX_BODY_BYTES

SITE = "eassessment.example.ac.uk"
PATH = f"/webhooks/{SITE}"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
MOMENT = datetime(2026, 11, 22, 9, tzinfo=UTC)
KEY = Secret(b"planted-secret-of-the-source-032")


def event(**overrides: Any) -> bytes:
    """Return the body that CS101 was deleted, but for the overrides in its data."""
    data = {"source": SITE, "course_id": "CS101", "course_version": 4, **overrides}
    document = {"type": "course.deleted", "timestamp": "2026-11-22T08:59:59.5Z", "data": data}
    return json.dumps(document).encode()


def altered(**overrides: Any) -> bytes:
    """Return that body with these members at its root."""
    return json.dumps({**json.loads(event()), **overrides}).encode()


@dataclass(frozen=True)
class Sent:
    """A request, signed well but for what is changed: None takes a header away."""

    body: bytes = event()
    method: str = "POST"
    path: str = PATH
    content_type: str | None = "application/json"
    changed: Mapping[str, str | None] = field(default_factory=dict)
    environ: Mapping[str, Any] = field(default_factory=dict)
    signed_by: Secret = KEY


Send = Callable[[Sent], TestResponse]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that does not look at what it sends."""
    return app.test_client(use_cookies=False)


@pytest.fixture
def send(client: FlaskClient) -> Send:
    """Return what signs and sends a request; headers go past the client's own checks."""

    def give(sent: Sent) -> TestResponse:
        signed = signatures.sign([sent.signed_by], "msg_bad", sent.body, now=datetime.now(UTC))
        headers = {**signed, **sent.changed}
        variables = {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in headers.items()
            if value is not None
        }
        return client.open(
            sent.path,
            method=sent.method,
            data=sent.body,
            content_type=sent.content_type,
            environ_overrides={**variables, **sent.environ},
        )

    return give


@pytest.fixture
def lived_in(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry], send: Send
) -> None:
    """An ELMS with two sources, a course in the registry, and an event that was taken."""
    source = make_source(secrets=(KEY,))
    make_source("other.example", secrets=(Secret.generate(),))
    make_entry(source, "CS101", CourseToken.generate())
    taken = Sent(event(course_id="CS200"), changed={})
    assert send(taken).get_json() == {"outcome": "applied"}


def refused(
    response: TestResponse, problem: ProblemType, status: int, name: str = ""
) -> dict[str, Any]:
    """Assert that the answer is this problem and gives nothing away; return its document."""
    document: dict[str, Any] = response.get_json()
    expected = (status, f"urn:problem-type:{problem}")
    assert (response.status_code, document["type"]) == expected, f"{name}: {response.text}"
    assert response.content_type == "application/problem+json"
    assert document["detail"]
    assert document["next_step"]
    assert "Location" not in response.headers
    for secret in (KEY.reveal(), "Traceback", ".py", "SELECT", "sqlalchemy"):
        assert secret not in response.text
    return document


def row(words: str, **named: Sent) -> Any:
    """Return the requests of a row, by name, as one parameter: they share a database."""
    return pytest.param(named, id=words)


def header(name: str, value: str | None) -> Sent:
    """Return a request with one header changed."""
    return Sent(changed={name: value})


UNSIGNED = [
    *(
        row(
            f"B1 {name}",
            missing=header(name, None),
            empty=header(name, ""),
            doubled=header(name, "v1,AAAA,v1,AAAA"),
            of_8_kB=header(name, "1" * 8192),
            not_ASCII=header(name, "\xe4\xf6"),
            a_space=header(name, " "),
        )
        for name in (ID, TIMESTAMP, SIGNATURE)
    ),
    row(
        "B1 form of the id",
        of_256_characters=header(ID, "x" * 256),
        a_dot=header(ID, "msg.1"),
        a_space_inside=header(ID, "msg 1"),
        NUL=header(ID, "msg\x001"),
        a_line_break=header(ID, "msg\n1"),
    ),
    row(
        "B2",
        garbage=header(SIGNATURE, "garbage"),
        two_commas=header(SIGNATURE, "v1,a,b"),
        nothing_after_v1=header(SIGNATURE, "v1,"),
        bad_base64=header(SIGNATURE, "v1,%%%"),
        double_spaces=header(SIGNATURE, "v1,AAAA  v1,AAAA"),
        a_tab=header(SIGNATURE, "v1,AAAA\tv1,AAAA"),
        a_space_at_its_end=header(SIGNATURE, "v1,AAAA "),
        ten_thousand=header(SIGNATURE, " ".join(["v1,AAAA"] * 10_000)),
        ten_thousand_versions=header(SIGNATURE, " ".join(["v2,AAAA"] * 10_000)),
    ),
    row(
        "B3",
        abc=header(TIMESTAMP, "abc"),
        nan=header(TIMESTAMP, "nan"),
        in_powers=header(TIMESTAMP, "9e99"),
        negative=header(TIMESTAMP, "-1"),
        with_a_plus=header(TIMESTAMP, f"+{int(MOMENT.timestamp())}"),
        a_float=header(TIMESTAMP, f"{MOMENT.timestamp()}"),
        a_space_before=header(TIMESTAMP, f" {int(MOMENT.timestamp())}"),
        a_line_break_after=header(TIMESTAMP, f"{int(MOMENT.timestamp())}\n"),
        an_underscore=header(TIMESTAMP, "1_763_802_000"),
        other_digits=header(TIMESTAMP, "١٧٦٣٨٠٢٠٠٠".encode().decode("latin-1")),
        superscript=header(TIMESTAMP, "\xb2\xb3\xb9"),
        of_5_000_digits=header(TIMESTAMP, "1" * 5000),
        zero=header(TIMESTAMP, "0"),
        eleven_nines=header(TIMESTAMP, "9" * 11),
    ),
]


@pytest.mark.parametrize("requests", UNSIGNED)
def test_headers_out_of_order_cost_no_query(
    lived_in: None,
    send: Send,
    app: Flask,
    everything: Callable[[], str],
    requests: dict[str, Sent],
) -> None:
    """Each is a 401 that says what is wrong before body or database are touched (B1, B2, B3)."""
    before, statements = everything(), services.of(app).database.statements

    answers = {name: send(sent) for name, sent in requests.items()}

    for name, response in answers.items():
        refused(response, ProblemType.SIGNATURE_REFUSED, 401, name)
        assert response.headers["WWW-Authenticate"] == 'Standard-Webhooks version="v1"'
    assert services.of(app).database.statements == statements
    assert everything() == before


def test_milliseconds_are_told_as_such(send: Send) -> None:
    """The commonest mistake has its own sentence (B3)."""
    response = send(header(TIMESTAMP, f"{int(MOMENT.timestamp() * 1000)}"))

    document = refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert document["detail"] == (
        "webhook-timestamp looks like milliseconds; expected whole seconds since 1970"
    )


FORGED = [
    row(
        "B2",
        only_v2=header(SIGNATURE, "v2," + "A" * 43 + "="),
        without_padding=header(SIGNATURE, "v1," + "A" * 43),
        of_zeros=header(SIGNATURE, "v1," + "A" * 43 + "="),
        url_safe=header(SIGNATURE, "v1," + "_" * 43 + "="),
        as_many_as_4_kB_hold=header(SIGNATURE, " ".join(["v1," + "A" * 43 + "="] * 85)),
        v1_in_capitals=header(SIGNATURE, "V1," + "A" * 43 + "="),
    ),
    row(
        "B10",
        the_secret_of_nobody=Sent(signed_by=Secret(b"x" * 32)),
        an_unknown_door=Sent(path="/webhooks/nobody"),
        another_case_of_the_door=Sent(path=f"/webhooks/{SITE.upper()}"),
        the_door_of_another=Sent(path="/webhooks/other.example"),
    ),
    row(
        "B4",
        no_JSON=Sent(b"\x00\xff", signed_by=Secret(b"x" * 32)),
        nested=Sent(b"[" * 60_000, signed_by=Secret(b"x" * 32)),
        a_form=Sent(b"a=b", content_type="text/plain", signed_by=Secret(b"x" * 32)),
    ),
]


@pytest.mark.parametrize("requests", FORGED)
def test_what_no_secret_of_the_door_has_signed_is_not_parsed(
    lived_in: None,
    send: Send,
    app: Flask,
    everything: Callable[[], str],
    requests: dict[str, Sent],
) -> None:
    """All of it is the same 401, at the cost of looking for the secret (B2, B4, B10)."""
    before, statements = everything(), services.of(app).database.statements

    answers = {name: send(sent) for name, sent in requests.items()}

    for name, response in answers.items():
        document = refused(response, ProblemType.SIGNATURE_REFUSED, 401, name)
        assert document["detail"] == (
            "no signature matches: the secret, id, timestamp or body is different"
        )
    assert services.of(app).database.statements - statements <= 2 * len(answers)
    assert everything() == before


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    """Return an event with something deep in a field that nobody reads."""
    return event()[:-1] + b',"extra":' + opening * depth + b"1" + closing * depth + b"}"


MALFORMED = [
    row(
        "B4",
        empty=Sent(b""),
        no_JSON=Sent(b"no json"),
        a_number=Sent(b"1"),
        a_string=Sent(b'"course.deleted"'),
        null=Sent(b"null"),
        an_array=Sent(b"[" + event() + b"]"),
        trailing_junk=Sent(event() + b"x"),
        two_objects=Sent(event() * 2),
        single_quotes=Sent(event().replace(b'"', b"'")),
        a_comment=Sent(b"/* */" + event()),
        BOM=Sent(b"\xef\xbb\xbf" + event()),
        UTF_16=Sent(event().decode().encode("utf-16")),
        UTF_32=Sent(event().decode().encode("utf-32-le")),
        not_UTF_8=Sent(event().replace(b"CS101", b"CS\xff")),
        overlong_UTF_8=Sent(event().replace(b"CS101", b"CS\xc0\xaf")),
        gzip=Sent(b"\x1f\x8b\x08\x00"),
        a_raw_control_character=Sent(event().replace(b"CS101", b"CS\n101")),
    ),
    row(
        "B6",
        arrays_1_000_deep=Sent(nested(1000, b"[", b"]")),
        objects_1_000_deep=Sent(nested(1000, b'{"a":', b"}")),
        arrays_30_000_deep=Sent(b"[" * 30_000 + b"]" * 30_000),
        objects_10_000_deep=Sent(b'{"a":' * 10_000),
        NaN=Sent(altered(extra=float("nan"))),
        infinity=Sent(altered(extra=float("-inf"))),
        of_5_000_digits=Sent(event(course_version=0).replace(b": 0}", b": " + b"9" * 5000 + b"}")),
        a_fraction_of_5_000_digits=Sent(event()[:-1] + b',"extra":0.' + b"1" * 5000 + b"}"),
        beyond_all_powers=Sent(altered(extra=1).replace(b": 1}", b": 1e999}")),
        two_to_the_63rd=Sent(event(course_version=2**63)),
        two_to_the_63rd_where_nobody_reads=Sent(altered(extra=2**63)),
        a_key_twice=Sent(event()[:-1] + b',"type":"endpoint.ping"}'),
        a_key_twice_inside=Sent(event().replace(b'"course_id"', b'"source":"x","course_id"')),
        a_key_twice_by_an_escape=Sent(event()[:-1] + b',"t\\u0079pe":"endpoint.ping"}'),
        a_lone_surrogate=Sent(event(course_id="\ud800")),
        a_lone_surrogate_for_a_key=Sent(altered(**{"\udfff": 1})),
        NUL=Sent(event(course_id="CS\x00101")),
        NUL_for_a_key=Sent(altered(**{"\x00": 1})),
    ),
]  # fmt: skip


@pytest.mark.parametrize("requests", MALFORMED)
def test_a_signed_body_that_two_readers_could_read_differently_is_400(
    lived_in: None, send: Send, everything: Callable[[], str], requests: dict[str, Sent]
) -> None:
    """It is not taken in, however well it is signed (B4, B6)."""
    before = everything()

    answers = {name: send(sent) for name, sent in requests.items()}

    for name, response in answers.items():
        refused(response, ProblemType.REQUEST_MALFORMED, 400, name)
    assert everything() == before


INVALID = [
    ("true for a number", "/data/course_version", event(course_version=True)),
    ("text for a number", "/data/course_version", event(course_version="4")),
    ("a fraction for a number", "/data/course_version", event(course_version=4.0)),
    ("version 0", "/data/course_version", event(course_version=0)),
    ("version -1", "/data/course_version", event(course_version=-1)),
    ("version 2^53", "/data/course_version", event(course_version=2**53)),
    ("no version", "/data/course_version", event(course_version=None)),
    ("a number for an id", "/data/course_id", event(course_id=7)),
    ("an empty id", "/data/course_id", event(course_id="")),
    ("an id of 256 characters", "/data/course_id", event(course_id="x" * 256)),
    ("an id that turns around", "/data/course_id", event(course_id="a\u202eb")),
    ("an id of two lines", "/data/course_id", event(course_id="a\nb")),
    ("an id with a space before it", "/data/course_id", event(course_id=" a")),
    ("a list for an id", "/data/course_id", event(course_id=["CS101"])),
    ("no source", "/data/source", event(source=None)),
    ("a source with a space", "/data/source", event(source="a b")),
    ("no data", "/data", altered(data=None)),
    ("a list for data", "/data", altered(data=[])),
    ("a number for a moment", "/timestamp", altered(timestamp=1700000000)),
    ("a day for a moment", "/timestamp", altered(timestamp="2026-11-22")),
    ("a moment without a zone", "/timestamp", altered(timestamp="2026-11-22T09:00:00")),
    ("a day that is none", "/timestamp", altered(timestamp="2026-02-30T09:00:00Z")),
    ("before year 1", "/timestamp", altered(timestamp="0001-01-01T00:00:00+14:00")),
    ("after year 9999", "/timestamp", altered(timestamp="9999-12-31T23:59:59-14:00")),
    ("no type", "/type", altered(type=None)),
    ("a number for a type", "/type", altered(type=7)),
    ("an empty type", "/type", altered(type="")),
    ("a type of 256 characters", "/type", altered(type="x" * 256)),
    ("an empty object", "/type", b"{}"),
    ("no token id", "/data/token_id", altered(type="token.regenerated")),
]  # fmt: skip


def test_a_wrong_field_is_422_with_its_pointer(
    lived_in: None, send: Send, everything: Callable[[], str]
) -> None:
    """The answer points to the field, and nothing is taken in (B9)."""
    before = everything()

    answers = {(name, pointer): send(Sent(body)) for name, pointer, body in INVALID}

    for (name, pointer), response in answers.items():
        document = refused(response, ProblemType.REQUEST_INVALID, 422, name)
        assert [pointer] == [fault["pointer"] for fault in document["errors"]], name
    assert everything() == before


ELSEWHERE = [
    ("B4 no content type", Sent(content_type=None), ProblemType.MEDIA_TYPE_UNSUPPORTED, 415),
    ("B12 text", Sent(content_type="text/json"), ProblemType.MEDIA_TYPE_UNSUPPORTED, 415),
    ("B12 a form", Sent(content_type="application/x-www-form-urlencoded"),
         ProblemType.MEDIA_TYPE_UNSUPPORTED, 415),
    ("B12 a file", Sent(content_type="multipart/form-data; boundary=x"),
         ProblemType.MEDIA_TYPE_UNSUPPORTED, 415),
    ("B12 nonsense", Sent(content_type=";;;="), ProblemType.MEDIA_TYPE_UNSUPPORTED, 415),
    ("B5 too large", Sent(b" " * (MAX_BODY_BYTES + 1)), ProblemType.BODY_TOO_LARGE, 413),
    ("B5 said to be too large", Sent(environ={"CONTENT_LENGTH": str(10**15)}),
         ProblemType.BODY_TOO_LARGE, 413),
    ("B5 chunked and too large",
         Sent(b" " * (MAX_BODY_BYTES + 1),
              environ={"CONTENT_LENGTH": "", "wsgi.input_terminated": True}),
         ProblemType.BODY_TOO_LARGE, 413),
    ("B5 shorter than it says", Sent(environ={"CONTENT_LENGTH": str(len(event()) + 1)}),
         ProblemType.REQUEST_MALFORMED, 400),
    ("B5 longer than it says", Sent(environ={"CONTENT_LENGTH": str(len(event()) - 1)}),
         ProblemType.SIGNATURE_REFUSED, 401),
    ("B5 no length at all", Sent(environ={"CONTENT_LENGTH": ""}),
         ProblemType.SIGNATURE_REFUSED, 401),
    ("B10 another source", Sent(event(source="other.example")),
         ProblemType.SOURCE_MISMATCH, 403),
    ("B10 another case of the source", Sent(event(source=SITE.upper())),
         ProblemType.SOURCE_MISMATCH, 403),
    ("B11 the same id, another body", Sent(event(course_id="CS999")),
         ProblemType.WEBHOOK_ID_REUSED, 409),
    ("B11 the same id, a space more", Sent(event(course_id="CS200") + b" "),
         ProblemType.WEBHOOK_ID_REUSED, 409),
    ("B11 the same id, of no type that is known", Sent(altered(type="course.renamed")),
         ProblemType.WEBHOOK_ID_REUSED, 409),
        *((f"B12 {method}", Sent(method=method), ProblemType.METHOD_NOT_ALLOWED, 405)
          for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")),
        *((f"B12 {path}", Sent(environ={"PATH_INFO": path}), ProblemType.NOT_FOUND, 404)
          for path in (f"{PATH}/", f"/{PATH}", f"/webhooks//{SITE}", "/webhooks/", "/webhooks",
                       f"/x/..{PATH}", f"{PATH}/..", "", f"/WEBHOOKS/{SITE}",
                       f"/webhooks/{SITE}/x", "/favicon.ico", "/.env", "/api/v1/courses")),
    ("B12 a page", Sent(environ={"PATH_INFO": "/"}), ProblemType.METHOD_NOT_ALLOWED, 405),
    ("B12 NUL in the path", Sent(environ={"PATH_INFO": f"{PATH}\x00"}),
         ProblemType.REQUEST_MALFORMED, 400),
    ("B12 NUL in the query", Sent(path=f"{PATH}?a=%00"), ProblemType.REQUEST_MALFORMED, 400),
]  # fmt: skip


def test_what_is_signed_but_not_for_this_door_changes_nothing(
    lived_in: None, send: Send, everything: Callable[[], str]
) -> None:
    """Size, kind, source, id, method and path: each its own answer (B4, B5, B10, B11, B12)."""
    before = everything()

    answers = [(*expected, send(sent)) for name, sent, *expected in ELSEWHERE]

    for (name, *_), (problem, status, response) in zip(ELSEWHERE, answers, strict=True):
        refused(response, problem, status, name)
    assert everything() == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(altered(type="course.renamed"), id="a type of a newer release"),
        pytest.param(altered(type="course.deleted "), id="a type with a space"),
        pytest.param(b'{"type":"\xf0\x9f\x8e\x93"}', id="a type that is a picture"),
    ],
)
def test_an_unknown_type_is_heard_once_and_left_alone(
    lived_in: None, send: Send, rows: Callable[[type[Any]], list[Any]], body: bytes
) -> None:
    """An older receiver lives with a newer sender: 200 `ignored`, then `duplicate` (B8)."""
    entries = len(rows(Entry))
    sent = Sent(body, environ=signed_as("msg_new", body))

    first, second = send(sent), send(sent)

    assert (first.get_json(), second.get_json()) == (
        {"outcome": "ignored"},
        {"outcome": "duplicate"},
    )
    assert len(rows(Entry)) == entries


def test_extra_fields_are_passed_over(lived_in: None, send: Send) -> None:
    """At the root and in the data, whatever they hold (B8)."""
    document = json.loads(event(course_id="CS300", colour="blue", nested={"a": [1, None]}))
    body = json.dumps({**document, "trace": {"id": "\u202e"}}).encode()

    response = send(Sent(body, environ=signed_as("msg_new", body)))

    assert (response.status_code, response.get_json()) == (200, {"outcome": "applied"})


def signed_as(webhook_id: str, body: bytes, now: datetime | None = None) -> dict[str, str]:
    """Return the headers of a body under another id, as WSGI has them; signed now unless told."""
    signed = signatures.sign([KEY], webhook_id, body, now=now or datetime.now(UTC))
    return {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in signed.items()}


COURSE_IDS = [
    pytest.param("\u00c9conomie", id="NFC"),
    pytest.param("E\u0301conomie", id="NFD"),
    pytest.param("\U0001f393", id="emoji"),
    pytest.param("\u062a\u0627\u0631\u064a\u062e", id="right to left"),
    pytest.param("'; DROP TABLE entries;--", id="SQL"),
    pytest.param("<script>alert(1)</script>", id="markup"),
    pytest.param("=cmd()|' /C calc'!A0", id="a formula"),
    pytest.param("../../etc/passwd", id="a path"),
    pytest.param("%00%0a{{7*7}}${x}", id="what others would expand"),
    pytest.param("\u00e9" * 255, id="255 characters of two bytes"),
]


@pytest.mark.parametrize("course_id", COURSE_IDS)
def test_a_strange_course_id_is_stored_as_it_is(
    lived_in: None,
    send: Send,
    entry_of: Callable[[str], Entry],
    capsys: pytest.CaptureFixture[str],
    course_id: str,
) -> None:
    """Its characters are kept, and none of them acts in the log (B7)."""
    body = event(course_id=course_id)
    logging.configure("INFO", "json")

    response = send(Sent(body, environ=signed_as("msg_new", body)))

    assert response.get_json() == {"outcome": "applied"}
    assert entry_of(course_id).course_id == course_id
    lines = capsys.readouterr().err.splitlines()
    assert course_id in {json.loads(line).get("course_id") for line in lines}
    assert all(map(str.isprintable, lines))


@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        pytest.param(-299, 200, id="299 s ahead"),
        pytest.param(-300, 200, id="300 s ahead"),
        pytest.param(-301, 401, id="301 s ahead"),
        pytest.param(299, 200, id="299 s behind"),
        pytest.param(300, 200, id="300 s behind"),
        pytest.param(301, 401, id="301 s behind"),
        pytest.param(-86_400, 401, id="a day ahead"),
        pytest.param(10 * 365 * 86_400, 401, id="ten years behind"),
    ],
)
def test_clocks_may_differ_by_five_minutes_to_the_second(
    lived_in: None, send: Send, everything: Callable[[], str], seconds: int, status: int
) -> None:
    """On either side: inside it is heard, outside it is a 401 that names both times (F18)."""
    body = event(course_id="CS300")
    sent = Sent(body, environ=signed_as("msg_clock", body, MOMENT))
    before = everything()

    with freeze_time(MOMENT + timedelta(seconds=seconds)):
        response = send(sent)

    assert response.status_code == status
    if status == 401:
        document = refused(response, ProblemType.SIGNATURE_REFUSED, 401)
        signed_at = int(MOMENT.timestamp())
        assert document["detail"] == (
            f"signed at {signed_at}, but the time here is {signed_at + seconds}: "
            "more than 300 s apart"
        )
        assert everything() == before


def test_a_clock_that_jumps_applies_nothing_twice(
    lived_in: None, send: Send, rows: Callable[[type[Any]], list[Any]]
) -> None:
    """Forth by an hour and back, the same request: applied, refused, a duplicate (F18)."""
    body = event(course_id="CS300")
    sent = Sent(body, environ=signed_as("msg_clock", body, MOMENT))
    answers = []

    for jump in (0, 3600, -3600, 0):
        with freeze_time(MOMENT + timedelta(seconds=jump)):
            answers.append(send(sent))

    assert [answer.status_code for answer in answers] == [200, 401, 401, 200]
    assert [answers[0].get_json(), answers[3].get_json()] == [
        {"outcome": "applied"},
        {"outcome": "duplicate"},
    ]
    assert len([row for row in rows(InboxMessage) if row.webhook_id == "msg_clock"]) == 1


def flipped(text: bytes) -> Iterator[bytes]:
    """Return the text with one bit changed, for each of its bits."""
    for place in range(len(text)):
        for bit in range(8):
            yield text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :]


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("body", id="body"),
        pytest.param("HTTP_WEBHOOK_ID", id="id"),
        pytest.param("HTTP_WEBHOOK_TIMESTAMP", id="timestamp"),
    ],
)
def test_one_bit_changed_anywhere_is_401(
    lived_in: None,
    send: Send,
    everything: Callable[[], str],
    part: str,
) -> None:
    """Every bit of body, id and timestamp counts, and nothing is written (F21)."""
    body = event(course_id="CS300")
    good = signed_as("msg_bit", body)
    whole = good[part].encode() if part in good else body
    before = everything()

    answers = [
        send(Sent(body, environ={**good, part: changed.decode("latin-1")}))
        if part in good
        else send(Sent(changed, environ=good))
        for changed in flipped(whole)
    ]

    assert len(answers) == 8 * len(whole)
    assert {answer.status_code for answer in answers} == {401}
    assert everything() == before
    assert send(Sent(body, environ=good)).get_json() == {"outcome": "applied"}

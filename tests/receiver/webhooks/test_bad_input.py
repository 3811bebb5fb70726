"""Bad input at the webhook route: the right 4xx, and no change of state.

Which headers and bodies are bad is tested in `tests/contract`; here is one request of each class.
"""

import json
from collections.abc import Callable, Mapping
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
NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
KEY = Secret(b"planted-secret-of-the-source-032")
STRANGER = Secret(b"x" * 32)


def event(**overrides: Any) -> bytes:
    """Return the deletion of CS101, with overrides in its data."""
    data = {"source": SITE, "course_id": "CS101", "course_version": 4, **overrides}
    document = {"type": "course.deleted", "timestamp": "2026-11-22T08:59:59.5Z", "data": data}
    return json.dumps(document).encode()


def altered(**overrides: Any) -> bytes:
    """Return that event with overrides at its root."""
    return json.dumps({**json.loads(event()), **overrides}).encode()


@dataclass(frozen=True)
class Sent:
    """A correctly signed request, except for what is given; a header of None is left out."""

    body: bytes = event()
    webhook_id: str = "msg_bad"
    method: str = "POST"
    path: str = PATH
    content_type: str | None = "application/json"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    environ: Mapping[str, Any] = field(default_factory=dict)
    signed_by: Secret = KEY
    signed_at: datetime | None = None


Send = Callable[[Sent], TestResponse]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without cookies."""
    return app.test_client(use_cookies=False)


@pytest.fixture
def send(client: FlaskClient) -> Send:
    """Return what signs and sends a request; its headers are not checked by the client."""

    def give(sent: Sent) -> TestResponse:
        now = sent.signed_at or datetime.now(UTC)
        signed = signatures.sign([sent.signed_by], sent.webhook_id, sent.body, now=now)
        variables = {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in {**signed, **sent.headers}.items()
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


@pytest.fixture(autouse=True)
def in_use(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry], send: Send
) -> None:
    """An ELMS with two sources, a course in the registry, and an accepted event."""
    source = make_source(secrets=(KEY,))
    make_source("other.example", secrets=(Secret.generate(),))
    make_entry(source, "CS101", CourseToken.generate())
    assert send(Sent(event(course_id="CS200"))).get_json() == {"outcome": "applied"}


def check_refused(response: TestResponse, problem: ProblemType, status: int) -> dict[str, Any]:
    """Assert that the response is this problem without internals; return its document."""
    document: dict[str, Any] = response.get_json()
    assert (response.status_code, document["type"]) == (status, f"urn:problem-type:{problem}")
    assert response.content_type == "application/problem+json"
    assert document["detail"]
    assert document["next_step"]
    assert "Location" not in response.headers
    for secret in (KEY.reveal(), "Traceback", ".py", "SELECT", "sqlalchemy"):
        assert secret not in response.text
    return document


def header(name: str, value: str | None) -> Sent:
    """Return a request with one header changed."""
    return Sent(headers={name: value})


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(header(ID, None), id="B1 missing id"),
        pytest.param(header(SIGNATURE, ""), id="B1 empty signature"),
        pytest.param(header(TIMESTAMP, "1" * 8192), id="B1 8 kB"),
        pytest.param(header(ID, "\xe4\xf6"), id="B1 not ASCII"),
        pytest.param(header(ID, "msg\n1"), id="B1 line break"),
        pytest.param(header(SIGNATURE, "garbage"), id="B2 garbage"),
        pytest.param(header(SIGNATURE, " ".join(["v1,AAAA"] * 10_000)), id="B2 10,000 signatures"),
        pytest.param(header(TIMESTAMP, "nan"), id="B3 nan"),
        pytest.param(header(TIMESTAMP, "١٧٦٣".encode().decode("latin-1")), id="B3 Arabic digits"),
        pytest.param(header(TIMESTAMP, "0"), id="B3 1970"),
        pytest.param(Sent(b" " * (MAX_BODY_BYTES + 1), headers={ID: None}), id="B5 unsigned"),
    ],
)
def test_malformed_headers_cost_no_query(
    send: Send, app: Flask, everything: Callable[[], str], sent: Sent
) -> None:
    before, statements = everything(), services.of(app).database.statements

    response = send(sent)

    check_refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert response.headers["WWW-Authenticate"] == 'Standard-Webhooks version="v1"'
    assert services.of(app).database.statements == statements
    assert everything() == before


def test_timestamp_in_milliseconds_says_so(send: Send) -> None:  # B3
    response = send(header(TIMESTAMP, f"{int(NINE.timestamp() * 1000)}"))

    document = check_refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert "milliseconds" in document["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(header(SIGNATURE, "v2," + "A" * 43 + "="), id="B2 only v2"),
        pytest.param(header(SIGNATURE, " ".join(["v1," + "A" * 43 + "="] * 85)), id="B2 4 kB"),
        pytest.param(Sent(b"[" * 60_000, signed_by=STRANGER), id="B4 nested"),
        pytest.param(Sent(b"a=b", content_type="text/plain", signed_by=STRANGER), id="B4 a form"),
        pytest.param(Sent(signed_by=STRANGER), id="B10 unknown secret"),
        pytest.param(Sent(path="/webhooks/nobody"), id="B10 unknown source"),
        pytest.param(Sent(path=f"/webhooks/{SITE.upper()}"), id="B10 upper case"),
        pytest.param(Sent(path="/webhooks/other.example"), id="B10 other source"),
        pytest.param(Sent(environ={"CONTENT_LENGTH": ""}), id="B5 no length"),
        pytest.param(Sent(environ={"CONTENT_LENGTH": str(len(event()) - 1)}), id="B5 longer"),
    ],
)
def test_unsigned_body_is_not_parsed(
    send: Send, app: Flask, everything: Callable[[], str], sent: Sent
) -> None:
    before, statements = everything(), services.of(app).database.statements

    response = send(sent)

    # The same words for all: a client cannot find out which sources exist.
    document = check_refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert document["detail"].startswith("no signature matches")
    assert services.of(app).database.statements - statements <= 2
    assert everything() == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="B4 empty"),
        pytest.param(b"[" + event() + b"]", id="B4 array"),
        pytest.param(event() + b"x", id="B4 trailing junk"),
        pytest.param(event().decode().encode("utf-16"), id="B4 UTF-16"),
        pytest.param(b"[" * 30_000 + b"]" * 30_000, id="B6 deeply nested"),
        pytest.param(altered(extra=float("nan")), id="B6 NaN"),
        pytest.param(event()[:-1] + b',"extra":0.' + b"1" * 5000 + b"}", id="B6 5,000 digits"),
        pytest.param(altered(extra=2**63), id="B6 2^63"),
        pytest.param(event()[:-1] + b',"type":"endpoint.ping"}', id="B6 duplicate key"),
        pytest.param(event(course_id="\ud800"), id="B6 lone surrogate"),
        pytest.param(event(course_id="CS\x00101"), id="B6 NUL"),
    ],
)
def test_ambiguous_body_is_400(send: Send, everything: Callable[[], str], body: bytes) -> None:
    before = everything()

    response = send(Sent(body))

    check_refused(response, ProblemType.REQUEST_MALFORMED, 400)
    assert everything() == before


@pytest.mark.parametrize(
    ("pointer", "body"),
    [
        pytest.param("/data/course_version", event(course_version=True), id="version true"),
        pytest.param("/data/course_version", event(course_version=2**53), id="version 2^53"),
        pytest.param("/data/course_id", event(course_id="a\u202eb"), id="course id"),
        pytest.param("/data/source", event(source=None), id="no source"),
        pytest.param("/timestamp", altered(timestamp="2026-11-22T09:00:00"), id="no time zone"),
        pytest.param("/type", b"{}", id="no type"),
        pytest.param("/data/token_id", altered(type="token.regenerated"), id="no token id"),
    ],
)
def test_invalid_field_is_422_with_its_pointer(  # B9
    send: Send, everything: Callable[[], str], pointer: str, body: bytes
) -> None:
    before = everything()

    response = send(Sent(body))

    document = check_refused(response, ProblemType.REQUEST_INVALID, 422)
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert everything() == before


TYPE, LARGE = ProblemType.MEDIA_TYPE_UNSUPPORTED, ProblemType.BODY_TOO_LARGE
TOO_LONG = b" " * (MAX_BODY_BYTES + 1)
CHUNKED = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}


@pytest.mark.parametrize(
    ("sent", "problem", "status"),
    [
        pytest.param(Sent(content_type=None), TYPE, 415, id="B4 no content type"),
        pytest.param(Sent(content_type="text/json"), TYPE, 415, id="B12 text"),
        pytest.param(Sent(content_type=";;;="), TYPE, 415, id="B12 malformed content type"),
        pytest.param(Sent(TOO_LONG), LARGE, 413, id="B5 too large"),
        pytest.param(Sent(environ={"CONTENT_LENGTH": "9" * 15}), LARGE, 413, id="B5 announced"),
        pytest.param(Sent(TOO_LONG, environ=CHUNKED), LARGE, 413, id="B5 chunked"),
        pytest.param(
            Sent(environ={"CONTENT_LENGTH": str(len(event()) + 1)}),
            ProblemType.REQUEST_MALFORMED,
            400,
            id="B5 shorter than announced",
        ),
        pytest.param(
            Sent(event(source="other.example")),
            ProblemType.SOURCE_MISMATCH,
            403,
            id="B10 other source",
        ),
        pytest.param(
            Sent(event(course_id="CS200") + b" "),
            ProblemType.WEBHOOK_ID_REUSED,
            409,
            id="B11 same id, other body",
        ),
        *(
            pytest.param(
                Sent(method=method), ProblemType.METHOD_NOT_ALLOWED, 405, id=f"B12 {method}"
            )
            for method in ("GET", "PUT", "OPTIONS", "PROPFIND")
        ),
        *(
            pytest.param(
                Sent(environ={"PATH_INFO": path}), ProblemType.NOT_FOUND, 404, id=f"B12 {path}"
            )
            for path in (f"{PATH}/", f"/{PATH}", "/webhooks", f"/x/..{PATH}", f"/WEBHOOKS/{SITE}")
        ),
        pytest.param(
            Sent(environ={"PATH_INFO": f"{PATH}\x00"}),
            ProblemType.REQUEST_MALFORMED,
            400,
            id="B12 NUL in the path",
        ),
    ],
)
def test_signed_request_is_refused_without_change(
    send: Send, everything: Callable[[], str], sent: Sent, problem: ProblemType, status: int
) -> None:
    before = everything()

    response = send(sent)

    check_refused(response, problem, status)
    assert everything() == before


def test_unknown_type_is_ignored_once(  # B8
    send: Send, rows: Callable[[type[Any]], list[Any]]
) -> None:
    entries = len(rows(Entry))
    sent = Sent(altered(type="course.renamed"), "msg_new")

    outcomes = [send(sent).get_json()["outcome"] for _ in range(2)]

    assert outcomes == ["ignored", "duplicate"]
    assert len(rows(Entry)) == entries


def test_unknown_fields_are_ignored(send: Send) -> None:  # B8
    document = json.loads(event(course_id="CS300", colour="blue", nested={"a": [1, None]}))

    response = send(Sent(json.dumps({**document, "trace": {"id": "\u202e"}}).encode(), "msg_new"))

    assert response.get_json() == {"outcome": "applied"}


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("E\u0301conomie", id="NFD"),
        pytest.param("\U0001f393", id="emoji"),
        pytest.param("\u062a\u0627\u0631\u064a\u062e", id="right to left"),
        pytest.param("'; DROP TABLE entries;--", id="SQL"),
        pytest.param("<script>alert(1)</script>", id="markup"),
        pytest.param("%00%0a{{7*7}}${x}", id="templates"),
        pytest.param("\u00e9" * 255, id="255 characters of two bytes"),
    ],
)
def test_strange_course_id_is_stored_unchanged(  # B7
    send: Send,
    entry_of: Callable[[str], Entry],
    capsys: pytest.CaptureFixture[str],
    course_id: str,
) -> None:
    logging.configure("INFO", "json")

    response = send(Sent(event(course_id=course_id), "msg_new"))

    assert response.get_json() == {"outcome": "applied"}
    assert entry_of(course_id).course_id == course_id
    lines = capsys.readouterr().err.splitlines()
    assert course_id in {json.loads(line).get("course_id") for line in lines}
    assert all(map(str.isprintable, lines))


@pytest.mark.parametrize(("seconds", "status"), [(-301, 401), (-299, 200), (299, 200), (301, 401)])
def test_clocks_may_differ_by_five_minutes(  # F18
    send: Send, everything: Callable[[], str], seconds: int, status: int
) -> None:
    before = everything()

    with freeze_time(NINE + timedelta(seconds=seconds)):
        response = send(Sent(event(course_id="CS300"), "msg_clock", signed_at=NINE))

    assert response.status_code == status
    if status == 401:
        detail = check_refused(response, ProblemType.SIGNATURE_REFUSED, 401)["detail"]
        assert str(int(NINE.timestamp())) in detail
        assert str(int(NINE.timestamp()) + seconds) in detail
        assert everything() == before


def test_clock_that_jumps_applies_nothing_twice(  # F18
    send: Send, rows: Callable[[type[Any]], list[Any]]
) -> None:
    sent = Sent(event(course_id="CS300"), "msg_clock", signed_at=NINE)
    responses = []

    for jump in (0, 3600, -3600, 0):
        with freeze_time(NINE + timedelta(seconds=jump)):
            responses.append(send(sent))

    assert [response.status_code for response in responses] == [200, 401, 401, 200]
    assert responses[3].get_json() == {"outcome": "duplicate"}
    assert len([row for row in rows(InboxMessage) if row.webhook_id == "msg_clock"]) == 1


def test_changed_bit_is_401(send: Send, client: FlaskClient, everything: Callable[[], str]) -> None:
    # F21; every single bit: tests/contract/test_signatures.py
    body = event(course_id="CS300")
    headers = signatures.sign([KEY], "msg_bit", body, now=datetime.now(UTC))
    before = everything()

    statuses = set()
    for position in range(0, len(body), 7):
        changed = bytearray(body)
        changed[position] ^= 1
        response = client.post(
            PATH, data=bytes(changed), headers=headers, content_type="application/json"
        )
        statuses.add(response.status_code)
    statuses.add(send(Sent(body, headers={**headers, ID: "msg_bis"})).status_code)
    later = str(int(headers[TIMESTAMP]) + 1)
    statuses.add(send(Sent(body, headers={**headers, TIMESTAMP: later})).status_code)

    assert statuses == {401}
    assert everything() == before
    assert send(Sent(body, headers=headers)).get_json() == {"outcome": "applied"}

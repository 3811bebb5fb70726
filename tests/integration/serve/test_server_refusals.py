"""What the server itself refuses: a problem document too, bounded, and nothing is changed by it."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from contract import signatures
from contract.signatures import Secret
from tests.integration.services import ADMIN_KEY, SITE, Answer, Served, half_closed, head, hear

BODY = json.dumps(
    {
        "type": "course.deleted",
        "timestamp": "2026-11-22T08:59:59.5Z",
        "data": {"source": SITE, "course_id": "CS101", "course_version": 4},
    }
).encode()
JSON = ("Content-Type", "application/json")
LENGTH = ("Content-Length", str(len(BODY)))
CHUNKED = ("Transfer-Encoding", "chunked")


def refused(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    """Assert that the answer is this problem, actionable and bounded; return its document."""
    document = answer.document
    assert (answer.status, document["type"]) == (status, f"urn:problem-type:{kind}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == document["request_id"]
    assert answer.headers["cache-control"] == "no-store"
    assert document["status"] == status
    assert document["detail"]
    assert document["next_step"]
    assert len(answer.body) < 1000
    assert b"Traceback" not in answer.body
    assert b"<html" not in answer.body
    return document


@pytest.fixture
def signed(secret: Secret) -> Callable[[str], list[tuple[str, str]]]:
    """Return what signs the body just now under an id, as a list of headers."""

    def sign(webhook_id: str) -> list[tuple[str, str]]:
        return list(signatures.sign([secret], webhook_id, BODY, now=datetime.now(UTC)).items())

    return sign


def line(first: str) -> bytes:
    """Return a request that begins with this line."""
    return f"{first}\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(line("GE T / HTTP/1.1"), id="a space in the method"),
        pytest.param(line("get / HTTP/1.1"), id="a method in lower case"),
        pytest.param(line("G\x00T / HTTP/1.1"), id="NUL in the method"),
        pytest.param(line("X" * 21 + " / HTTP/1.1"), id="a long method"),
        pytest.param(line("GET /"), id="HTTP/0.9"),
        pytest.param(line("GET / HTTP/2.0"), id="HTTP/2.0"),
        pytest.param(line("GET / HTTP/3.0"), id="HTTP/3.0"),
        pytest.param(line("GET / HTTP/1.1x"), id="a version with a tail"),
        pytest.param(line("GET / ICE/1.0"), id="another protocol"),
        pytest.param(line("GET  / HTTP/1.1"), id="two spaces"),
        pytest.param(line("GET /ä HTTP/1.1"), id="a path that is not ASCII"),
        pytest.param(line("GET example.org:80 HTTP/1.1"), id="authority without CONNECT"),
        pytest.param(line("GET * HTTP/1.1"), id="asterisk without OPTIONS"),
        pytest.param(line("GET http://[::1 HTTP/1.1"), id="half an address"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", id="bare line feeds"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 at once"),
        pytest.param(head("GET", "/", [("A B", "x")]), id="a space in a header's name"),
        pytest.param(head("GET", "/", [("A", "x\x00y")]), id="NUL in a header"),
        pytest.param(head("GET", "/", [("A", "x\x0by")]), id="a control character in a header"),
        pytest.param(head("GET", "/", [("A", "x\r\n y")]), id="a header folded over two lines"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", id="a line without a colon"),
        pytest.param(b"GET / HTTP/1.1\r\n: a\r\n\r\n", id="a header without a name"),
        pytest.param(head("GET", "/", [("Host", "b")]), id="two Hosts"),
        pytest.param(head("GET", "/nowhere", host=None), id="no Host"),
        pytest.param(head("GET", "/", [("Expect", "a miracle")]), id="an expectation"),
        pytest.param(head(headers=[JSON, JSON, LENGTH]) + BODY, id="two content types"),
    ],
)
def test_what_is_no_http_is_malformed(elms: Served, eassessment: Served, raw: bytes) -> None:
    """Each is a 400 by problem document, whatever the server calls it (B1, B12)."""
    for served in (elms, eassessment):
        before = served.rows()

        answer = served.ask(raw)

        refused(answer, 400, "request-malformed")
        assert before == served.rows()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([LENGTH, LENGTH], id="two lengths, alike"),
        pytest.param([LENGTH, ("Content-Length", "5")], id="two lengths"),
        pytest.param([("Content-Length", "5, 5")], id="two lengths in one"),
        pytest.param([LENGTH, CHUNKED], id="length and chunks"),
        pytest.param([CHUNKED, CHUNKED], id="chunked twice"),
        pytest.param([("Transfer-Encoding", "gzip")], id="gzip without chunks"),
        pytest.param([("Transfer-Encoding", "sausage")], id="an unknown coding"),
        pytest.param([("Transfer-Encoding", "chunked, identity")], id="chunked, then more"),
        pytest.param([("Content-Length", "-1")], id="a negative length"),
        pytest.param([("Content-Length", "+5")], id="a length with a sign"),
        pytest.param([("Content-Length", "1e3")], id="a length in powers"),
        pytest.param([("Content-Length", "\u00b2")], id="a length of other digits"),
        pytest.param([("Content-Length", "9" * 5000)], id="a length of 5,000 digits"),
    ],
)
def test_a_body_whose_end_is_unclear_is_malformed(
    elms: Served,
    signed: Callable[[str], list[tuple[str, str]]],
    headers: list[tuple[str, str]],
) -> None:
    """No two readers may find two requests in it, however well it is signed (B5)."""
    before = elms.rows()

    answer = elms.ask(head(headers=[*signed("msg_unclear"), JSON, *headers]), BODY)

    refused(answer, 400, "request-malformed")
    assert before == elms.rows()


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"zz\r\n" + BODY, id="junk for a size"),
        pytest.param(b"-5\r\n" + BODY, id="a negative size"),
        pytest.param(b"0x5\r\nabcde\r\n0\r\n\r\n", id="a prefixed size"),
        pytest.param(b"5\r\nabcdeXX0\r\n\r\n", id="no line end after a chunk"),
        pytest.param(b"5;" + b"x" * 40_000, id="an extension without an end"),
        pytest.param(b"5;\r" + b"\r\nabcde\r\n0\r\n\r\n", id="a carriage return alone"),
        pytest.param(b"5\r\nabcde\r\n0\r\nHost: b\r\n\r\n", id="a trailer for a header"),
        pytest.param(b"5\r\nabc", id="cut off in a chunk"),
    ],
)
def test_broken_chunks_are_malformed(
    elms: Served, signed: Callable[[str], list[tuple[str, str]]], chunks: bytes
) -> None:
    """A chunked body that is not as HTTP says is no body (B5)."""
    before = elms.rows()

    answer = elms.ask(
        head(headers=[*signed("msg_chunks"), JSON, CHUNKED]), chunks, then=half_closed
    )

    refused(answer, 400, "request-malformed")
    assert before == elms.rows()


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [
        pytest.param([CHUNKED], b"FFFFFFFFFFFFFFF\r\n" + b"x" * 200_000, id="a huge chunk"),
        pytest.param([CHUNKED], b"1000\r\n%s\r\n" % (b"x" * 4096) * 20, id="many chunks"),
        pytest.param([("Content-Length", "65537")], b"", id="a length one above the limit"),
        pytest.param([("Content-Length", "9" * 18)], b"x", id="a length of an exabyte"),
    ],
)
def test_a_large_body_is_413_and_not_read_to_its_end(
    elms: Served,
    signed: Callable[[str], list[tuple[str, str]]],
    headers: list[tuple[str, str]],
    chunks: bytes,
) -> None:
    """The limit holds for what is said and for what comes (B5)."""
    before = elms.rows()

    answer = elms.ask(head(headers=[*signed("msg_large"), JSON, *headers]), chunks)

    refused(answer, 413, "body-too-large")
    assert before == elms.rows()


def test_a_body_shorter_than_it_says_is_malformed(
    elms: Served, signed: Callable[[str], list[tuple[str, str]]]
) -> None:
    """What was signed is all of it; a part is not even looked at (B5)."""
    before = elms.rows()
    headers = [*signed("msg_short"), JSON, LENGTH]

    answer = elms.ask(head(headers=headers), BODY[:-1], then=half_closed)

    document = refused(answer, 400, "request-malformed")
    assert document["detail"] == f"the body ended after {len(BODY) - 1} of {len(BODY)} bytes"
    assert before == elms.rows()


def test_an_admins_body_that_is_cut_short_is_malformed(eassessment: Served) -> None:
    """A whole JSON object that should have been longer adds no course (B5)."""
    before = eassessment.rows()
    key = ("Authorization", f"Bearer {ADMIN_KEY}")
    asked = head("POST", "/api/v1/admin/courses", [key, JSON, ("Content-Length", "100")])

    answer = eassessment.ask(asked, b'{"course_id":"CS101","title":"x"}', then=half_closed)

    refused(answer, 400, "request-malformed")
    assert before == eassessment.rows()


def test_a_body_longer_than_it_says_is_another_request(elms: Served) -> None:
    """What stands behind a body is read as a request of its own, and refused as none (B5)."""
    unsigned = head(headers=[LENGTH]).replace(b"Connection: close\r\n", b"")

    with elms.connect() as connection:
        connection.sendall(unsigned + BODY + b"and more\r\n\r\n")
        answers = connection.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 401 ") == 1
    assert answers.count(b"HTTP/1.1 400 ") == 1


HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda name, value: [(name, value), (name, value)], id="doubled"),
        pytest.param(lambda name, value: [(name, value), (name, "x")], id="doubled, unlike"),
        pytest.param(lambda name, value: [], id="missing"),
        pytest.param(lambda name, value: [(name, "")], id="empty"),
        pytest.param(lambda name, value: [(name, "x" * 8192)], id="of 8 kB"),
        pytest.param(lambda name, value: [(name, "\xe4\xff")], id="not ASCII"),
        pytest.param(lambda name, value: [(name.replace("-", "_"), value)], id="by underscore"),
        pytest.param(lambda name, value: [(name, value + "\t")] * 2, id="doubled, with a tab"),
    ],
)
def test_a_signature_header_out_of_order_reaches_the_door_and_is_401(
    elms: Served,
    signed: Callable[[str], list[tuple[str, str]]],
    name: str,
    change: Callable[[str, str], list[tuple[str, str]]],
) -> None:
    """Doubled, of 8 kB, smuggled in by an underscore: none of it counts as signed (B1)."""
    before = elms.rows()
    headers = dict(signed("msg_header"))
    changed = [*change(name, headers.pop(name)), *headers.items(), JSON, LENGTH]

    answer = elms.ask(head(headers=changed), BODY)

    document = refused(answer, 401, "signature-refused")
    assert name in document["detail"]
    assert answer.headers["www-authenticate"].startswith("Standard-Webhooks")
    assert before == elms.rows()


def test_an_underscore_beside_the_header_does_not_count(
    elms: Served, signed: Callable[[str], list[tuple[str, str]]]
) -> None:
    """The real header alone is read, whatever stands in one that only looks like it (B1)."""
    headers = [("webhook_id", "msg_other"), *signed("msg_underscore"), JSON, LENGTH]

    answer = elms.ask(head(headers=headers), BODY)

    assert answer.status == 200
    assert "msg_other" not in str(elms.rows()["inbox"])


@pytest.mark.parametrize(
    ("raw", "status", "kind"),
    [
        pytest.param(line(f"GET /{'x' * 9000} HTTP/1.1"), 414, "uri-too-long", id="a long path"),
        pytest.param(head("GET", f"/?{'x' * 9000}", []), 414, "uri-too-long", id="a long query"),
        pytest.param(
            head(headers=[("webhook-signature", "v1,AAAA " * 10_000)]),
            431,
            "headers-too-large",
            id="ten thousand signatures",
        ),
        pytest.param(
            head(headers=[("a", "x" * 17_000)]), 431, "headers-too-large", id="a header of 17 kB"
        ),
        pytest.param(
            head(headers=[("a", "x")] * 100), 431, "headers-too-large", id="a hundred headers"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 200_000,
            431,
            "headers-too-large",
            id="a header without an end",
        ),
        pytest.param(b"x" * 200_000, 431, "headers-too-large", id="a line without an end"),
    ],
)
def test_a_head_too_large_is_refused_in_bounded_work(
    elms: Served, raw: bytes, status: int, kind: str
) -> None:
    """What is too long to be read is told so, and not echoed (B1, B2)."""
    before = elms.rows()

    answer = elms.ask(raw)

    refused(answer, status, kind)
    assert before == elms.rows()


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        pytest.param("GET", f"/webhooks/{SITE}", 405, "method-not-allowed", id="GET"),
        pytest.param("OPTIONS", f"/webhooks/{SITE}", 405, "method-not-allowed", id="OPTIONS"),
        pytest.param("TRACE", f"/webhooks/{SITE}", 405, "method-not-allowed", id="TRACE"),
        pytest.param("BREW", f"/webhooks/{SITE}", 405, "method-not-allowed", id="BREW"),
        pytest.param("OPTIONS", "*", 404, "not-found", id="OPTIONS of all"),
        pytest.param("CONNECT", "example.org:443", 404, "not-found", id="CONNECT"),
        pytest.param("POST", f"/webhooks/{SITE}/", 404, "not-found", id="a slash after"),
        pytest.param("POST", f"//webhooks/{SITE}", 404, "not-found", id="two slashes in front"),
        pytest.param("POST", f"/webhooks//{SITE}", 404, "not-found", id="two slashes inside"),
        pytest.param("POST", f"/webhooks%2F{SITE}", 401, "signature-refused", id="%2F"),
        pytest.param("POST", f"/x/../webhooks/{SITE}", 404, "not-found", id="dots"),
        pytest.param("POST", f"/webhooks/../webhooks/{SITE}", 404, "not-found", id="more dots"),
        pytest.param("POST", f"/%2e/webhooks/{SITE}", 404, "not-found", id="a quoted dot"),
        pytest.param("POST", "/webhooks/%00", 400, "request-malformed", id="NUL"),
        pytest.param(
            "POST", f"http://evil.example/webhooks/{SITE}", 401, "signature-refused", id="absolute"
        ),
        pytest.param("POST", "/", 405, "method-not-allowed", id="the root"),
    ],
)
def test_no_path_is_redirected_or_guessed(
    elms: Served, method: str, path: str, status: int, kind: str
) -> None:
    """A wrong method or path is told, never forwarded; another spelling is read as it is (B12)."""
    before = elms.rows()

    answer = elms.ask(head(method, path, [JSON, LENGTH]), BODY)

    refused(answer, status, kind)
    assert "location" not in answer.headers
    assert before == elms.rows()


def test_a_head_request_is_answered_without_a_body(elms: Served) -> None:
    """HEAD is another method like any (B12)."""
    with elms.connect() as connection:
        connection.sendall(head("HEAD"))
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("SCRIPT_NAME", "/x", id="a path of a server in front"),
        pytest.param("PATH_INFO", "/x", id="another path"),
        pytest.param("X-Forwarded-Proto", "https", id="a scheme"),
        pytest.param("X-Forwarded-For", "10.0.0.1", id="an address"),
        pytest.param("X-Forwarded-Host", "evil.example", id="a host"),
        pytest.param("X-HTTP-Method-Override", "DELETE", id="a method"),
        pytest.param("Upgrade", "h2c", id="an upgrade"),
    ],
)
def test_no_header_stands_for_a_part_of_the_request(elms: Served, name: str, value: str) -> None:
    """Method, path, scheme and address are those of the request itself (B12)."""
    answer = elms.ask(head(headers=[(name, value), ("X-Forwarded-Ssl", "off"), LENGTH]), BODY)

    refused(answer, 401, "signature-refused")


def test_a_continue_is_followed_by_the_answer(elms: Served) -> None:
    """Who waits for a 100 before the body gets it, and then the refusal (B12)."""
    with elms.connect() as connection:
        connection.sendall(head(headers=[("Expect", "100-continue"), LENGTH]))
        answers = connection.makefile("rb").read()

    assert answers.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 ")


def test_the_log_has_the_refusal_under_its_id_and_no_secret(elms: Served) -> None:
    raw = head("GET", "/", [("A B", "Bearer planted-secret-0123456789")])

    document = refused(elms.ask(raw), 400, "request-malformed")

    told = [json.loads(line) for line in elms.log.read_text().splitlines()]
    (found,) = [line for line in told if line.get("request_id") == document["request_id"]]
    assert (found["event"], found["level"]) == ("request refused by the server", "warning")
    assert found["detail"] == document["detail"]
    assert found["peer"] == "127.0.0.1"
    assert "planted-secret" not in elms.log.read_text()


def test_a_reset_in_the_middle_leaves_the_door_open(elms: Served) -> None:
    """A client that is gone at any point costs nobody else an answer (B5)."""
    whole = head(headers=[LENGTH]) + BODY
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"

    for cut in range(0, len(whole), 7):
        with elms.connect() as connection:
            connection.sendall(whole[:cut])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    refused(elms.ask(whole), 401, "signature-refused")
    assert "Traceback" not in elms.log.read_text()


def test_a_connection_goes_on_behind_a_body_that_was_not_read(elms: Served) -> None:
    asked = head(headers=[LENGTH]).replace(b"Connection: close\r\n", b"")

    with elms.connect() as connection:
        statuses = []
        for _ in range(3):
            connection.sendall(asked)
            statuses.append(hear(connection).status)
            connection.sendall(BODY)

    assert statuses == [401, 401, 401]

"""Receivers that misbehave: each attempt ends within its deadline and costs little memory."""

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable

import pytest
import requests

from foundation.http import client as http
from foundation.http import deadline
from foundation.http.dialer import Dialer
from notifier.webhooks.http_client import MAX_STORED_BYTES
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.faults.certificate_authority import Authority
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE, MakeRawSink, MakeTransport
from tests.faults.server import (
    FINE,
    OK,
    Behaviour,
    black_hole,
    drips,
    over_tls,
    pours,
    resets,
    says,
)
from tests.notifier.conftest import LOOPBACK, Reply, Sink

MEGABYTE = 1024 * 1024
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
BOMB = gzip.compress(b"boom" * MEGABYTE)
PACKED = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)


@pytest.mark.parametrize(
    ("behave", "result"),
    [
        pytest.param(black_hole, "deadline", id="silence"),
        pytest.param(drips(b""), "deadline", id="slow status line"),
        pytest.param(drips(OK + b"X-"), "deadline", id="slow headers"),
        pytest.param(drips(b"", EARLY), "deadline", id="slow interim responses"),
        pytest.param(pours(b"HTTP/1.1 200 ", b"x" * 65536), "protocol", id="endless status line"),
        pytest.param(pours(OK + b"X: ", b"x" * 65536), "protocol", id="endless header"),
        pytest.param(pours(OK, b"X: x\r\n" * 10_000), "protocol", id="endless headers"),
        pytest.param(pours(b"", EARLY * 2_000), "protocol", id="endless interim responses"),
        pytest.param(pours(OK + b"\r\n", b"x" * 65536), 200, id="endless body"),
        pytest.param(pours(CHUNKED + b"fffffffff\r\n", b"x" * 65536), 200, id="endless chunk"),
        pytest.param(pours(CHUNKED, b"0" * 65536), 200, id="endless size of a chunk"),
        pytest.param(pours(CHUNKED + b"0\r\n", b"X: x\r\n" * 9_000), 200, id="endless trailers"),
        pytest.param(pours(b"", bytes(range(256)) * 256), "protocol", id="garbage"),
        pytest.param(says(PACKED + BOMB), 200, id="gzip bomb"),
    ],
)
def test_attempt_is_bounded_in_time_and_memory(
    make_raw_sink: MakeRawSink,
    make_transport: MakeTransport,
    behave: Behaviour,
    result: str | int,
) -> None:
    # Where a status is expected there is time for it, however busy the machine is.
    transport = make_transport(deadline=0.4 if result == "deadline" else 2.0)
    raw = make_raw_sink(behave)

    tracemalloc.start()
    started = time.monotonic()
    response = transport.post(raw.url(), HEADERS, BODY)
    elapsed, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert elapsed < PATIENCE
    assert peak < MEGABYTE
    if isinstance(response, WebhookResponse):
        outcome, text = response.status, response.excerpt
    else:
        outcome, text = response.kind, response.detail
        assert text.startswith(f"127.0.0.1:{raw.port}: ")
    assert outcome == result
    assert len(text.encode()) <= MAX_STORED_BYTES
    assert text.isprintable()
    assert "boom" not in text


def test_reset_at_any_byte_leaves_a_status_or_a_failure(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    cuts = iter(range(len(FINE) + 1))
    raw = make_raw_sink(lambda *connection: resets(FINE[: next(cuts)])(*connection))
    transport = make_transport()

    results = [transport.post(raw.url(), HEADERS, BODY) for _ in range(len(FINE) + 1)]

    head_ends = FINE.index(b"\r\n\r\n") + 4
    failures, responses = results[:head_ends], results[head_ends:]
    assert {one.kind for one in failures if isinstance(one, Failure)} == {"reset"}
    assert {one.status for one in responses if isinstance(one, WebhookResponse)} == {200}
    assert {type(one) for one in failures} == {Failure}
    assert {type(one) for one in responses} == {WebhookResponse}


@pytest.mark.parametrize(
    ("response", "kind", "detail"),
    [
        pytest.param(b"", "reset", "closed without a response", id="nothing"),
        pytest.param(b"HTTP/1.1 20", "protocol", "incomplete", id="cut in the status"),
        pytest.param(OK + b"Content-Ty", "protocol", "incomplete", id="cut in a header"),
        pytest.param(OK, "protocol", "incomplete", id="cut after a header"),
        pytest.param(b"\x00\xff\r\n\r\n", "protocol", r"\x00", id="garbage"),
        pytest.param(b"HTTP/2 200\r\n\r\n", "protocol", "HTTP/2", id="HTTP/2"),
        pytest.param(b"HTTP/1.1 2_0_0 OK\r\n\r\n", "protocol", "2_0_0", id="a number of Python"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", "protocol", "101", id="101"),
    ],
)
def test_what_is_not_http_is_a_failure_that_quotes_it(
    make_raw_sink: MakeRawSink,
    make_transport: MakeTransport,
    response: bytes,
    kind: str,
    detail: str,
) -> None:
    raw = make_raw_sink(says(response))

    failure = make_transport().post(raw.url(), HEADERS, BODY)

    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert detail in failure.detail


@pytest.mark.parametrize(
    ("response", "excerpt"),
    [
        pytest.param(b"Content-Length: 100\r\n\r\npart", "part", id="cut short"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", id="bad chunk"),
        pytest.param(b"Content-Length: nonsense\r\n\r\nwell", "well", id="bad length"),
        pytest.param(b"Content-Length: %s\r\n\r\nwell" % (b"1" * 5000), "well", id="vast length"),
        pytest.param(b"\r\nwell", "well", id="until the connection ends"),
        pytest.param(b"X: caf\xe9\x01\r\n\r\nwell", "well", id="header that is not ASCII"),
    ],
)
def test_status_counts_whatever_the_body_is(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, response: bytes, excerpt: str
) -> None:
    raw = make_raw_sink(says(OK + response))

    assert make_transport().post(raw.url(), HEADERS, BODY) == WebhookResponse(200, None, excerpt)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(OK, id="200"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n", id="302"),
    ],
)
def test_endless_body_is_not_read_on(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, head: bytes
) -> None:
    poured: list[int] = []
    endless = pours(head + b"Content-Length: 1000000000\r\n\r\n", b"x" * 100_000, poured)

    started = time.monotonic()
    response = make_transport(deadline=60).post(make_raw_sink(endless).url(), HEADERS, BODY)

    assert isinstance(response, WebhookResponse)
    assert response.excerpt == "x" * MAX_STORED_BYTES
    assert time.monotonic() - started < PATIENCE
    assert sum(poured) < 20 * MEGABYTE


def test_request_that_is_not_read_ends_with_the_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    raw = make_raw_sink(black_hole)

    started = time.monotonic()
    failure = make_transport(deadline=0.4).post(raw.url(), HEADERS, b"x" * 50_000_000)

    assert failure == Failure(
        "deadline", f"127.0.0.1:{raw.port}: too slow: no response within 0.4 s"
    )
    assert 0.4 <= time.monotonic() - started < PATIENCE


def test_connection_that_is_not_accepted_costs_the_connect_timeout(
    make_transport: MakeTransport, full_port: int
) -> None:
    started = time.monotonic()
    failure = make_transport(connect_timeout=0.2).post(
        f"http://127.0.0.1:{full_port}/", HEADERS, BODY
    )

    assert failure == Failure(
        "connect-timeout",
        f"127.0.0.1:{full_port}: the connection was not accepted within 0.2 s",
    )
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    ("status", "location"),
    [
        pytest.param(301, None, id="another server"),
        pytest.param(307, "http://169.254.169.254/latest/meta-data/", id="blocked address"),
        pytest.param(302, "http://[::1/", id="malformed"),
        pytest.param(308, "?" * 9000, id="long"),
    ],
)
def test_redirect_is_returned_and_never_followed(
    sink: Sink,
    make_sink: Callable[[], Sink],
    make_transport: MakeTransport,
    status: int,
    location: str | None,
) -> None:
    other = make_sink()
    sink.answer(Reply(status, {"Location": location or other.url()}, b"moved"))

    response = make_transport().post(sink.url(), HEADERS, BODY)

    assert response == WebhookResponse(status, None, "moved")
    assert (len(sink.received), other.connections) == (1, 0)


# Responses that must not be taken for those of the next request on the same connection.
FORGED = b"HTTP/1.1 299 Forged\r\nContent-Length: 6\r\n\r\nforged"
REFUSED = b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno"
WELL_CHUNK = b"4\r\nwell\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(FINE + FORGED, id="another response"),
        pytest.param(CHUNKED + WELL_CHUNK + FORGED, id="more after the chunks"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED, id="204 with a body"),
        pytest.param(OK + b"Content-Length: 4\r\n" * 2 + b"\r\nwell" + FORGED, id="two lengths"),
        pytest.param(OK + b"Content-Length: +4\r\n\r\nwell" + FORGED, id="length with a sign"),
        pytest.param(
            OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + WELL_CHUNK + FORGED,
            id="length and chunks",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked, identity\r\nContent-Length: 4\r\n\r\nwell" + FORGED,
            id="unknown coding",
        ),
    ],
)
def test_excess_bytes_are_not_the_next_response(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, response: bytes
) -> None:
    raw, transport = make_raw_sink(says(response, REFUSED)), make_transport()

    first, second = (transport.post(raw.url(), HEADERS, BODY) for _ in range(2))

    assert isinstance(first, WebhookResponse)
    assert isinstance(second, WebhookResponse)
    assert 299 not in {first.status, second.status}


def test_excess_bytes_of_tls_are_not_the_next_response(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, authority: Authority
) -> None:
    # The client decrypts all of it at once, and reads as much as its buffer holds.
    response = FINE + b"x" * (8192 - len(FINE)) + FORGED
    raw = make_raw_sink(over_tls(authority.server(), says(response, REFUSED), []))
    transport = make_transport(bundle=str(authority.bundle))

    responses = [transport.post(raw.url("https"), HEADERS, BODY) for _ in range(2)]

    assert [getattr(response, "status", response) for response in responses] == [200, 200]
    assert raw.connections == 2


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X:" + b" " * 60_000 + b"\r", id="spaces before a CR"),
        pytest.param(b"X: a" + b" " * 60_000 + b"b", id="spaces within a value"),
        pytest.param(b"X" * 60_000, id="no colon"),
    ],
)
def test_head_is_read_in_no_time(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, line: bytes
) -> None:
    raw = make_raw_sink(says(OK + b"Content-Length: 4\r\n" + line + b"\r\n\r\nwell"))

    # An expression that goes back and forth in the line would take minutes.
    response = make_transport().post(raw.url(), HEADERS, BODY)

    assert response == WebhookResponse(200, None, "well")


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", id="304"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", id="204"),
    ],
)
def test_response_without_a_body_has_no_chunks(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, response: bytes
) -> None:
    raw, transport = make_raw_sink(says(response, REFUSED)), make_transport()

    responses = [transport.post(raw.url(), HEADERS, BODY) for _ in range(2)]

    assert responses[1] == WebhookResponse(500, None, "no")
    assert raw.connections == 1


def test_late_bytes_are_not_the_next_response(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    sent = threading.Event()

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        says(FINE)(connection, stopped)
        connection.sendall(FORGED)
        sent.set()
        says(FINE)(connection, stopped)

    raw, transport = make_raw_sink(behave), make_transport()

    first = transport.post(raw.url(), HEADERS, BODY)
    assert sent.wait(10)
    second = transport.post(raw.url(), HEADERS, BODY)

    assert [first, second] == [WebhookResponse(200, None, "well")] * 2


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(CHUNKED + WELL_CHUNK, id="chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY + FINE, id="interim responses"),
        pytest.param(OK + b"Content-Length:4\t\r\n\r\nwell", id="tab after the length"),
    ],
)
def test_connection_is_kept_after_a_clean_response(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, response: bytes
) -> None:
    raw, transport = make_raw_sink(says(response, REFUSED)), make_transport()

    responses = [transport.post(raw.url(), HEADERS, BODY) for _ in range(2)]

    assert responses == [WebhookResponse(200, None, "well"), WebhookResponse(500, None, "no")]
    assert raw.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nwell",
            id="HTTP/1.0",
        ),
        pytest.param(OK + b"Connection: x, Close\r\nContent-Length: 4\r\n\r\nwell", id="close"),
        pytest.param(OK + b"Content-Length: 4\r\nno field\r\n\r\nwell", id="no field"),
        pytest.param(OK + b"Content-Length: 4\r\nA b: c\r\n\r\nwell", id="no name"),
        pytest.param(OK + b"Content-Length: 4\r\nA: b\r\n c\r\n\r\nwell", id="folded line"),
    ],
)
def test_connection_is_not_kept_after_other_responses(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, response: bytes
) -> None:
    raw, transport = make_raw_sink(says(response, REFUSED)), make_transport()

    responses = [transport.post(raw.url(), HEADERS, BODY) for _ in range(2)]

    assert responses == [WebhookResponse(200, None, "well")] * 2
    assert raw.connections == 2


def test_least_recently_used_connection_is_closed(
    make_raw_sink: MakeRawSink,
) -> None:
    closed = threading.Event()

    def behave(connection: socket.socket, _: threading.Event) -> None:
        says(FINE)(connection, _)
        if connection.recv(1) == b"":
            closed.set()

    adapter = http.Adapter(Dialer(5, LOOPBACK), connections=1)

    with deadline.Exchange(10):
        for sink in (make_raw_sink(behave), make_raw_sink(says(FINE))):
            request = requests.Request("POST", sink.url(), data=BODY).prepare()
            with adapter.send(request) as response:
                response.raw.read()

    assert closed.wait(PATIENCE)
    adapter.close()

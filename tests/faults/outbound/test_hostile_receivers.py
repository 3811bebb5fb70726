"""Receivers that misbehave: each attempt ends with its deadline and costs little memory."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from notifier.webhooks.http_client import MAX_STORED_BYTES, Transport
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE
from tests.faults.server import (
    FAULTS,
    FINE,
    OK,
    Behaviour,
    RawSink,
    black_hole,
    drips,
    pours,
    resets,
    says,
    sips,
)
from tests.notifier.conftest import Reply, Sink

MakeTransport = Callable[..., Transport]
MakeRawSink = Callable[[Behaviour], RawSink]

DEADLINE = 0.5
MEGABYTE = 1024 * 1024


@pytest.mark.parametrize("behave", [pytest.param(one, id=name) for name, one in FAULTS.items()])
def test_attempt_ends_within_its_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, behave: Behaviour
) -> None:
    """Whatever a receiver does, an attempt ends with its deadline (I6, F15).

    What comes of it is an answer or a failure in words that are short and safe to print.
    """
    raw = make_raw_sink(behave)

    started = time.monotonic()
    answer = make_transport(deadline=DEADLINE).post(raw.url(), HEADERS, BODY)
    elapsed = time.monotonic() - started

    assert elapsed < PATIENCE
    words = answer.excerpt if isinstance(answer, WebhookResponse) else answer.detail
    assert len(words.encode()) <= MAX_STORED_BYTES
    assert words.isprintable()
    assert raw.connections == 1


_MEASURE = """
import json, sys, tracemalloc
from foundation.http.ssrf import Guard
from notifier.webhooks.http_client import Transport

transport = Transport(connect_timeout=2, deadline=0.5, connections=1, guard=Guard(loopback=True))
fine, *hostile = json.loads(sys.argv[1])
transport.post(fine, {"webhook-id": "msg_1"}, b"{}")
tracemalloc.start()
grown = []
for url in hostile:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    transport.post(url, {"webhook-id": "msg_1"}, b"{}")
    grown.append(tracemalloc.get_traced_memory()[1] - before)
print(json.dumps(grown))
"""


def test_hostile_receivers_cost_little_memory(make_raw_sink: MakeRawSink) -> None:
    """In a process of its own no fault costs 1 MB more memory at any moment of it (F15, I6).

    The promise is 8 MB, which a hundred headers of 64 kB could well break.
    """
    behaviours = [says(FINE), *FAULTS.values()]
    urls = [make_raw_sink(behave).url() for behave in behaviours]

    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, json.dumps(urls)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    grown = dict(zip(FAULTS, json.loads(done.stdout), strict=True))
    assert {name: most for name, most in grown.items() if most >= MEGABYTE} == {}


@pytest.mark.parametrize("at", range(len(FINE) + 1))
def test_reset_at_any_byte_leaves_an_answer_or_a_failure(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, at: int
) -> None:
    """A connection reset after any byte of an answer: once its head was whole, the status counts.

    Before that it is a failure, and the event is sent again (F15).
    """
    raw = make_raw_sink(resets(FINE[:at]))
    head_ends = FINE.index(b"\r\n\r\n") + 4

    answer = make_transport().post(raw.url(), HEADERS, BODY)

    if at >= head_ends:
        assert isinstance(answer, WebhookResponse)
        assert answer.status == 200
    else:
        assert isinstance(answer, Failure)
        assert answer.kind == "reset"
        assert answer.detail.startswith(f"127.0.0.1:{raw.port}: the connection was lost: ")


@pytest.mark.parametrize("at", [0, 9, 15, len(OK), len(OK) + 12])
def test_answer_that_ends_in_its_head_is_none(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, at: int
) -> None:
    answer = make_transport().post(make_raw_sink(says(FINE[:at])).url(), HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == ("protocol" if at else "reset")


@pytest.mark.parametrize(
    ("behave", "kind", "words"),
    [
        pytest.param(resets(), "reset", "Connection reset by peer", id="RST"),
        pytest.param(says(), "reset", "closed without a response", id="closed without a word"),
        pytest.param(says(b"\x00\xff\r\n\r\n"), "protocol", r"\x00", id="garbage"),
        pytest.param(says(b"HTTP/2 200\r\n\r\n"), "protocol", "HTTP/2", id="HTTP/2"),
        pytest.param(says(b"HTTP/1.1 abc OK\r\n\r\n"), "protocol", "abc", id="no status"),
        pytest.param(says(b"HTTP/1.1 2_0_0 OK\r\n\r\n"), "protocol", "2_0_0", id="underscores"),
        pytest.param(says(b"HTTP/1.1 0200 OK\r\n\r\n"), "protocol", "0200", id="four digits"),
        pytest.param(says(b"\r\nHTTP/1.1 200 OK\r\n\r\n"), "protocol", "", id="an empty line"),
        pytest.param(says(b"HTTP/1.1 20"), "protocol", "incomplete", id="cut in the status"),
        pytest.param(
            says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), "protocol", "switches", id="101"
        ),
        pytest.param(
            says(OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n"),
            "protocol",
            "the response is too large",
            id="a header without end",
        ),
        pytest.param(
            says(OK + b"X: x\r\n" * 101 + b"\r\n"), "protocol", "100 headers", id="101 headers"
        ),
        pytest.param(
            pours(b"", b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n" * 2_000),
            "protocol",
            "the response is too large",
            id="interim answers without end",
        ),
    ],
)
def test_what_is_not_http_is_a_failure(
    make_raw_sink: MakeRawSink,
    make_transport: MakeTransport,
    behave: Behaviour,
    kind: str,
    words: str,
) -> None:
    """Whatever comes instead of HTTP is a failure of a stable kind that quotes it (F15)."""
    raw = make_raw_sink(behave)

    answer = make_transport().post(raw.url(), HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == kind
    assert answer.detail.startswith(f"127.0.0.1:{raw.port}: ")
    assert words in answer.detail
    assert answer.detail.isprintable()


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize(
    ("answered", "said"),
    [
        pytest.param(b"Content-Length: 100\r\n\r\npart", "part", id="cut short"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", id="a bad chunk"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n", "well", id="chunks"
        ),
        pytest.param(b"Content-Length: nonsense\r\n\r\nwell", "well", id="a bad length"),
        pytest.param(b"Content-Length: -5\r\n\r\nwell", "well", id="a negative length"),
        pytest.param(b"\r\nwell", "well", id="until the connection ends"),
        pytest.param(b"X: caf\xe9\x01\r\n\r\nwell", "well", id="a header that is not ASCII"),
        pytest.param(b"Content-Length: 4\r\n\r\nwell and more", "well", id="more than it says"),
        pytest.param(
            b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n",
            "well",
            id="two kinds of length",
        ),
    ],
)
def test_status_counts_whatever_becomes_of_the_body(
    make_raw_sink: MakeRawSink,
    make_transport: MakeTransport,
    status: int,
    answered: bytes,
    said: str,
) -> None:
    """Any 2xx was heard though its body is broken: the receiver has the event (F15)."""
    raw = make_raw_sink(says(b"HTTP/1.1 %d Fine\r\n" % status + answered))

    answer = make_transport().post(raw.url(), HEADERS, BODY)

    assert isinstance(answer, WebhookResponse)
    assert (answer.status, answer.excerpt) in {(status, said), (status, "")}


def test_interim_answers_are_read_past(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

    answer = make_transport().post(make_raw_sink(says(interim * 3 + FINE)).url(), HEADERS, BODY)

    assert answer == WebhookResponse(200, None, "well")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(OK, id="200"),
        pytest.param(b"HTTP/1.1 500 Oops\r\n", id="500"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n", id="302"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Encoding: gzip\r\n", id="gzip"),
    ],
)
def test_endless_answer_is_not_read_on(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, head: bytes
) -> None:
    """Of an answer without end the beginning is read, and the connection ended, at once (F15)."""
    poured: list[int] = []
    endless = pours(head + b"Content-Length: 1000000000\r\n\r\n", b"x" * 100_000, poured)

    started = time.monotonic()
    answer = make_transport(deadline=60).post(make_raw_sink(endless).url(), HEADERS, BODY)

    assert isinstance(answer, WebhookResponse)
    assert answer.excerpt == "x" * MAX_STORED_BYTES
    assert time.monotonic() - started < PATIENCE
    assert sum(poured) < 20 * MEGABYTE


def test_gzip_is_not_unpacked(make_raw_sink: MakeRawSink, make_transport: MakeTransport) -> None:
    """A packed answer is not asked for and not unpacked: a bomb stays small (F15)."""
    raw = make_raw_sink(FAULTS["gzip bomb"])

    answer = make_transport().post(raw.url(), HEADERS, BODY)

    assert isinstance(answer, WebhookResponse)
    assert answer.status == 200
    assert "boomboom" not in answer.excerpt


def test_dripping_body_leaves_the_status(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    """A 2xx counts though its body drips; the attempt ends with its deadline all the same (F15)."""
    raw = make_raw_sink(drips(OK + b"Content-Length: 100000\r\n\r\n"))

    answer = make_transport(deadline=0.4).post(raw.url(), HEADERS, BODY)

    assert isinstance(answer, WebhookResponse)
    assert answer.status == 200
    assert answer.excerpt.strip("x") == ""


@pytest.mark.parametrize("name", ["black hole", "slow status line", "slow headers"])
def test_no_answer_in_time_is_a_failure_of_the_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, name: str
) -> None:
    """Where no head comes within the deadline, the failure names host and time (F15, I6)."""
    raw = make_raw_sink(FAULTS[name])

    started = time.monotonic()
    answer = make_transport(deadline=0.4).post(raw.url(), HEADERS, BODY)

    assert answer == Failure("deadline", f"127.0.0.1:{raw.port}: no response within 0.4 s")
    assert 0.4 <= time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    "behave", [pytest.param(black_hole, id="nothing"), pytest.param(sips, id="in sips")]
)
def test_request_that_is_not_taken_ends_with_the_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, behave: Behaviour
) -> None:
    """A receiver that takes nothing of a large body, or little at a time, cannot hold it (I6)."""
    raw = make_raw_sink(behave)

    started = time.monotonic()
    answer = make_transport(deadline=0.4).post(raw.url(), HEADERS, b"x" * 50_000_000)

    assert answer == Failure("deadline", f"127.0.0.1:{raw.port}: no response within 0.4 s")
    assert time.monotonic() - started < PATIENCE


def test_server_that_does_not_accept_costs_the_connect_timeout(
    make_transport: MakeTransport,
) -> None:
    """Where the connection is not accepted the attempt ends with the shorter time-out (F15)."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())

        started = time.monotonic()
        where = f"127.0.0.1:{full.getsockname()[1]}"
        answer = make_transport(connect_timeout=0.2).post(f"http://{where}/", HEADERS, BODY)
        elapsed = time.monotonic() - started

        for one in waiting:
            one.close()
    assert answer == Failure("connect-timeout", f"{where}: no connection within 0.2 s")
    assert elapsed < PATIENCE


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize(
    "location",
    [
        pytest.param(None, id="another server"),
        pytest.param("http://169.254.169.254/latest/meta-data/", id="blocked address"),
        pytest.param("http://[::1/", id="malformed"),
        pytest.param("?" * 9000, id="long"),
    ],
)
def test_redirect_is_returned_and_never_followed(
    sink: Sink,
    make_sink: Callable[[], Sink],
    make_transport: MakeTransport,
    status: int,
    location: str | None,
) -> None:
    """Wherever a redirect leads, it is a response with its status (F13)."""
    other = make_sink()
    sink.answer(Reply(status, {"Location": location or other.url()}, b"moved"))

    response = make_transport().post(sink.url(), HEADERS, BODY)

    assert response == WebhookResponse(status, None, "moved")
    assert (len(sink.received), other.connections) == (1, 0)

"""Kept connections: nothing that one answer leaves behind is taken for the next one's."""

import socket
import threading
from collections.abc import Callable

import pytest
import requests

from foundation.http import client as http
from foundation.http import deadline
from foundation.http.dialer import Dialer
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.faults.outbound.conftest import BODY, HEADERS
from tests.faults.server import FINE, OK, Behaviour, RawSink, ask, says_each
from tests.notifier.conftest import LOOPBACK

MakeTransport = Callable[..., Transport]
MakeRawSink = Callable[[Behaviour], RawSink]

FORGED = b"HTTP/1.1 299 Forged\r\nContent-Length: 6\r\n\r\nforged"
REFUSED = b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(FINE + FORGED, id="another answer behind it"),
        pytest.param(FINE + b"\r\n", id="an empty line behind it"),
        pytest.param(FINE + b"x" * 20_000, id="much behind it"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED, id="a 204 with a body"),
        pytest.param(
            b"HTTP/1.1 204 No Content\r\nContent-Length: 90\r\n\r\n" + FORGED, id="a 204 and length"
        ),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n" + FORGED, id="no length and a body"),
        pytest.param(
            OK + b"Content-Length: 4\r\nContent-Length: 50\r\n\r\nwell" + FORGED, id="two lengths"
        ),
        pytest.param(OK + b"Content-Length: +4\r\n\r\nwell" + FORGED, id="a length with a sign"),
        pytest.param(OK + b"Content-Length: 0_4\r\n\r\nwell" + FORGED, id="a length for Python"),
        pytest.param(
            OK
            + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n"
            + FORGED,
            id="a length and chunks",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked, identity\r\nContent-Length: 4\r\n\r\nwell" + FORGED,
            id="a coding that is none",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n" + FORGED,
            id="more behind the chunks",
        ),
    ],
)
def test_what_is_left_over_answers_nothing(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, answer: bytes
) -> None:
    raw = make_raw_sink(says_each(answer, REFUSED))
    transport = make_transport()

    first, second = (transport.post(raw.url(), HEADERS, BODY) for _ in range(2))

    assert isinstance(first, WebhookResponse)
    assert first.status in {200, 204}
    assert isinstance(second, WebhookResponse)
    assert second.status != 299


def test_what_comes_late_answers_nothing(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    sent = threading.Event()

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        says_each(FINE)(connection, stopped)
        connection.sendall(FORGED)
        sent.set()
        says_each(FINE)(connection, stopped)

    raw = make_raw_sink(behave)
    transport = make_transport()

    first = transport.post(raw.url(), HEADERS, BODY)
    assert sent.wait(10)
    second = transport.post(raw.url(), HEADERS, BODY)

    assert [first, second] == [WebhookResponse(200, None, "well")] * 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(FINE, id="a length"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", id="nothing"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" + FINE, id="an interim answer first"),
    ],
)
def test_clean_answer_keeps_its_connection(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, answer: bytes
) -> None:
    raw = make_raw_sink(says_each(answer, REFUSED))
    transport = make_transport()

    first, second = (transport.post(raw.url(), HEADERS, BODY) for _ in range(2))

    assert isinstance(first, WebhookResponse)
    assert second == WebhookResponse(500, None, "no")
    assert raw.connections == 1


def test_connections_are_kept_to_so_many_hosts_and_no_more(
    make_raw_sink: MakeRawSink,
) -> None:
    ended = threading.Semaphore(0)

    def behave(connection: socket.socket, _: threading.Event) -> None:
        ask(connection)
        connection.sendall(FINE)
        if connection.recv(1) == b"":
            ended.release()

    adapter = http.Adapter(Dialer(LOOPBACK), hosts=2)
    raws = [make_raw_sink(behave) for _ in range(5)]

    with deadline.within(10, idle_timeout=10, max_bytes=10_000):
        for raw in raws:
            request = requests.Request("POST", raw.url(), data=BODY).prepare()
            adapter.send(request, stream=True, timeout=5, proxies={}).raw.read(4096)
    closed = [ended.acquire(timeout=10) for _ in range(3)]
    fourth = ended.acquire(blocking=False)
    adapter.close()

    assert closed == [True, True, True]
    assert fourth is False


def test_unasked_switch_of_protocols_ends_the_connection(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    raw = make_raw_sink(says_each(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + FORGED, REFUSED))
    transport = make_transport()

    answers = [transport.post(raw.url(), HEADERS, BODY) for _ in range(2)]

    assert [one.kind for one in answers if isinstance(one, Failure)] == ["protocol", "protocol"]
    assert raw.connections == 2

"""Kept connections: how long they are used, and what happens if one has failed."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from http.client import HTTPException
from unittest.mock import Mock

import pytest
import requests

from foundation.http import client as http
from foundation.http import deadline
from foundation.http.dialer import Dialer
from tests.faults.certificate_authority import Authority
from tests.faults.server import FINE, OK, Behaviour, RawSink, over_tls, resets, says

BODY = b"{}"

Serve = Callable[..., RawSink]
Post = Callable[..., int]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves connections with these behaviours, one after the other."""
    with ExitStack() as stack:

        def start(*behaviours: Behaviour) -> RawSink:
            following = iter(behaviours)
            sink = RawSink(lambda *connection: next(following)(*connection))
            stack.callback(sink.stop)
            return sink

        yield start


@pytest.fixture
def post(authority: Authority) -> Iterator[Post]:
    """Return a function that posts over kept connections and returns the status."""
    adapter = http.Adapter(Dialer(20, bundle=str(authority.bundle)))

    def send(url: str, body: bytes = BODY) -> int:
        request = requests.Request("POST", url, data=body).prepare()
        with deadline.Exchange(30, idle_timeout=5), adapter.send(request) as response:
            response.raw.read()
        return response.status_code

    yield send
    adapter.close()


def then(*behaviours: Behaviour) -> Behaviour:
    """Return a behaviour: these, one after the other, on the same connection."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        for one in behaviours:
            one(connection, stopped)

    return behave


def closes_unread(connection: socket.socket, _: threading.Event) -> None:
    """Wait for a request and close without reading it, which resets the connection."""
    connection.recv(1)
    connection.close()


KEPT_ONES = [
    pytest.param(says(FINE, b""), id="closed after the request"),
    pytest.param(then(says(FINE), resets()), id="reset after the request"),
    pytest.param(then(says(FINE), closes_unread), id="reset in the request"),
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kept", KEPT_ONES)
def test_request_is_sent_again_if_a_kept_connection_ends_without_a_response(
    serve: Serve, post: Post, authority: Authority, kept: Behaviour, scheme: str
) -> None:
    behaviours = [kept, says(FINE)]
    if scheme == "https":
        behaviours = [over_tls(authority.server(), one, []) for one in behaviours]
    sink = serve(*behaviours)

    statuses = [post(sink.url(scheme)) for _ in range(2)]

    assert (statuses, sink.connections) == ([200, 200], 2)


@pytest.mark.parametrize(
    ("behaviours", "error"),
    [
        pytest.param([says(FINE, b""), says(b"")], ConnectionError, id="second failure"),
        pytest.param([says(FINE, OK[:5])], HTTPException, id="a part of the response came"),
        pytest.param([then(says(FINE), resets(OK))], ConnectionError, id="reset in the response"),
        pytest.param(
            [then(says(FINE), lambda _, stopped: stopped.wait(30))],
            TimeoutError,
            id="no response in time",
        ),
    ],
)
def test_request_is_not_sent_again_otherwise(
    serve: Serve, post: Post, behaviours: list[Behaviour], error: type[Exception]
) -> None:
    sink = serve(*behaviours, says(FINE))
    post(sink.url())

    with pytest.raises(error):
        post(sink.url())

    assert sink.connections == len(behaviours)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_request_over_a_new_connection_is_sent_once(
    serve: Serve, post: Post, authority: Authority, scheme: str
) -> None:
    behaviours = [says(b""), says(FINE)]
    if scheme == "https":
        behaviours = [over_tls(authority.server(), one, []) for one in behaviours]
    sink = serve(*behaviours)

    with pytest.raises(ConnectionError):
        post(sink.url(scheme))

    assert sink.connections == 1


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        pytest.param([FINE], nullcontext(), id="then a response"),
        pytest.param([b""], pytest.raises(ConnectionError), id="then none"),
    ],
)
def test_request_that_cannot_be_written_is_sent_again_once(
    serve: Serve,
    post: Post,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    responses: list[bytes],
    expected: AbstractContextManager[None],
) -> None:
    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise ssl.SSLEOFError(8, "EOF occurred in violation of protocol")

    behaviours = [says(FINE, FINE), says(*responses), says(FINE)]
    sink = serve(*(over_tls(authority.server(), one, []) for one in behaviours))
    post(sink.url("https"))
    monkeypatch.setattr(ssl.SSLSocket, "sendall", fail)

    with expected:
        post(sink.url("https"))

    assert sink.connections == 2


def test_request_that_is_not_accepted_in_time_is_not_sent_again(
    serve: Serve, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object) -> None:
        monkeypatch.undo()
        raise TimeoutError("timed out")

    sink = serve(says(FINE, FINE), says(FINE))
    post(sink.url())
    monkeypatch.setattr(socket.socket, "sendall", wait)

    with pytest.raises(TimeoutError):
        post(sink.url())

    assert sink.connections == 1


def test_response_counts_that_comes_before_the_request_was_read(serve: Serve, post: Post) -> None:
    def refuse(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    sink = serve(refuse)

    assert post(sink.url(), b"x" * 8_000_000) == 413


def test_tls_connection_is_for_http_1(serve: Serve, post: Post, authority: Authority) -> None:
    context, protocols = authority.server(), list[str | None]()
    context.set_alpn_protocols(["h2", "http/1.1"])

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        protocols.append(connection.selected_alpn_protocol())
        says(FINE)(connection, stopped)

    post(serve(over_tls(context, behave, [])).url("https"))

    assert protocols == ["http/1.1"]


@pytest.mark.parametrize(
    ("host", "dialed", "named"),
    [
        pytest.param("Elms.example:8080", "elms.example", b"elms.example:8080", id="port"),
        pytest.param("elms.example.:80", "elms.example.", b"elms.example", id="dot at the end"),
        pytest.param("[fe80::1%25eth0]", "fe80::1%eth0", b"[fe80::1]", id="network interface"),
    ],
)
def test_host_is_dialed_and_named(host: str, dialed: str, named: bytes) -> None:
    client, server = socket.socketpair()
    server.sendall(FINE)
    dialer = Mock()
    dialer.dial.return_value = client
    adapter = http.Adapter(dialer)
    request = requests.Request("GET", f"http://{host}/").prepare()

    with server, deadline.Exchange(5), adapter.send(request):
        assert dialer.dial.call_args.args[0] == dialed
        assert b"\r\nHost: %b\r\n" % named in server.recv(4096)


def test_connection_in_use_is_closed_after_its_adapter(serve: Serve) -> None:
    closed = threading.Event()

    def notices_the_end(connection: socket.socket, _: threading.Event) -> None:
        if connection.recv(1) == b"":
            closed.set()

    sink, adapter = serve(then(says(FINE), notices_the_end)), http.Adapter(Dialer(5))
    request = requests.Request("POST", sink.url(), data=BODY).prepare()

    with deadline.Exchange(5), adapter.send(request) as response:
        response.raw.read()
        adapter.close()

    assert closed.wait(5)


@pytest.mark.parametrize(
    ("limit", "connections"),
    [
        pytest.param(None, 1, id="recent"),
        pytest.param("MAX_AGE", 2, id="old"),
        pytest.param("MAX_IDLE", 2, id="idle"),
    ],
)
def test_connection_is_kept_for_a_limited_time(
    serve: Serve,
    post: Post,
    monkeypatch: pytest.MonkeyPatch,
    limit: str | None,
    connections: int,
) -> None:
    sink = serve(says(FINE, FINE), says(FINE, FINE))
    post(sink.url())
    if limit:
        monkeypatch.setattr(http, limit, 0.0)

    post(sink.url())

    assert sink.connections == connections

"""Requests of ELMS: a complete response in time, or the reason for none; cancelled at any point."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from receiver.sources.http_client import HttpClient, RequestFailedError, ResponseTooLargeError
from tests.faults.certificate_authority import Authority
from tests.faults.server import (
    FINE,
    OK,
    Behaviour,
    RawSink,
    ask,
    black_hole,
    drips,
    over_tls,
    pours,
    says,
)

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIPPED = gzip.compress(b" " * 100_000)


@pytest.fixture
def make_client() -> Iterator[Callable[..., HttpClient]]:
    """Return a function that makes a patient client; closed after the test."""
    with ExitStack() as stack:

        def make(**overrides: Any) -> HttpClient:
            times = {"connect_timeout": 20, "read_timeout": 20, "total": 20}
            client = HttpClient(**{**times, **overrides})
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], RawSink]]:
    """Return a function that starts a server; stopped after the test."""
    with ExitStack() as stack:

        def start(behave: Behaviour) -> RawSink:
            server = RawSink(behave)
            stack.callback(server.stop)
            return server

        yield start


def fail(client: HttpClient, url: str) -> RequestFailedError:
    """Return the error of a request that fails."""
    with pytest.raises(RequestFailedError) as caught:
        client.send("GET", url, {})
    return caught.value


@pytest.mark.parametrize(
    ("response", "body"),
    [
        pytest.param(FINE, b"well", id="plain"),
        pytest.param(
            OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + GZIPPED,
            GZIPPED,
            id="gzip that was not requested",
        ),
    ],
)
def test_complete_response_is_returned_as_it_is(
    make_client: Callable[..., HttpClient],
    serve: Callable[[Behaviour], RawSink],
    response: bytes,
    body: bytes,
) -> None:
    received = make_client().send("GET", serve(says(response)).url(), {})

    assert (received.status, received.body) == (200, body)


def test_closing_of_a_kept_connection_fails_no_request(
    make_client: Callable[..., HttpClient], serve: Callable[[Behaviour], RawSink]
) -> None:
    following = iter([says(FINE, b""), says(FINE)])
    server, client = serve(lambda *connection: next(following)(*connection)), make_client()

    statuses = [client.send("GET", server.url(), {}).status for _ in range(2)]

    assert (statuses, server.connections) == ([200, 200], 2)


@pytest.mark.parametrize(  # F15
    ("behave", "limits", "detail"),
    [
        pytest.param(black_hole, {"read_timeout": 0.1}, "no data for 0.1 s", id="black hole"),
        pytest.param(
            drips(OK + b"X-"), {"total": 0.3}, "no complete response within 0.3 s", id="slow head"
        ),
        pytest.param(
            drips(OK + b"Content-Length: 100000\r\n\r\n"),
            {"total": 0.3},
            "no complete response within 0.3 s",
            id="slow body",
        ),
        pytest.param(
            drips(OK + b"\r\n"),
            {"total": 0.3},
            "no complete response within 0.3 s",
            id="slow body without a length",
        ),
        pytest.param(
            pours(OK + b"\r\n", b"x" * 65536),
            {"max_bytes": 200_000},
            "the response is larger than 200000 bytes",
            id="endless body",
        ),
        pytest.param(
            says(b"\x00\xff\r\n"),
            {},
            r"the response is not HTTP, or incomplete: \x00",
            id="garbage",
        ),
        pytest.param(says(), {}, "no response: ", id="closed at once"),
        pytest.param(
            says(OK + b"Content-Length: 9\r\n\r\nhalf"), {}, "IncompleteRead", id="cut off"
        ),
        pytest.param(
            says(OK + b"Content-Length: 9\r\n" * 2 + b"\r\nhalf"),
            {},
            "IncompleteRead",
            id="cut off, with two lengths",
        ),
        pytest.param(
            says(CHUNKED + b"4\r\nhalf\r\n0"), {}, "IncompleteRead", id="cut off in a size"
        ),
        pytest.param(
            says(CHUNKED + b"0x4\r\nhalf\r\n0\r\n\r\n"),
            {},
            "IncompleteRead",
            id="size in Python's notation",
        ),
    ],
)
def test_request_without_a_complete_response_fails_in_time(
    make_client: Callable[..., HttpClient],
    serve: Callable[[Behaviour], RawSink],
    behave: Behaviour,
    limits: dict[str, Any],
    detail: str,
) -> None:
    url, started_at = serve(behave).url(), time.monotonic()

    error = fail(make_client(**limits), url)

    assert detail in str(error)
    assert isinstance(error, ResponseTooLargeError) is ("max_bytes" in limits)
    assert not error.unreachable
    assert error.timed_out is bool({"read_timeout", "total"} & limits.keys())
    assert time.monotonic() - started_at < 10


def test_one_request_can_have_a_shorter_time_out(
    make_client: Callable[..., HttpClient], serve: Callable[[Behaviour], RawSink]
) -> None:
    client, url = make_client(), serve(black_hole).url()

    with pytest.raises(RequestFailedError, match=r"within 0\.1 s") as failed:
        client.send("GET", url, {}, max_seconds=0.1)

    assert failed.value.timed_out


def test_unreachable_host_is_named_as_such(make_client: Callable[..., HttpClient]) -> None:
    over = threading.Event()
    slow_name_service = make_client(connect_timeout=0.1, resolve=lambda *_, **__: over.wait(30))

    refused = fail(make_client(), "http://127.0.0.1:9")
    unresolved = fail(slow_name_service, "http://x.example")
    over.set()

    assert str(refused) == "no response: Connection refused"
    assert str(unresolved) == (
        "the host name was not resolved: no response of the name server for 0.1 s"
    )
    assert refused.unreachable
    assert unresolved.unreachable


def test_only_a_configured_authority_is_trusted(
    make_client: Callable[..., HttpClient], serve: Callable[[Behaviour], RawSink], tmp_path: Path
) -> None:
    authority, log = Authority(tmp_path), list[bytes]()
    server = serve(over_tls(authority.server(), says(FINE), log))

    trusted = make_client(bundle=str(authority.bundle)).send("GET", server.url("https"), {})
    error = fail(make_client(), server.url("https"))
    server.stop()

    assert trusted.body == b"well"
    assert str(error) == (
        "the certificate is not valid: unable to get local issuer certificate; "
        "set RECEIVER_CA_BUNDLE to trust its authority"
    )
    assert (error.unreachable, log[-1]) == (True, b"handshake refused")


@pytest.mark.parametrize(
    ("scheme", "steps"),
    [
        pytest.param("https", [], id="in the handshake"),
        pytest.param("http", [], id="before the request"),
        pytest.param("http", [ask], id="before the response"),
        pytest.param("http", [ask, lambda c: c.sendall(FINE[:40])], id="in the head"),
        pytest.param("http", [ask, lambda c: c.sendall(FINE[:-2])], id="in the body"),
        pytest.param(
            "http",
            [ask, lambda c: c.sendall(OK + b"\r\n"), lambda _: time.sleep(0.2)],
            id="waiting for a body",
        ),
        pytest.param("tls", [ask], id="over TLS"),
    ],
)
def test_request_is_cancelled(
    make_client: Callable[..., HttpClient],
    serve: Callable[[Behaviour], RawSink],
    tmp_path: Path,
    scheme: str,
    steps: list[Callable[[socket.socket], Any]],
) -> None:
    authority = Authority(tmp_path)
    client = make_client(bundle=str(authority.bundle))

    def cancel_after_steps(connection: socket.socket, stopped: threading.Event) -> None:
        for step in steps:
            step(connection)
        client.cancel()
        stopped.wait(30)

    tls = over_tls(authority.server(), cancel_after_steps, [])
    server = serve(tls if scheme == "tls" else cancel_after_steps)
    url = server.url("http" if scheme == "http" else "https")

    errors = [str(fail(client, url)) for _ in range(2)]

    assert errors == ["cancelled, because the run ended"] * 2
    assert (server.connections, client.requests) == (1, 1)

"""Requests of ELMS: cancelled at any point."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receiver.sources.http_client import HttpClient, RequestFailedError
from tests.faults.authority import Authority
from tests.faults.server import FINE, RawSink, ask, over_tls, says

CANCELLED = "cancelled, because the run ended"


def fail(client: HttpClient, url: str) -> str:
    """Return the detail of a request that fails."""
    with pytest.raises(RequestFailedError) as caught:
        client.send("GET", url, {})
    return str(caught.value)


def cancelling(
    client: list[HttpClient], *steps: Callable[[socket.socket], Any]
) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that performs the steps, cancels the client, and says no more."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        for step in steps:
            step(connection)
        client[0].cancel()
        stopped.wait(30)

    return behave


@pytest.fixture
def patient() -> list[HttpClient]:
    """The client, once it is made: the server, which is made first, cancels it."""
    return []


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((), id="before the request"),
        pytest.param((ask,), id="before the response"),
        pytest.param((ask, lambda c: c.sendall(FINE[:40])), id="in the head"),
        pytest.param((ask, lambda c: c.sendall(FINE[:-2])), id="in the body"),
    ],
)
def test_request_is_cancelled(
    patient: list[HttpClient], steps: tuple[Callable[[socket.socket], Any], ...]
) -> None:
    server = RawSink(cancelling(patient, *steps))
    patient.append(HttpClient(connect_timeout=300, read_timeout=300, total=300))

    details = [fail(patient[0], server.url()) for _ in range(2)]

    server.stop()
    patient[0].close()
    assert details == [CANCELLED] * 2
    assert (server.connections, patient[0].requests) == (1, 1)


def test_request_over_tls_is_cancelled(patient: list[HttpClient], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = RawSink(over_tls(authority.server(), cancelling(patient, ask), []))
    patient.append(
        HttpClient(connect_timeout=300, read_timeout=300, total=300, bundle=str(authority.bundle))
    )

    detail = fail(patient[0], server.url("https"))

    server.stop()
    patient[0].close()
    assert detail == CANCELLED


def test_handshake_is_cancelled(patient: list[HttpClient]) -> None:
    server = RawSink(cancelling(patient))
    patient.append(HttpClient(connect_timeout=300, read_timeout=300, total=300))

    detail = fail(patient[0], server.url("https"))

    server.stop()
    patient[0].close()
    assert detail == CANCELLED


def test_complete_response_is_returned() -> None:
    server = RawSink(says(FINE))
    client = HttpClient(connect_timeout=5, read_timeout=5, total=5)

    response = client.send("GET", server.url(), {})

    server.stop()
    client.close()
    assert (response.status, response.body) == (200, b"well")

"""Requests of ELMS that are broken off, wherever they are."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receiver.sources.http_client import Exchange, ExchangeError
from tests.faults.authority import Authority
from tests.faults.server import FINE, RawSink, ask, over_tls, says


def sends(exchange: Exchange, url: str) -> str:
    """Return what a request fails with."""
    with pytest.raises(ExchangeError) as caught:
        exchange.send("GET", url, {})
    return str(caught.value)


def breaking_off(
    exchange: list[Exchange], *heard: Callable[[socket.socket], Any]
) -> Callable[[socket.socket, threading.Event], None]:
    """Return a behaviour: do this, have the exchange broken off, and be silent."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        for hear in heard:
            hear(connection)
        exchange[0].cancel()
        stopped.wait(30)

    return behave


@pytest.fixture
def patient() -> list[Exchange]:
    """A place for the exchange, which its far side must know."""
    return []


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param((), id="before the request was read"),
        pytest.param((ask,), id="before the answer"),
        pytest.param((ask, lambda c: c.sendall(FINE[:40])), id="in the head"),
        pytest.param((ask, lambda c: c.sendall(FINE[:-2])), id="in the body"),
    ],
)
def test_what_is_under_way_is_broken_off(
    patient: list[Exchange], heard: tuple[Callable[[socket.socket], Any], ...]
) -> None:
    there = RawSink(breaking_off(patient, *heard))
    patient.append(Exchange(connect_timeout=300, read_timeout=300, total=300))

    said = [sends(patient[0], there.url()) for _ in range(2)]

    there.stop()
    patient[0].close()
    assert said == ["broken off, for the run was to end"] * 2
    assert (there.connections, patient[0].requests) == (1, 1)


def test_an_answer_over_tls_is_broken_off(patient: list[Exchange], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    there = RawSink(over_tls(authority.server(), breaking_off(patient, ask), []))
    patient.append(
        Exchange(connect_timeout=300, read_timeout=300, total=300, bundle=str(authority.bundle))
    )

    said = sends(patient[0], there.url("https"))

    there.stop()
    patient[0].close()
    assert said == "broken off, for the run was to end"


def test_a_handshake_is_broken_off(patient: list[Exchange]) -> None:
    there = RawSink(breaking_off(patient))
    patient.append(Exchange(connect_timeout=300, read_timeout=300, total=300))

    said = sends(patient[0], there.url("https"))

    there.stop()
    patient[0].close()
    assert said == "broken off, for the run was to end"


def test_what_is_not_broken_off_is_answered() -> None:
    there = RawSink(says(FINE))
    exchange = Exchange(connect_timeout=5, read_timeout=5, total=5)

    answer = exchange.send("GET", there.url(), {})

    there.stop()
    exchange.close()
    assert (answer.status, answer.body) == (200, b"well")

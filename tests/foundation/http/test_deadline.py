"""Exchanges that end with their deadlines, whatever they wait for."""

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from foundation.http import deadline
from foundation.http.deadline import DeadlineError


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket whose peer sends nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def receive(silent: socket.socket, then_send: bytes = b"") -> None:
    """Wait for a silent peer until the deadline, and go on."""
    with deadline.Exchange(0.05) as exchange:
        exchange.attach(silent)
        silent.recv(1)
        silent.sendall(then_send)


def release(silent: socket.socket) -> None:
    """Release a socket and outlast the deadline."""
    with deadline.Exchange(0.05) as exchange:
        exchange.attach(silent)
        assert exchange.release()
        time.sleep(0.2)


def wait_until_cut() -> None:
    """Expect a DeadlineError for a silent peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(DeadlineError):
        receive(ours)


def wait_in_both_processes() -> int:
    """Wait here and in a fork of this process; return the exit code of the fork."""
    wait_until_cut()
    child = os.fork()
    if not child:
        wait_until_cut()
        os._exit(0)
    for _ in range(500):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_end_of_a_response_after_the_deadline_is_an_error() -> None:
    wait_until_cut()


def test_any_error_after_the_deadline_is_a_deadline_error(silent: socket.socket) -> None:
    with pytest.raises(DeadlineError) as caught:
        receive(silent, then_send=b"x")

    assert isinstance(caught.value.__context__, BrokenPipeError)


def test_socket_cannot_be_used_after_the_deadline(silent: socket.socket) -> None:
    with pytest.raises(DeadlineError), deadline.Exchange(0) as exchange:
        exchange.attach(silent)


def test_released_socket_outlasts_the_deadline(silent: socket.socket) -> None:
    with pytest.raises(DeadlineError):
        release(silent)

    silent.sendall(b"x")


def test_what_is_optional_is_cut_without_an_error(silent: socket.socket) -> None:
    with deadline.Exchange(10) as exchange:
        exchange.attach(silent)
        exchange.cut_after(0.01)

        assert silent.recv(1) == b""
        assert not exchange.release()


def test_deadline_holds_in_a_forked_process() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        assert process.submit(wait_in_both_processes).result(30) == 0

"""Clients that stop in the middle: none of them keeps others out, and each wait has an end."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET, socket

import pytest

from contract import signatures
from contract.signatures import Secret
from foundation.db.migrations import Schema
from foundation.web.connections import PATIENCE_SECONDS
from receiver.models import SCHEMA
from tests.integration.services import ADMIN_KEY, THREADS, Served, copied, head, hear, serve

MARGIN_SECONDS = 3.0
"""What ending a wait may cost beyond it: a look every second, on a machine that is busy."""
LENGTH = ("Content-Length", "100")


@pytest.fixture
def stalled() -> Iterator[Callable[[Served, int, bytes], list[socket]]]:
    """Return what opens so many connections that send this and no more; closed after the test."""
    with ExitStack() as stack:

        def stall(served: Served, count: int, sent: bytes) -> list[socket]:
            opened = [stack.enter_context(served.connect()) for _ in range(count)]
            for connection in opened:
                connection.sendall(sent)
            return opened

        yield stall


def drip(connection: socket, unit: bytes) -> bytes:
    """Send a unit whenever nothing was answered for a while; return what was answered at last."""
    connection.settimeout(0.25)
    ends = time.monotonic() + 4 * PATIENCE_SECONDS
    while time.monotonic() < ends:
        try:
            return connection.recv(65_536)
        except TimeoutError:
            connection.sendall(unit)
    raise AssertionError("the drip was never answered")


def test_half_a_head_costs_no_thread_and_ends_in_a_408(
    elms: Served, stalled: Callable[[Served, int, bytes], list[socket]]
) -> None:
    """However many stall, others are answered at once; each of them is told at last (B5)."""
    before = elms.rows()
    waiting = stalled(elms, 30 * THREADS, head()[:-10])
    silent = stalled(elms, 10 * THREADS, b"")
    (dripping,) = stalled(elms, 1, head()[:-10])
    began = time.monotonic()

    other = elms.ask(head())
    answered_after = time.monotonic() - began
    answered = drip(dripping, b"x")
    ended_after = time.monotonic() - began
    answers = [hear(connection) for connection in waiting]

    assert (other.status, answered[:13]) == (401, b"HTTP/1.1 408 ")
    assert answered_after < PATIENCE_SECONDS
    assert ended_after < PATIENCE_SECONDS + MARGIN_SECONDS
    assert {answer.status for answer in answers} == {408}
    assert {answer.document["type"] for answer in answers} == {"urn:problem-type:request-timeout"}
    assert {connection.recv(1) for connection in silent} == {b""}
    assert before == elms.rows()


def test_half_a_body_holds_its_thread_for_the_patience_at_most(
    elms: Served, stalled: Callable[[Served, int, bytes], list[socket]], secret: Secret
) -> None:
    """With every thread at a body that stalls, others wait for that long and no longer (B5)."""
    before = elms.rows()
    signed = signatures.sign([secret], "msg_stalled", b"x" * 100, now=datetime.now(UTC))
    half = head(headers=[*signed.items(), ("Content-Type", "application/json"), LENGTH]) + b"x"
    began = time.monotonic()
    waiting = stalled(elms, THREADS - 1, half)
    (dripping,) = stalled(elms, 1, half)
    (behind,) = stalled(elms, 1, head())

    answered = drip(dripping, b"x")
    other = hear(behind)
    ended_after = time.monotonic() - began
    answers = [hear(connection) for connection in waiting]

    assert (other.status, answered[:13]) == (401, b"HTTP/1.1 408 ")
    assert ended_after < PATIENCE_SECONDS + MARGIN_SECONDS
    assert {answer.status for answer in answers} == {408}
    assert {answer.document["type"] for answer in answers} == {"urn:problem-type:request-timeout"}
    assert before == elms.rows()


def test_a_body_that_nobody_reads_is_hardly_awaited(
    elms: Served, stalled: Callable[[Served, int, bytes], list[socket]]
) -> None:
    """Who is refused by the head alone is answered at once, and its thread is soon free (B5)."""
    unsigned = head(headers=[LENGTH]).replace(b"Connection: close\r\n", b"")
    began = time.monotonic()

    waiting = stalled(elms, 10 * THREADS, unsigned + b"x")
    answers = [hear(connection) for connection in waiting]

    assert {answer.status for answer in answers} == {401}
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_clients_that_are_told_and_stay_do_not_stop_the_others(
    elms: Served, stalled: Callable[[Served, int, bytes], list[socket]]
) -> None:
    """Seeing one off, who does not close, is not waited for by anybody (B5)."""
    began = time.monotonic()
    refused = stalled(elms, 10 * THREADS, b"NONSENSE\r\n\r\n")

    answers = [hear(connection) for connection in refused]

    assert {answer.status for answer in answers} == {400}
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_a_client_that_does_not_read_its_answer_is_given_up(eassessment: Served) -> None:
    """With every thread at an answer that nobody takes, others wait for a bounded time (B5)."""
    key = ("Authorization", f"Bearer {ADMIN_KEY}")
    asked = [key, ("Content-Type", "application/json")]

    def admin(method: str, path: str, document: object) -> dict[str, str]:
        body = json.dumps(document).encode()
        length = ("Content-Length", str(len(body)))
        whole = head(method, f"/api/v1/admin{path}", [*asked, length])
        return eassessment.ask(whole, body).document

    token = admin("POST", "/courses", {"course_id": "LARGE", "title": "x"})["token"]
    scores = [
        {
            "userId": str(number),
            "scoreMaximum": "10",
            "comment": "x" * 10_000,
            "timestamp": "2026-11-22T09:30:00Z",
        }
        for number in range(1200)
    ]
    admin("PUT", "/courses/LARGE/grades", {"scores": scores})
    bearer = ("Authorization", f"Bearer {token}")
    began = time.monotonic()

    with ExitStack() as stack:
        for _ in range(THREADS):
            connection = stack.enter_context(eassessment.connect())
            connection.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
            connection.sendall(head("GET", "/api/v1/courses/LARGE/grades", [bearer]))
        other = eassessment.ask(head("GET", "/api/v1/courses/LARGE/grades"))

    assert other.status == 401
    assert time.monotonic() - began < PATIENCE_SECONDS + MARGIN_SECONDS


def test_a_stop_does_not_wait_for_those_who_stall(
    sqlite_templates: Callable[[Schema], Path],
    tmp_path: Path,
    stalled: Callable[[Served, int, bytes], list[socket]],
) -> None:
    """SIGTERM ends a service that has connections without a request within their patience (F8)."""
    served = serve("receiver", SCHEMA, copied(sqlite_templates(SCHEMA), tmp_path), tmp_path)
    stalled(served, 10, head()[:-10])
    stalled(served, 10, b"")
    began = time.monotonic()

    code = served.stop()

    assert code == 0
    assert time.monotonic() - began < PATIENCE_SECONDS

"""The web server as a real process: stalled clients, broken requests, stopping."""

import json
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract import signatures
from contract.signatures import Secret
from foundation.db.migrations import Schema
from receiver.models import SCHEMA
from tests.integration.services import SITE, Served, add_source, copied, head, hear, serve

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
STALLED_CLIENTS = 200
# Far more than a health check takes, far less than a stalled client is kept.
HEALTHY_SECONDS = 5.0

Sign = Callable[[str], list[tuple[str, str]]]


@pytest.fixture
def signed(secret: Secret) -> Sign:
    """Return what signs the body under an id, as a list of headers."""

    def sign(webhook_id: str) -> list[tuple[str, str]]:
        return list(signatures.sign([secret], webhook_id, BODY, now=datetime.now(UTC)).items())

    return sign


@pytest.fixture
def connections() -> Iterator[Callable[[Served, int, bytes], list[socket.socket]]]:
    """Return what opens connections that send some bytes and read nothing."""
    with ExitStack() as stack:

        def open_all(served: Served, count: int, sent: bytes) -> list[socket.socket]:
            opened = [stack.enter_context(served.connect()) for _ in range(count)]
            for connection in opened:
                connection.sendall(sent)
            return opened

        yield open_all


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(head()[:-10], id="half a head"),
        pytest.param(head(headers=[JSON, LENGTH]) + BODY[:20], id="half a body"),
        pytest.param(
            head("GET", "/openapi.json").replace(b"Connection: close\r\n", b"") * 20,
            id="never reading",
        ),
    ],
)
def test_stalled_clients_cost_others_nothing(
    elms: Served,
    connections: Callable[[Served, int, bytes], list[socket.socket]],
    sent: bytes,
) -> None:
    connections(elms, STALLED_CLIENTS, sent)
    began = time.monotonic()

    answer = elms.ask(head("GET", "/healthz"))

    assert answer.status == 200
    assert time.monotonic() - began < HEALTHY_SECONDS


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET / HTTP/1.1\r\nA B: x\r\n\r\n", id="header name with a space"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", id="header without a colon"),
        pytest.param(head("GET", "/", [("A", "x\r\n\x00y")]), id="NUL in a header"),
        pytest.param(head("GET", "/nowhere", [("Host", "b")]), id="two hosts"),
        pytest.param(head(headers=[JSON, LENGTH, LENGTH]) + BODY, id="two lengths"),
        pytest.param(head(headers=[JSON, ("Content-Length", "+5")]) + BODY, id="signed length"),
        pytest.param(head(headers=[("Transfer-Encoding", "gzip")]) + BODY, id="unknown coding"),
        pytest.param(head(headers=[CHUNKED]) + b"zz\r\n" + BODY, id="broken chunk"),
        pytest.param(head(headers=[("a", "x" * 40_000)]), id="header of 40 kB"),
        pytest.param(head(headers=[JSON, ("Content-Length", "9" * 18)]), id="endless body"),
    ],
)
def test_broken_request_is_refused(elms: Served, raw: bytes) -> None:
    answer = elms.ask(raw)

    assert 400 <= answer.status < 500 or answer.status == 501
    assert len(answer.body) < 1000
    assert b"Traceback" not in answer.body
    assert "server" not in answer.headers


def test_body_above_the_route_limit_is_a_problem(elms: Served, signed: Sign) -> None:
    headers = [*signed("msg_large"), JSON, ("Content-Length", "65537")]

    answer = elms.ask(head(headers=headers) + b"x" * 65537)

    assert (answer.status, answer.document["type"]) == (413, "urn:problem-type:body-too-large")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda name, value: [(name, value), (name, value)], id="sent twice"),
        pytest.param(lambda name, value: [(name.replace("-", "_"), value)], id="underscore"),
    ],
)
@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_ambiguous_signature_header_does_not_verify(
    elms: Served,
    signed: Sign,
    name: str,
    change: Callable[[str, str], list[tuple[str, str]]],
) -> None:
    headers = dict(signed("msg_header"))
    changed = [*change(name, headers.pop(name)), *headers.items(), JSON, LENGTH]

    answer = elms.ask(head(headers=changed) + BODY)

    assert (answer.status, answer.document["type"]) == (401, "urn:problem-type:signature-refused")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/webhooks/{SITE}/", id="trailing slash"),
        pytest.param(f"/webhooks//{SITE}", id="double slash"),
        pytest.param(f"/x/../webhooks/{SITE}", id="dots"),
    ],
)
def test_path_is_neither_redirected_nor_normalised(elms: Served, path: str) -> None:
    answer = elms.ask(head("POST", path, [JSON, LENGTH]) + BODY)

    assert answer.status == 404
    assert "location" not in answer.headers


def test_connection_reset_in_the_middle_is_survived(elms: Served) -> None:
    whole = head(headers=[LENGTH]) + BODY
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"

    for cut in range(0, len(whole), 7):
        with elms.connect() as connection:
            connection.sendall(whole[:cut])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    assert elms.ask(whole).status == 401
    assert "Traceback" not in elms.log.read_text()


def test_connection_is_kept_after_a_refusal(elms: Served) -> None:
    request = head(headers=[LENGTH]).replace(b"Connection: close\r\n", b"") + BODY

    with elms.connect() as connection:
        statuses = []
        for _ in range(3):
            connection.sendall(request)
            statuses.append(hear(connection).status)

    assert statuses == [401, 401, 401]


@pytest.fixture
def stoppable(
    sqlite_templates: Callable[[Schema], Path], tmp_path: Path, secret: Secret
) -> Iterator[Served]:
    """A server to stop, which waits long for a busy database."""
    url = copied(sqlite_templates(SCHEMA), tmp_path)
    add_source(url, secret)
    served = serve("receiver", SCHEMA, url, tmp_path, DATABASE_TIMEOUT="60")
    yield served
    served.process.kill()
    served.process.wait()


def wait_for_log(served: Served, event: str) -> None:
    """Wait until the server has logged an event; the test's own time-out is the limit."""
    while event not in served.log.read_text():
        assert served.process.poll() is None, served.log.read_text()
        time.sleep(0.01)


def hold_database(served: Served) -> sqlite3.Connection:
    """Return a connection that keeps all writers waiting until it is closed."""
    connection = sqlite3.connect(served.database_url.removeprefix("sqlite:///"))
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_sigterm_finishes_the_request_in_progress(stoppable: Served, signed: Sign) -> None:
    request = head(headers=[*signed("msg_stop"), JSON, LENGTH]) + BODY

    with closing(hold_database(stoppable)) as database, stoppable.connect() as connection:
        connection.sendall(request)
        # A second request on the same server shows that the first one has been read.
        assert stoppable.ask(head("GET", "/healthz")).status == 200
        stoppable.process.send_signal(signal.SIGTERM)
        wait_for_log(stoppable, "server stopping")
        database.rollback()
        answer = hear(connection)

    assert (answer.status, answer.document) == (200, {"outcome": "applied"})
    assert stoppable.process.wait(30) == 0


def test_second_signal_ends_the_server_at_once(stoppable: Served, signed: Sign) -> None:
    request = head(headers=[*signed("msg_stop"), JSON, LENGTH]) + BODY

    with closing(hold_database(stoppable)), stoppable.connect() as connection:
        connection.sendall(request)
        assert stoppable.ask(head("GET", "/healthz")).status == 200
        stoppable.process.send_signal(signal.SIGTERM)
        wait_for_log(stoppable, "server stopping")
        stoppable.process.send_signal(signal.SIGTERM)

        assert stoppable.process.wait(30) == -signal.SIGTERM


def test_sigterm_does_not_wait_for_stalled_clients(
    stoppable: Served, connections: Callable[[Served, int, bytes], list[socket.socket]]
) -> None:
    connections(stoppable, 10, head()[:-10])
    connections(stoppable, 10, b"")

    assert stoppable.stop() == 0


def test_server_listens_on_ipv6(sqlite_templates: Callable[[Schema], Path], tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback address")
    served = serve(
        "receiver", SCHEMA, copied(sqlite_templates(SCHEMA), tmp_path), tmp_path, HOST="::1"
    )

    assert served.stop() == 0

"""The web server as a real process: stalled clients, broken requests, many at once, stopping."""

import json
import signal
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract import signatures
from contract.signatures import Secret
from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver.models import SCHEMA, Entry, InboxMessage
from tests.faults.server import RESET
from tests.integration.services import (
    SITE,
    Response,
    Served,
    add_source,
    copied,
    head,
    read_response,
    serve,
)

BODY = json.dumps(
    {
        "type": "course.deleted",
        "timestamp": "2026-11-22T08:59:59.5Z",
        "data": {"source": SITE, "course_id": "CS101", "course_version": 4},
    }
).encode()
JSON = ("Content-Type", "application/json")
LENGTH = ("Content-Length", str(len(BODY)))
HEALTH_CHECK = head("GET", "/healthz")
# More than the server has threads, and more than it could wait for one after the other.
STALLED_CLIENTS = 200

OpenAll = Callable[[Served, int, bytes], list[socket.socket]]


@pytest.fixture(scope="module")
def secret() -> Secret:
    """The secret of the source."""
    return Secret.generate()


@pytest.fixture(scope="module")
def elms(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
    secret: Secret,
) -> Iterator[Served]:
    """ELMS with few threads; it knows one source."""
    folder = tmp_path_factory.mktemp("elms")
    url = copied(sqlite_templates(SCHEMA), folder)
    add_source(url, secret)
    served = serve("receiver", SCHEMA, url, folder, WEB_THREADS="3")
    yield served
    served.kill()


def signed(secret: Secret, webhook_id: str) -> list[tuple[str, str]]:
    """Return the headers that sign the body."""
    return list(signatures.sign([secret], webhook_id, BODY, now=datetime.now(UTC)).items())


@pytest.fixture
def open_all() -> Iterator[OpenAll]:
    """Return a function that opens connections which send some bytes and read nothing."""
    with ExitStack() as stack:

        def open_connections(served: Served, count: int, sent: bytes) -> list[socket.socket]:
            opened = [stack.enter_context(served.connect()) for _ in range(count)]
            for connection in opened:
                connection.sendall(sent)
            return opened

        yield open_connections


@pytest.mark.parametrize(
    ("sent", "rest", "status"),
    [
        pytest.param(b"", HEALTH_CHECK, 200, id="nothing"),
        pytest.param(HEALTH_CHECK[:-10], HEALTH_CHECK[-10:], 200, id="half a head"),
        pytest.param(
            head(headers=[JSON, ("Content-Length", "1000")]) + b"x",
            b"x" * 999,
            401,
            id="one byte of a body",
        ),
        pytest.param(head("GET", "/openapi.json", close=False) * 20, b"", 200, id="never reading"),
    ],
)
def test_stalled_clients_do_not_delay_others(
    elms: Served, open_all: OpenAll, sent: bytes, rest: bytes, status: int
) -> None:
    oldest, *_ = open_all(elms, STALLED_CLIENTS, sent)

    response = elms.ask(HEALTH_CHECK)

    assert response.status == 200
    # None of them had to be given up for it.
    oldest.sendall(rest)
    assert read_response(oldest).status == status


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
        pytest.param(
            head(headers=[("Transfer-Encoding", "chunked")]) + b"zz\r\n" + BODY, id="broken chunk"
        ),
        pytest.param(head(headers=[("a", "x" * 40_000)]), id="header of 40 kB"),
        pytest.param(head(headers=[JSON, ("Content-Length", "9" * 18)]), id="endless body"),
    ],
)
def test_broken_request_is_refused(elms: Served, raw: bytes) -> None:
    response = elms.ask(raw)

    assert 400 <= response.status < 500 or response.status == 501
    assert len(response.body) < 1000
    assert b"Traceback" not in response.body
    assert "server" not in response.headers


def test_body_above_the_route_limit_is_a_problem(elms: Served, secret: Secret) -> None:
    headers = [*signed(secret, "msg_large"), JSON, ("Content-Length", "65537")]

    response = elms.ask(head(headers=headers) + b"x" * 65537)

    assert (response.status, response.document["type"]) == (413, "urn:problem-type:body-too-large")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda name, value: [(name, value), (name, value)], id="sent twice"),
        pytest.param(lambda name, value: [(name.replace("-", "_"), value)], id="underscore"),
    ],
)
def test_ambiguous_signature_header_does_not_verify(
    elms: Served, secret: Secret, change: Callable[[str, str], list[tuple[str, str]]]
) -> None:
    headers = dict(signed(secret, "msg_header"))
    changed = [*change("webhook-id", headers.pop("webhook-id")), *headers.items(), JSON, LENGTH]

    response = elms.ask(head(headers=changed) + BODY)

    assert response.status == 401
    assert response.document["type"] == "urn:problem-type:signature-refused"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/webhooks/{SITE}/", id="trailing slash"),
        pytest.param(f"/webhooks//{SITE}", id="double slash"),
        pytest.param(f"/x/../webhooks/{SITE}", id="dots"),
    ],
)
def test_path_is_neither_redirected_nor_normalised(elms: Served, path: str) -> None:
    response = elms.ask(head("POST", path, [JSON, LENGTH]) + BODY)

    assert response.status == 404
    assert "location" not in response.headers


def test_connection_reset_in_the_middle_is_survived(elms: Served) -> None:
    whole = head(headers=[LENGTH]) + BODY

    for cut in range(0, len(whole), 40):
        with elms.connect() as connection:
            connection.sendall(whole[:cut])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    assert elms.ask(whole).status == 401
    assert "Traceback" not in elms.process.logged()


def test_connection_is_kept_after_a_refusal(elms: Served) -> None:
    request = head(headers=[LENGTH], close=False) + BODY

    with elms.connect() as connection:
        statuses = []
        for _ in range(3):
            connection.sendall(request)
            statuses.append(read_response(connection).status)

    assert statuses == [401, 401, 401]


def test_same_event_100_times_at_once_is_applied_once(
    make_database_url: Callable[[Schema], str], tmp_path: Path, secret: Secret
) -> None:
    """Two processes with several threads each receive it."""
    url = make_database_url(SCHEMA)
    add_source(url, secret)
    request = head(headers=[*signed(secret, "msg_once"), JSON, LENGTH]) + BODY
    both = [serve("receiver", SCHEMA, url, tmp_path, WEB_THREADS="6") for _ in range(2)]
    together = threading.Barrier(100)

    def send(number: int) -> Response:
        together.wait(60)
        return both[number % 2].ask(request)

    with ThreadPoolExecutor(100) as senders:
        responses = list(senders.map(send, range(100)))
    for served in both:
        served.kill()

    database = Database(url)
    with database.reading() as session:
        rows = [len(session.query(table).all()) for table in (InboxMessage, Entry)]
    database.dispose()
    outcomes = Counter((one.status, one.document["outcome"]) for one in responses)
    assert outcomes == {(200, "applied"): 1, (200, "duplicate"): 99}
    assert rows == [1, 1]


@pytest.fixture
def stoppable(
    sqlite_templates: Callable[[Schema], Path], tmp_path: Path, secret: Secret
) -> Iterator[Served]:
    """A server to stop, which waits long for a busy database."""
    url = copied(sqlite_templates(SCHEMA), tmp_path)
    add_source(url, secret)
    served = serve("receiver", SCHEMA, url, tmp_path, DATABASE_TIMEOUT="60")
    yield served
    served.kill()


Waiting = tuple[socket.socket, sqlite3.Connection]


@pytest.fixture
def waiting(stoppable: Served, secret: Secret) -> Iterator[Waiting]:
    """A connection whose request waits for a database, on a server that was told to stop."""
    request = head(headers=[*signed(secret, "msg_stop"), JSON, LENGTH]) + BODY
    database = sqlite3.connect(stoppable.database_url.removeprefix("sqlite:///"))
    database.execute("BEGIN IMMEDIATE")
    with closing(database), stoppable.connect() as connection:
        connection.sendall(request)
        # A second request on the same server shows that the first one has been read.
        assert stoppable.ask(HEALTH_CHECK).status == 200
        stoppable.process.send(signal.SIGTERM)
        stoppable.process.wait_logged("server stopping")
        yield connection, database


def test_sigterm_finishes_the_request_in_progress(stoppable: Served, waiting: Waiting) -> None:
    connection, database = waiting

    database.rollback()
    response = read_response(connection)

    assert (response.status, response.document) == (200, {"outcome": "applied"})
    assert stoppable.process.wait_ended() == 0


def test_second_signal_ends_the_server_at_once(stoppable: Served, waiting: Waiting) -> None:
    assert stoppable.stop() == -signal.SIGTERM


def test_sigterm_does_not_wait_for_stalled_clients(stoppable: Served, open_all: OpenAll) -> None:
    open_all(stoppable, 10, head()[:-10])
    open_all(stoppable, 10, b"")

    assert stoppable.stop() == 0


def test_server_listens_on_ipv6(sqlite_templates: Callable[[Schema], Path], tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback address")
    url = copied(sqlite_templates(SCHEMA), tmp_path)

    assert serve("receiver", SCHEMA, url, tmp_path, HOST="::1").stop() == 0

"""`receiver sync-grades` that is stopped or killed, and the one that comes meanwhile."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import Result
from sqlalchemy import text

from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.db.session import Database

COMMAND = [sys.executable, "-c", "from receiver.cli import main; main()", "sync-grades"]


@dataclass
class Silent:
    """A far side that says when it is asked, and answers nothing before it may."""

    asked: threading.Event = field(default_factory=threading.Event)
    answer: threading.Event = field(default_factory=threading.Event)
    requests: int = 0


@pytest.fixture
def silent(receiver: Callable[..., Result]) -> Iterator[Silent]:
    """A silent far side, and a course that is linked to it."""
    there = Silent()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Say that somebody asks, and let them wait."""
            there.requests += 1
            there.asked.set()
            there.answer.wait(30)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    receiver("db", "upgrade")
    url = f"http://127.0.0.1:{server.server_port}"
    receiver("sources", "add", "eassessment", "--url", url, stdin=Secret.generate().reveal())
    receiver("registry", "add", "CS101", stdin=CourseToken.generate().reveal())
    yield there
    there.answer.set()
    server.shutdown()
    server.server_close()


def test_a_stopped_sync_frees_its_lease(
    receiver: Callable[..., Result], silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIVER_READ_TIMEOUT", "5")  # it ends with the request under way

    with subprocess.Popen(COMMAND) as process:
        reached = silent.asked.wait(30)
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    silent.answer.set()

    again = receiver("sync-grades")

    assert reached
    assert code == 128 + signal.SIGTERM
    assert again.exit_code != 3


def test_of_two_syncs_the_second_says_so_and_asks_nobody(
    receiver: Callable[..., Result], silent: Silent
) -> None:
    """Two processes: the second names the first and until when it may work, and exits 3 (F29)."""
    with subprocess.Popen(COMMAND) as first:
        reached = silent.asked.wait(30)
        second = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)
        requests = silent.requests
        silent.answer.set()
        first.wait(30)

    assert reached
    assert (second.returncode, requests) == (3, 1)
    assert "error: another grade sync is running: " in second.stderr
    assert "its lease lasts until " in second.stderr
    assert " next: Wait until it ends. If it was killed, its lease expires" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_killed_sync_frees_itself_with_its_lease(
    receiver: Callable[..., Result], silent: Silent, database: Database
) -> None:
    """After SIGKILL the next sync waits for the end of the lease, and no longer (F29)."""
    with subprocess.Popen(COMMAND) as process:
        reached = silent.asked.wait(30)
        process.kill()
        process.wait(30)
    silent.answer.set()

    within = receiver("sync-grades")
    with database.writing() as session:
        passed = "UPDATE sync_lease SET leased_until = '2026-01-01 00:00:00'"
        session.execute(text(passed))
    beyond = receiver("sync-grades")

    assert reached
    assert within.exit_code == 3
    assert beyond.exit_code != 3
    assert "Grade sync" in beyond.stdout

"""`receiver sync-grades` as a process: stopped, started a second time, and at an interval."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest

from contract.signatures import Secret
from receiver.course_state import TokenAnnounced
from receiver.models import Run
from tests.loopback import Handler, served
from tests.receiver.cli.conftest import Receiver, new_token
from tests.receiver.conftest import FakeSite, Store

COMMAND = [sys.executable, "-c", "from receiver.cli import main; main()", "sync-grades"]


@dataclass
class SilentSite:
    """A site that does not respond until it is released."""

    requested: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    requests: int = 0


@pytest.fixture
def silent_site(receiver: Receiver) -> Iterator[SilentSite]:
    """A silent site with one course."""
    site = SilentSite()

    class SilentHandler(Handler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests += 1
            site.requested.set()
            site.released.wait(30)
            self.close_connection = True

        def do_POST(self) -> None:
            self.do_GET()

    with served(SilentHandler) as url:
        receiver("sources", "add", "one", "--url", url, stdin=Secret.generate().reveal())
        receiver("registry", "add", "CS101", stdin=new_token())
        yield site
        site.released.set()


def test_second_sync_is_refused_until_the_first_is_stopped(  # F29
    receiver: Receiver, silent_site: SilentSite, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("RECEIVER_READ_TIMEOUT", "5")  # SIGTERM waits for the request in progress

    with subprocess.Popen(COMMAND) as first:
        requested = silent_site.requested.wait(30)
        second = receiver("sync-grades")
        requests = silent_site.requests
        first.send_signal(signal.SIGTERM)
        exit_code = first.wait(30)
    silent_site.released.set()
    third = receiver("sync-grades")

    assert requested
    assert (second.exit_code, requests) == (3, 1)
    assert exit_code == 128 + signal.SIGTERM
    assert "Grade sync 2: " in third.stdout


def test_claim_of_a_silent_site_ends_when_the_sync_is_stopped(
    receiver: Receiver, silent_site: SilentSite, store: Store
) -> None:
    now = datetime.now(UTC)
    store.apply("CS101", TokenAnnounced(2, "new", now, now + timedelta(hours=1)))

    with subprocess.Popen(COMMAND) as process:
        requested = silent_site.requested.wait(30)
        process.send_signal(signal.SIGTERM)
        stopped_at = time.monotonic()
        exit_code = process.wait(30)
        seconds = time.monotonic() - stopped_at

    assert requested
    assert exit_code == 128 + signal.SIGTERM
    assert seconds < 5  # a claim is given up after 10


def test_sync_at_an_interval_runs_until_stopped(
    receiver: Receiver, store: Store, site: FakeSite
) -> None:
    store.add_course("CS101")
    site.answer("CS101", 503)
    fail, ran_twice = site.answers["CS101"], threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        if len(site.requests) == 2:
            ran_twice.set()
        fail(handler)

    site.answers["CS101"] = respond

    with subprocess.Popen([*COMMAND, "--every", "1s"], stdout=subprocess.DEVNULL) as process:
        repeated = ran_twice.wait(30)
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(30)

    assert repeated
    assert exit_code == 0
    assert [run.failed for run in store.rows(Run)] == [1, 1]

"""A service that is stopped while it starts."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from foundation.db.migrations import Schema
from receiver.models import SCHEMA
from tests.integration.services import copied, environment, free_port

SLOW_TO_LISTEN = """
import time
from foundation.web.server import Server
from receiver.cli import main

load_config = Server.load_config


def with_a_pause(server):
    load_config(server)
    server.cfg.set("post_fork", lambda arbiter, worker: time.sleep(2))


Server.load_config = with_a_pause
main(["serve"])
"""
KILLED_AFTER = 30.0
"""Seconds for which gunicorn waits for a process that does not end."""


def test_a_process_hears_what_was_said_before_it_listened(
    sqlite_templates: Callable[[Schema], Path], tmp_path: Path
) -> None:
    """SIGTERM between a process's beginning and its first look at signals ends it too (F8)."""
    url = copied(sqlite_templates(SCHEMA), tmp_path)
    log = tmp_path / "receiver.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_TO_LISTEN],
            cwd=tmp_path,
            env=environment("receiver", url, PORT=str(free_port()), WEB_PROCESSES="1"),
            stdout=written,
            stderr=written,
        )
    try:
        while b"Booting worker" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)  # bounded by the test's own time-out
        began = time.monotonic()

        process.terminate()

        assert process.wait(2 * KILLED_AFTER) == 0
        assert time.monotonic() - began < KILLED_AFTER / 2
    finally:
        process.kill()
        process.wait()

"""The demo's processes: ports, failures, settings, and that none of them is left running."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import ProcessError, machines

# A demo that is killed while one of its two processes runs.
KILLED = """
import os, signal, sys, time
from pathlib import Path
from demo import processes
processes.SCRIPTS = Path(sys.argv[1])
with processes.machines(Path(sys.argv[1])) as both:
    both.start("left", "sleeper")
    both.start("stopped", "sleeper")
    both.stop("stopped")
    while not both.log_of("left").read_text():
        time.sleep(0.01)
    print(both.running["left"].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_port_that_was_taken_meanwhile_is_an_error(tmp_path: Path) -> None:
    with machines(tmp_path) as both:
        port = int(both.elms_url.rpartition(":")[2])
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(ProcessError) as raised,
        ):
            both.start("elms", "receiver", "serve", at=both.elms_url)

    assert str(raised.value) == (
        f"elms cannot listen at {both.elms_url}, because something else does; "
        "run it again to use other ports"
    )
    assert both.running == {}


def test_process_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    with machines(tmp_path) as both:
        both.start("worker", "notifier", "--help")
        both.running["worker"].wait(60)

        with pytest.raises(ProcessError, match="worker ended on its own, with 0"):
            both.check_all_run()


def test_settings_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    with machines(tmp_path) as both:
        both.keep_settings()

    file = tmp_path / ".env"
    names = {line.partition("=")[0] for line in file.read_text(encoding="utf-8").splitlines()}
    assert {"NOTIFIER_ENCRYPTION_KEYS", "RECEIVER_ENCRYPTION_KEYS"} <= names
    assert file.stat().st_mode & 0o077 == 0


def test_killed_demo_leaves_nothing_running(tmp_path: Path) -> None:
    script = tmp_path / "sleeper"
    script.write_text(
        "#!/bin/sh\ntrap 'echo ended; exit' TERM\necho up\nwhile :; do sleep 0.1; done\n"
    )
    script.chmod(0o700)

    demo = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )

    assert demo.returncode == -signal.SIGKILL
    subprocess.run(["tail", f"--pid={demo.stdout.strip()}", "-f", "/dev/null"], timeout=60)
    assert "ended" in (tmp_path / "left.log").read_text()

"""The demo's guardian: whatever ends the demo, nothing that it started runs on."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import guardian
from demo.processes import machines

DEMO = """
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


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of a group of its own."""
    process = subprocess.Popen(["sleep", "60"], process_group=0)
    yield process
    process.kill()
    process.wait()


def test_what_is_left_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    guardian.guard([f"+{sleeper.pid}\n"])

    assert sleeper.wait(10) == -signal.SIGTERM


def test_what_is_over_is_let_be(sleeper: subprocess.Popen[bytes]) -> None:
    guardian.guard([f"+{sleeper.pid}\n", f"-{sleeper.pid}\n"])

    assert sleeper.poll() is None


def test_a_demo_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    script = tmp_path / "sleeper"
    script.write_text(
        "#!/bin/sh\ntrap 'echo ended; exit' TERM\necho up\nwhile :; do sleep 0.1; done\n"
    )
    script.chmod(0o700)

    demo = subprocess.run(
        [sys.executable, "-c", DEMO, tmp_path],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )

    assert demo.returncode == -signal.SIGKILL
    subprocess.run(["tail", f"--pid={demo.stdout.strip()}", "-f", "/dev/null"], timeout=20)
    assert "ended" in (tmp_path / "left.log").read_text()


def test_a_demo_that_ends_by_itself_needs_no_guardian(tmp_path: Path) -> None:
    with machines(tmp_path) as both:
        ear = both.guardian

    assert ear is not None
    assert ear.closed

"""The quick start for both services on one machine, run as the README shows it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.services import free_port

ROOT = Path(__file__).parents[2]


def quick_start(notifier_port: int, receiver_port: int) -> str:
    """Return the block without the lines that make the environment, with other ports."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"### Both services on one machine\n.*?```sh\n(.*?)```", readme, re.DOTALL)
    assert block
    text = "\n".join(line for line in block[1].splitlines() if "venv" not in line)
    text = text.replace("8001", str(notifier_port)).replace("8002", str(receiver_port))
    ports = f"\nNOTIFIER_PORT={notifier_port}\nRECEIVER_PORT={receiver_port}\nEND\n"
    return f"set -e\n{text.replace(chr(10) + 'END' + chr(10), ports)}\n"


@pytest.mark.long
def test_quick_start_skips_deleted_course(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    output = tmp_path / "output"  # not a pipe, which the services would keep open

    with output.open("w") as file:
        shell = subprocess.Popen(
            ["bash", "-c", quick_start(free_port(), free_port())],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=100)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)

    printed = output.read_text(encoding="utf-8")
    assert code == 0, printed
    assert re.search(r"CS101-2026 .*skipped", printed)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0

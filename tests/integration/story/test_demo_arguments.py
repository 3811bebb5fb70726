"""What `python -m demo` may be told, and what it refuses before it starts anything."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import ProcessError, machines

ROOT = Path(__file__).parents[3]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with arguments that do not let it begin."""
    return subprocess.run(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_tells_how_to_look_around() -> None:
    done = demo("--help")

    assert done.returncode == 0
    assert "Usage: python -m demo [OPTIONS]" in done.stdout
    assert "--stay" in done.stdout
    assert "until Ctrl-C" in done.stdout


@pytest.mark.parametrize("argument", ["--sty", "stay"])
def test_what_it_does_not_know_is_refused(argument: str) -> None:
    done = demo(argument)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: python -m demo [OPTIONS]" in done.stderr
    assert argument in done.stderr


def test_a_port_that_was_taken_meanwhile_is_said(tmp_path: Path) -> None:
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


def test_what_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    with machines(tmp_path) as both:
        both.start("worker", "notifier", "--help")
        both.running["worker"].wait(60)

        with pytest.raises(ProcessError, match="worker ended on its own, with 0"):
            both.check_all_run()


def test_the_settings_that_are_kept_are_for_nobody_else(tmp_path: Path) -> None:
    with machines(tmp_path) as both:
        both.keep_settings()

    file = tmp_path / ".env"
    names = {line.partition("=")[0] for line in file.read_text(encoding="utf-8").splitlines()}
    assert {"NOTIFIER_ENCRYPTION_KEYS", "RECEIVER_ENCRYPTION_KEYS"} <= names
    assert file.stat().st_mode & 0o077 == 0

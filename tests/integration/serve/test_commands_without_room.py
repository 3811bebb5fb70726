"""Commands that meet a used port, an unknown address or a full disk: a sentence and a code."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER
from tests.integration.services import command, copied, environment

FULL_DISK = Path("/dev/full")


@pytest.fixture
def make_environment(
    sqlite_templates: Callable[[Schema], Path], tmp_path: Path
) -> Callable[..., dict[str, str]]:
    """Return a factory of the environment of a notifier with an empty database."""

    def make(**settings: str) -> dict[str, str]:
        return environment("notifier", copied(sqlite_templates(NOTIFIER), tmp_path), **settings)

    return make


def test_serve_refuses_a_used_port(
    make_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]

        done = command("notifier", "serve", cwd=tmp_path, env=make_environment(PORT=str(port)))

    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use\n" in done.stderr
    assert "NOTIFIER_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_serve_refuses_an_address_of_another_machine(
    make_environment: Callable[..., dict[str, str]], tmp_path: Path, host: str
) -> None:
    done = command("notifier", "serve", cwd=tmp_path, env=make_environment(HOST=host))

    assert done.returncode == 1
    assert f"cannot listen on {host}:8001: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--help",), id="help"),
        pytest.param(("doctor", "--json"), id="JSON"),
    ],
)
def test_output_to_a_full_disk_is_an_error(
    make_environment: Callable[..., dict[str, str]], tmp_path: Path, words: tuple[str, ...]
) -> None:
    with FULL_DISK.open("w") as full:
        done = command("notifier", *words, cwd=tmp_path, env=make_environment(), stdout=full)

    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_error_message_to_a_full_disk_leaves_the_exit_code(
    make_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    with FULL_DISK.open("w") as full:
        done = command(
            "notifier",
            "db",
            "check",
            cwd=tmp_path,
            env=make_environment(ENCRYPTION_KEYS="short"),
            stdout=full,
            stderr=subprocess.STDOUT,
        )

    assert done.returncode in {1, 2}

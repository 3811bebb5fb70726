"""Commands that meet a used port, an unknown address or a full disk: a sentence and a code."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.db.migrations import Schema
from notifier.models import SCHEMA
from tests.faults import processes
from tests.integration.services import copied, environment


@pytest.fixture
def settings(sqlite_templates: Callable[[Schema], Path], tmp_path: Path) -> dict[str, str]:
    """The settings of a notifier with an empty database."""
    return environment("notifier", copied(sqlite_templates(SCHEMA), tmp_path))


@pytest.mark.parametrize(
    ("host", "cause"),
    [
        pytest.param("127.0.0.1", "Address already in use", id="used port"),
        pytest.param("192.0.2.1", "Cannot assign requested address", id="another machine"),
    ],
)
def test_serve_refuses_an_address_that_it_cannot_have(
    settings: dict[str, str], tmp_path: Path, host: str, cause: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        settings |= {"NOTIFIER_HOST": host, "NOTIFIER_PORT": str(port)}

        process = processes.start(
            "notifier", "serve", folder=tmp_path / "serve", environment=settings
        )
        code = process.wait_ended()

    assert (code, process.printed()) == (1, "")
    assert f"cannot listen on {host}:{port}: {cause}\n" in process.logged()
    assert "NOTIFIER_PORT" in process.logged()
    assert "Traceback" not in process.logged()


@pytest.mark.parametrize(
    "words", [pytest.param("--help", id="help"), pytest.param("doctor --json", id="JSON")]
)
def test_output_to_a_full_disk_is_an_error(
    settings: dict[str, str], tmp_path: Path, words: str
) -> None:
    command = [Path(sys.executable).parent / "notifier", *words.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | settings,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr

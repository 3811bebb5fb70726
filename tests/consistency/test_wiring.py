"""Wiring that no single module shows: subscribers, the environment, paths of a machine."""

import re
import subprocess
from pathlib import Path

import pytest
from blinker import NamedSignal

from notifier import signals
from notifier.webhooks import outbox

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_service_reads_environment_in_settings_only(service: str) -> None:
    readers = [
        path.name
        for path in (ROOT / service).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv", path.read_text(encoding="utf-8"))
    ]

    assert readers == []


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = "/(root|work|home)/[A-Za-z0-9._-]+"

    done = subprocess.run(
        ["git", "grep", "-nIE", pattern], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")


def test_every_signal_has_a_subscriber() -> None:
    outbox.subscribe()

    silent = [
        name
        for name, signal in vars(signals).items()
        if isinstance(signal, NamedSignal) and not signal.receivers
    ]

    assert silent == []

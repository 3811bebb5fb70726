"""Wiring that no single module shows: subscribers, the environment, paths of a machine."""

import re
import subprocess
from pathlib import Path

import pytest
from blinker import NamedSignal

from notifier import signals
from notifier.webhooks import outbox

ROOT = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    """Return every text file that is part of the project."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_service_reads_environment_in_settings_only(service: str) -> None:
    readers = [
        path.name
        for path in (ROOT / service).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv", path.read_text(encoding="utf-8"))
    ]

    assert readers == []


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = re.compile(r"/(?:root|work|home)/[A-Za-z0-9._-]+")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        for match in [pattern.search(path.read_text(encoding="utf-8", errors="replace"))]
        if match and path != Path(__file__)
    ]

    assert found == []


def test_every_signal_has_a_subscriber() -> None:
    outbox.subscribe()

    silent = [
        name
        for name, signal in vars(signals).items()
        if isinstance(signal, NamedSignal) and not signal.receivers
    ]

    assert silent == []

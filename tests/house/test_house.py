"""Rules of the house that no single module can hold."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    """Return every text file that is part of the project."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_the_environment_is_read_in_one_place(service: str) -> None:
    readers = [
        path.name
        for path in (ROOT / service).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv", path.read_text(encoding="utf-8"))
    ]

    assert readers == []


def test_no_file_names_a_machine_of_ours() -> None:
    pattern = re.compile(r"/(?:root|work|home)/[A-Za-z0-9._-]+")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        for match in [pattern.search(path.read_text(encoding="utf-8", errors="replace"))]
        if match and path != Path(__file__)
    ]

    assert found == []

"""`make demo ARGS=--stay`: both services stay up after the story, for whoever signs in."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from demo.staying import NAME

ROOT = Path(__file__).parents[2]
TOLD_WITHIN = 300.0
ENDS_WITHIN = 60.0
HEARD = 20_000
"""Milliseconds within which a page shows what a worker did."""

# The story is told first, and other work may share the machine.
pytestmark = pytest.mark.timeout(480)


@dataclass
class Stayed:
    """The demo at the time after its story, and what it has printed."""

    process: subprocess.Popen[str]
    printed: str

    def shown(self, name: str) -> str:
        """Return what stands behind a name in the invitation."""
        found = re.search(rf"^  {name} +(\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def folder(self) -> Path:
        """Return the folder that the invitation names."""
        found = re.search(r"^    cd (\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return Path(found[1])

    def sign_in(self, page: Page, service: str) -> None:
        """Sign in to a service by what is printed, and nothing else."""
        page.goto(self.shown(service))
        page.get_by_label("Name").fill(self.shown("name"))
        page.get_by_label("Password").fill(self.shown("password"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("banner")).to_contain_text(f"Signed in as {NAME}")


def children(pid: int) -> list[int]:
    """Return the processes that a process started; each leads a group of its own."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True, check=True
    )
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for parent, child in pairs if int(parent) == pid]


@pytest.fixture(scope="module")
def stayed() -> Iterator[Stayed]:
    """The demo, told to stay, in a group of processes of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--stay"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    too_late = threading.Timer(TOLD_WITHIN, os.killpg, (process.pid, signal.SIGTERM))
    too_late.start()
    yield Stayed(process, until(process, "Press Ctrl-C"))
    too_late.cancel()
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=ENDS_WITHIN)


def until(process: subprocess.Popen[str], words: str) -> str:
    """Return what a process prints up to the line with these words, or all that it prints."""
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if words in line:
            break
    return printed


def test_the_story_was_told_before(stayed: Stayed) -> None:
    assert "All checks passed in" in stayed.printed


def test_what_is_printed_lets_one_in_to_watch_a_deletion(
    stayed: Stayed, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    stayed.sign_in(page, "eAssessment")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Courses").click()
    page.get_by_role("link", name="CHEM105-2026").click()
    page.get_by_role("button", name="Delete course…").click()
    page.get_by_role("button", name="Delete 1 course").click()
    told = page.get_by_role("row").filter(has_text="course.deleted")
    expect(told).to_contain_text("delivered", timeout=HEARD)

    stayed.sign_in(page, "ELMS")
    row = page.get_by_role("row").filter(has_text="CHEM105-2026")
    expect(row).to_contain_text("course deleted")


def test_the_command_that_is_printed_syncs_at_once(stayed: Stayed) -> None:
    found = re.search(r"^    (\S+/receiver .*)$", stayed.printed, re.MULTILINE)
    assert found, stayed.printed

    done = subprocess.run(
        shlex.split(found[1]), cwd=stayed.folder(), capture_output=True, text=True, timeout=60
    )

    # 3 is another run under way, for ELMS syncs by itself meanwhile.
    assert done.returncode in {0, 3}, done.stdout + done.stderr


def test_ctrl_c_ends_all_of_it(stayed: Stayed) -> None:
    folder, process = stayed.folder(), stayed.process
    groups = [process.pid, *children(process.pid)]
    assert folder.is_dir()
    assert len(groups) == 9  # the demo, its guardian, and the seven that these look after

    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    rest, _ = process.communicate(timeout=ENDS_WITHIN)

    assert rest == "\nStopping all processes …\nAll processes are stopped.\n"
    assert process.returncode == 0
    assert not folder.exists()
    for group in groups:
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)

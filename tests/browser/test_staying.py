"""`make demo ARGS=--stay`: both services keep running after the story, for whom signs in."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from demo.staying import NAME
from tests.browser.conftest import Open

ROOT = Path(__file__).parents[2]
# Seconds; the story comes first, and the machine may be busy.
STORY_TIMEOUT, END_TIMEOUT = 300.0, 60.0
# Milliseconds until a page shows what a worker did.
DELIVERY_TIMEOUT = 40_000

pytestmark = pytest.mark.timeout(480)


@dataclass
class Demo:
    """The demo after its story, and what it has printed."""

    process: subprocess.Popen[str]
    printed: str

    def find(self, pattern: str) -> str:
        """Return the group of a pattern in what is printed."""
        found = re.search(pattern, self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def shown(self, name: str) -> str:
        """Return the value that is printed for a name."""
        return self.find(rf"^  {name} +(\S+)$")

    @property
    def folder(self) -> Path:
        """The folder that is printed."""
        return Path(self.find(r"^    cd (\S+)$"))

    def sign_in(self, page: Page, service: str) -> None:
        """Sign in by keyboard with what is printed; the name has the focus."""
        page.goto(self.shown(service))
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type(self.shown("name"))
        walk_to(page, page.get_by_label("Password"))
        page.keyboard.type(self.shown("password"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("banner")).to_contain_text(f"Signed in as {NAME}")


def walk_to(page: Page, target: Locator) -> None:
    """Press Tab until the target has the focus, which must be visible."""
    expect(target).to_be_visible()
    for _ in range(200):
        if target.evaluate("one => one === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(target).to_be_focused()
    assert target.evaluate("one => getComputedStyle(one).outlineStyle") != "none"


def press(page: Page, target: Locator) -> None:
    walk_to(page, target)
    page.keyboard.press("Enter")


def children(pid: int) -> list[int]:
    """Return the processes that a process started; each leads a group of its own."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True, check=True
    )
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for parent, child in pairs if int(parent) == pid]


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """The demo with `--stay`, in its own process group."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--stay"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    too_late = threading.Timer(STORY_TIMEOUT, os.killpg, (process.pid, signal.SIGTERM))
    too_late.start()
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if "Press Ctrl-C" in line:
            break
    assert "All checks passed in" in printed, printed
    yield Demo(process, printed)
    too_late.cancel()
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=END_TIMEOUT)


def test_deletion_on_a_page_reaches_elms(demo: Demo, open_page: Open) -> None:
    page = open_page()
    demo.sign_in(page, "eAssessment")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Courses").click()
    page.get_by_role("link", name="CHEM105-2026").click()
    page.get_by_role("button", name="Delete course…").click()
    page.get_by_role("button", name="Delete 1 course").click()
    row = page.get_by_role("row").filter(has_text="course.deleted")
    expect(row).to_contain_text("delivered", timeout=DELIVERY_TIMEOUT)

    demo.sign_in(page, "ELMS")

    row = page.get_by_role("row").filter(has_text="CHEM105-2026")
    expect(row).to_contain_text("course deleted")


def test_token_is_regenerated_and_entered_by_keyboard(demo: Demo, open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    demo.sign_in(page, "eAssessment")
    press(page, page.get_by_role("link", name="Courses", exact=True))
    press(page, page.get_by_role("link", name="BIO140-2026"))
    press(page, page.locator("summary", has_text="Regenerate token"))
    press(page, page.get_by_role("button", name="Regenerate token"))
    press(page, page.get_by_role("button", name="Copy"))
    token = page.evaluate("navigator.clipboard.readText()")
    row = page.get_by_role("row").filter(has_text="token.regenerated")
    expect(row.first).to_contain_text("delivered", timeout=DELIVERY_TIMEOUT)

    elms = open_page()
    demo.sign_in(elms, "ELMS")
    press(elms, elms.get_by_role("link", name="Enter token of BIO140-2026", exact=True))
    walk_to(elms, elms.get_by_label("Course token"))
    elms.keyboard.type(token)
    elms.keyboard.press("Enter")

    expect(elms.get_by_role("status")).to_contain_text("The course is active")


def test_printed_command_syncs(demo: Demo) -> None:
    command = demo.find(r"^    (\S+/receiver .*)$")

    done = subprocess.run(
        shlex.split(command), cwd=demo.folder, capture_output=True, text=True, timeout=60
    )

    # 1: two courses of the Moodle need a token. 3: another run is in progress, because ELMS syncs
    # regularly.
    assert done.returncode in {1, 3}, done.stdout + done.stderr


def test_ctrl_c_stops_everything(demo: Demo) -> None:
    folder, process = demo.folder, demo.process
    groups = [process.pid, *children(process.pid)]
    assert folder.is_dir()
    assert len(groups) == 9  # the demo, its guardian, and the seven that these look after

    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    rest, _ = process.communicate(timeout=END_TIMEOUT)

    assert rest == "\nStopping all processes …\nAll processes are stopped.\n"
    assert process.returncode == 0
    assert not folder.exists()
    for group in groups:
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)

"""A short torture run (`make torture` runs longer ones), and what it must detect."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults import invariants
from tests.faults.invariants import Ledger, Snapshot
from tests.faults.observer import Post
from tests.faults.processes import wait_until
from tests.faults.site import ELMS, PATHS, PLAIN, Site
from tests.faults.torture import Torture

ROOT = Path(__file__).parents[3]
CYCLES = 50
BODY = b'{"type":"course.deleted","data":{"course_id":"CS101","course_version":2}}'
APPLIED = Post(ELMS, "msg_1", BODY, verified=True, status=200, outcome="applied")
PLAINLY = Post(PLAIN, "msg_1", BODY, verified=True, status=200)


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_applied_twice(both: Site, database_kind: str) -> None:
    torture = Torture(both)

    checked = list(torture.run(seed=2026 if database_kind == "sqlite" else 1122, cycles=CYCLES))

    assert checked == [CYCLES]
    assert torture.hit.total() > CYCLES * 0.8
    assert torture.snapshot is not None
    assert (torture.snapshot.lost, torture.snapshot.applied_twice) == ([], [])


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"events": {}}, "I1 events", id="event lost"),
        pytest.param({"deliveries": []}, "I1 deliveries", id="delivery lost"),
        pytest.param({"posts": [APPLIED]}, "I1 never accepted", id="never sent"),
        pytest.param({"courses": {"CS101": (3, True)}}, "I2 courses", id="change without event"),
        pytest.param(
            {"posts": [APPLIED, PLAINLY, replace(PLAINLY, webhook_id="msg_2")]},
            "I2 sent without",
            id="sent without an event",
        ),
        pytest.param({"posts": [APPLIED, APPLIED, PLAINLY]}, "I3 applied", id="applied twice"),
        pytest.param({"entries": {}}, "I3 entries", id="registry is not the fold"),
    ],
)
def test_broken_invariant_is_reported(fault: dict[str, Any], reported: str | None) -> None:
    found = {
        "courses": {"CS101": (2, True)},
        "events": {"msg_1": ("CS101", 2, "course.deleted", BODY)},
        "deliveries": [("msg_1", path, "delivered") for path in PATHS],
        "inbox": {"msg_1"},
        "entries": {"CS101": (2, None, None, None)},
        "posts": [replace(APPLIED, status=None, outcome=None), APPLIED, PLAINLY],
    }

    broken = invariants.find_broken(Snapshot(**found | fault), Ledger({"CS101": ["delete"]}))

    assert [one for one in broken if reported is None or one.startswith(reported)] == broken[:1]


def members(session_id: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, ProcessLookupError):
            if os.getsid(int(entry.name)) == session_id:
                found.append(int(entry.name))
    return found


@pytest.fixture
def torture_process() -> Iterator[subprocess.Popen[str]]:
    """A long run in a session of its own."""
    # Of a short name: the path of a socket in it is limited to 107 characters.
    folder = tempfile.mkdtemp(prefix="torture-")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.torture", "--cycles", "5000", "--seed", "1"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": folder},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shutil.rmtree(folder)


def test_killed_torture_leaves_no_process(torture_process: subprocess.Popen[str]) -> None:
    pid = torture_process.pid
    wait_until(lambda: len(members(pid)) > 4, "launcher, fork server, tracker, ELMS, a command")

    torture_process.kill()

    torture_process.wait(30)
    wait_until(lambda: not members(pid), "no process is left")

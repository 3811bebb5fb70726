"""The torture: a few hundred cycles here, thousands by `make torture`; and that it can fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults import invariants, schedule
from tests.faults.cycles import Torture
from tests.faults.failpoints import Fault, Point
from tests.faults.invariants import Books, Told
from tests.faults.ledger import Ledger, Standing
from tests.faults.observer import Post
from tests.faults.processes import wait_until
from tests.faults.site import DOOR, PATHS, PLAIN, Site

ROOT = Path(__file__).parents[3]
CYCLES = 100
BODY = (
    b'{"type":"course.deleted","timestamp":"2026-11-22T09:00:00.123456Z",'
    b'"data":{"source":"eassessment","course_id":"CS101","course_version":2}}'
)


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_applied_twice_under_kill_9(
    both: Site, database_kind: str
) -> None:
    """After every cycle of kill and restart the books agree with what has passed (I1, I2, I3)."""
    torture = Torture(both)

    torture.run(seed=2026 if database_kind == "sqlite" else 1122, cycles=CYCLES)

    figures = torture.figures
    assert figures.taken.total() + figures.missed.total() == CYCLES
    assert figures.taken.total() > CYCLES * 0.9
    assert (figures.lost, figures.applied_twice) == (0, 0)


def test_a_seed_says_what_befalls_whom() -> None:
    short, long = list(schedule.cycles(7, 50)), list(schedule.cycles(7, 200))

    assert long[:50] == short
    assert list(schedule.cycles(8, 50)) != short


@pytest.fixture
def ledger() -> Ledger:
    """One course that was deleted."""
    ledger = Ledger({"CS101": Standing()})
    ledger.commit("delete", ["CS101"])
    return ledger


def post(path: str, **overrides: Any) -> Post:
    """Return the post of the deletion, taken."""
    outcome = "applied" if path == DOOR else None
    given = {"verified": True, "status": 200, "outcome": outcome, "over": True, **overrides}
    return Post(path, "msg_1", BODY, **given)


@pytest.fixture
def books() -> Books:
    """The books of that one course, all of them well."""
    return Books(
        standings={"CS101": Standing(2, deleted=True)},
        events={"msg_1": ("CS101", 2, "course.deleted", BODY)},
        deliveries=[("msg_1", path, "delivered") for path in PATHS],
        inbox={"msg_1"},
        entries={"CS101": Told(deleted_version=2)},
        posts=[post(DOOR, status=None, outcome=None), post(DOOR), post(PLAIN)],
    )


def test_books_that_agree_break_nothing(books: Books, ledger: Ledger) -> None:
    assert invariants.broken(books, ledger) == []


@pytest.mark.parametrize(
    ("found", "reported"),
    [
        pytest.param({"events": {}}, "I1: committed, but no event", id="event lost"),
        pytest.param({"deliveries": []}, "I1: no delivery", id="delivery lost"),
        pytest.param(
            {"deliveries": [("msg_1", path, "pending") for path in PATHS]},
            "I1: pending: msg_1",
            id="never settled",
        ),
        pytest.param(
            {"deliveries": [("msg_1", path, "delivered") for path in (*PATHS, DOOR)]},
            "I1: 2 deliveries",
            id="two deliveries",
        ),
        pytest.param({"posts": [post(DOOR)]}, "I1: lost", id="settled but never sent"),
        pytest.param(
            {"standings": {"CS101": Standing(3, deleted=True)}},
            "I2: CS101 is",
            id="course changed without an event",
        ),
        pytest.param(
            {"posts": [post(DOOR), post(PLAIN), replace(post(PLAIN), webhook_id="msg_2")]},
            "I2: sent, but no event",
            id="sent without an event",
        ),
        pytest.param(
            {"posts": [post(DOOR), post(PLAIN, verified=False)]},
            "I2: sent, but no event",
            id="badly signed",
        ),
        pytest.param(
            {"posts": [post(DOOR), post(DOOR), post(PLAIN)]}, "I3: applied 2 times", id="twice"
        ),
        pytest.param(
            {"posts": [post(DOOR), post(PLAIN), post(DOOR, status=401, outcome=None)]},
            "I3: answered 401",
            id="refused at the door",
        ),
        pytest.param({"inbox": set()}, "I3: not in the inbox", id="effect lost"),
        pytest.param({"inbox": {"msg_1", "msg_2"}}, "I3: of no event", id="effect of nothing"),
        pytest.param({"entries": {"CS101": Told()}}, "I3: CS101 is", id="registry is not the fold"),
    ],
)
def test_books_that_disagree_are_reported(
    books: Books, ledger: Ledger, found: dict[str, Any], reported: str
) -> None:
    broken = invariants.broken(replace(books, **found), ledger)

    assert any(one.startswith(reported) for one in broken)


@pytest.mark.parametrize(
    ("fault", "committed"),
    [
        pytest.param(Fault(Point.BEFORE_COMMIT, nth=2), {"A"}, id="before the second commit"),
        pytest.param(Fault(Point.AFTER_COMMIT, nth=2), {"A", "B"}, id="after the second commit"),
    ],
)
def test_ledger_knows_what_a_killed_command_had_committed(
    fault: Fault, committed: set[str]
) -> None:
    ledger = Ledger({name: Standing() for name in ("A", "B", "C")})

    ledger.kill("delete", ["A", "B", "C"], fault)

    assert {course_id for course_id, *_ in ledger.events} == committed
    assert ledger.unsure == {}


def members(session_id: int) -> Iterator[int]:
    """Yield the processes of a session that still live."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session_id:
                yield int(entry.name)
        except ProcessLookupError:
            continue


@pytest.fixture
def torture_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run in a session of its own, with a worker of its own at work."""
    command = [sys.executable, "-m", "tests.faults.torture", "--cycles", "5000", "--seed", "1"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_torture_leaves_no_process(
    torture_process: subprocess.Popen[str], number: signal.Signals
) -> None:
    pid = torture_process.pid
    wait_until(lambda: len(list(members(pid))) > 4, "launcher, zygote, the door's two, a worker")

    torture_process.send_signal(number)

    torture_process.wait(30)
    wait_until(lambda: not list(members(pid)), "nothing of it is left")
    assert list(members(pid)) == []

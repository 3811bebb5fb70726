"""A short torture run (`make torture` runs longer ones), and what it must detect."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults import books
from tests.faults.books import Books, CourseRow, Ledger
from tests.faults.failpoints import Fault, Point
from tests.faults.observer import Post
from tests.faults.processes import wait_until
from tests.faults.site import ELMS, PATHS, PLAIN, Site
from tests.faults.torture import Torture

ROOT = Path(__file__).parents[3]
CYCLES = 50
BODY = (
    b'{"type":"course.deleted","timestamp":"2026-11-22T09:00:00.123456Z",'
    b'"data":{"source":"eassessment","course_id":"CS101","course_version":2}}'
)


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_applied_twice(both: Site, database_kind: str) -> None:
    torture = Torture(both)

    checked = list(torture.run(seed=2026 if database_kind == "sqlite" else 1122, cycles=CYCLES))

    assert checked == [CYCLES]
    assert torture.hit.total() > CYCLES * 0.8
    assert torture.books is not None
    assert (torture.books.lost, torture.books.applied_twice) == ([], [])


def make_post(path: str, **overrides: Any) -> Post:
    """Return the request that told of the deletion, accepted."""
    outcome = "applied" if path == ELMS else None
    given = {"verified": True, "status": 200, "outcome": outcome, "over": True, **overrides}
    return Post(path, "msg_1", BODY, **given)


def make_books(**overrides: Any) -> Books:
    """Return the books of one deleted course, without a fault."""
    given: dict[str, Any] = {
        "courses": {"CS101": CourseRow(2, deleted=True)},
        "events": {"msg_1": ("CS101", 2, "course.deleted", BODY)},
        "deliveries": [("msg_1", path, "delivered") for path in PATHS],
        "inbox": {"msg_1"},
        "entries": {"CS101": (2, None, None)},
        "posts": [make_post(ELMS, status=None, outcome=None), make_post(ELMS), make_post(PLAIN)],
    }
    return Books(**given | overrides)


def make_ledger() -> Ledger:
    ledger = Ledger({"CS101": CourseRow()})
    ledger.commit("delete", ["CS101"])
    return ledger


def test_books_without_fault_are_accepted() -> None:
    assert books.find_broken(make_books(), make_ledger()) == []


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        pytest.param({"events": {}}, "I1 events", id="event lost"),
        pytest.param({"deliveries": []}, "I1 deliveries", id="delivery lost"),
        pytest.param({"posts": [make_post(ELMS)]}, "I1 never accepted", id="never sent"),
        pytest.param({"courses": {"CS101": CourseRow(3, deleted=True)}}, "I2", id="no event"),
        pytest.param(
            {"posts": [make_post(ELMS), replace(make_post(PLAIN), webhook_id="msg_2")]},
            "I2 sent without",
            id="sent without an event",
        ),
        pytest.param(
            {"posts": [make_post(ELMS), make_post(PLAIN, verified=False)]},
            "I2 sent without",
            id="badly signed",
        ),
        pytest.param(
            {"posts": [make_post(ELMS), make_post(ELMS), make_post(PLAIN)]},
            "I3 applied twice",
            id="applied twice",
        ),
        pytest.param({"inbox": set()}, "I3 inbox", id="not in the inbox"),
        pytest.param({"entries": {}}, "I3 entries", id="registry is not the fold"),
    ],
)
def test_books_with_a_fault_are_reported(fault: dict[str, Any], reported: str) -> None:
    broken = books.find_broken(make_books(**fault), make_ledger())

    assert any(one.startswith(reported) for one in broken)


@pytest.mark.parametrize(
    ("point", "committed"), [(Point.BEFORE_COMMIT, {"A"}), (Point.AFTER_COMMIT, {"A", "B"})]
)
def test_ledger_knows_what_a_killed_command_committed(point: Point, committed: set[str]) -> None:
    ledger = Ledger({name: CourseRow() for name in ("A", "B", "C")})

    ledger.kill("delete", ["A", "B", "C"], Fault(point, nth=2))

    assert {course_id for course_id, *_ in ledger.events} == committed


def members(session_id: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session_id:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


@pytest.fixture
def torture_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.torture", "--cycles", "5000", "--seed", "1"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_torture_leaves_no_process(
    torture_process: subprocess.Popen[str], number: signal.Signals
) -> None:
    pid = torture_process.pid
    wait_until(lambda: len(members(pid)) > 4, "launcher, fork server, tracker, ELMS, a command")

    torture_process.send_signal(number)

    torture_process.wait(30)
    wait_until(lambda: not members(pid), "no process is left")

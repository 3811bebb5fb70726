"""Commands as real processes, forked within milliseconds by a server that imported them."""

import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

import foundation
import notifier.cli
import receiver.cli
from tests.faults import failpoints
from tests.faults.failpoints import Fault, Point

# How long anything that must happen may take, in seconds.
PATIENCE = 60.0
_COMMANDS = {"notifier": notifier.cli.main, "receiver": receiver.cli.main}

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "tests.faults.fork_server",
        "pytest",
        "waitress",
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "tests.faults.processes",
        *(
            module.name
            for package in (foundation, notifier, receiver)
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        ),
    ]
)


class LateError(AssertionError):
    """Something that must happen did not happen in time."""


def wait_until(reached: Callable[[], Any], what: str, *, within: float = PATIENCE) -> None:
    """Return once `reached()` is true; raise LateError with `what` after a while."""
    ends, tick = time.monotonic() + within, threading.Event()
    while not reached():
        if time.monotonic() > ends:
            raise LateError(f"not after {within:g} s: {what}")
        tick.wait(0.005)


@dataclass
class Process:
    """A running command, and the folder with its faults, its output `out` and its `log`."""

    words: tuple[str, ...]
    folder: Path
    _process: ForkServerProcess

    @property
    def code(self) -> int | None:
        """The exit code, the negative number of the signal that killed it, or None."""
        return self._process.exitcode

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP has stopped it."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return stat.rpartition(") ")[2].startswith("T")

    def arm(self, fault: Fault) -> None:
        failpoints.arm(self.folder, fault)

    def is_armed(self, point: Point) -> bool:
        return (self.folder / point).exists()

    def disarm(self, point: Point) -> bool:
        """Remove a fault; return whether it had not happened."""
        return failpoints.disarm(self.folder, point)

    def send(self, number: signal.Signals) -> None:
        if self.code is None and self._process.pid:
            os.kill(self._process.pid, number)

    def children(self) -> list[int]:
        """Return the ids of its processes."""
        task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(one) for one in task.read_text(encoding="utf-8").split()]

    def wait_ended(self) -> int:
        """Return the exit code once it has ended."""
        self._process.join(PATIENCE)
        if self.code is None:
            raise LateError(f"not ended after {PATIENCE:g} s: {self}")
        return self.code

    def wait_logged(self, event: str) -> None:
        wait_until(lambda: event in self.logged() or self.code is not None, f"{self}: {event}")
        assert event in self.logged(), self.logged()

    def printed(self) -> str:
        return (self.folder / "out").read_text(encoding="utf-8")

    def logged(self) -> str:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def __str__(self) -> str:
        return f"`{' '.join(self.words)}` in {self.folder.name}"


def is_running(process_id: int) -> bool:
    """Return True if a process has not ended; one that its parent has yet to notice has."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return not stat.rpartition(") ")[2].startswith("Z")


def start(
    *words: str,
    folder: Path,
    environment: Mapping[str, str],
    wait: float | None = None,
    fault: Fault | None = None,
) -> Process:
    """Start a command in a new folder, with the fault that it will meet.

    `wait` is how many seconds each wait of the retry schedule lasts, instead of its own.
    """
    folder.mkdir()
    process = _forks.Process(target=_run, args=(words, folder, dict(environment), wait))
    started = Process(words, folder, process)
    if fault is not None:
        started.arm(fault)
    process.start()
    return started


def _run(
    words: tuple[str, ...], folder: Path, environment: dict[str, str], wait: float | None
) -> NoReturn:
    """Run a command of ours, and end with its exit code."""
    from tests.faults import fork_server  # only the fork server may import it

    code: Any = 1
    try:
        fork_server.die_with_parent()
        _redirect(folder)
        for name in [*os.environ]:
            if name.startswith(("NOTIFIER_", "RECEIVER_")):
                del os.environ[name]
        os.environ.update(environment)
        if wait is not None:
            failpoints.shorten(wait)
        failpoints.install(folder)
        _COMMANDS[words[0]](words[1:], prog_name=words[0])
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException:  # noqa: BLE001 - no fork may return into multiprocessing
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _redirect(folder: Path) -> None:
    """Work in a folder, and write to its files `out` and `log`."""
    os.chdir(folder)
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, name in ((1, "out"), (2, "log")):
        descriptor = os.open(folder / name, appended, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)

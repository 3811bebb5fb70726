"""Commands of ours as real processes, forked within milliseconds by a server that imported them."""

import ctypes
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
PATIENCE = 30.0
_COMMANDS = {"notifier": notifier.cli.main, "receiver": receiver.cli.main}
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

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
    """A running command, and the folder with its fail points, its output `out` and its `log`."""

    words: tuple[str, ...]
    folder: Path
    _process: ForkServerProcess

    @property
    def ended(self) -> bool:
        return self._process.exitcode is not None

    @property
    def code(self) -> int | None:
        """The exit code, or the negative number of the signal that killed it."""
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
        return failpoints.is_armed(self.folder, point)

    def disarm(self, point: Point) -> bool:
        """Take back a fault; return whether it had not happened."""
        return failpoints.disarm(self.folder, point)

    def send(self, number: signal.Signals) -> None:
        if not self.ended and self._process.pid:
            os.kill(self._process.pid, number)

    def wait_ended(self, *, within: float = PATIENCE) -> int:
        self._process.join(within)
        if self.code is None:
            raise LateError(f"not ended after {within:g} s: {self}")
        return self.code

    def wait_stopped(self, *, within: float = PATIENCE) -> None:
        wait_until(lambda: self.stopped, f"{self} is stopped", within=within)

    def printed(self) -> str:
        return _read(self.folder / "out")

    def logged(self) -> str:
        return _read(self.folder / "log")

    def __str__(self) -> str:
        return f"`{' '.join(self.words)}` in {self.folder.name}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def start(
    *words: str,
    folder: Path,
    environment: Mapping[str, str],
    wait: float,
    margin: float,
    fault: Fault | None = None,
) -> Process:
    """Start a command in a new folder of its own, with the fault that it will meet.

    `wait` and `margin` are what `failpoints.shorten` is given.
    """
    folder.mkdir()
    process = _forks.Process(target=_run, args=(words, folder, dict(environment), wait, margin))
    started = Process(words, folder, process)
    if fault is not None:
        started.arm(fault)
    process.start()
    return started


def _run(
    words: tuple[str, ...], folder: Path, environment: dict[str, str], wait: float, margin: float
) -> NoReturn:
    """Be a command of ours, and end with its exit code."""
    code: Any = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        _redirect(folder)
        os.environ.update(environment)
        failpoints.shorten(wait, margin)
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

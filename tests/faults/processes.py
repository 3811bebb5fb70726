"""Commands of ours as real processes: started within milliseconds, watched, signalled, ended."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import failpoints
from tests.faults.failpoints import Fault, Point

_ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""How long anything that must come is waited for, in seconds."""


class LateError(AssertionError):
    """What had to come did not come in time."""


def wait_until(reached: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
    """Return once something is so, or raise LateError with what it was."""
    ends, tick = time.monotonic() + within, threading.Event()
    while not reached():
        if time.monotonic() > ends:
            raise LateError(f"after {within:g} s still not so: {what}")
        tick.wait(0.005)


@dataclass
class Process:
    """One command under way, and the folder with its fail points, output (`out`) and `log`."""

    number: int
    words: tuple[str, ...]
    folder: Path
    _zygote: "Zygote"
    pid: int | None = None
    state: str = "ordered"
    code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state == "ended"

    def arm(self, fault: Fault) -> None:
        """Lay down what shall befall it."""
        failpoints.arm(self.folder, fault)

    def is_armed(self, point: Point) -> bool:
        """Tell whether a fault still waits for it."""
        return failpoints.is_armed(self.folder, point)

    def disarm(self, point: Point) -> bool:
        """Take back a fault that nobody took; tell whether it was still there."""
        return failpoints.disarm(self.folder, point)

    def send(self, number: signal.Signals) -> None:
        """Send its whole group a signal, unless it has ended."""
        self._zygote.order({"pid": self.pid, "signal": int(number)})

    def wait_ended(self, *, within: float = PATIENCE) -> int:
        """Return its exit code, or the negative number of the signal that killed it."""
        self._zygote.wait(lambda: self.ended, f"{self} has ended", within)
        assert self.code is not None
        return self.code

    def wait_stopped(self, *, within: float = PATIENCE) -> None:
        """Return once SIGSTOP has stopped it."""
        self._zygote.wait(lambda: self.state == "stopped", f"{self} is stopped", within)

    def is_hit(self, *, within: float) -> bool:
        """Tell whether it has ended or was stopped in time."""
        try:
            self._zygote.wait(lambda: self.state in {"ended", "stopped"}, f"{self}", within)
        except LateError:
            return False
        return True

    def printed(self) -> str:
        """Return what it has printed so far."""
        return _read(self.folder / "out")

    def logged(self) -> str:
        """Return what it has logged so far."""
        return _read(self.folder / "log")

    def __str__(self) -> str:
        return f"process {self.number}, `{' '.join(self.words)}`, {self.state}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


class Zygote:
    """The process that commands are forked from, seen from outside, with all of its forks."""

    def __init__(self) -> None:
        self._forks: dict[int, Process] = {}
        self._by_pid: dict[int, Process] = {}
        self._changed = threading.Condition()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, name="zygote's reports")
        self._reader.start()

    def start(
        self,
        *words: str,
        folder: Path,
        environment: Mapping[str, str],
        shortened: tuple[float, float],
        fault: Fault | None = None,
    ) -> Process:
        """Start a command in a new folder of its own, with what shall befall it.

        `shortened` is the wait and the margin that `failpoints.shorten` is given.
        """
        process = Process(len(self._forks), words, folder, self)
        folder.mkdir()
        if fault is not None:
            process.arm(fault)
        self._forks[process.number] = process
        self.order(
            {
                "number": process.number,
                "words": words,
                "folder": str(folder),
                "environment": dict(environment),
                "shortened": shortened,
            }
        )
        self.wait(lambda: process.state != "ordered", f"{process} has started", PATIENCE)
        return process

    def order(self, order: Mapping[str, Any]) -> None:
        """Hand the zygote an order."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(order).encode() + b"\n")
        self._popen.stdin.flush()

    def wait(self, reached: Callable[[], bool], what: str, within: float) -> None:
        """Return once the reports have made something so, or raise LateError."""
        with self._changed:
            if not self._changed.wait_for(reached, within):
                raise LateError(f"after {within:g} s still not so: {what}")

    def close(self) -> None:
        """End the zygote, which ends what it has forked."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(PATIENCE)
        finally:
            self._popen.kill()
            self._reader.join(PATIENCE)
            self._popen.stdout.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in iter(self._popen.stdout.readline, b""):
            report = json.loads(line)
            with self._changed:
                if "number" in report:
                    self._by_pid[report["pid"]] = self._forks[report["number"]]
                process = self._by_pid[report["pid"]]
                process.pid, process.state = report["pid"], report["state"]
                process.code = report["code"]
                self._changed.notify_all()


@contextmanager
def zygote() -> Iterator[Zygote]:
    """Start a zygote; it and every fork of it end with the block."""
    started = Zygote()
    try:
        yield started
    finally:
        started.close()

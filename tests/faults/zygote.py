"""The process that the others are forked from: it has imported everything, and opened nothing.

`python -m tests.faults.zygote` reads orders and writes reports, a JSON object a line. A command
of ours is running within fifty milliseconds so, where a fresh interpreter takes a second.
"""

import gc
import json
import os
import selectors
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy.orm import configure_mappers

import notifier.cli
import receiver.cli
from tests.faults import failpoints

_COMMANDS = {"notifier": notifier.cli.main, "receiver": receiver.cli.main}
_IMPORTED_LATE = (
    "waitress",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
)


class Parent:
    """Forks commands, passes signals on, and reports how each process fares."""

    def __init__(self) -> None:
        self._living: set[int] = set()
        self._orders = b""
        self._wake, wakes = os.pipe()
        for end in (self._wake, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process ends it

    def serve(self) -> None:
        """Follow orders until there can be no more."""
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            ordering = True
            while ordering:
                for ready, _ in selector.select():
                    if ready.fd == self._wake:
                        os.read(self._wake, 4096)
                        self._reap()
                    else:
                        ordering = self._read_orders()

    def end_all(self) -> None:
        """Kill what still lives."""
        for pid in self._living:
            os.killpg(pid, signal.SIGKILL)

    def _read_orders(self) -> bool:
        read = os.read(0, 65536)
        *lines, self._orders = (self._orders + read).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "signal" in order:
                self._pass_on(order["pid"], order["signal"])
            else:
                self._fork(order)
        return bool(read)

    def _pass_on(self, pid: int, number: int) -> None:
        # Only to one that was not reaped yet: its number cannot be another's.
        if pid in self._living:
            os.killpg(pid, number)

    def _fork(self, order: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            _become(order)
        os.setpgid(pid, pid)
        self._living.add(pid)
        _report(number=order["number"], pid=pid, state="running", code=None)

    def _reap(self) -> None:
        flags = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
        while self._living:
            pid, status = os.waitpid(-1, flags)
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                _report(pid=pid, state="stopped", code=None)
            elif os.WIFCONTINUED(status):
                _report(pid=pid, state="running", code=None)
            else:
                self._living.discard(pid)
                _report(pid=pid, state="ended", code=os.waitstatus_to_exitcode(status))


def _report(**report: Any) -> None:
    os.write(1, json.dumps(report).encode() + b"\n")


def _become(order: dict[str, Any]) -> NoReturn:
    """Turn this fork into a command of ours, in a group of its own, and end with its exit code."""
    code: Any = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        folder = Path(order["folder"])
        _redirect(folder)
        os.environ.update(order["environment"])
        failpoints.shorten(*order["shortened"])
        failpoints.install(folder)
        _COMMANDS[order["words"][0]](order["words"][1:], prog_name=order["words"][0])
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException:  # noqa: BLE001 - a fork must never go on as the zygote
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _redirect(folder: Path) -> None:
    """Leave the zygote's own files, and write to those of the folder."""
    os.chdir(folder)
    os.closerange(3, 256)
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    opened = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(folder / "out", appended, 0o600),
        os.open(folder / "log", appended, 0o600),
    )
    for number, descriptor in enumerate(opened):
        os.dup2(descriptor, number)
        os.close(descriptor)


def main() -> None:
    """Import what a command would, put it out of the collector's way, and follow orders."""
    for module in _IMPORTED_LATE:
        import_module(module)
    configure_mappers()
    gc.collect()
    gc.freeze()
    parent = Parent()
    try:
        parent.serve()
    finally:
        parent.end_all()


if __name__ == "__main__":
    main()

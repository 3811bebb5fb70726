"""Several worker processes of one command: started, stopped and counted together."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from foundation import logging
from foundation.cli import signals
from notifier.worker.reporter import WorkerTotals
from notifier.worker.worker import Worker

_log = logging.get_logger(__name__)
# The caller has no threads and no open connections, so that a copy of it can go on.
_FORK = multiprocessing.get_context("fork")


class WorkerProcesses:
    """Runs workers in processes of their own.

    `make` returns a worker; it is called in each process. If one of them ends of its own, the
    others finish what they are sending and end too, so that whatever started the command sees it.
    """

    def __init__(self, make: Callable[[], Worker], number: int) -> None:
        self._make = make
        self._number = number
        self._pipes: list[Connection] = []
        self._stopping = False
        self.has_failed = False

    def stop(self) -> None:
        """Stop claiming and end `run` once all attempts are settled; safe in a signal handler."""
        self._stopping = True
        for pipe in self._pipes:
            with suppress(OSError):  # it has ended
                pipe.send(None)

    def run(self, *, once: bool = False) -> WorkerTotals:
        """Run until stopped, or with `once` until nothing is due; return the totals.

        Afterwards `has_failed` says whether a process ended unexpectedly.
        """
        running: dict[int, BaseProcess] = {}
        try:
            for _ in range(self._number):
                pipe, end = _FORK.Pipe()
                self._pipes.append(pipe)
                process = _FORK.Process(target=_work, args=(self._make, once, end, self._pipes))
                process.start()
                end.close()
                running[process.sentinel] = process
        except BaseException:  # at its exit, Python waits for those that were started
            self.stop()
            raise
        if self._stopping:  # before all were started
            self.stop()
        while running:
            for sentinel in wait(list(running)):
                ended = running.pop(sentinel)  # type: ignore[arg-type]  # one of the given
                ended.join()
                if ended.exitcode or not (once or self._stopping):
                    self._report(ended)
        return sum((_received(pipe) for pipe in self._pipes), WorkerTotals())

    def _report(self, failed: BaseProcess) -> None:
        self.has_failed = True
        _log.error(
            "worker process ended unexpectedly, the others stop",
            process_id=failed.pid,
            exit_code=failed.exitcode,
            next_step="Look into the log of the system; the command can be started again at once.",
        )
        self.stop()


def _work(
    make: Callable[[], Worker], once: bool, pipe: Connection, copied: Sequence[Connection]
) -> None:
    for one in copied:  # else they stay open when the parent is killed
        one.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and says so
    worker = make()
    signals.on_stop(lambda _: worker.stop(), signals=(signal.SIGTERM,))
    threading.Thread(target=_follow, args=(worker, pipe), name="follow", daemon=True).start()
    try:
        pipe.send(worker.run(once=once))
    finally:
        worker.database.dispose()


def _follow(worker: Worker, pipe: Connection) -> None:
    """Stop the worker when the parent says so or is killed; if both happen, end at once."""
    is_told = False
    with suppress(EOFError, OSError):
        while True:
            pipe.recv()
            is_told = True
            worker.stop()
    if is_told:
        os.kill(os.getpid(), signal.SIGKILL)
    worker.stop()


def _received(pipe: Connection) -> WorkerTotals:
    try:
        totals: WorkerTotals = pipe.recv()
    except (EOFError, ConnectionError):  # the process was killed
        return WorkerTotals()
    return totals

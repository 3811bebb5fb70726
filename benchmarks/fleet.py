"""Webhooks per second of several workers that share one database on PostgreSQL.

`python -m benchmarks.fleet --database-url URL [--processes 1 2 4 8] [--deliveries 10000]
[--endpoints 50] [--delay-ms 50] [--threads 100] [--passes 1]` starts the workers first, then writes
the deliveries in one transaction. It prints the rate of each number of workers, the webhooks that
the receiver got twice, and how many of the sessions in a transaction waited for a lock, of those
that samples of `pg_stat_activity` saw.

Then a worker is killed at 30 %; and of two hosts (network namespaces; needs root) one is cut off
from the database at 30 %, until the other has sent what is due. It fails if a webhook is missing at
the end.
"""

import argparse
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks import delivery, hosts, pending, receivers
from benchmarks.hosts import Host
from benchmarks.lock_sampler import LockSampler
from benchmarks.minimal_inbox import free_port
from benchmarks.receivers import Receiver, Requests
from demo.processes import SCRIPTS, Machines, ProcessError, machines
from foundation.db.session import Database

_LIMIT_SECONDS = 600.0
_POLL_SECONDS = 0.05
_STARTED = "worker started"
_BROKEN_AT = 0.3
# The longest that a host is cut off.
_CUT_SECONDS = 100.0
# Workers look for new deliveries all the time, so that all begin together.
_SETTINGS = {"NOTIFIER_POLL_INTERVAL": "0.05"}
# What was claimed by a worker that is gone is free soon.
_SHORT_LEASE = {"NOTIFIER_ATTEMPT_DEADLINE": "1", "NOTIFIER_LEASE": "8"}


@dataclass(frozen=True)
class Size:
    """How much is sent: events to endpoints, each with a path of its own at the receiver."""

    events: int
    endpoints: int
    delay_ms: int
    threads: int

    @property
    def deliveries(self) -> int:
        """The number of webhooks."""
        return self.events * self.endpoints


class NotDeliveredError(ProcessError):
    """Deliveries are still pending after the time that they had."""


@dataclass(frozen=True)
class CutOff:
    """What both receivers got, and how long the cut lasted.

    That is until everything was delivered, or `waiting` deliveries still waited for the host that
    was cut off.
    """

    seen: Requests
    seconds: float
    waiting: int


@dataclass
class Fleet:
    """Workers that share a database."""

    machines: Machines
    size: Size
    server_url: str
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    def run(self, processes: int) -> tuple[Requests, LockSampler]:
        """Let workers send everything; return what the receiver got, and who waited for locks."""
        with self._database() as (url, database), self._receiver(database) as receiver:
            names = [self._start(self._work(), url) for _ in range(processes)]
            self._wait_until_started(names)
            pending.write(database, self.size.events)
            with LockSampler(url) as locks:
                receiver.wait_for(self.size.deliveries, _LIMIT_SECONDS)
            self._end(names, database)
        return receiver.requests(), locks

    def kill(self, processes: int) -> Requests:
        """Kill a worker at 30 % and start another; return what the receiver got."""
        with self._database() as (url, database), self._receiver(database) as receiver:
            names = [self._start(self._work(), url, _SHORT_LEASE) for _ in range(processes)]
            self._wait_until_started(names)
            pending.write(database, self.size.events)
            receiver.wait_for(int(self.size.deliveries * _BROKEN_AT), _LIMIT_SECONDS)
            self.machines.stop(names.pop(), signal.SIGKILL)
            names.append(self._start(self._work(), url, _SHORT_LEASE))
            self._wait_until_delivered(database)
            self._end(names, database)
        return receiver.requests()

    def cut_off(self, two: Sequence[Host]) -> CutOff:
        """Cut one of two hosts off from the database at 30 %, until the other has no more to do.

        Each host has its own receiver, at the same URL.
        """
        with ExitStack() as stack:
            url, database = stack.enter_context(self._database())
            port = free_port()
            log = self.machines.folder / f"receiver-{port}.requests"
            received = Receiver(f"http://127.0.0.1:{port}", log)
            key = self.machines.environment["NOTIFIER_ENCRYPTION_KEYS"]
            pending.register(database, key, received.url, self.size.endpoints)
            logs, names = [], []
            for host in two:
                there = stack.enter_context(hosts.forwarded(self.machines, host, url))
                logs.append(stack.enter_context(self._receiver_on(host, port)))
                command = host.command(*_absolute(self._work()))
                names.append(self._start(command, there, _SHORT_LEASE))
            self._wait_until_started(names)
            pending.write(database, self.size.events)
            logs[0].wait_for(int(self.size.deliveries * _BROKEN_AT / 2), _LIMIT_SECONDS)
            two[0].cut_off()
            cut_at = time.monotonic()
            with suppress(NotDeliveredError):
                self._wait_until_delivered(database, _CUT_SECONDS)
            seconds = time.monotonic() - cut_at
            waiting = pending.statuses(database).get("pending", 0)
            two[0].connect()
            self._wait_until_delivered(database)
            self._end(names, database)
        log.write_text("".join(one.log.read_text() for one in logs))
        return CutOff(received.requests(), seconds, waiting)

    def _work(self) -> list[str]:
        return delivery.work(1, self.size.threads)

    def _start(
        self, command: Sequence[str], url: str, settings: dict[str, str] | None = None
    ) -> str:
        name = f"worker-{next(self._numbers)}"
        self.machines.start(
            name, *command, where={"NOTIFIER_DATABASE_URL": url, **_SETTINGS, **(settings or {})}
        )
        return name

    @contextmanager
    def _database(self) -> Iterator[tuple[str, Database]]:
        with (
            pending.new_database(self.machines.folder, self.server_url) as url,
            pending.opened(url) as database,
        ):
            yield url, database

    @contextmanager
    def _receiver(self, database: Database) -> Iterator[Receiver]:
        with receivers.receiving(self.machines, self.size.delay_ms) as receiver:
            key = self.machines.environment["NOTIFIER_ENCRYPTION_KEYS"]
            pending.register(database, key, receiver.url, self.size.endpoints)
            yield receiver

    @contextmanager
    def _receiver_on(self, host: Host, port: int) -> Iterator[Receiver]:
        name = f"receiver-{host.name}"
        log = self.machines.folder / f"{name}.requests"
        command = receivers.command(self.machines.folder / name, port, log, self.size.delay_ms)
        self.machines.start(name, *host.command(*_absolute(command)))
        yield Receiver(f"http://127.0.0.1:{port}", log)
        self.machines.stop(name)

    def _wait_until_started(self, names: Sequence[str]) -> None:
        ends = time.monotonic() + _LIMIT_SECONDS
        while not all(_STARTED in self.machines.log_of(name).read_text() for name in names):
            self.machines.check_all_run()
            if time.monotonic() > ends:
                raise ProcessError("the workers have not started")
            time.sleep(_POLL_SECONDS)
        time.sleep(1)

    def _wait_until_delivered(self, database: Database, seconds: float = _LIMIT_SECONDS) -> None:
        ends = time.monotonic() + seconds
        while set(statuses := pending.statuses(database)) != {"delivered"}:
            if time.monotonic() > ends:
                raise NotDeliveredError(f"not all are delivered: {statuses}")
            time.sleep(_POLL_SECONDS)

    def _end(self, names: Sequence[str], database: Database) -> None:
        codes = {name: self.machines.stop(name) for name in names}
        statuses = pending.statuses(database)
        if any(codes.values()) or statuses != {"delivered": self.size.deliveries}:
            raise ProcessError(f"the workers ended with {codes}, the deliveries are {statuses}")


def _absolute(command: Sequence[str]) -> list[str]:
    """Return a command whose program is found on every host."""
    return [str(SCRIPTS / command[0]), *command[1:]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True, help="of a PostgreSQL server")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=50)
    parser.add_argument("--delay-ms", type=int, default=50, help="of the receiver's response")
    parser.add_argument("--threads", type=int, default=100, help="of each worker")
    parser.add_argument("--passes", type=int, default=1)
    given = parser.parse_args()
    events = max(1, round(given.deliveries / given.endpoints))
    size = Size(events, given.endpoints, given.delay_ms, given.threads)
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder)) as both:
        delivery.prepare(both)
        fleet = Fleet(both, size, given.database_url)
        print(
            f"{size.deliveries} webhooks to {size.endpoints} endpoints, "
            f"receiver: {size.delay_ms} ms, {size.threads} threads a worker"
        )
        report_rates(fleet, given.processes, given.passes)
        for processes in (1, 2):
            seen = fleet.kill(processes)
            report_broken(f"one of {processes} killed at 30 %, another started", size, seen)
        if reason := hosts.why_not():
            print(f"two hosts: not measured, {reason}")
            return
        with hosts.hosts(2) as two:
            cut = fleet.cut_off(two)
        what = (
            f"one of 2 hosts cut off at 30 %, for {cut.seconds:.0f} s, "
            f"after which {cut.waiting} were pending"
        )
        report_broken(what, size, cut.seen)


def report_rates(fleet: Fleet, numbers: Sequence[int], passes: int) -> None:
    """Measure each number of workers in turns, and print a line for each."""
    measured = [[fleet.run(number) for number in numbers] for _ in range(passes)]
    for index, number in enumerate(numbers):
        rates = [one[index][0].rate for one in measured]
        ratios = [rate / one[0][0].rate for rate, one in zip(rates, measured, strict=True)]
        waits = "; ".join(str(one[index][1]) for one in measured)
        print(
            f"{number} workers {statistics.median(rates):6.0f}/s  "
            f"{statistics.median(ratios):.2f} of {numbers[0]} "
            f"({min(ratios):.2f} to {max(ratios):.2f})  "
            f"sent twice {sum(one[index][0].repeated for one in measured)}  "
            f"sessions that wait for a lock {waits}"
        )


def report_broken(what: str, size: Size, seen: Requests) -> None:
    """Print what came twice and what is missing."""
    missing = size.deliveries - len(seen.times)
    print(f"{what}: sent twice {seen.repeated}, missing {missing}")
    if missing:
        raise ProcessError(f"{missing} webhooks are missing")


if __name__ == "__main__":
    main()

"""Webhooks per second and CPU of each: bare requests, the worker, and other task queues.

`python -m benchmarks.delivery [--deliveries 10000] [--passes 3] [--endpoints 1] [--delay-ms 0]
[--processes 1] [--threads N] [--database-url URL] [--peers]` sends the same signed webhooks in each
way to the same receiver, in turns. The worker gets a new database each time, on SQLite and, with
the URL of a server, on PostgreSQL. `--peers` adds Celery and dramatiq, in a virtual environment
that is made for them, each with tasks that send with tuned and with plain requests. It fails if a
webhook did not arrive.

The rate is that between the first and the last request at the receiver. CPU is that of the
senders without their start, which is measured with a single webhook; databases, Redis and the
receiver are not counted.
"""

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from benchmarks import peers, pending, receivers
from benchmarks.receivers import Receiver, cpu_of_children
from contract.signatures import Secret
from demo.processes import Machines, ProcessError, machines

BARE, _OURS = "bare requests", "ours"
_ROOT = Path(__file__).parents[1]
_LIMIT_SECONDS = 900.0
# What a worker is started with: limits that limit nothing.
_SETTINGS = {
    "NOTIFIER_ENDPOINT_CONCURRENCY": "100",
    "NOTIFIER_ENDPOINT_RATE": "10000",
    "NOTIFIER_LOG_LEVEL": "INFO",
    "PYTHONPATH": str(_ROOT),
}
# Threads of a worker: as many as a process can have for a slow receiver.
THREADS, _THREADS_IF_SLOW = 32, 100


@dataclass(frozen=True)
class Size:
    """How much is sent by what: webhooks, endpoints, processes and threads of each process."""

    deliveries: int
    endpoints: int
    delay_ms: int
    processes: int
    threads: int

    @property
    def bare_threads(self) -> int:
        """The threads of a bare sender: one, except for a slow receiver."""
        return self.threads if self.delay_ms else 1


@dataclass(frozen=True)
class Pass:
    """What was measured: rate, CPU seconds of senders and receiver, webhooks that came twice."""

    deliveries: int
    rate: float
    cpu: float
    receiver_cpu: float
    repeated: int

    @property
    def cpu_each(self) -> float:
        """The CPU seconds of the senders for a delivery."""
        return self.cpu / self.deliveries


Way = Callable[[int, int], Pass]


@dataclass
class Bench:
    """Sends webhooks in each way; all take the number of events and of endpoints."""

    machines: Machines
    size: Size
    redis_url: str
    secret: Secret = field(default_factory=Secret.generate)

    def bare(self, events: int, endpoints: int) -> Pass:
        """Send with bare requests, in as many processes as the worker has."""
        file = self._file(events, endpoints)
        with receivers.receiving(self.machines, self.size.delay_ms) as receiver:
            cpu = self._run(
                [
                    ["python", "-m", "benchmarks.tuned_requests", str(file),
                     "--part", str(number), str(self.size.processes),
                     "--threads", str(self.size.bare_threads)]
                    for number in range(self.size.processes)
                ],
                self._environment(receiver),
            )  # fmt: skip
        return _pass(receiver, cpu, events * endpoints)

    def ours(self, server_url: str | None, events: int, endpoints: int) -> Pass:
        """Send with the worker."""
        with (
            pending.new_database(self.machines.folder, server_url) as url,
            pending.opened(url) as database,
            receivers.receiving(self.machines, self.size.delay_ms) as receiver,
        ):
            key = self.machines.environment["NOTIFIER_ENCRYPTION_KEYS"]
            pending.register(database, key, receiver.url, endpoints)
            pending.write(database, events)
            command = work(self.size.processes, self.size.threads, "--once")
            cpu = self._run([command], {"NOTIFIER_DATABASE_URL": url})
            statuses = pending.statuses(database)
        if statuses != {"delivered": events * endpoints}:
            raise ProcessError(f"not all were delivered: {statuses}")
        return _pass(receiver, cpu, events * endpoints)

    def peer(self, name: str, task: str, python: Path, events: int, endpoints: int) -> Pass:
        """Send with Celery or dramatiq, with one of the `queue_tasks`."""
        file = self._file(events, endpoints)
        with (
            peers.empty_redis(self.redis_url),
            receivers.receiving(self.machines, self.size.delay_ms) as receiver,
        ):
            where = self._environment(receiver)
            publish = [str(python), "-m", f"benchmarks.{name}_tasks", str(file), task]
            self._run([publish], where)
            before = cpu_of_children()
            threads = self.size.bare_threads
            self.machines.start(name, str(python), *peers.command(name, threads), where=where)
            receiver.wait_for(events * endpoints, _LIMIT_SECONDS)
            self.machines.stop(name)
            cpu = cpu_of_children() - before
        return _pass(receiver, cpu, events * endpoints)

    def _file(self, events: int, endpoints: int) -> Path:
        file = self.machines.folder / "webhooks.json"
        pending.write_file(file, events, endpoints)
        return file

    def _environment(self, receiver: Receiver) -> dict[str, str]:
        return {
            "BENCHMARK_RECEIVER": receiver.url,
            "BENCHMARK_SECRET": self.secret.reveal(),
            "BENCHMARK_REDIS": self.redis_url,
            "BENCHMARK_THREADS": str(max(self.size.bare_threads, 8)),
        }

    def _run(self, commands: Sequence[Sequence[str]], where: dict[str, str]) -> float:
        """Run processes until they end; return their CPU seconds."""
        before = cpu_of_children()
        for number, command in enumerate(commands):
            self.machines.start(f"sender-{number}", *command, where=where)
        for number in range(len(commands)):
            self.machines.wait(f"sender-{number}", _LIMIT_SECONDS)
        return cpu_of_children() - before


def work(processes: int, threads: int, *options: str) -> list[str]:
    """Return the command that starts a worker."""
    numbers = ["--processes", str(processes), "--threads", str(threads)]
    return ["notifier", "work", *numbers, *options]


def _pass(receiver: Receiver, cpu: float, wanted: int) -> Pass:
    seen = receiver.requests()
    if len(seen.times) != wanted:
        raise ProcessError(f"{len(seen.times)} of {wanted} webhooks arrived")
    return Pass(wanted, seen.rate, cpu, receiver.cpu, seen.repeated)


def prepare(both: Machines) -> None:
    """Change the environment of all processes to the settings of a benchmark.

    SIGTERM ends the benchmark like Ctrl-C: databases and files are removed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    both.environment |= _SETTINGS
    both.environment.pop("PYTHONUNBUFFERED")


def measure(bench: Bench, ways: dict[str, Way], passes: int) -> dict[str, list[Pass]]:
    """Return the passes of each way, with CPU seconds without the start of its processes."""
    size = bench.size
    events = max(1, round(size.deliveries / size.endpoints))
    starts = {name: way(1, 1).cpu for name, way in ways.items()}
    measured: dict[str, list[Pass]] = {name: [] for name in ways}
    for number in range(passes):
        for name, way in ways.items():
            one = way(events, size.endpoints)
            print(f"pass {number + 1}: {name} {one.rate:.0f}/s", file=sys.stderr)
            measured[name].append(replace(one, cpu=one.cpu - starts[name]))
    return measured


def report(size: Size, measured: dict[str, list[Pass]]) -> None:
    """Print a line for each way, and one that compares ours with each of the other queues."""
    bare = measured[BARE]
    print(
        f"{bare[0].deliveries} webhooks to {size.endpoints} endpoints, "
        f"receiver: {size.delay_ms} ms, {size.processes} processes "
        f"with {size.threads} threads (bare: {size.bare_threads}), {len(bare)} passes"
    )
    for name, passes in measured.items():
        print(
            f"{name:17} {statistics.median(one.rate for one in passes):7.0f}/s  "
            f"{statistics.median(one.cpu_each for one in passes) * 1e6:6.0f} µs CPU  "
            f"of bare {_ratios(passes, bare, 'rate', '.0%'):22}  "
            f"sent twice {sum(one.repeated for one in passes)}"
        )
    ours = [name for name in measured if name.startswith(_OURS)]
    for name in ours:
        for peer in (other for other in measured if other not in {BARE, *ours}):
            both = measured[name], measured[peer]
            print(
                f"{name} is {_ratios(*both, 'rate', '.1f')} times as fast as {peer}, "
                f"with {_ratios(*both, 'cpu_each', '.0%')} of its CPU"
            )
    each = statistics.median(
        one.receiver_cpu / one.deliveries for passes in measured.values() for one in passes
    )
    print(f"receiver: {each * 1e6:.0f} µs CPU a request, so at most {1 / each:.0f}/s on its own")


def _ratios(passes: Sequence[Pass], others: Sequence[Pass], figure: str, form: str) -> str:
    """Return the median of a figure's ratio within a pass, with the minimum and maximum."""
    ratios = [
        getattr(one, figure) / getattr(other, figure)
        for one, other in zip(passes, others, strict=True)
    ]
    return f"{statistics.median(ratios):{form}} ({min(ratios):{form}} to {max(ratios):{form}})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--endpoints", type=int, default=1)
    parser.add_argument("--delay-ms", type=int, default=0, help="of the receiver's response")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of each process")
    parser.add_argument("--database-url", help="of a PostgreSQL server, for databases of its own")
    parser.add_argument("--peers", action="store_true", help="measure Celery and dramatiq too")
    parser.add_argument("--redis-url", default="redis://127.0.0.1:6379/15", help="for the peers")
    given = parser.parse_args()
    threads = given.threads or (_THREADS_IF_SLOW if given.delay_ms else THREADS)
    size = Size(given.deliveries, given.endpoints, given.delay_ms, given.processes, threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = stack.enter_context(machines(folder))
        prepare(both)
        bench = Bench(both, size, given.redis_url)
        ways: dict[str, Way] = {BARE: bench.bare, f"{_OURS}, SQLite": partial(bench.ours, None)}
        if given.database_url:
            ways[f"{_OURS}, PostgreSQL"] = partial(bench.ours, given.database_url)
        if given.peers:
            python = peers.install()
            for peer in ("Celery", "dramatiq"):
                for task in ("tuned", "plain"):
                    ways[f"{task} {peer}"] = partial(bench.peer, peer.lower(), task, python)
        report(size, measure(bench, ways, given.passes))


if __name__ == "__main__":
    main()

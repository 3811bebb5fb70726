"""Signed webhooks per second at ELMS's route, compared with a minimal inbox and a bare response.

`python -m benchmarks.webhook_route [--connections 16] [--webhooks 2000] [--database-url URL]`
starts the three servers one after another, several times, each with waitress and as many threads.
All get the same signed webhooks over connections that stay open. The minimal inbox verifies the
signature, stores the webhook and one row of a registry in one transaction of two statements, and
responds after the commit; the bare response only reads the body.
"""

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.minimal_inbox import free_port
from contract import events, signatures
from contract.signatures import Secret
from tests.conftest import Postgres

PASSES = 3
THREADS = 8
SITE = "eassessment.example"
_TICKS = os.sysconf("SC_CLK_TCK")
_STARTS_WITHIN = 120.0


@dataclass(frozen=True)
class Load:
    """What a server did with the webhooks: rate, CPU and slowest hundredth, in milliseconds."""

    rate: float
    cpu: float
    p99: float
    refused: int


def signed(secret: Secret, first: int, count: int) -> list[tuple[bytes, dict[str, str]]]:
    """Return signed deletions of courses, each of another one."""
    now = datetime.now(UTC)
    webhooks = []
    for number in range(first, first + count):
        data = events.CourseDeletedData(source=SITE, course_id=f"C{number}", course_version=2)
        body = events.dump(events.CourseDeleted(timestamp=now, data=data)).encode()
        headers = signatures.sign([secret], f"msg_{number}", body, now=now)
        webhooks.append((body, {**headers, "Content-Type": "application/json"}))
    return webhooks


def send(url: str, webhooks: Sequence[tuple[bytes, dict[str, str]]]) -> Iterator[tuple[int, float]]:
    """Send webhooks over one connection; yield the status and the milliseconds of each."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    for body, headers in webhooks:
        begun = time.perf_counter()
        connection.request("POST", parts.path, body, headers)
        response = connection.getresponse()
        response.read()
        yield response.status, (time.perf_counter() - begun) * 1000
    connection.close()


def load(
    url: str, pid: int, webhooks: Sequence[tuple[bytes, dict[str, str]]], connections: int
) -> Load:
    """Send webhooks over several connections at once, and return what the server did."""
    results: list[tuple[int, float]] = []
    parts = [webhooks[index::connections] for index in range(connections)]
    threads = [threading.Thread(target=lambda p=p: results.extend(send(url, p))) for p in parts]
    cpu, begun = _cpu_seconds(pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    used = _cpu_seconds(pid) - cpu
    took = sorted(milliseconds for _, milliseconds in results)
    return Load(
        len(results) / seconds,
        used * 1000 / len(results),
        took[int(len(took) * 0.99)],
        sum(status >= 300 for status, _ in results),
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def serving(
    command: Sequence[str], port: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and wait until it listens."""
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + _STARTS_WITHIN
            while (error := _connection_error(port)) is not None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise error
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()


def _connection_error(port: int) -> OSError | None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as error:
        return error
    return None


@contextmanager
def new_database(server_url: str | None) -> Iterator[str]:
    """Yield the URL of a database without tables, on a server or in a file."""
    if server_url is None:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/elms.db"
        return
    server = Postgres(server_url)
    try:
        yield server.bare_database("elms")
    finally:
        server.drop_all()


def measure(count: int, connections: int, server_url: str | None) -> dict[str, list[Load]]:
    """Return the loads of each server, one for each pass."""
    loads: dict[str, list[Load]] = {"ours": [], "minimal inbox": [], "bare response": []}
    secret = Secret.generate()
    for number in range(PASSES):
        webhooks = signed(secret, number * count, count)
        for name, passes in loads.items():
            with new_database(server_url) as database_url:
                port = free_port()
                environment = _environment(port, secret, database_url)
                command, path = _command(name, environment, secret)
                with serving(command, port, environment) as process:
                    url = f"http://127.0.0.1:{port}{path}"
                    list(send(url, signed(secret, 10**9 + number * 100, 50)))  # warm up
                    passes.append(load(url, process.pid, webhooks, connections))
    return loads


def _environment(port: int, secret: Secret, database_url: str) -> dict[str, str]:
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    return {
        **os.environ,
        "RECEIVER_ENCRYPTION_KEYS": key,
        "RECEIVER_DATABASE_URL": database_url,
        "RECEIVER_PORT": str(port),
        "RECEIVER_WEB_THREADS": str(THREADS),
        "RECEIVER_LOG_FORMAT": "json",
        "BENCHMARK_SECRET": secret.reveal(),
    }


def _command(name: str, environment: dict[str, str], secret: Secret) -> tuple[list[str], str]:
    if name != "ours":
        path = "/minimal" if name == "minimal inbox" else "/bare"
        return [sys.executable, "-m", "benchmarks.minimal_inbox"], path
    receiver = [str(Path(sys.executable).with_name("receiver"))]
    subprocess.run([*receiver, "db", "upgrade"], env=environment, check=True, capture_output=True)
    subprocess.run(
        [*receiver, "sources", "add", SITE, "--url", "http://127.0.0.1:9"],
        env=environment,
        input=secret.reveal().encode(),
        capture_output=True,
        check=True,
    )
    return [*receiver, "serve"], f"/webhooks/{SITE}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--webhooks", type=int, default=2000)
    parser.add_argument("--database-url", help="of a PostgreSQL server, for databases of its own")
    arguments = parser.parse_args()
    loads = measure(arguments.webhooks, arguments.connections, arguments.database_url)
    bare = [one.rate for one in loads["minimal inbox"]]
    print(f"{arguments.connections} connections, {arguments.webhooks} webhooks, {PASSES} passes")
    for name, passes in loads.items():
        ratios = [one.rate / rate for one, rate in zip(passes, bare, strict=True)]
        print(
            f"{name:14} {statistics.median(one.rate for one in passes):7.0f}/s  "
            f"{statistics.median(one.cpu for one in passes):5.2f} ms CPU  "
            f"p99 {statistics.median(one.p99 for one in passes):5.0f} ms  "
            f"not accepted {sum(one.refused for one in passes)}  "
            f"of the minimal inbox {statistics.median(ratios):4.0%} "
            f"({min(ratios):.0%} to {max(ratios):.0%})"
        )


if __name__ == "__main__":
    main()

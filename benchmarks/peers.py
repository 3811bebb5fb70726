"""Celery and dramatiq: their virtual environment, their commands, and their Redis database."""

import os
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from demo.processes import ProcessError

_PEERS = ("celery[redis]==5.7.0", "dramatiq[redis]==2.2.1")
# What both send and sign with, in the versions that the worker uses.
_SAME = ("requests", "urllib3", "itsdangerous")
_PROCESSES = 2


def install() -> Path:
    """Return the Python of a virtual environment in the cache folder, made at the first call."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "course-webhooks" / "peers"
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = [*_PEERS, *(f"{name}=={version(name)}" for name in _SAME)]
    if not ready.exists() or ready.read_text().split() != wanted:
        print(f"installing Celery and dramatiq into {folder} (once) …", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted],
            check=True,
        )
        ready.write_text("\n".join(wanted))
    return python


def command(name: str, threads: int) -> list[str]:
    """Return the arguments of Python that start a worker.

    Celery has two processes, dramatiq two with eight threads each. More threads than that are for
    slow receivers: then both have as many in all.
    """
    if name == "celery":
        slots = str(_PROCESSES if threads <= _PROCESSES else threads)
        pool = "prefork" if threads <= _PROCESSES else "threads"
        return [
            "-m", "celery", "--app", "benchmarks.celery_tasks", "worker",
            "--pool", pool, "--concurrency", slots,
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
    each = str(max(8, threads // _PROCESSES))
    return [
        "-m", "dramatiq", "benchmarks.dramatiq_tasks",
        "--processes", str(_PROCESSES), "--threads", each,
    ]  # fmt: skip


@contextmanager
def empty_redis(url: str) -> Iterator[None]:
    """Check that a Redis database is empty, and empty it at the end."""
    if _ask(url, "DBSIZE") != ":0":
        raise ProcessError(f"the Redis database {url} is not empty; give another with --redis-url")
    try:
        yield
    finally:
        _ask(url, "FLUSHDB")


def _ask(url: str, line: str) -> str:
    parts = urlsplit(url)
    address = parts.hostname or "127.0.0.1", parts.port or 6379
    with (
        socket.create_connection(address, timeout=10) as connection,
        connection.makefile("rb") as replies,
    ):
        connection.sendall(f"SELECT {parts.path.strip('/') or '0'}\r\n{line}\r\n".encode())
        selected, reply = (replies.readline().decode().strip() for _ in range(2))
    if selected != "+OK":
        raise ProcessError(f"Redis at {url}: {selected}")
    return reply

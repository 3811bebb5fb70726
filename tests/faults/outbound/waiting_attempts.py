"""The memory of attempts that wait, measured in a process that does nothing else."""

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from foundation.http.ssrf import Guard
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure

ATTEMPTS = 50


def memory_of_waiting(url: str, bundle: str) -> int:
    """Return the bytes by which this process grows while many attempts wait for a response."""
    transport = Transport(
        connect_timeout=2,
        deadline=2,
        connections=ATTEMPTS,
        guard=Guard(loopback=True),
        bundle=bundle,
    )
    with closing(transport), ThreadPoolExecutor(ATTEMPTS) as threads:
        transport.post(url, {}, b"{}")  # loads what is loaded once
        before = peak = resident()
        waiting = [threads.submit(transport.post, url, {}, b"{}") for _ in range(ATTEMPTS)]
        while not all(one.done() for one in waiting):
            peak = max(peak, resident())
            time.sleep(0.02)
    assert {type(one.result()) for one in waiting} == {Failure}
    return peak - before


def resident() -> int:
    """Return the bytes of memory that this process uses now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()

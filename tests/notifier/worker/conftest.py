"""Workers against real receivers, and what they log."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from notifier.config import Settings
from notifier.services import Services
from notifier.webhooks.http_client import Transport
from notifier.worker.worker import Worker, WorkerOptions
from tests.notifier.conftest import MINUTE, Store

MakeWorker = Callable[..., Worker]
LinesOf = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def make_worker(store: Store, make_transport: Callable[..., Transport]) -> MakeWorker:
    """Return a function that makes a worker of eight threads that adds no jitter."""

    def make(**overrides: Any) -> Worker:
        database = overrides.pop("database", store.database)
        given = {"threads": 8, "per_endpoint": 4, "lease": MINUTE, "poll_seconds": 0.01}
        options = WorkerOptions(**{**given, **overrides})
        # A deadline that held replies do not reach on a busy machine.
        transport = make_transport(connections=options.threads, deadline=30.0)
        return Worker(database, store.vault, transport, options, jitter=lambda: 0.0)

    return make


@pytest.fixture
def here(store: Store) -> Services:
    """Services that may send to this machine."""
    settings = Settings(
        _env_file=None,
        admin_key="x" * 32,
        encryption_keys="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        allow_loopback=True,
    )
    return Services(settings, store.database, store.vault)


@pytest.fixture
def lines_of() -> Iterator[LinesOf]:
    """Return a function that returns the log lines of an event."""
    with capture_logs() as lines:
        yield lambda event: [line for line in list(lines) if line["event"] == event]

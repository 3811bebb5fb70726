"""An outbox that fills while a worker empties it, as the tests of faults look at it."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import SOURCE, Delivery, Event
from notifier.webhooks import endpoints, outbox
from tests.faults.database.every_command import SITE
from tests.notifier.conftest import LOOPBACK


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Return once something is so; fail after twenty seconds."""
    tick = threading.Event()
    for _ in range(1000):
        if reached():
            return
        tick.wait(0.02)
    pytest.fail(f"within twenty seconds it was not so that {what}")


@dataclass(frozen=True)
class Outbox:
    """Events of deleted courses, and how their deliveries stand; read past every fault."""

    url: str
    vault: Vault

    def add(self, count: int) -> None:
        """Delete so many courses."""
        database = Database(self.url, info={SOURCE: SITE})
        with database.writing() as session:
            now = datetime.now(UTC)
            known = session.scalar(select(func.count()).select_from(Event)) or 0
            for number in range(known, known + count):
                courses.add_course(session, f"C{number}", "Algorithms", now=now)
                courses.delete_course(session, f"C{number}", now=now)
        database.dispose()

    def read(self, query: Any) -> list[Any]:
        """Return what a query finds, past every fault."""
        database = Database(self.url)
        try:
            with database.reading() as session:
                return list(session.scalars(query))
        finally:
            database.dispose()

    def counts(self) -> dict[str, int]:
        """Return how many deliveries stand how."""
        return dict(Counter(self.read(select(Delivery.status))))

    def wait_until_delivered(self, count: int) -> None:
        """Return once so many are delivered; fail after twenty seconds."""
        wait_until(lambda: self.counts() == {"delivered": count}, "all is delivered")

    def register(self, url: str) -> None:
        """Register an endpoint."""
        outbox.subscribe()
        database = Database(self.url)
        with database.writing() as session:
            now = datetime.now(UTC)
            endpoints.register(session, url, vault=self.vault, guard=LOOPBACK, now=now)
        database.dispose()

"""Samples of the sessions of a PostgreSQL database: how many of them wait for a lock."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psycopg

_SECONDS = 0.02
_QUERY = """
    SELECT coalesce(wait_event_type, ''), wait_event FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


@dataclass
class LockSampler:
    """Samples during a `with` block, over a connection of its own.

    `busy` counts the sessions in a transaction over all samples, `waiting` those of them that
    waited for a lock, by what they waited for.
    """

    url: str
    busy: int = 0
    waiting: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def __str__(self) -> str:
        share = self.waiting.total() / max(self.busy, 1)
        kinds = ", ".join(f"{name} {count}" for name, count in self.waiting.most_common())
        return f"{share:.1%} of {self.busy}{f' ({kinds})' if kinds else ''}"

    def _sample(self) -> None:
        url = self.url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._ended.wait(_SECONDS):
                rows = connection.execute(_QUERY).fetchall()
                self.busy += len(rows)
                self.waiting.update(name for kind, name in rows if kind == "Lock")

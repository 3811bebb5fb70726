"""Long deletions in short transactions, so that no other writer waits for long."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlalchemy.orm import Session

from foundation.db.session import Database

_MAX_PAUSE_SECONDS = 1.0

_Result = TypeVar("_Result")


def in_batches(
    database: Database, delete: Callable[[Session], _Result | None]
) -> Iterator[_Result]:
    """Yield the result of `delete`, each in a transaction of its own, until there is none.

    After each transaction there is a pause of the same length: on SQLite, which has one writer at
    a time, half of the time is left to others.
    """
    while True:
        begun = time.monotonic()
        with database.writing() as session:
            result = delete(session)
        pause = min(time.monotonic() - begun, _MAX_PAUSE_SECONDS)
        if not result:
            return
        yield result
        time.sleep(pause)

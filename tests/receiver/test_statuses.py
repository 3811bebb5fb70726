"""The law of a status in SQL says of every memory what the law itself says."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from sqlalchemy import insert, select

from foundation.db.session import Database
from receiver.course_state import (
    Deleted,
    Memory,
    Proven,
    Refused,
    Status,
    TokenNamed,
    columns_of,
    status_of,
)
from receiver.models import Entry, Source
from receiver.statuses import conditions

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
MOMENTS = [NINE + timedelta(microseconds=number) for number in range(3)]
IDS = ["held", "other"]
EVERY_MEMORY = [
    Memory(*facts)
    for facts in product(
        [None, "held"],
        [None, Deleted(4, NINE)],
        [None, *(TokenNamed(3, token_id, at) for token_id in IDS for at in MOMENTS)],
        [None, *(Refused(token_id, "unknown", at) for token_id in IDS for at in MOMENTS)],
        [None, *(Proven(token_id, at) for token_id in IDS for at in MOMENTS)],
    )
]
"""Every memory that the law can tell from another: each fact or none, in each order of moments."""


def row(number: int, memory: Memory) -> dict[str, Any]:
    """Return the entry that keeps a memory; its course's name is the memory's number."""
    return {
        "source_id": 1,
        "course_id": str(number),
        "created_at": NINE,
        "held_token_id": memory.held_token_id,
        **columns_of(memory),
    }


def test_each_condition_is_true_of_just_those_that_have_the_status(database: Database) -> None:
    with database.writing() as session:
        session.add(Source(name="one", url="http://one.example", created_at=NINE))
        session.flush()
        session.execute(insert(Entry.__table__), [row(*each) for each in enumerate(EVERY_MEMORY)])

        found = {
            status: set(session.scalars(select(Entry.course_id).where(condition)))
            for status, condition in conditions(Entry).items()
        }

    expected: dict[Status, set[str]] = {status: set() for status in Status}
    for number, memory in enumerate(EVERY_MEMORY):
        expected[status_of(memory)].add(str(number))
    assert expected == found
    assert sum(map(len, found.values())) == 1372

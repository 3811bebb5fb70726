"""`db prune`: what the commands of both services share."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy.orm import Session

from foundation.cli import context, output
from foundation.cli.batches import in_batches
from foundation.db import audit
from foundation.db.session import Database
from foundation.responses import Deleted
from foundation.text import count

NOUNS = {
    "grades": ("grade of deleted courses", "grades of deleted courses"),
    "audit_entries": ("audit entry", "audit entries"),
}
"""What every `db prune` can delete, in the singular and the plural."""


@contextmanager
def recorded(nouns: Mapping[str, tuple[str, str]], *, as_json: bool) -> Iterator[Counter[str]]:
    """Yield the counter of what is deleted, by the names of the nouns.

    At the end it is printed and recorded, also if the command is interrupted.
    """
    deleted = Counter(dict.fromkeys(nouns, 0))
    try:
        yield deleted
    finally:
        result = f"deleted {', '.join(count(deleted[name], *noun) for name, noun in nouns.items())}"
        output.print_result(Deleted(deleted=deleted), result, as_json=as_json)
        with context.writing() as (session, now):
            audit.record(session, context.actor(), "database.prune", "", result, now=now)


def delete_all(
    database: Database, steps: Mapping[str, Callable[[Session], int]], deleted: Counter[str]
) -> None:
    """Repeat each step, in transactions of its own, until it deletes nothing; count by its name."""
    for name, delete in steps.items():
        for number in in_batches(database, delete):
            deleted[name] += number

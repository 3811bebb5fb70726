"""The registry under test: one source, and facts that reach its courses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import CourseStatus, Fact
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry.entries import ApplyResult
from receiver.registry.history import Actor, ActorKind
from tests.receiver.conftest import NINE

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
RUN = Actor(ActorKind.SYNC, "run 7")
WEBHOOK = Actor(ActorKind.WEBHOOK, "msg_1")


@dataclass(frozen=True)
class Lab:
    """What a test of the registry works with: a database with one source."""

    database: Database
    vault: Vault
    make_source: Callable[..., Source]
    make_entry: Callable[..., Entry]
    rows: Callable[[type[Any]], list[Any]]
    entry: Callable[[str], Entry]
    source: Source

    def add(self, course_id: str = "CS101", **more: Any) -> Entry:
        """Add a course of the source."""
        return self.make_entry(self.source, course_id, **more)

    def apply(
        self,
        *facts: Fact,
        course_id: str = "CS101",
        actor: Actor = WEBHOOK,
        source: Source | None = None,
    ) -> list[ApplyResult]:
        """Apply facts to a course, one after another in one transaction."""
        source_id = (source or self.source).id
        with self.database.writing() as session:
            return [
                registry.apply(session, source_id, course_id, fact, actor=actor, now=NINE)
                for fact in facts
            ]

    def status(self, course_id: str = "CS101") -> CourseStatus:
        """Return the status of a course."""
        return registry.course_status(self.entry(course_id))

    def listed(self) -> list[Entry]:
        """Return the courses in grade sync."""
        with self.database.reading() as session:
            return registry.list_entries(session)


@pytest.fixture
def lab(
    database: Database,
    vault: Vault,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    rows: Callable[[type[Any]], list[Any]],
    entry_of: Callable[[str], Entry],
) -> Lab:
    """What a test of the registry works with."""
    return Lab(database, vault, make_source, make_entry, rows, entry_of, make_source())

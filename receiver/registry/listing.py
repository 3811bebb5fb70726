"""Listings: what the registry's pages show, a page at a time, and how many stand how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session, joinedload

from foundation.db import pagination
from foundation.db.pagination import PAGE, Cursor, Page, PageRequest
from receiver.course_state import Standing, Status, cause_of
from receiver.errors import EntryUnknownError
from receiver.models import Entry, Heard
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.statuses import conditions

_LAST = "\U0010ffff"
"""The character that sorts behind every other, and is none of a course id."""


Stands = Callable[[Entry], Standing]
"""Where an entry stands, for whoever knows more of it than the registry does."""


@dataclass(frozen=True)
class Wanted:
    """Which entries are meant: that stand so, of this source, whose course ids begin so."""

    status: Status | None = None
    source_id: int | None = None
    beginning: str = ""


@dataclass(frozen=True)
class Listed:
    """An entry as lists show it: where it stands, and the line that told what it stands by."""

    entry: Entry
    standing: Standing
    told: Heard | None


def get(session: Session, entry_id: int) -> Entry:
    """Return the entry of a number, in grade sync or only spoken of, or raise EntryUnknownError."""
    entry = session.get(Entry, entry_id, options=[joinedload(Entry.source, innerjoin=True)])
    if entry is None:
        raise EntryUnknownError(f"there is no entry {entry_id} in the registry")
    return entry


def get_locked(session: Session, entry_id: int) -> Entry:
    """Return the entry of a number in grade sync, as nobody else can change it until the end.

    Raises EntryUnknownError.
    """
    entry = get(session, entry_id)
    session.refresh(entry, with_for_update={"of": Entry})
    return registry.get(session, entry.source, entry.course_id)


def page(
    session: Session,
    wanted: Wanted,
    page_request: PageRequest,
    *,
    limit: int = PAGE,
    stands: Stands = registry.standing,
) -> Page[Listed]:
    """Return a page of the courses in grade sync by course id, in two queries."""
    query = _matching(wanted).options(joinedload(Entry.source, innerjoin=True))
    keys = (Entry.course_id, Entry.source_id)
    found: Page[Entry] = pagination.read(session, query, keys, _placed, page_request, limit=limit)
    return Page(tuple(listed(session, found.rows, stands=stands)), found.before, found.after)


def listed(
    session: Session, entries: Sequence[Entry], *, stands: Stands = registry.standing
) -> list[Listed]:
    """Return entries as lists show them, in one query."""
    causes = {
        entry.id: cause
        for entry in entries
        if (cause := cause_of(registry.memory_of(entry))) is not None
    }
    told = history.lines_of(session, causes)
    return [Listed(entry, stands(entry), told.get(entry.id)) for entry in entries]


def counts(session: Session) -> dict[Status, int]:
    """Return how many courses in grade sync stand how, in one query.

    Those that are active are what is left: of most entries nothing has to be looked at.
    """
    invalid, deleted = Status.TOKEN_INVALID, Status.COURSE_DELETED
    wanted = (Wanted(), Wanted(invalid), Wanted(deleted))
    row = session.execute(select(*map(_counted, wanted))).one()
    return {Status.ACTIVE: row[0] - row[1] - row[2], invalid: row[1], deleted: row[2]}


def _counted(wanted: Wanted) -> ColumnElement[int]:
    return _matching(wanted).with_only_columns(func.count()).scalar_subquery()


def _matching(wanted: Wanted) -> Select[Any]:
    query = select(Entry).where(Entry.enrolled_at.is_not(None))
    if wanted.status is not None:
        query = query.where(conditions(Entry)[wanted.status])
    if wanted.source_id is not None:
        query = query.where(Entry.source_id == wanted.source_id)
    if wanted.beginning:
        # Not LIKE: of SQLite it asks in which case, of PostgreSQL in which language.
        query = query.where(Entry.course_id.between(wanted.beginning, wanted.beginning + _LAST))
    return query


def _placed(row: Any) -> tuple[Entry, Cursor]:
    entry: Entry = row[0]
    return entry, (entry.course_id, entry.source_id)

"""Paged lists of the courses in the registry, with the cause of each status; their counts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import PAGE, Page, PageRequest
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus, cause_of, conditions
from receiver.models import Entry, HistoryEntry
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.runs import store as runs
from receiver.runs.store import LastOutcome

# The character that sorts after every other one, and is in no course id.
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class EntryFilter:
    """Which entries to list: of this status, of this source, with this prefix of the course id."""

    status: CourseStatus | None = None
    source_id: int | None = None
    prefix: str = ""


@dataclass(frozen=True)
class ListedEntry:
    """An entry with its status, and the history entry of the fact that decides the status."""

    entry: Entry
    status_details: CourseStatusDetails
    cause: HistoryEntry | None


@dataclass(frozen=True)
class SelectedCourse:
    """A course that is selected for a change of many."""

    entry_id: int
    course_id: str
    is_active: bool


def page(
    session: Session,
    entry_filter: EntryFilter,
    page_request: PageRequest,
    *,
    needs_activity: bool,
    limit: int = PAGE,
) -> Page[ListedEntry]:
    """Return a page of the courses in the registry by course id, in three queries."""
    query = _matching(entry_filter).options(joinedload(Entry.source, innerjoin=True))
    keys = (Entry.course_id, Entry.source_id)
    entries: Page[Entry] = pagination.read(
        session,
        query,
        keys,
        lambda row: (row[0], (row[0].course_id, row[0].source_id)),
        page_request,
        limit=limit,
    )
    rows = with_causes(session, entries.rows, needs_activity=needs_activity)
    return Page(tuple(rows), entries.before, entries.after)


def explain_status(
    entry: Entry, last: LastOutcome | None, *, needs_activity: bool
) -> CourseStatusDetails:
    """Return the status of an entry as it is listed, given its last outcome.

    An active course that the last runs could not sync has that as reason.
    """
    status = registry.explain_status(entry, needs_activity=needs_activity)
    if status.status is not CourseStatus.ACTIVE or last is None or last.failing_since is None:
        return status
    reason = f"the grade sync fails: {last.detail}"
    return CourseStatusDetails(status.status, reason, last.failing_since, last.advice, failing=True)


def with_causes(
    session: Session, entries: Sequence[Entry], *, needs_activity: bool
) -> list[ListedEntry]:
    """Return entries with their status and its cause, in two queries."""
    facts = {
        entry.id: cause
        for entry in entries
        if (cause := cause_of(registry.state_of(entry))) is not None
    }
    causes = history.find_causes(session, facts)
    last = runs.last_outcomes(session, [entry.course_id for entry in entries])
    return [
        ListedEntry(
            entry,
            explain_status(
                entry,
                last.get((entry.source.name, entry.course_id)),
                needs_activity=needs_activity,
            ),
            causes.get(entry.id),
        )
        for entry in entries
    ]


def counts(session: Session) -> dict[CourseStatus, int]:
    """Return the number of courses in the registry by status, in one query.

    The active count is the difference.
    """
    invalid, deleted = CourseStatus.TOKEN_INVALID, CourseStatus.COURSE_DELETED
    columns = [
        _matching(entry_filter).with_only_columns(func.count()).scalar_subquery()
        for entry_filter in (EntryFilter(), EntryFilter(invalid), EntryFilter(deleted))
    ]
    row = session.execute(select(*columns)).one()
    return {CourseStatus.ACTIVE: row[0] - row[1] - row[2], deleted: row[2], invalid: row[1]}


def count(session: Session, entry_filter: EntryFilter) -> int:
    """Return the number of courses in the registry that match."""
    return session.scalars(_matching(entry_filter).with_only_columns(func.count())).one()


def find_selected(
    session: Session, entry_filter: EntryFilter, entry_ids: Collection[int] | None = None
) -> list[SelectedCourse]:
    """Return the courses in the registry that match, of these ids if given, by course id."""
    query = _matching(entry_filter).with_only_columns(
        Entry.id, Entry.course_id, conditions(Entry)[CourseStatus.ACTIVE]
    )
    if entry_ids is not None:
        query = query.where(db.among(Entry.id, entry_ids))
    rows = session.execute(query.order_by(Entry.course_id, Entry.source_id))
    return [SelectedCourse(row[0], row[1], bool(row[2])) for row in rows]


def _matching(entry_filter: EntryFilter) -> Select[Any]:
    query = select(Entry).where(Entry.added_at.is_not(None))
    if entry_filter.status is not None:
        query = query.where(conditions(Entry)[entry_filter.status])
    if entry_filter.source_id is not None:
        query = query.where(Entry.source_id == entry_filter.source_id)
    if entry_filter.prefix:
        # Not LIKE, which depends on case in SQLite and on the collation in PostgreSQL.
        prefix = entry_filter.prefix
        query = query.where(Entry.course_id.between(prefix, prefix + _LAST))
    return query

"""Lists of the courses in the registry: by page, with the cause of each status, as rows of CSV."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import BATCH, PAGE, Cursor, Key, Page, PageRequest, Sort
from foundation.db.session import Database
from foundation.errors import fields_of
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus, cause_at, cause_of, conditions
from receiver.models import Entry, HistoryEntry
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.registry.csv_files import EXPORTED
from receiver.runs import store as runs
from receiver.runs.store import CourseFailure

# Before every time: courses without one come first.
_NEVER = datetime(1, 1, 2, tzinfo=UTC)
SORTS: dict[str, tuple[Key, ...]] = {
    "course": (Entry.course_id, Entry.source_id),
    "since": (func.coalesce(cause_at(Entry), _NEVER), Entry.id),
    "synced": (func.coalesce(Entry.synced_at, _NEVER), Entry.id),
}
"""The columns that lists can be sorted by, with their keys."""
BY_COURSE = Sort("course", SORTS["course"])


@dataclass(frozen=True)
class EntryFilter:
    """Which entries to list: of this status, since a time, of this source.

    `matching` is a part of the course id, in any case.
    """

    status: CourseStatus | None = None
    source_id: int | None = None
    matching: str = ""
    since: datetime | None = None


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
    sort: Sort = BY_COURSE,
    needs_activity: bool,
    limit: int = PAGE,
    now: datetime,
) -> Page[ListedEntry]:
    """Return a page of the courses in the registry, in three queries."""
    query = _matching(entry_filter, now=now).options(joinedload(Entry.source, innerjoin=True))
    entries = pagination.read_sorted(session, query, sort, page_request, limit=limit)
    rows = with_causes(session, entries.rows, needs_activity=needs_activity, now=now)
    return Page(tuple(rows), entries.before, entries.after)


def cursor_of(session: Session, entry_id: int, sort: Sort) -> Cursor | None:
    """Return the position of an entry in the list, or None if there is no such entry."""
    row = session.execute(select(*sort.keys).where(Entry.id == entry_id)).one_or_none()
    return None if row is None else tuple(row)


def export(
    database: Database,
    entry_filter: EntryFilter,
    *,
    sort: Sort = BY_COURSE,
    needs_activity: bool,
    now: datetime,
) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `csv_files.EXPORTED`, each read in a transaction of its own."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        found = page(
            session,
            entry_filter,
            PageRequest(after=cursor),
            sort=sort,
            needs_activity=needs_activity,
            limit=BATCH,
            now=now,
        )
        return Page([_exported(listed) for listed in found.rows], None, found.after)

    return pagination.batches(database, read)


def _exported(listed: ListedEntry) -> dict[str, Any]:
    entry, status = listed.entry, listed.status_details
    given = {
        "source": entry.source.name,
        "status": status.status,
        "detail": status.reason,
        "since": status.since,
        "failing": status.failing,
        "token_valid_until": status.valid_until,
        **fields_of(status.advice),
    }
    return {name: given[name] if name in given else getattr(entry, name) for name in EXPORTED}


def explain_status(
    entry: Entry, failure: CourseFailure | None, *, needs_activity: bool, now: datetime
) -> CourseStatusDetails:
    """Return the status of an entry as it is listed.

    An active course that the last runs could not sync has that as reason.
    """
    status = registry.explain_status(entry, needs_activity=needs_activity, now=now)
    if status.status is not CourseStatus.ACTIVE or failure is None:
        return status
    reason = f"the grade sync fails: {failure.detail}"
    return replace(status, reason=reason, since=failure.since, advice=failure.advice, failing=True)


def with_causes(
    session: Session, entries: Sequence[Entry], *, needs_activity: bool, now: datetime
) -> list[ListedEntry]:
    """Return entries with their status and its cause, in two queries."""
    facts = {
        entry.id: cause
        for entry in entries
        if (cause := cause_of(registry.state_of(entry), now=now)) is not None
    }
    causes = history.find_causes(session, facts)
    failures = runs.failures(session, [entry.course_id for entry in entries])
    return [
        ListedEntry(
            entry,
            explain_status(
                entry,
                failures.get((entry.source.name, entry.course_id)),
                needs_activity=needs_activity,
                now=now,
            ),
            causes.get(entry.id),
        )
        for entry in entries
    ]


def counts(session: Session, *, now: datetime) -> dict[CourseStatus, int]:
    """Return the number of courses in the registry by status, in one query.

    The active count is the difference.
    """
    invalid, deleted = CourseStatus.TOKEN_INVALID, CourseStatus.COURSE_DELETED
    columns = [
        _matching(entry_filter, now=now).with_only_columns(func.count()).scalar_subquery()
        for entry_filter in (EntryFilter(), EntryFilter(invalid), EntryFilter(deleted))
    ]
    row = session.execute(select(*columns)).one()
    return {CourseStatus.ACTIVE: row[0] - row[1] - row[2], deleted: row[2], invalid: row[1]}


def count(session: Session, entry_filter: EntryFilter, *, now: datetime) -> int:
    """Return the number of courses in the registry that match."""
    return session.scalars(_matching(entry_filter, now=now).with_only_columns(func.count())).one()


def find_selected(
    session: Session,
    entry_filter: EntryFilter,
    entry_ids: Collection[int] | None = None,
    *,
    now: datetime,
) -> list[SelectedCourse]:
    """Return the courses in the registry that match, of these ids if given, by course id."""
    query = _matching(entry_filter, now=now).with_only_columns(
        Entry.id, Entry.course_id, conditions(Entry, now=now)[CourseStatus.ACTIVE]
    )
    if entry_ids is not None:
        query = query.where(db.among(Entry.id, entry_ids))
    rows = session.execute(query.order_by(Entry.course_id, Entry.source_id))
    return [SelectedCourse(row[0], row[1], bool(row[2])) for row in rows]


def _matching(entry_filter: EntryFilter, *, now: datetime) -> Select[Any]:
    query = select(Entry).where(Entry.added_at.is_not(None))
    if entry_filter.status is not None:
        query = query.where(conditions(Entry, now=now)[entry_filter.status])
    if entry_filter.source_id is not None:
        query = query.where(Entry.source_id == entry_filter.source_id)
    if entry_filter.matching:
        query = query.where(Entry.course_id.icontains(entry_filter.matching, autoescape=True))
    if entry_filter.since is not None:
        query = query.where(cause_at(Entry).between(entry_filter.since, now))
    return query

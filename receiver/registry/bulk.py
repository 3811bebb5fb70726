"""Bulk changes to the registry with few statements: add and remove courses, set tokens."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.orm import Session, joinedload

from foundation import csv_reader
from foundation.crypto import Vault
from foundation.csv_reader import Fault
from foundation.db import session as db
from foundation.import_result import ImportResult
from receiver.course_state import CourseStatus, conditions
from receiver.errors import CourseIdError
from receiver.models import Entry
from receiver.registry import history
from receiver.registry.csv_files import RegistryRow
from receiver.registry.entries import find_owners, state_of
from receiver.registry.history import Actor, HistoryEvent, NewHistoryEntry
from receiver.sources import store as sources

# Courses that are written together.
_BATCH = 300

REMOVED_AT_ONCE = 500
"""Courses to remove in one transaction; other writers wait meanwhile."""


def import_in_batches(
    session: Session, rows: Sequence[RegistryRow], *, vault: Vault, actor: Actor, now: datetime
) -> Iterator[ImportResult]:
    """Add the courses; update token and gradebook target of those in the registry, if they differ.

    Yield the result of some courses at a time. Raises CsvError if any new course has no token, that
    of another course, or an id that its source cannot have.
    """
    owners = find_other_owners(session, rows)
    pairs = _get_or_create_locked(session, rows, now=now)
    csv_reader.refuse(
        [
            Fault(row.line, fault)
            for row, entry in pairs
            if not entry.is_added and (fault := _fault(row, owners.get(row.line)))
        ]
    )
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        new = sum(not entry.is_added for _, entry in batch)
        changed = _update(session, batch, vault=vault, actor=actor, now=now)
        yield ImportResult(new, changed - new, len(batch) - changed)


def _fault(row: RegistryRow, owner: str | None) -> str | None:
    if row.token is None:
        return "the course is not in the registry yet, and its token is missing"
    if owner is not None:
        return f"the token belongs to the course {owner!r}"
    try:
        sources.check_course(row.source, row.course_id)
    except CourseIdError as error:
        return str(error)
    return None


def set_tokens(
    session: Session, rows: Sequence[RegistryRow], *, vault: Vault, actor: Actor, now: datetime
) -> list[int]:
    """Set the tokens of courses in the registry, and return the ids of their entries.

    Raises CsvError if a token is missing or a course is not in the registry.
    """
    pairs = _get_or_create_locked(session, rows, now=now)
    csv_reader.refuse(
        [Fault(row.line, "the token is missing") for row in rows if row.token is None]
        + [
            Fault(row.line, "the course is not in the registry")
            for row, entry in pairs
            if not entry.is_added
        ]
    )
    _update(session, pairs, vault=vault, actor=actor, now=now)
    return [entry.id for _, entry in pairs]


def remove(
    session: Session,
    entry_ids: Collection[int],
    *,
    status: CourseStatus | None = None,
    actor: Actor,
    now: datetime,
) -> int:
    """Remove courses and their tokens from the grade sync; stored facts and grades stay.

    `status`: only those that have it now. Return how many were removed; the others were removed
    before, or have another status.
    """
    query = select(Entry).where(db.among(Entry.id, entry_ids), Entry.added_at.is_not(None))
    if status is not None:
        query = query.where(conditions(Entry, now=now)[status])
    entries = session.scalars(query.order_by(Entry.id).with_for_update()).all()
    lines = [
        NewHistoryEntry(
            entry.id,
            HistoryEvent.COURSE_REMOVED,
            None,
            replace(state_of(entry), stored_token_id=None),
        )
        for entry in entries
    ]
    nothing = dict.fromkeys(("added_at", "encrypted_token", "stored_token_id", "etag"))
    session.execute(
        update(Entry).where(db.among(Entry.id, [entry.id for entry in entries])).values(nothing)
    )
    history.write(session, lines, actor=actor, now=now)
    return len(entries)


def find_added(session: Session, rows: Sequence[RegistryRow]) -> list[tuple[RegistryRow, Entry]]:
    """Return the rows whose courses are in the registry, each with its entry and its source."""
    entries = session.scalars(
        select(Entry)
        .options(joinedload(Entry.source, innerjoin=True))
        .where(_matches(rows), Entry.added_at.is_not(None))
    )
    by_course = {(entry.source_id, entry.course_id): entry for entry in entries}
    keyed = [(row, by_course.get(_key(row))) for row in sorted(rows, key=_key)]
    return [(row, entry) for row, entry in keyed if entry is not None]


def find_other_owners(session: Session, rows: Sequence[RegistryRow]) -> dict[int, str]:
    """Return by line the course that a token is known to belong to, if it is not that of the row.

    One query for each source.
    """
    owners: dict[int, str] = {}
    for source in {row.source.id: row.source for row in rows}.values():
        given = {
            row.line: (row.course_id, row.token.token_id)
            for row in rows
            if row.token is not None and row.source.id == source.id
        }
        found = find_owners(session, source, {token_id for _, token_id in given.values()})
        owners |= {
            line: found[token_id][0]
            for line, (course_id, token_id) in given.items()
            if token_id in found and course_id not in found[token_id]
        }
    return owners


def set_gradebook_target(entry: Entry, course: str | None, activity: str | None) -> None:
    """Set the Moodle course and activity that the grades of an entry go to, or None for none.

    A new target has none of the grades, so the next sync requests all of them.
    """
    if (course, activity) != (entry.gradebook_course, entry.gradebook_activity):
        entry.gradebook_course, entry.gradebook_activity = course, activity
        entry.etag = None


def _key(row: RegistryRow) -> tuple[int, str]:
    return row.source.id, row.course_id


def _matches(rows: Sequence[RegistryRow]) -> ColumnElement[bool]:
    return and_(
        Entry.source_id.in_({row.source.id for row in rows}),
        db.among(Entry.course_id, {row.course_id for row in rows}),
    )


def _get_or_create_locked(
    session: Session, rows: Sequence[RegistryRow], *, now: datetime
) -> list[tuple[RegistryRow, Entry]]:
    if not rows:
        return []
    # All are created in one order and then locked in one order, by id as everywhere: transactions
    # that have some of them in common do not wait for each other in a circle.
    ordered = sorted(rows, key=_key)
    session.execute(
        db.insert(session, Entry.__table__).on_conflict_do_nothing(),
        [
            {"source_id": row.source.id, "course_id": row.course_id, "created_at": now}
            for row in ordered
        ],
    )
    entries = session.scalars(
        select(Entry).where(_matches(rows)).order_by(Entry.id).with_for_update()
    )
    by_course = {(entry.source_id, entry.course_id): entry for entry in entries}
    return [(row, by_course[_key(row)]) for row in ordered]


def _update(
    session: Session,
    pairs: Sequence[tuple[RegistryRow, Entry]],
    *,
    vault: Vault,
    actor: Actor,
    now: datetime,
) -> int:
    """Store what differs, and return the number of courses that changed."""
    changed: list[dict[str, Any]] = []
    lines: list[NewHistoryEntry] = []
    for row, entry in pairs:
        columns = _changed_columns(row, entry, vault, now)
        if columns is None:
            continue
        changed.append(columns)
        token_id = columns["stored_token_id"]
        if not entry.is_added or token_id != entry.stored_token_id:
            event = HistoryEvent.TOKEN_ENTERED if entry.is_added else HistoryEvent.COURSE_ADDED
            state = replace(state_of(entry), stored_token_id=token_id)
            lines.append(NewHistoryEntry(entry.id, event, f"stored token {token_id}", state))
    if changed:
        session.execute(update(Entry), changed)
    history.write(session, lines, actor=actor, now=now)
    return len(changed)


def _changed_columns(
    row: RegistryRow, entry: Entry, vault: Vault, now: datetime
) -> dict[str, Any] | None:
    token = row.token
    if token is not None and token.token_id == entry.stored_token_id:
        token = None
    course = row.gradebook_course or entry.gradebook_course
    activity = row.gradebook_activity or entry.gradebook_activity
    moved = (course, activity) != (entry.gradebook_course, entry.gradebook_activity)
    if token is None and not moved:
        return None
    return {
        "id": entry.id,
        "added_at": entry.added_at or now,
        "encrypted_token": vault.encrypt(token.reveal()) if token else entry.encrypted_token,
        "stored_token_id": token.token_id if token else entry.stored_token_id,
        "gradebook_course": course,
        "gradebook_activity": activity,
        "etag": None if moved else entry.etag,
    }

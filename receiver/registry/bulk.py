"""Many courses at once: linked, given tokens and activities, in a few statements for hundreds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.orm import Session, joinedload

from foundation import csv_reader
from foundation.crypto import Vault
from foundation.csv_reader import Fault
from foundation.db import session as db
from receiver.errors import CourseIdError
from receiver.models import Entry
from receiver.registry import history
from receiver.registry.csv_files import Wanted
from receiver.registry.entries import memory_of
from receiver.registry.history import Actor, Line, What
from receiver.sources import store as sources

_AT_ONCE = 300


@dataclass(frozen=True)
class Linked:
    """What became of the courses of a file."""

    new: int
    changed: int
    as_before: int


def link(
    session: Session, wanted: Sequence[Wanted], *, vault: Vault, actor: Actor, now: datetime
) -> Linked:
    """Link the courses; one that is linked gets its token and activity where they differ.

    Raises CsvError if a course that is not linked has no token, or an id that its source
    does not give.
    """
    pairs = _locked(session, wanted, now=now)
    csv_reader.refuse(
        [
            Fault(one.line, fault)
            for one, entry in pairs
            if entry.enrolled_at is None and (fault := _fault(one))
        ]
    )
    new = sum(entry.enrolled_at is None for _, entry in pairs)
    changed = _take(session, pairs, vault=vault, actor=actor, now=now)
    return Linked(new, changed - new, len(pairs) - changed)


def _fault(one: Wanted) -> str | None:
    if one.token is None:
        return "the course is not linked yet, and its token is missing"
    try:
        sources.check_course(one.source, one.course_id)
    except CourseIdError as error:
        return str(error)
    return None


def enter_tokens(
    session: Session, wanted: Sequence[Wanted], *, vault: Vault, actor: Actor, now: datetime
) -> list[int]:
    """Hold the tokens for courses that are linked, and return the numbers of their entries.

    Raises CsvError if a token is missing or a course is not linked.
    """
    pairs = _locked(session, wanted, now=now)
    csv_reader.refuse(
        [Fault(one.line, "the token is missing") for one in wanted if one.token is None]
        + [
            Fault(one.line, "the course is not in the registry")
            for one, entry in pairs
            if entry.enrolled_at is None
        ]
    )
    _take(session, pairs, vault=vault, actor=actor, now=now)
    return [entry.id for _, entry in pairs]


def linked_among(session: Session, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Entry]]:
    """Return the lines whose courses are linked, each with its entry and that with its source."""
    pairs: list[tuple[Wanted, Entry]] = []
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        rows = session.scalars(
            select(Entry)
            .options(joinedload(Entry.source, innerjoin=True))
            .where(_are_of(some), Entry.enrolled_at.is_not(None))
        )
        found = {(entry.source_id, entry.course_id): entry for entry in rows}
        keyed = [(one, found.get((one.source.id, one.course_id))) for one in some]
        pairs += [(one, entry) for one, entry in keyed if entry is not None]
    return pairs


def _are_of(some: Sequence[Wanted]) -> ColumnElement[bool]:
    return and_(
        Entry.source_id.in_({one.source.id for one in some}),
        Entry.course_id.in_({one.course_id for one in some}),
    )


def _locked(
    session: Session, wanted: Sequence[Wanted], *, now: datetime
) -> list[tuple[Wanted, Entry]]:
    """Return each line with its entry, which is made without a race and locked."""
    # In one order for all, or two files at once could wait for each other.
    ordered = sorted(wanted, key=lambda one: (one.source.id, one.course_id))
    pairs: list[tuple[Wanted, Entry]] = []
    for start in range(0, len(ordered), _AT_ONCE):
        some = ordered[start : start + _AT_ONCE]
        session.execute(
            db.insert(session, Entry.__table__).on_conflict_do_nothing(),
            [
                {"source_id": one.source.id, "course_id": one.course_id, "created_at": now}
                for one in some
            ],
        )
        rows = session.scalars(
            select(Entry)
            .where(_are_of(some))
            .order_by(Entry.source_id, Entry.course_id)
            .with_for_update()
        )
        found = {(entry.source_id, entry.course_id): entry for entry in rows}
        pairs += [(one, found[one.source.id, one.course_id]) for one in some]
    return pairs


def _take(
    session: Session,
    pairs: Sequence[tuple[Wanted, Entry]],
    *,
    vault: Vault,
    actor: Actor,
    now: datetime,
) -> int:
    """Store what differs, and return of how many courses something did."""
    rows: list[dict[str, Any]] = []
    lines: list[Line] = []
    for one, entry in pairs:
        row = _row(one, entry, vault, now)
        if row is None:
            continue
        rows.append(row)
        if row["held_token_id"] != entry.held_token_id or entry.enrolled_at is None:
            lines.append(_line(entry, row["held_token_id"]))
    if rows:
        session.execute(update(Entry), rows)
    history.write(session, lines, actor=actor, now=now)
    return len(rows)


def _row(one: Wanted, entry: Entry, vault: Vault, now: datetime) -> dict[str, Any] | None:
    token = one.token
    if token is not None and token.token_id == entry.held_token_id:
        token = None
    course = one.gradebook_course or entry.gradebook_course
    activity = one.gradebook_activity or entry.gradebook_activity
    moved = (course, activity) != (entry.gradebook_course, entry.gradebook_activity)
    if token is None and not moved:
        return None
    return {
        "id": entry.id,
        "enrolled_at": entry.enrolled_at or now,
        "encrypted_token": vault.encrypt(token.reveal()) if token else entry.encrypted_token,
        "held_token_id": token.token_id if token else entry.held_token_id,
        "gradebook_course": course,
        "gradebook_activity": activity,
        "etag": None if moved else entry.etag,
    }


def set_place(entry: Entry, course: str | None, activity: str | None) -> None:
    """Say where in a Moodle a course's grades go, or that it is nowhere.

    Where they did not go before, all of them are asked for again: unchanged ones are missing there.
    """
    if (course, activity) != (entry.gradebook_course, entry.gradebook_activity):
        entry.gradebook_course, entry.gradebook_activity = course, activity
        entry.etag = None


def _line(entry: Entry, token_id: str) -> Line:
    what = What.ENROLLED if entry.enrolled_at is None else What.TOKEN_ENTERED
    memory = replace(memory_of(entry), held_token_id=token_id)
    return Line(entry.id, what, f"held is {token_id}", memory)

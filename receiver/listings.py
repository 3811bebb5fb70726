"""Listings: what the registry's pages show, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session, joinedload

from receiver.models import Entry

PAGE = 50
"""How many entries a page has."""


@dataclass(frozen=True)
class Position:
    """An entry's place in the order of the registry: by source, then by course id."""

    source_id: int
    course_id: str


@dataclass(frozen=True)
class EntryPage:
    """Entries with their sources, and the positions to go on from, None where the list ends."""

    entries: tuple[Entry, ...]
    before: Position | None
    after: Position | None


def list_entries(
    session: Session,
    *,
    after: Position | None = None,
    before: Position | None = None,
    limit: int = PAGE,
) -> EntryPage:
    """Return a page of the courses in grade sync, in one query."""
    place = tuple_(Entry.source_id, Entry.course_id)
    query = (
        select(Entry)
        .options(joinedload(Entry.source, innerjoin=True))
        .where(Entry.enrolled_at.is_not(None))
        .limit(limit + 1)
    )
    if before is not None:
        query = query.where(place < (before.source_id, before.course_id))
        query = query.order_by(Entry.source_id.desc(), Entry.course_id.desc())
        found = list(session.scalars(query))
        return _page(found[limit - 1 :: -1], more_before=len(found) > limit, more_after=True)
    if after is not None:
        query = query.where(place > (after.source_id, after.course_id))
    found = list(session.scalars(query.order_by(Entry.source_id, Entry.course_id)))
    return _page(found[:limit], more_before=after is not None, more_after=len(found) > limit)


def _page(entries: Sequence[Entry], *, more_before: bool, more_after: bool) -> EntryPage:
    ends = [Position(entry.source_id, entry.course_id) for entry in entries]
    return EntryPage(
        tuple(entries),
        ends[0] if ends and more_before else None,
        ends[-1] if ends and more_after else None,
    )

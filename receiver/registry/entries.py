"""The registry: which courses are in grade sync, what is known of each, and so which are asked."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session, joinedload

from contract.tokens import CourseToken, MalformedTokenError, MoodleToken, Token
from foundation.crypto import Vault
from foundation.db import session as db
from receiver.course_state import (
    Deleted,
    Fact,
    Memory,
    Proven,
    Refused,
    Standing,
    TokenNamed,
    columns_of,
    fold,
    standing_of,
)
from receiver.errors import EntryExistsError, EntryUnknownError, TokenMalformedError
from receiver.models import API, MOODLE, Entry, Source
from receiver.registry import history
from receiver.registry.history import Actor, Line, What
from receiver.sources import store as sources


class Outcome(StrEnum):
    """What a fact did to the registry: something stored changed, or nothing."""

    APPLIED = "applied"
    STALE = "stale"


@dataclass(frozen=True)
class EntryUpdate:
    """What the sync learnt of one entry; `etag` replaces the stored one where there is a new.

    `place` is the course and activity of a Moodle into which the grades went that it names.
    """

    entry_id: int
    facts: tuple[Fact, ...] = ()
    etag: str | None = None
    synced: bool = False
    place: tuple[str | None, str | None] = (None, None)


def apply(
    session: Session,
    source_id: int,
    course_id: str,
    fact: Fact,
    *,
    actor: Actor,
    now: datetime,
) -> Outcome:
    """Take a fact into a course's entry; a course not in the registry is remembered all the same.

    The row is made without a race and locked, so that two facts at once are both taken.
    """
    entry = _lock_or_make(session, source_id, course_id, now=now)
    before = memory_of(entry)
    after = fold(before, fact)
    if after == before:
        line = history.of_stale(entry.id, fact, before, actor)
        history.write(session, [line], actor=actor, now=now)
        return Outcome.STALE
    for column, value in columns_of(after).items():
        setattr(entry, column, value)
    line = history.of_fact(entry.id, fact, after, actor)
    history.write(session, [line], actor=actor, now=now)
    return Outcome.APPLIED


def apply_updates(
    session: Session, lessons: Sequence[EntryUpdate], *, actor: Actor, now: datetime
) -> None:
    """Take what the sync learnt into many entries, by the law of `apply`, in four statements."""
    by_id = {lesson.entry_id: lesson for lesson in lessons}
    if not by_id:
        return
    rows = session.scalars(
        select(Entry).where(Entry.id.in_(by_id)).order_by(Entry.id).with_for_update()
    )
    changed: list[dict[str, Any]] = []
    heard: list[Line] = []
    for entry in rows:
        lesson = by_id[entry.id]
        memory, lines = history.of_facts(entry.id, lesson.facts, memory_of(entry), actor)
        heard += lines
        etag = _etag_after(entry, lesson)
        if lines or etag != entry.etag:
            changed.append({"id": entry.id, **columns_of(memory), "etag": etag})
    if changed:
        session.execute(update(Entry), changed)
    history.write(session, heard, actor=actor, now=now)
    synced = [lesson.entry_id for lesson in lessons if lesson.synced]
    if synced:
        session.execute(update(Entry).where(Entry.id.in_(synced)).values(synced_at=now))


def _etag_after(entry: Entry, lesson: EntryUpdate) -> str | None:
    """Return the name of the grades that ELMS has: none that went where they no longer go."""
    if (entry.gradebook_course, entry.gradebook_activity) != lesson.place:
        return entry.etag
    return lesson.etag or entry.etag


def forget_etags(session: Session, entry_ids: Collection[int]) -> None:
    """Forget which grades were fetched last of entries, so that all of them are asked for again."""
    session.execute(update(Entry).where(Entry.id.in_(entry_ids)).values(etag=None))


def enrol(
    session: Session,
    source: Source,
    course_id: str,
    token: Token,
    *,
    vault: Vault,
    actor: Actor,
    now: datetime,
) -> Entry:
    """Put a course into grade sync with its token; what was heard of it before still counts."""
    sources.check_course(source, course_id)
    entry = _lock_or_make(session, source.id, course_id, now=now)
    if entry.enrolled_at is not None:
        raise EntryExistsError(f"the course {course_id!r} of {source.name} is in the registry")
    entry.enrolled_at = now
    hold(entry, token, vault)
    _tell(session, entry, What.ENROLLED, f"held is {token.token_id}", actor=actor, now=now)
    return entry


def set_token(
    session: Session,
    entry: Entry,
    token: Token,
    *,
    vault: Vault,
    actor: Actor,
    now: datetime,
) -> None:
    """Hold another token for an entry; its status follows from what is known of that token."""
    hold(entry, token, vault)
    _tell(session, entry, What.TOKEN_ENTERED, f"held is {token.token_id}", actor=actor, now=now)


def withdraw(
    session: Session, source: Source, course_id: str, *, actor: Actor, now: datetime
) -> None:
    """Take a course out of grade sync with its token; what was heard of it stays remembered.

    Its grades stay in the gradebook. Raises EntryUnknownError.
    """
    entry = get(session, source, course_id)
    entry.enrolled_at = entry.encrypted_token = entry.held_token_id = entry.etag = None
    _tell(session, entry, What.WITHDRAWN, None, actor=actor, now=now)


def parse_token(text: str, kind: str = API) -> Token:
    """Return the token that was entered for a source of this kind, or raise TokenMalformedError."""
    try:
        return MoodleToken.parse(text) if kind == MOODLE else CourseToken.parse(text)
    except MalformedTokenError as error:
        raise TokenMalformedError(str(error)) from None


def get(session: Session, source: Source, course_id: str) -> Entry:
    """Return the entry of a course in grade sync, or raise EntryUnknownError."""
    entry = session.scalar(
        _enrolled().where(Entry.source_id == source.id, Entry.course_id == course_id)
    )
    if entry is None:
        raise EntryUnknownError(f"the course {course_id!r} of {source.name} is not in the registry")
    return entry


def get_heard_of(session: Session, source: Source, course_id: str) -> Entry:
    """Return the entry of a course that is in grade sync or was spoken of.

    Raises EntryUnknownError for one of which nothing was ever heard.
    """
    entry = session.scalar(
        select(Entry)
        .options(joinedload(Entry.source, innerjoin=True))
        .where(Entry.source_id == source.id, Entry.course_id == course_id)
    )
    if entry is None:
        raise EntryUnknownError(f"the course {course_id!r} of {source.name} is not in the registry")
    return entry


def listing(
    session: Session,
    *,
    source_id: int | None = None,
    course_ids: Collection[str] = (),
    entry_ids: Collection[int] = (),
) -> list[Entry]:
    """Return the entries in grade sync with their sources, in one query, by source and course.

    Raises EntryUnknownError if one of the course ids is not among them.
    """
    query = _enrolled().order_by(Entry.source_id, Entry.course_id)
    if source_id is not None:
        query = query.where(Entry.source_id == source_id)
    if course_ids:
        query = query.where(Entry.course_id.in_(course_ids))
    if entry_ids:
        query = query.where(Entry.id.in_(entry_ids))
    entries = list(session.scalars(query))
    check_all_found(course_ids, entries)
    return entries


def standing(entry: Entry) -> Standing:
    """Return an entry's status, with its cause and what to do."""
    return standing_of(memory_of(entry), entry.course_id)


def memory_of(entry: Entry) -> Memory:
    """Return what is remembered of a course, read from its entry."""
    deleted = named = refused = proven = None
    if entry.deleted_version is not None and entry.deleted_at is not None:
        deleted = Deleted(entry.deleted_version, entry.deleted_at)
    if entry.announced_version is not None and entry.announced_at is not None:
        token_id = str(entry.announced_token_id)
        named = TokenNamed(entry.announced_version, token_id, entry.announced_at)
    if entry.refused_token_id is not None and entry.refused_at is not None:
        refused = Refused(entry.refused_token_id, str(entry.refused_reason), entry.refused_at)
    if entry.proven_token_id is not None and entry.proven_at is not None:
        proven = Proven(entry.proven_token_id, entry.proven_at)
    return Memory(entry.held_token_id, deleted, named, refused, proven)


def reencrypt(session: Session, *, vault: Vault) -> int:
    """Seal every held token anew with the vault's first key; return how many there are."""
    rows = session.scalars(
        select(Entry).where(Entry.encrypted_token.is_not(None)).order_by(Entry.id).with_for_update()
    ).all()
    for row in rows:
        row.encrypted_token = vault.reencrypt(str(row.encrypted_token))
    return len(rows)


def _enrolled() -> Select[tuple[Entry]]:
    return (
        select(Entry)
        .options(joinedload(Entry.source, innerjoin=True))
        .where(Entry.enrolled_at.is_not(None))
    )


def hold(entry: Entry, token: Token, vault: Vault) -> None:
    """Let an entry hold a token, sealed."""
    entry.encrypted_token = vault.encrypt(token.reveal())
    entry.held_token_id = token.token_id


def _tell(
    session: Session,
    entry: Entry,
    what: What,
    detail: str | None,
    *,
    actor: Actor,
    now: datetime,
) -> None:
    session.flush()
    line = Line(entry.id, what, detail, memory_of(entry))
    history.write(session, [line], actor=actor, now=now)


def check_all_found(course_ids: Iterable[str], entries: Iterable[Entry]) -> None:
    """Raise EntryUnknownError if one of the course ids is of none of the entries."""
    missing = sorted(set(course_ids) - {entry.course_id for entry in entries})
    if missing:
        named = ", ".join(repr(course_id) for course_id in missing)
        raise EntryUnknownError(f"not in the registry: {named}")


def _lock_or_make(session: Session, source_id: int, course_id: str, *, now: datetime) -> Entry:
    session.execute(
        db.insert(session, Entry)
        .values(source_id=source_id, course_id=course_id, created_at=now)
        .on_conflict_do_nothing()
    )
    return session.scalars(
        select(Entry)
        .where(Entry.source_id == source_id, Entry.course_id == course_id)
        .with_for_update()
    ).one()

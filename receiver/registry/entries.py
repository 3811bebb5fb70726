"""The entries of courses, added to the registry or not: their tokens and stored facts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, select, text, update
from sqlalchemy.orm import Session, joinedload

from contract.tokens import CourseToken, MalformedTokenError, MoodleToken, Token
from foundation.crypto import Vault
from foundation.db import session as db
from receiver import course_state
from receiver.course_advice import ClaimFailure, CourseStatusDetails, FailedClaim, explain
from receiver.course_state import (
    CourseState,
    CourseStatus,
    Deleted,
    Fact,
    Restored,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
)
from receiver.errors import (
    EntryExistsError,
    EntryUnknownError,
    TokenMalformedError,
    TokenOfAnotherCourseError,
)
from receiver.gradebook.base import missing_activity
from receiver.models import API, MOODLE, Entry, Source
from receiver.registry import history
from receiver.registry.history import Actor, HistoryEvent, NewHistoryEntry
from receiver.sources import store as sources
from receiver.sources.base import ClaimedToken

_ENTRIES: Any = Entry.__table__

# Built once, so that a webhook costs no construction of statements. An INSERT with ON CONFLICT is
# text, because SQLAlchemy compiles it again each time. The assignment locks a row that is there.
_GET_OR_CREATE_LOCKED = (
    text(
        "INSERT INTO entries (source_id, course_id, created_at) VALUES (:source, :course, :now) "  # noqa: S608 - our own columns
        "ON CONFLICT (source_id, course_id) DO UPDATE SET course_id = excluded.course_id "
        f"RETURNING {', '.join(column.name for column in _ENTRIES.c)}"
    )
    .bindparams(bindparam("now", type_=_ENTRIES.c.created_at.type))
    .columns(*_ENTRIES.c)
)
_STORE_FACTS = (
    update(_ENTRIES)
    .where(_ENTRIES.c.id == bindparam("entry"))
    .values({name: bindparam(f"{name}_") for name in course_state.to_columns(CourseState())})
)
_STORE_FAILED_CLAIM = (
    update(_ENTRIES)
    .where(_ENTRIES.c.id == bindparam("entry"), _ENTRIES.c.announced_token_id == bindparam("token"))
    .values(
        claim_failed_token_id=_ENTRIES.c.announced_token_id,
        claim_failed_at=bindparam("at"),
        claim_failure=bindparam("kind"),
        claim_failure_detail=bindparam("detail"),
    )
)


@dataclass(frozen=True)
class EntryUpdate:
    """What the sync found out about one entry.

    `etag` names the grades that were written, and `target` the Moodle course and activity into
    which they were written.
    """

    entry_id: int
    facts: tuple[Fact, ...] = ()
    etag: str | None = None
    synced: bool = False
    target: tuple[str | None, str | None] = (None, None)


def apply(
    session: Session,
    source_id: int,
    course_id: str,
    fact: Fact,
    *,
    actor: Actor,
    now: datetime,
) -> bool:
    """Apply a fact to the entry of a course, which is created if there is none.

    A fact about a course that is not in the registry is stored too. The entry is locked, so that
    concurrent facts are all applied. Return False if the fact is stale: nothing stored changed.
    """
    connection, key = session.connection(), {"source": source_id, "course": course_id}
    entry = connection.execute(_GET_OR_CREATE_LOCKED, {**key, "now": now}).one()
    before = state_of(entry)
    after = course_state.apply(before, fact)
    stale = after == before
    if not stale:
        facts = {f"{name}_": value for name, value in course_state.to_columns(after).items()}
        connection.execute(_STORE_FACTS, {**facts, "entry": entry.id})
    line = history.entry_for_fact(entry.id, fact, after, actor, stale=stale)
    history.write(session, [line], actor=actor, now=now)
    return not stale


def apply_updates(
    session: Session, updates: Sequence[EntryUpdate], *, actor: Actor, now: datetime
) -> None:
    """Apply the results of a sync to many entries in four statements, by the rule of `apply`."""
    by_id = {result.entry_id: result for result in updates}
    if not by_id:
        return
    rows = session.scalars(
        select(Entry).where(db.among(Entry.id, by_id)).order_by(Entry.id).with_for_update()
    )
    changed: list[dict[str, Any]] = []
    lines: list[NewHistoryEntry] = []
    for entry in rows:
        result = by_id[entry.id]
        before = state = state_of(entry)
        for fact in result.facts:
            after = course_state.apply(state, fact)
            if after != state:
                lines.append(history.entry_for_fact(entry.id, fact, after, actor))
            state = after
        # The etag of grades that went elsewhere would keep them out of the present target.
        is_target = (entry.gradebook_course, entry.gradebook_activity) == result.target
        etag = (result.etag if is_target else None) or entry.etag
        if state != before or etag != entry.etag:
            changed.append({"id": entry.id, **course_state.to_columns(state), "etag": etag})
    if changed:
        session.execute(update(Entry), changed)
    history.write(session, lines, actor=actor, now=now)
    synced = [result.entry_id for result in updates if result.synced]
    if synced:
        session.execute(update(Entry).where(db.among(Entry.id, synced)).values(synced_at=now))


def clear_etags(session: Session, entry_ids: Collection[int]) -> None:
    """Clear the etags of entries, so that the next sync requests all of their grades."""
    session.execute(update(Entry).where(db.among(Entry.id, entry_ids)).values(etag=None))


def add(
    session: Session,
    source: Source,
    course_id: str,
    token: Token,
    *,
    vault: Vault,
    actor: Actor,
    now: datetime,
) -> Entry:
    """Add a course to the grade sync with its token; facts that are already stored still count.

    Raises CourseIdError, EntryExistsError or TokenOfAnotherCourseError.
    """
    sources.check_course(source, course_id)
    check_owner(session, source, course_id, token)
    key = {"source": source.id, "course": course_id}
    session.connection().execute(_GET_OR_CREATE_LOCKED, {**key, "now": now})
    entry = get_any(session, source, course_id)
    if entry.is_added:
        raise EntryExistsError(
            f"the course {course_id!r} of {source.name} is already in the registry",
            advice=EntryExistsError.advice.fill("COURSE_ID", course_id),
        )
    entry.added_at = now
    store_token(entry, token, vault)
    _write_history(session, entry, HistoryEvent.COURSE_ADDED, actor=actor, now=now)
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
    """Replace the token of an entry; its status then follows from the facts about that token."""
    store_token(entry, token, vault)
    _write_history(session, entry, HistoryEvent.TOKEN_ENTERED, actor=actor, now=now)


def find_claimable(
    session: Session,
    *,
    source_names: Collection[str] = (),
    course_ids: Collection[str] = (),
    now: datetime,
) -> list[Entry]:
    """Return the entries whose stored token was replaced with an overlap that is not over."""
    query = _added(source_names, course_ids).where(
        Entry.announced_valid_until > now, Entry.announced_token_id != Entry.stored_token_id
    )
    entries = session.scalars(query)
    deleted = CourseStatus.COURSE_DELETED
    return [entry for entry in entries if status_of(entry, now=now) is not deleted]


def store_claimed(
    session: Session,
    claimed: Mapping[int, ClaimedToken],
    replaced: Mapping[int, str | None],
    *,
    vault: Vault,
    actor: Actor,
    now: datetime,
) -> int:
    """Store claimed tokens by entry id, each with its announcement; return how many were stored.

    Not if another one than `replaced` is stored by now, because a person has entered it. The
    webhook of an announcement may arrive later, and then changes nothing. All entries of `replaced`
    are locked, by id, as the claims of some of them may have failed.
    """
    query = select(Entry).where(db.among(Entry.id, replaced))
    entries = [
        entry
        for entry in session.scalars(query.order_by(Entry.id).with_for_update())
        if entry.id in claimed and entry.is_added and entry.stored_token_id == replaced[entry.id]
    ]
    lines: list[NewHistoryEntry] = []
    for entry in entries:
        token, announced = claimed[entry.id].token, claimed[entry.id].announced
        store_token(entry, token, vault)
        state = state_of(entry)
        detail = f"stored token {token.token_id}"
        lines.append(NewHistoryEntry(entry.id, HistoryEvent.TOKEN_CLAIMED, detail, state))
        if announced is not None and (after := course_state.apply(state, announced)) != state:
            for name, value in course_state.to_columns(after).items():
                setattr(entry, name, value)
            lines.append(history.entry_for_fact(entry.id, announced, after, actor))
    session.flush()
    history.write(session, lines, actor=actor, now=now)
    return len(entries)


def store_failed_claims(session: Session, failed: Mapping[Entry, FailedClaim]) -> None:
    """Store why the announced tokens of entries, as they were read before, were not claimed."""
    rows = [
        {
            "entry": entry.id,
            "token": entry.announced_token_id,
            "at": claim.at,
            "kind": str(claim.kind),
            "detail": claim.detail,
        }
        for entry, claim in sorted(failed.items(), key=lambda item: item[0].id)
    ]
    if rows:
        session.connection().execute(_STORE_FAILED_CLAIM, rows)


def store_token(entry: Entry, token: Token, vault: Vault) -> None:
    """Set the token of an entry, encrypted, without a history entry."""
    entry.encrypted_token = vault.encrypt(token.reveal())
    entry.stored_token_id = token.token_id


def remove(
    session: Session, source: Source, course_id: str, *, actor: Actor, now: datetime
) -> None:
    """Remove a course and its token from the grade sync; stored facts and grades stay.

    Raises EntryUnknownError.
    """
    entry = get_added(session, source, course_id)
    entry.added_at = entry.encrypted_token = entry.stored_token_id = entry.etag = None
    _write_history(session, entry, HistoryEvent.COURSE_REMOVED, actor=actor, now=now)


def find_owners(
    session: Session, source: Source, token_ids: Collection[str]
) -> dict[str, list[str]]:
    """Return by token id the courses whose current token a source has announced it to be.

    The tokens of a Moodle can be shared by courses, so they have no owner.
    """
    if source.kind == MOODLE:
        return {}
    rows = session.execute(
        select(Entry.announced_token_id, Entry.course_id).where(
            Entry.source_id == source.id, db.among(Entry.announced_token_id, token_ids)
        )
    )
    owners: dict[str, list[str]] = {}
    for token_id, course_id in rows:
        owners.setdefault(str(token_id), []).append(course_id)
    return owners


def check_owner(session: Session, source: Source, course_id: str, token: Token) -> None:
    """Raise TokenOfAnotherCourseError if a token is known to belong to another course."""
    owners = find_owners(session, source, [token.token_id]).get(token.token_id, [course_id])
    if course_id not in owners:
        raise belongs_to(token, owners[0])


def belongs_to(token: Token, course_id: str) -> TokenOfAnotherCourseError:
    """Return the refusal of a token that belongs to another course, this one."""
    return TokenOfAnotherCourseError(
        f"the token {token.token_id} was not entered: it belongs to the course {course_id!r}"
    )


def parse_token(text: str, kind: str = API) -> Token:
    """Return the token entered for a source of this kind, or raise TokenMalformedError."""
    try:
        return MoodleToken.parse(text) if kind == MOODLE else CourseToken.parse(text)
    except MalformedTokenError as error:
        raise TokenMalformedError(str(error)) from None


def get_added(session: Session, source: Source, course_id: str) -> Entry:
    """Return the entry of a course in the registry, or raise EntryUnknownError."""
    entry = get_any(session, source, course_id)
    if not entry.is_added:
        raise _unknown(source, course_id)
    return entry


def get_any(session: Session, source: Source, course_id: str) -> Entry:
    """Return the entry of a course, added or not, or raise EntryUnknownError."""
    entry = session.scalar(
        _with_source().where(Entry.source_id == source.id, Entry.course_id == course_id)
    )
    if entry is None:
        raise _unknown(source, course_id)
    return entry


def get_any_by_id(session: Session, entry_id: int) -> Entry:
    """Return an entry, added or not, with its source, or raise EntryUnknownError."""
    entry = session.get(Entry, entry_id, options=[joinedload(Entry.source, innerjoin=True)])
    if entry is None:
        raise EntryUnknownError(f"there is no entry {entry_id} in the registry")
    return entry


def get_added_locked(session: Session, entry_id: int) -> Entry:
    """Return an entry in the registry and lock it, or raise EntryUnknownError."""
    entry = session.scalar(
        _with_source()
        .where(Entry.id == entry_id, Entry.added_at.is_not(None))
        .with_for_update(of=Entry)
        .execution_options(populate_existing=True)
    )
    if entry is None:
        raise EntryUnknownError(f"the entry {entry_id} is not in the registry")
    return entry


def ids_of(session: Session, source: Source) -> list[int]:
    """Return the ids of the entries of a source, added or not."""
    return list(session.scalars(select(Entry.id).where(Entry.source_id == source.id)))


def list_added(
    session: Session,
    *,
    source_names: Collection[str] = (),
    course_ids: Collection[str] = (),
    entry_ids: Collection[int] | None = None,
) -> list[Entry]:
    """Return the entries in the registry by source and course, with their sources, in one query.

    Raises EntryUnknownError if one of the course ids is not among them.
    """
    query = _added(source_names, course_ids)
    if entry_ids is not None:
        query = query.where(db.among(Entry.id, entry_ids))
    entries = list(session.scalars(query))
    missing = sorted(set(course_ids) - {entry.course_id for entry in entries})
    if missing:
        raise EntryUnknownError(f"not in the registry: {', '.join(map(repr, missing))}")
    return entries


def explain_status(
    entry: Entry, *, state: CourseState | None = None, needs_activity: bool, now: datetime
) -> CourseStatusDetails:
    """Return the status of an entry with its reason and the next step, or of another state of it.

    `needs_activity`: an active entry without its target activity has that as reason.
    `listing.explain_status` also says that the last runs failed.
    """
    status = explain(
        state or state_of(entry),
        entry.course_id,
        source=entry.source.name,
        platform=entry.source.platform,
        failed_claim=failed_claim_of(entry),
        may_claim=entry.source.claimed_at is not None,
        now=now,
    )
    if status.status is not CourseStatus.ACTIVE or not needs_activity or has_activity(entry):
        return status
    failure = missing_activity(entry.course_id)
    return replace(status, reason=failure.detail, advice=failure.advice)


def status_of(entry: Entry, *, now: datetime) -> CourseStatus:
    """Return the status of an entry, without an explanation."""
    return course_state.status_of(state_of(entry), now=now)


def failed_claim_of(entry: Entry) -> FailedClaim | None:
    """Return why the current token of an entry was not claimed, or None if no claim failed."""
    if entry.claim_failed_at is None or entry.claim_failed_token_id != entry.announced_token_id:
        return None
    kind, detail = ClaimFailure(str(entry.claim_failure)), str(entry.claim_failure_detail)
    return FailedClaim(kind, detail, entry.claim_failed_at)


def has_activity(entry: Entry) -> bool:
    """Return True if a Moodle activity is set for the grades of an entry."""
    return bool(entry.gradebook_course and entry.gradebook_activity)


def state_of(entry: Entry | Row[Any]) -> CourseState:
    """Return the state of a course that its entry stores."""
    deleted = restored = announced = rejected = accepted = None
    if entry.deleted_version is not None and entry.deleted_at is not None:
        deleted = Deleted(entry.deleted_version, entry.deleted_at)
    if entry.restored_version is not None and entry.restored_at is not None:
        restored = Restored(entry.restored_version, entry.restored_at)
    if entry.announced_version is not None and entry.announced_at is not None:
        token_id = str(entry.announced_token_id)
        announced = TokenAnnounced(
            entry.announced_version, token_id, entry.announced_at, entry.announced_valid_until
        )
    if entry.rejected_token_id is not None and entry.rejected_at is not None:
        reason = str(entry.rejected_reason)
        rejected = TokenRejected(entry.rejected_token_id, reason, entry.rejected_at)
    if entry.accepted_token_id is not None and entry.accepted_at is not None:
        accepted = TokenAccepted(entry.accepted_token_id, entry.accepted_at)
    return CourseState(entry.stored_token_id, deleted, announced, rejected, accepted, restored)


def reencrypt(session: Session, *, vault: Vault) -> int:
    """Re-encrypt every stored token with the vault's first key; return the number of tokens."""
    rows = session.scalars(
        select(Entry).where(Entry.encrypted_token.is_not(None)).order_by(Entry.id).with_for_update()
    ).all()
    for row in rows:
        row.encrypted_token = vault.reencrypt(str(row.encrypted_token))
    return len(rows)


def _with_source() -> Select[tuple[Entry]]:
    return select(Entry).options(joinedload(Entry.source, innerjoin=True))


def _added(source_names: Collection[str], course_ids: Collection[str]) -> Select[tuple[Entry]]:
    """Return the query for the entries in the registry of these sources and courses, or of all."""
    query = _with_source().where(Entry.added_at.is_not(None))
    if source_names:
        named = select(Source.id).where(db.among(Source.name, source_names))
        query = query.where(Entry.source_id.in_(named))
    if course_ids:
        query = query.where(db.among(Entry.course_id, course_ids))
    return query.order_by(Entry.source_id, Entry.course_id)


def _unknown(source: Source, course_id: str) -> EntryUnknownError:
    return EntryUnknownError(f"the course {course_id!r} of {source.name} is not in the registry")


def _write_history(
    session: Session, entry: Entry, event: HistoryEvent, *, actor: Actor, now: datetime
) -> None:
    session.flush()
    token_id = entry.stored_token_id
    detail = None if token_id is None else f"stored token {token_id}"
    line = NewHistoryEntry(entry.id, event, detail, state_of(entry))
    history.write(session, [line], actor=actor, now=now)

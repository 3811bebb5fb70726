"""The history of each course: every fact and every change, its actor, and the resulting status."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import case, delete, func, or_, select, text
from sqlalchemy.orm import Session, aliased

from foundation.db import audit, bulk, pagination
from foundation.db import session as db
from foundation.db.pagination import Page, PageRequest
from foundation.text import format_timestamp
from receiver import course_state
from receiver.course_state import (
    Cause,
    CourseState,
    Deleted,
    Fact,
    Restored,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
)
from receiver.models import FOUND_BY_SYNC, Entry, HistoryEntry, Source, SourceSecret

MISSED_IN = timedelta(days=7)
"""How long ago a fact that was found without a webhook is reported."""


class ActorKind(StrEnum):
    """What kind of actor changed or reported something."""

    WEBHOOK = "webhook"
    SYNC = "sync"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class Actor:
    """Where a change came from: a webhook (its id), a sync (its run), a person (user@host).

    What a person (`audited`) does is in the audit table, too.
    """

    kind: ActorKind
    name: str
    audited: audit.Actor | None = None

    @classmethod
    def person(cls, audited: audit.Actor) -> Self:
        """Return the actor that a person is."""
        return cls(ActorKind.ADMINISTRATOR, audited.name, audited)


class HistoryEvent(StrEnum):
    """What happened to a course; these values are stable."""

    COURSE_DELETED = "course.deleted"
    COURSE_RESTORED = "course.restored"
    TOKEN_REGENERATED = "token.regenerated"  # noqa: S105 - an event's type, no secret
    TOKEN_ANNOUNCED = "token.announced"  # noqa: S105 - as above
    TOKEN_REJECTED = "token.rejected"  # noqa: S105 - as above
    TOKEN_ACCEPTED = "token.accepted"  # noqa: S105 - as above
    TOKEN_ENTERED = "token.entered"  # noqa: S105 - as above
    TOKEN_CLAIMED = "token.claimed"  # noqa: S105 - as above
    COURSE_ADDED = "course.added"
    COURSE_REMOVED = "course.removed"


@dataclass(frozen=True)
class NewHistoryEntry:
    """A history entry to be written; `state` is the state of the course after it."""

    entry_id: int
    event: str
    detail: str | None
    state: CourseState


# The kind of fact that each event can be the cause of.
_CAUSES: dict[str, type[Cause]] = {
    HistoryEvent.COURSE_DELETED: Deleted,
    HistoryEvent.TOKEN_REGENERATED: TokenAnnounced,
    HistoryEvent.TOKEN_ANNOUNCED: TokenAnnounced,
    HistoryEvent.TOKEN_REJECTED: TokenRejected,
}


# What a person does to an entry, by the event of its history.
_ACTIONS: dict[str, str] = {
    HistoryEvent.COURSE_ADDED: "entry.add",
    HistoryEvent.COURSE_REMOVED: "entry.remove",
    HistoryEvent.TOKEN_ENTERED: "entry.set-token",
}


def entry_for_fact(
    entry_id: int, fact: Fact, state: CourseState, actor: Actor, *, stale: bool = False
) -> NewHistoryEntry:
    """Return the history entry of a fact; a stale fact changed nothing."""
    match fact:
        case Deleted(course_version=version, at=at):
            event = HistoryEvent.COURSE_DELETED
            detail = f"version {version}, deleted at {format_timestamp(at)}"
        case Restored(course_version=version, at=at):
            event = HistoryEvent.COURSE_RESTORED
            detail = f"version {version}, restored at {format_timestamp(at)}"
        case TokenAnnounced(course_version=version, token_id=token_id, valid_until=until):
            # A response with the grades names the current token, which mostly is the stored one.
            is_replaced = state.stored_token_id not in {None, token_id}
            is_change = actor.kind == ActorKind.WEBHOOK or is_replaced
            event = HistoryEvent.TOKEN_REGENERATED if is_change else HistoryEvent.TOKEN_ANNOUNCED
            detail = f"version {version}, current token {token_id}"
            if until is not None:
                detail += f", the one before is good until {format_timestamp(until)}"
        case TokenRejected(token_id=token_id, reason=reason):
            event, detail = HistoryEvent.TOKEN_REJECTED, f"{token_id}: {reason}"
        case TokenAccepted(token_id=token_id):
            event, detail = HistoryEvent.TOKEN_ACCEPTED, f"{token_id} is valid"
    return NewHistoryEntry(entry_id, f"stale {event}" if stale else event, detail, state)


def write(
    session: Session, entries: Sequence[NewHistoryEntry], *, actor: Actor, now: datetime
) -> None:
    """Write history entries in their order, in one statement (none if there are no entries).

    What a person did is also recorded in the audit table.
    """
    rows = [
        {
            "entry_id": entry.entry_id,
            "at": now,
            "actor": str(actor.kind),
            "actor_name": actor.name,
            "event": str(entry.event),
            "detail": entry.detail,
            "status": course_state.status_of(entry.state, now=now).value,
        }
        for entry in entries
    ]
    bulk.insert(session, HistoryEntry, rows)
    if actor.audited is not None:
        _record(session, entries, actor.audited, now=now)


def _record(
    session: Session, entries: Sequence[NewHistoryEntry], actor: audit.Actor, *, now: datetime
) -> None:
    ids = [entry.entry_id for entry in entries if entry.event in _ACTIONS]
    query = select(Entry.id, Entry.course_id, Source.name).join(Source)
    rows = session.execute(query.where(db.among(Entry.id, ids))).all() if ids else ()
    courses = {entry_id: (course_id, name) for entry_id, course_id, name in rows}
    changes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in entries:
        if action := _ACTIONS.get(entry.event):
            course_id, source = courses[entry.entry_id]
            changes[action, source].append(course_id)
    for (action, source), course_ids in changes.items():
        audit.record_all(session, actor, action, course_ids, source, now=now)


def page(
    session: Session, entry_id: int, page_request: PageRequest, *, limit: int = pagination.PAGE
) -> Page[HistoryEntry]:
    """Return a page of the history of a course, newest first."""
    return pagination.read(
        session,
        select(HistoryEntry).where(HistoryEntry.entry_id == entry_id),
        [HistoryEntry.id],
        lambda row: (row[0], (row[0].id,)),
        page_request,
        limit=limit,
        descending=True,
    )


def find_causes(session: Session, causes: Mapping[int, Cause]) -> dict[int, HistoryEntry]:
    """Return by entry id the history entry of the fact that decides its status, in one query.

    The newest entry of a kind belongs to the fact that takes precedence, because stale ones have
    another event.
    """
    if not causes:
        return {}
    newest = (
        select(func.max(HistoryEntry.id))
        .where(db.among(HistoryEntry.entry_id, causes), HistoryEntry.event.in_(sorted(_CAUSES)))
        .group_by(HistoryEntry.entry_id, HistoryEntry.event)
    )
    query = select(HistoryEntry).where(HistoryEntry.id.in_(newest)).order_by(HistoryEntry.id)
    return {
        entry.entry_id: entry
        for entry in session.scalars(query)
        if isinstance(causes[entry.entry_id], _CAUSES[entry.event])
    }


def missed_webhooks(session: Session, *, now: datetime) -> dict[str, dict[str, int]]:
    """Return the facts of `MISSED_IN` that a sync found and no webhook brought, in one query.

    Their number by source and event. Counted are facts that are newer than the entry of their
    course and than a secret of their source, so that there should have been a webhook. If it, or a
    newer one of the same type, arrives later, the fact is no longer counted; nor is a deletion that
    was undone.
    """
    event = HistoryEntry.event
    fact_at = case(
        (event == HistoryEvent.COURSE_DELETED, Entry.deleted_at),
        (event == HistoryEvent.COURSE_RESTORED, Entry.restored_at),
        else_=Entry.announced_at,
    )
    webhook = aliased(HistoryEntry)
    arrived = select(webhook.id).where(
        webhook.entry_id == HistoryEntry.entry_id,
        webhook.id > HistoryEntry.id,
        webhook.actor == ActorKind.WEBHOOK.value,
        or_(webhook.event == event, webhook.event == "stale " + event),
    )
    expected = select(SourceSecret.id).where(
        SourceSecret.source_id == Entry.source_id, SourceSecret.created_at <= fact_at
    )
    query = (
        select(Source.name, event, func.count())
        .select_from(HistoryEntry)
        .join(Entry, Entry.id == HistoryEntry.entry_id)
        .join(Source, Source.id == Entry.source_id)
        .where(text(f"({FOUND_BY_SYNC})"), HistoryEntry.at >= now - MISSED_IN)
        .where(Entry.created_at <= fact_at, expected.exists(), ~arrived.exists())
        .group_by(Source.name, event)
        .order_by(Source.name, event)
    )
    missed: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for source, found, number in session.execute(query):
        missed[source][found] = number
    return dict(missed)


def prune(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` entries that were written before a time; return the number deleted."""
    old = select(HistoryEntry.id).where(HistoryEntry.at < before)
    old = old.order_by(HistoryEntry.id).limit(limit)
    gone: Any = session.execute(
        delete(HistoryEntry).where(HistoryEntry.id.in_(old.scalar_subquery()))
    )
    return int(gone.rowcount)

"""The audit table: who did what, when, from where, to what; written in the transaction of it."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Index, MetaData, Select, String, Text, delete, insert, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from foundation import text
from foundation.db import bulk, pagination
from foundation.db import session as db
from foundation.db.pagination import BATCH, FIRST_PAGE, PAGE, Cursor, Page, PageRequest
from foundation.db.session import NAMING, NEVER_REUSED, Database, UtcDateTime, only_where
from foundation.text import printable

# Characters that are stored; a client behind a web server may send any address.
_MAX_ADDRESS, _MAX_DETAIL = 64, 500
# Entries that the page of an object shows.
_LAST = 10
# Objects of one action that have entries in the list; more are parts of one entry.
_LISTED = 20
# Objects that the entry of many names.
_NAMED = 3
_MAX_ID = 2**31 - 1  # PostgreSQL refuses to compare with larger ids
_PLURALS = {"entry": "entries", "delivery": "deliveries"}
ACTIONS = (
    *("user.add", "user.set-password", "user.remove"),
    *("database.rotate-key", "database.prune"),
)
"""The actions of both services; the models of each have its own too."""
COLUMNS = (
    *("recorded_at", "actor", "channel", "address", "action"),
    *("object_id", "object_count", "detail"),
)
"""The columns of an exported list."""


class Channel(StrEnum):
    """How something was done."""

    PAGE = "page"
    API = "api"
    COMMAND = "command"
    WORKER = "worker"


@dataclass(frozen=True)
class Actor:
    """Who does something: a user's name, an API's caller, the account of a command, a worker."""

    name: str
    channel: Channel
    address: str | None = None


class Base(DeclarativeBase):
    """The base class of this table, which each service has in its own database."""

    metadata = MetaData(naming_convention=NAMING)


_IS_LISTED, _IS_PART = only_where("part_of IS NULL"), only_where("part_of IS NOT NULL")


class AuditEntry(Base):
    """Something that was done to an object; never changed, and deleted only by pruning.

    `action` is the kind of the object and a verb: `course.delete`. `detail` holds no secret and no
    personal data of students. If the same is done to many objects, there is one entry with their
    number and without an id, and one for each of them, which is `part_of` the first.
    """

    __tablename__ = "audit"
    __table_args__ = (
        Index(None, "recorded_at", "id"),
        Index(None, "object_id", "recorded_at", "id"),
        Index("ix_audit_listed", "recorded_at", "id", **_IS_LISTED),
        Index("ix_audit_by_actor", "actor", "recorded_at", "id", **_IS_LISTED),
        Index("ix_audit_parts", "part_of", "recorded_at", "id", **_IS_PART),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(255))
    channel: Mapped[str] = mapped_column(String(10))
    address: Mapped[str | None] = mapped_column(String(_MAX_ADDRESS))
    action: Mapped[str] = mapped_column(String(40))
    object_kind: Mapped[str] = mapped_column(String(20))
    object_id: Mapped[str] = mapped_column(String(255))
    object_count: Mapped[int]
    part_of: Mapped[int | None]
    detail: Mapped[str] = mapped_column(Text)

    @property
    def objects(self) -> str:
        """The id of the object, or how many there are."""
        if self.object_count == 1:
            return self.object_id
        kind = self.object_kind
        return text.count(self.object_count, kind, _PLURALS.get(kind))


class AuditFilter(BaseModel):
    """Conditions on entries; None is no condition.

    `action` is one such as `course.delete`, or the kind of an object for all that was done to it.
    Parts of an entry are found only by their object, or as those of one entry.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    actor: str | None = None
    action: str | None = None
    object_id: str | None = None
    part_of: Annotated[int, Field(ge=1, le=_MAX_ID)] | None = None
    since: datetime | None = None
    until: datetime | None = None


def add_audit_table(metadata: MetaData) -> None:
    """Add the table to those of a service."""
    AuditEntry.metadata.tables[AuditEntry.__tablename__].to_metadata(metadata)


def kinds(actions: Iterable[str]) -> list[str]:
    """Return the kinds of objects that actions are done to, in their order."""
    return list(dict.fromkeys(action.partition(".")[0] for action in actions))


def check_action(text: str, actions: Collection[str]) -> str:
    """Return the text if it is one of the actions or a kind of object, or raise ValueError."""
    known = [*actions, *kinds(actions)]
    if text in known:
        return text
    meant = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean '{meant[0]}'?" if meant else f"the actions are {', '.join(actions)}"
    raise ValueError(f"'{printable(text[:40])}' is neither an action nor a kind of object: {hint}")


def record(
    session: Session,
    actor: Actor,
    action: str,
    object_id: str | int,
    detail: str = "",
    *,
    now: datetime,
) -> None:
    """Record that an actor did something to an object."""
    record_all(session, actor, action, [str(object_id)], detail, now=now)


def record_all(
    session: Session,
    actor: Actor,
    action: str,
    object_ids: Iterable[str],
    detail: str = "",
    *,
    details: Mapping[str, str] = MappingProxyType({}),
    now: datetime,
) -> None:
    """Record that an actor did the same to several objects, in one statement or two.

    `details` has those of single objects, by id, that differ from `detail`.
    """
    ids = list(object_ids)
    entry = {
        "recorded_at": now,
        "actor": actor.name,
        "channel": actor.channel.value,
        "address": actor.address and printable(actor.address)[:_MAX_ADDRESS],
        "action": action,
        "object_kind": action.partition(".")[0],
        "part_of": None,
    }
    if len(ids) > _LISTED:
        named = f"{detail + ': ' if detail else ''}{', '.join(ids[:_NAMED])}, …"
        values = {"object_id": "", "object_count": len(ids), "detail": named[:_MAX_DETAIL]}
        whole = insert(AuditEntry).values(**entry, **values)
        entry["part_of"] = session.scalar(whole.returning(AuditEntry.id))
    rows = [
        {
            **entry,
            "object_id": object_id,
            "object_count": 1,
            "detail": details.get(object_id, detail)[:_MAX_DETAIL],
        }
        for object_id in ids
    ]
    bulk.insert(session, AuditEntry, rows)


def find(
    session: Session,
    criteria: AuditFilter,
    page_request: PageRequest = FIRST_PAGE,
    *,
    limit: int = PAGE,
) -> Page[AuditEntry]:
    """Return a page of the entries that match, newest first."""
    return pagination.read(
        session,
        _matching(criteria),
        (AuditEntry.recorded_at, AuditEntry.id),
        lambda row: (row.AuditEntry, cursor_of(row.AuditEntry)),
        page_request,
        limit=limit,
        descending=True,
    )


def count(session: Session, criteria: AuditFilter) -> int:
    """Return the number of entries that match, as `pagination.count` does."""
    return pagination.count(session, _matching(criteria))


def export(database: Database, criteria: AuditFilter) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield batches of rows with `COLUMNS`, newest first, each read in its own transaction."""

    def read(session: Session, cursor: Cursor | None) -> Page[dict[str, Any]]:
        page = find(session, criteria, PageRequest(after=cursor), limit=BATCH)
        rows = [{name: getattr(entry, name) for name in COLUMNS} for entry in page.rows]
        return Page(rows, None, page.after)

    return pagination.batches(database, read)


def _matching(criteria: AuditFilter) -> Select[tuple[AuditEntry]]:
    query = select(AuditEntry)
    if criteria.actor is not None:
        query = query.where(AuditEntry.actor == criteria.actor)
    if criteria.action is not None:
        is_action = AuditEntry.action == criteria.action
        query = query.where(or_(is_action, AuditEntry.object_kind == criteria.action))
    if criteria.object_id is not None:
        query = query.where(AuditEntry.object_id == criteria.object_id)
    if criteria.part_of is not None:
        query = query.where(AuditEntry.part_of == criteria.part_of)
    elif criteria.object_id is None:
        query = query.where(AuditEntry.part_of.is_(None))
    if criteria.since is not None:
        query = query.where(AuditEntry.recorded_at >= criteria.since)
    if criteria.until is not None:
        query = query.where(AuditEntry.recorded_at < criteria.until)
    return query


def about(session: Session, kind: str, object_id: str | int) -> list[AuditEntry]:
    """Return what was done last to an object, newest first."""
    criteria = AuditFilter(action=kind, object_id=str(object_id))
    return list(find(session, criteria, limit=_LAST).rows)


def prune(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` of the oldest entries before a time; return how many there were."""
    old = select(AuditEntry.id).where(AuditEntry.recorded_at < before)
    ids = session.scalars(old.order_by(AuditEntry.recorded_at, AuditEntry.id).limit(limit)).all()
    session.execute(delete(AuditEntry).where(db.among(AuditEntry.id, ids)))
    return len(ids)


def cursor_of(entry: AuditEntry) -> Cursor:
    """Return an entry's position in the list."""
    return (entry.recorded_at, entry.id)

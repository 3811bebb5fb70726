"""The history: what was heard of each course, from whom and when, and the status that followed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from contract.events import wire_time
from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import Page, PageRequest
from receiver.course_state import (
    Cause,
    Deleted,
    Fact,
    Memory,
    Proven,
    Refused,
    TokenNamed,
    fold,
    status_of,
)
from receiver.models import Heard

LONGEST = 50
"""How many of a course's lines are shown unless more are asked for."""


class ActorKind(StrEnum):
    """By which way something of a course came to be known."""

    WEBHOOK = "webhook"
    SYNC = "sync"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class Actor:
    """Who tells: a webhook by its id, a sync by its run, an administrator by user@host."""

    kind: ActorKind
    who: str


class What(StrEnum):
    """What was heard; these words are stable."""

    COURSE_DELETED = "course.deleted"
    TOKEN_REGENERATED = "token.regenerated"  # noqa: S105 - an event's type, no secret
    TOKEN_NAMED = "token named"  # noqa: S105 - as above
    TOKEN_REFUSED = "token refused"  # noqa: S105 - as above
    TOKEN_PROVEN = "token proven"  # noqa: S105 - as above
    TOKEN_ENTERED = "token entered"  # noqa: S105 - as above
    ENROLLED = "enrolled"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Line:
    """One line of a course's history; `memory` is what is remembered after it."""

    entry_id: int
    what: str
    detail: str | None
    memory: Memory


_TELLS_OF: dict[str, type[Cause]] = {
    What.COURSE_DELETED: Deleted,
    What.TOKEN_REGENERATED: TokenNamed,
    What.TOKEN_NAMED: TokenNamed,
    What.TOKEN_REFUSED: Refused,
}


def of_fact(entry_id: int, fact: Fact, memory: Memory, actor: Actor) -> Line:
    """Return the line that tells a fact which the memory has taken in."""
    return Line(entry_id, _what(fact, actor), _detail(fact), memory)


def of_stale(entry_id: int, fact: Fact, memory: Memory, actor: Actor) -> Line:
    """Return the line of a fact that was overtaken, and changed nothing."""
    return Line(entry_id, f"stale {_what(fact, actor)}", _detail(fact), memory)


def of_facts(
    entry_id: int, facts: Iterable[Fact], before: Memory, actor: Actor
) -> tuple[Memory, list[Line]]:
    """Return the memory with the facts folded in, and a line for each that changed it."""
    lines, memory = [], before
    for fact in facts:
        after = fold(memory, fact)
        if after != memory:
            lines.append(of_fact(entry_id, fact, after, actor))
        memory = after
    return memory, lines


def write(session: Session, lines: Sequence[Line], *, actor: Actor, now: datetime) -> None:
    """Write lines down in their order, in one statement, or in none for no lines."""
    rows = [
        {
            "entry_id": line.entry_id,
            "at": now,
            "actor": str(actor.kind),
            "who": actor.who,
            "what": str(line.what),
            "detail": line.detail,
            "status": status_of(line.memory).value,
        }
        for line in lines
    ]
    db.insert_all(session, Heard, rows)


def of_entry(session: Session, entry_id: int, limit: int = LONGEST) -> list[Heard]:
    """Return what was heard of a course, the newest first."""
    return list(
        session.scalars(
            select(Heard).where(Heard.entry_id == entry_id).order_by(Heard.id.desc()).limit(limit)
        )
    )


def forget(session: Session, before: datetime, most: int) -> int:
    """Forget so many of the lines that were written before then; return how many there were."""
    old = select(Heard.id).where(Heard.at < before).order_by(Heard.id).limit(most)
    gone: Any = session.execute(delete(Heard).where(Heard.id.in_(old.scalar_subquery())))
    return int(gone.rowcount)


def page(
    session: Session, entry_id: int, page_request: PageRequest, *, limit: int = pagination.PAGE
) -> Page[Heard]:
    """Return a page of what was heard of a course, the newest first."""
    return pagination.read(
        session,
        select(Heard).where(Heard.entry_id == entry_id),
        [Heard.id],
        lambda row: (row[0], (row[0].id,)),
        page_request,
        limit=limit,
        descending=True,
    )


def lines_of(session: Session, causes: Mapping[int, Cause]) -> dict[int, Heard]:
    """Return by entry id the line that told the fact an entry stands by, in one query.

    The newest of its kind is that of the weightiest, for one that was overtaken has another name.
    """
    if not causes:
        return {}
    newest = (
        select(func.max(Heard.id))
        .where(Heard.entry_id.in_(causes), Heard.what.in_(sorted(_TELLS_OF)))
        .group_by(Heard.entry_id, Heard.what)
    )
    found: dict[int, Heard] = {}
    for line in session.scalars(select(Heard).where(Heard.id.in_(newest)).order_by(Heard.id)):
        if isinstance(causes[line.entry_id], _TELLS_OF[line.what]):
            found[line.entry_id] = line
    return found


def _what(fact: Fact, actor: Actor) -> What:
    match fact:
        case Deleted():
            return What.COURSE_DELETED
        case TokenNamed() if actor.kind == ActorKind.WEBHOOK:
            return What.TOKEN_REGENERATED
        case TokenNamed():
            return What.TOKEN_NAMED
        case Refused():
            return What.TOKEN_REFUSED
        case Proven():
            return What.TOKEN_PROVEN


def _detail(fact: Fact) -> str:
    match fact:
        case Deleted(course_version=version, at=at):
            return f"version {version}, deleted at {wire_time(at)}"
        case TokenNamed(course_version=version, token_id=token_id):
            return f"version {version}, present is {token_id}"
        case Refused(token_id=token_id, reason=reason):
            return f"{token_id}: {reason}"
        case Proven(token_id=token_id):
            return f"{token_id} is good"

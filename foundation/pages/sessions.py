"""Sessions: who is signed in, since when, and when that ends (Flask-Login)."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask, session
from flask_login import LoginManager, current_user, login_user
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.pages import context, users
from foundation.pages.models import EndedSession, User

IDLE = timedelta(hours=8)
"""A session that nobody used for so long has ended."""
LONGEST = timedelta(hours=12)
"""However much it is used, a session lasts no longer."""
_SEEN_AGAIN_AFTER = timedelta(minutes=1)
"""The cookie is written anew no more often than that."""
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class Person:
    """A user who is signed in, as Flask-Login wants one."""

    user_id: int
    name: str
    fingerprint: str
    is_authenticated: bool = True
    is_active: bool = True
    is_anonymous: bool = False

    def get_id(self) -> str:
        """Return what the cookie keeps: the number, and what changes with the password."""
        return f"{self.user_id}.{self.fingerprint}"


@dataclass(frozen=True)
class _Kept:
    """What the cookie tells of a session."""

    session_id: str
    since: datetime
    seen_at: datetime

    def is_over(self, now: datetime) -> bool:
        return now - self.since >= LONGEST or now - self.seen_at >= IDLE


class _BySessionAlone(LoginManager):  # type: ignore[misc]  # it has no types
    """Knows nobody by a "remember me", of which there is none: anything can stand in its cookie."""

    def _load_user_from_remember_cookie(self, _: str) -> None:
        return None


def keep(app: Flask) -> None:
    """Let an app know who is signed in."""
    manager = _BySessionAlone()
    # Addresses change under way, and behind a web server all have its own.
    manager.session_protection = None
    manager.user_loader(_load)
    # Not `init_app`: after every request, of programs too, that would look into the session for
    # a "remember me" that there is none of.
    app.login_manager = manager  # type: ignore[attr-defined]


def start(user: User, *, now: datetime) -> None:
    """Sign a user in, in a session that has nothing of the one before."""
    session.clear()
    login_user(_person(user))
    session["sid"] = secrets.token_urlsafe(24)
    session["since"] = session["seen"] = int(now.timestamp())


def end(writing: Session, *, now: datetime) -> None:
    """Sign out: the session is over, also for whoever has a copy of its cookie."""
    kept = _kept(session)
    session.clear()
    writing.execute(delete(EndedSession).where(EndedSession.ends_at <= now))
    if kept is not None:
        ended = {"session_id": kept.session_id, "ends_at": kept.since + LONGEST}
        # Who clicks twice ends it twice, and the other click may not have committed yet.
        writing.execute(db.insert(writing, EndedSession).values(ended).on_conflict_do_nothing())


def person() -> Person | None:
    """Return who is signed in, or None."""
    known = current_user._get_current_object()  # noqa: SLF001 - how a LocalProxy is opened
    return known if isinstance(known, Person) else None


def person_if_known() -> Person | None:
    """Return who is signed in, or None; also where the database cannot say."""
    try:
        return person()
    except db.UNUSABLE:
        return None


def prolong(*, now: datetime) -> None:
    """Note that the session is used."""
    kept = _kept(session)
    if kept is not None and now - kept.seen_at >= _SEEN_AGAIN_AFTER:
        session["seen"] = int(now.timestamp())


def _load(user: str) -> Person | None:
    kept = _kept(session)
    number, _, fingerprint = user.partition(".")
    if kept is None or kept.is_over(datetime.now(UTC)) or not _NUMBER.fullmatch(number):
        return None
    with context.current().database.reading() as reading:
        found = _find(reading, int(number), kept.session_id)
    return found if found is not None and found.fingerprint == fingerprint else None


def _find(reading: Session, user_id: int, session_id: str) -> Person | None:
    ended = select(EndedSession.session_id).where(EndedSession.session_id == session_id).exists()
    user = reading.scalar(select(User).where(User.id == user_id, ~ended))
    return None if user is None else _person(user)


def _person(user: User) -> Person:
    return Person(user.id, user.name, users.fingerprint(user))


def _kept(cookie: Mapping[str, Any]) -> _Kept | None:
    try:
        return _Kept(
            cookie["sid"],
            datetime.fromtimestamp(cookie["since"], UTC),
            datetime.fromtimestamp(cookie["seen"], UTC),
        )
    except KeyError:
        return None

"""Sessions: who is signed in, since when, and when that ends; kept in Flask's signed cookie.

A session is bound to the user's password, so that a new one ends it, and has an id of its own, so
that signing out ends it for every copy of its cookie.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import g, session
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.audit import Actor, Channel
from foundation.pages import users
from foundation.pages.models import EndedSession, User
from foundation.services import Services
from foundation.web.app import client_address

# A session ends after this time without use, and after this time however much it is used.
IDLE = timedelta(hours=8)
MAX_AGE = timedelta(hours=12)
# The cookie is renewed at most this often.
_RENEWED_EVERY = timedelta(minutes=1)
# The cookie's field for the user: the number and the fingerprint of the password.
_USER = "_user_id"
_USER_FORMAT = re.compile(r"(?P<number>[0-9]{1,9})\.(?P<fingerprint>.*)", re.ASCII)


@dataclass(frozen=True)
class SignedInUser:
    """A user who is signed in."""

    user_id: int
    name: str


@dataclass(frozen=True)
class _Times:
    """The id of the cookie's session, its start and its last use."""

    session_id: str
    since: datetime
    seen_at: datetime

    def is_over(self, now: datetime) -> bool:
        return now - self.since >= MAX_AGE or now - self.seen_at >= IDLE


def start(user: User, *, now: datetime) -> None:
    """Sign a user in, in a session that keeps nothing of the one before."""
    session.clear()
    session[_USER] = f"{user.id}.{users.fingerprint(user)}"
    session["sid"] = secrets.token_urlsafe(24)
    session["since"] = session["seen"] = int(now.timestamp())


def end(writing: Session, *, now: datetime) -> None:
    """Sign out: the session is over, also for other copies of its cookie."""
    times = _times()
    session.clear()
    writing.execute(delete(EndedSession).where(EndedSession.ends_at <= now))
    if times is not None:
        ended = {"session_id": times.session_id, "ends_at": times.since + MAX_AGE}
        # A double click ends it twice, and the other request may not have committed yet.
        writing.execute(db.insert(writing, EndedSession).values(ended).on_conflict_do_nothing())


def current_user() -> SignedInUser | None:
    """Return who is signed in, or None; one query per request."""
    if "current_user" not in g:
        g.current_user = _load()
    current_user: SignedInUser | None = g.current_user
    return current_user


def current_user_if_available() -> SignedInUser | None:
    """Return who is signed in, or None; None also while the database cannot be used."""
    try:
        return current_user()
    except db.UNUSABLE:
        return None


def actor() -> Actor:
    """Return who is signed in, for the audit table; call it in views for signed-in users."""
    return Actor(g.current_user.name, Channel.PAGE, client_address())


def renew(*, now: datetime) -> None:
    """Record that the session is used."""
    times = _times()
    if times is not None and now - times.seen_at >= _RENEWED_EVERY:
        session["seen"] = int(now.timestamp())


def _load() -> SignedInUser | None:
    times, claim = _times(), _USER_FORMAT.fullmatch(str(session.get(_USER, "")))
    if times is None or claim is None or times.is_over(datetime.now(UTC)):
        return None
    ended = select(EndedSession).where(EndedSession.session_id == times.session_id).exists()
    with Services.current().database.reading() as reading:
        user = reading.scalar(select(User).where(User.id == int(claim["number"]), ~ended))
        if user is None or not secrets.compare_digest(
            users.fingerprint(user).encode(), claim["fingerprint"].encode()
        ):
            return None
        return SignedInUser(user.id, user.name)


def _times() -> _Times | None:
    try:
        return _Times(
            session["sid"],
            datetime.fromtimestamp(session["since"], UTC),
            datetime.fromtimestamp(session["seen"], UTC),
        )
    except KeyError:
        return None

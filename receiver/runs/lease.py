"""The lease of the sync: it lets one run at a time write, and a killed one's ends by itself."""

import secrets
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from foundation.cli.output import cell
from foundation.db import session as db
from foundation.db.session import Database
from receiver.errors import LeaseLostError, RunInProgressError
from receiver.models import SyncLease

_NAME = "grade-sync"
_MOST_BETWEEN_SECONDS = 10.0
"""How long a lease is not renewed for: a request that begins then must end before the lease."""

_CLOCK_WENT_BACK = timedelta(days=1)
"""A lease that lasts so much longer than any was given by a clock that has been set right since."""


def acquire(session: Session, holder: str, lasting: timedelta, *, now: datetime) -> str:
    """Take the lease and return its token; an expired one is taken over, or a crash would bar all.

    So is one that cannot be: a clock that was wrong would bar all for years.
    Raises RunInProgressError that names who holds it, and until when.
    """
    token = secrets.token_hex(16)
    session.execute(db.insert(session, SyncLease).values(name=_NAME).on_conflict_do_nothing())
    taken: Any = session.execute(
        update(SyncLease)
        .where(
            SyncLease.name == _NAME,
            or_(
                SyncLease.leased_until.is_(None),
                SyncLease.leased_until <= now,
                SyncLease.leased_until > now + lasting + _CLOCK_WENT_BACK,
            ),
        )
        .values(holder=holder, token=token, leased_until=now + lasting)
    )
    if not taken.rowcount:
        held = session.get_one(SyncLease, _NAME)
        raise RunInProgressError(
            f"another grade sync is at work: {held.holder}, "
            f"its lease lasts until {cell(held.leased_until)}"
        )
    return token


def renew(session: Session, token: str, lasting: timedelta, *, now: datetime) -> None:
    """Hold the lease for longer, or raise LeaseLostError if another run has taken it over."""
    kept: Any = session.execute(
        update(SyncLease)
        .where(SyncLease.name == _NAME, SyncLease.token == token)
        .values(leased_until=now + lasting)
    )
    if not kept.rowcount:
        raise LeaseLostError("another grade sync has taken over the lease")


def release(session: Session, token: str) -> None:
    """Give the lease back, if it is still held with this token."""
    session.execute(
        update(SyncLease)
        .where(SyncLease.name == _NAME, SyncLease.token == token)
        .values(holder=None, token=None, leased_until=None)
    )


class HeldLease:
    """The lease of one run, from its beginning on."""

    def __init__(self, database: Database, lasting: timedelta) -> None:
        self._database = database
        self._lasting = lasting
        self._token = ""
        self._kept = time.monotonic()

    def acquire(self, session: Session, holder: str, *, now: datetime) -> None:
        """Take the lease, or raise RunInProgressError."""
        self._token = acquire(session, holder, self._lasting, now=now)

    def fence(self, session: Session) -> datetime:
        """Hold it for longer in a transaction of the run, and return the database's time.

        Raises LeaseLostError, so that nothing is stored by a run that another has taken over from.
        """
        now = db.now(session)
        renew(session, self._token, self._lasting, now=now)
        return now

    def keep(self) -> None:
        """Hold it for longer if that was not done for a while; no session may be open."""
        most = min(self._lasting.total_seconds() / 3, _MOST_BETWEEN_SECONDS)
        if time.monotonic() - self._kept >= most:
            with self._database.writing() as session:
                self.fence(session)
            self._kept = time.monotonic()

    def release(self) -> None:
        """Give it back; where that fails it ends by itself."""
        with suppress(*db.UNUSABLE), self._database.writing() as session:
            release(session, self._token)


def held(session: Session) -> SyncLease | None:
    """Return the lease as it stands: who holds it, and until when; None before the first run."""
    return session.get(SyncLease, _NAME)

"""The lease of the grade sync: only one run writes at a time, and a killed run's lease expires."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.session import Database
from foundation.text import readable
from receiver.errors import LeaseLostError, RunInProgressError
from receiver.models import SyncLease

_NAME = "grade-sync"

# Renewed at least this often, in seconds: a request that starts in between ends before the lease.
_MAX_RENEWAL_SECONDS = 10.0

# A lease this much longer than any other was taken by a clock that has since been set back.
_CLOCK_SET_BACK = timedelta(days=1)


def acquire(session: Session, holder: str, duration: timedelta, *, now: datetime) -> str:
    """Take the lease and return its token.

    A lease that has expired, or that a wrong clock made to last for years, is taken over.
    Raises RunInProgressError with its holder and expiry if another run holds it.
    """
    token = secrets.token_hex(16)
    _create(session)
    acquired: Any = session.execute(
        update(SyncLease)
        .where(
            SyncLease.name == _NAME,
            or_(
                SyncLease.leased_until.is_(None),
                SyncLease.leased_until <= now,
                SyncLease.leased_until > now + duration + _CLOCK_SET_BACK,
            ),
        )
        .values(holder=holder, token=token, leased_until=now + duration)
    )
    if not acquired.rowcount:
        raise _in_progress(session.get_one(SyncLease, _NAME))
    return token


def check_free(session: Session, *, now: datetime) -> None:
    """Raise RunInProgressError if a run holds the lease; none takes it before the commit."""
    _create(session)
    lease = session.get_one(SyncLease, _NAME, with_for_update=True)
    if lease.leased_until is not None and lease.leased_until > now:
        raise _in_progress(lease)


def renew(session: Session, token: str, duration: timedelta, *, now: datetime) -> None:
    """Extend the lease, or raise LeaseLostError if another run has taken it over."""
    renewed: Any = session.execute(
        update(SyncLease)
        .where(SyncLease.name == _NAME, SyncLease.token == token)
        .values(leased_until=now + duration)
    )
    if not renewed.rowcount:
        raise LeaseLostError("another grade sync has taken over the lease")


def release(session: Session, token: str) -> None:
    """Release the lease if this token still holds it."""
    session.execute(
        update(SyncLease)
        .where(SyncLease.name == _NAME, SyncLease.token == token)
        .values(holder=None, token=None, leased_until=None)
    )


def current(session: Session) -> SyncLease | None:
    """Return the lease with its holder and expiry, or None before the first run."""
    return session.get(SyncLease, _NAME)


def _create(session: Session) -> None:
    session.execute(db.insert(session, SyncLease).values(name=_NAME).on_conflict_do_nothing())


def _in_progress(lease: SyncLease) -> RunInProgressError:
    return RunInProgressError(
        f"a grade sync is running: {lease.holder}, "
        f"its lease lasts until {readable(lease.leased_until)}"
    )


class RunLease:
    """The lease of one run, renewed in each of its transactions."""

    def __init__(self, database: Database, duration: timedelta) -> None:
        self._database = database
        self._duration = duration
        self._token = ""
        self._renewed_at = time.monotonic()
        self._writing = threading.Lock()

    def acquire(self, session: Session, holder: str, *, now: datetime) -> None:
        """Take the lease, or raise RunInProgressError."""
        self._token = acquire(session, holder, self._duration, now=now)

    @contextmanager
    def transaction(self) -> Iterator[tuple[Session, datetime]]:
        """Open a write transaction that renews the lease; give it with the database's time.

        Raises LeaseLostError, so that a run that another one has taken over from stores nothing.
        """
        with self._writing:
            started_at = time.monotonic()
            with self._database.writing() as session:
                now = db.now(session)
                renew(session, self._token, self._duration, now=now)
                yield session, now
            self._renewed_at = started_at

    def renew_if_due(self) -> None:
        """Renew the lease if no transaction did so lately; may be called from another thread."""
        interval = min(self._duration.total_seconds() / 3, _MAX_RENEWAL_SECONDS)
        if time.monotonic() - self._renewed_at < interval or self._writing.locked():
            return  # a transaction that is open has renewed it
        with self.transaction():
            pass

    def release(self) -> None:
        """Release the lease; if that fails, it expires by itself."""
        with suppress(*db.UNUSABLE), self._database.writing() as session:
            release(session, self._token)

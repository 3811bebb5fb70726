"""The stop signal and the heartbeat: a lease is renewed, what outlasts the run is cancelled."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from foundation.db import session as db
from foundation.db.session import Database
from receiver.errors import LeaseLostError
from receiver.runs import lease as leases
from receiver.runs.lease import RunLease
from receiver.sync import run_control
from receiver.sync.run_control import LeaseHeartbeat, StopSignal
from tests.receiver.sync.conftest import StubSource


@pytest.fixture
def lease(database: Database) -> RunLease:
    """A lease that is due for renewal at once."""
    lease = RunLease(database, timedelta(milliseconds=1))
    with database.writing() as session:
        lease.acquire(session, "ada@elms", now=db.now(session))
    return lease


def leased_until(database: Database) -> Any:
    """Return when the lease expires."""
    with database.reading() as session:
        return getattr(leases.current(session), "leased_until", None)


def wait_for(condition: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true within ten seconds."""
    ends_at = time.monotonic() + 10
    while not (met := condition()) and time.monotonic() < ends_at:
        time.sleep(0.02)
    return met


def test_lease_is_renewed_in_the_background(database: Database, lease: RunLease) -> None:
    before = leased_until(database)
    stage, stop = StubSource(), StopSignal(threading.Event(), 60)

    with LeaseHeartbeat(lease, stop, [stage]):
        renewed = wait_for(lambda: leased_until(database) > before)

    assert renewed
    assert not stage.cancelled.is_set()
    stop.raise_error()


def test_lost_lease_cancels_at_once(database: Database, lease: RunLease) -> None:
    stage, stop = StubSource(), StopSignal(threading.Event(), 60)
    with database.writing() as session:
        session.execute(text("UPDATE sync_lease SET token = 'another'"))

    with LeaseHeartbeat(lease, stop, [stage]):
        cancelled = stage.cancelled.wait(10)

    assert (cancelled, stop.is_set) == (True, True)
    with pytest.raises(LeaseLostError, match="taken over"):
        stop.raise_error()


def test_stop_cancels_after_the_grace_period(
    lease: RunLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_control, "GRACE_SECONDS", 60.0)
    event, stage = threading.Event(), StubSource()
    event.set()

    with LeaseHeartbeat(lease, StopSignal(event, 60), [stage]):
        early = stage.cancelled.wait(0.5)
        monkeypatch.setattr(run_control, "GRACE_SECONDS", 0.0)
        late = stage.cancelled.wait(10)

    assert (early, late) == (False, True)


def test_wait_ends_when_the_run_is_stopped() -> None:
    event = threading.Event()
    threading.Timer(0.1, event.set).start()
    started_at = time.monotonic()

    StopSignal(event, 60).wait(30)

    assert time.monotonic() - started_at < 10

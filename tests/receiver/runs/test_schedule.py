"""The schedule of the grade sync: its pause, and when the next run is expected."""

from datetime import timedelta

import pytest

from foundation.db.session import Database
from receiver.errors import SyncPausedError
from receiver.runs import schedule
from receiver.runs import store as runs
from receiver.runs.schedule import Schedule
from tests.receiver.conftest import NINE

QUARTER = timedelta(minutes=15)


def begin(database: Database, *minutes: int, scheduled: bool = True) -> None:
    """Begin runs some minutes after nine."""
    with database.writing() as session:
        for minute in minutes:
            now = NINE + timedelta(minutes=minute)
            runs.begin(session, "elms@cron", scheduled=scheduled, now=now)


def read(database: Database) -> Schedule:
    """Return the schedule."""
    with database.reading() as session:
        return schedule.read(session)


def test_next_run_follows_from_the_usual_interval(database: Database) -> None:
    begin(database, 0, 15, 30)
    begin(database, 37, scheduled=False)
    begin(database, 75, 90)  # it was paused for a while

    known = read(database)

    assert known == Schedule(QUARTER, NINE + timedelta(minutes=105), 5)
    assert not known.is_overdue(now=NINE + timedelta(minutes=112))
    assert known.is_overdue(now=NINE + timedelta(minutes=113))


def test_two_runs_show_no_interval(database: Database) -> None:
    begin(database, 0, 15)

    known = read(database)

    assert known == Schedule(runs=2)
    assert not known.is_overdue(now=NINE + timedelta(days=1))


def test_sync_is_paused_until_it_is_resumed(database: Database) -> None:
    with database.writing() as session:
        schedule.pause(session, "ada", now=NINE)
        schedule.pause(session, "bob", now=NINE + QUARTER)
        with pytest.raises(SyncPausedError, match="2026-11-22 09:00:00 UTC by ada"):
            schedule.check_not_paused(session)

        schedule.resume(session)

        schedule.check_not_paused(session)
        assert schedule.get_pause(session) is None

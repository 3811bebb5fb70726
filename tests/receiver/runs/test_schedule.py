"""The schedule of the grade sync: its pause, and when the next run is expected."""

from datetime import timedelta

import pytest

from foundation.db.session import Database
from receiver.errors import SyncPausedError
from receiver.gradebook.base import ScoreCounts
from receiver.runs import schedule
from receiver.runs import store as runs
from receiver.runs.schedule import Schedule
from receiver.runs.store import RunResult
from tests.receiver.conftest import NINE

QUARTER = timedelta(minutes=15)


def begin(database: Database, *minutes: int, unattended: bool = True) -> None:
    """Begin runs some minutes after nine."""
    with database.writing() as session:
        for minute in minutes:
            now = NINE + timedelta(minutes=minute)
            runs.begin(session, "elms@cron", unattended=unattended, now=now)


def read(database: Database) -> Schedule:
    """Return the schedule."""
    with database.reading() as session:
        return schedule.read(session)


def test_next_run_follows_from_the_usual_interval(database: Database) -> None:
    begin(database, 0, 15, 30)
    begin(database, 37, unattended=False)
    begin(database, 75, 90)  # it was paused for a while

    known = read(database)

    assert known == Schedule(QUARTER, NINE + timedelta(minutes=105), 5)
    assert not known.is_overdue(now=NINE + timedelta(minutes=112))
    assert known.is_overdue(now=NINE + timedelta(minutes=113))


def test_run_that_a_pause_prevented_is_not_overdue(database: Database) -> None:
    begin(database, 0, 15, 30)
    with database.writing() as session:
        schedule.pause(session, "ada", now=NINE + timedelta(minutes=40))
        schedule.resume(session, now=NINE + timedelta(minutes=100))

    assert read(database).next_at == NINE + timedelta(minutes=105)


def test_run_that_another_run_prevented_is_not_overdue(database: Database) -> None:
    begin(database, 0, 15, 30)
    begin(database, 44, unattended=False)
    with database.writing() as session:
        runs.end(
            session,
            RunResult(4, (), ScoreCounts(0, 0, 0), 0, 0, 60.0, 0),
            now=NINE + timedelta(minutes=61),
        )

    assert read(database).next_at == NINE + timedelta(minutes=75)


def test_runs_within_a_minute_show_no_interval(database: Database) -> None:
    begin(database, 0, 0, 0)

    assert read(database) == Schedule(runs=3)


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

        schedule.resume(session, now=NINE + 2 * QUARTER)

        schedule.check_not_paused(session)
        assert schedule.get_pause(session) is None
        schedule.pause(session, "bob", now=NINE + 3 * QUARTER)
        with pytest.raises(SyncPausedError, match="2026-11-22 09:45:00 UTC by bob"):
            schedule.check_not_paused(session)

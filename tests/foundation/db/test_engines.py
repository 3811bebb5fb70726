"""How a database is reached: what a connection is set up with, and when it is given up."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from foundation.db import engines
from foundation.db.session import Database


@pytest.fixture
def impatient(database: Database) -> Iterator[Callable[[float], Database]]:
    """Return what opens the tests' database with so much patience for an answer."""
    made: list[Database] = []

    def make(answer: float) -> Database:
        url = database.engine.url.render_as_string(hide_password=False)
        made.append(Database(url, timeout=0.1, statement_timeout=answer))
        return made[-1]

    yield make
    for one in made:
        one.dispose()


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
class TestPatience:
    """A server that does not answer is given up as one that is away."""

    def test_an_answer_that_takes_too_long_is_not_waited_for(
        self, impatient: Callable[[float], Database]
    ) -> None:
        with pytest.raises(OperationalError) as caught, impatient(0.2).reading() as session:
            session.execute(text("SELECT pg_sleep(30)"))

        assert "the server did not respond within 0.3 seconds" in str(caught.value)

    def test_the_next_transaction_has_a_connection_of_its_own(
        self, impatient: Callable[[float], Database]
    ) -> None:
        database = impatient(0.2)
        with pytest.raises(OperationalError), database.reading() as session:
            session.execute(text("SELECT pg_sleep(30)"))

        with database.reading() as session:
            assert session.execute(text("SELECT 1")).scalar_one() == 1

    def test_a_migration_may_take_its_time(self, impatient: Callable[[float], Database]) -> None:
        database = impatient(0.1)

        with database.without_time_limit(), database.reading() as session:
            session.execute(text("SELECT pg_sleep(0.5)"))
        with pytest.raises(OperationalError), database.reading() as session:
            session.execute(text("SELECT pg_sleep(30)"))


class TestFile:
    """A connection to a file is one to the file of that name."""

    def test_a_file_that_was_replaced_is_opened_anew(self, tmp_path: Path) -> None:
        path, other = tmp_path / "x.db", tmp_path / "y.db"
        for one in (path, other):
            with closing(sqlite3.connect(one)) as raw:
                raw.execute("CREATE TABLE items (name TEXT)")
        database = Database(f"sqlite:///{path}")
        with database.reading() as session:
            session.execute(text("SELECT * FROM items"))

        other.rename(path)
        with database.writing() as session:
            session.execute(text("INSERT INTO items VALUES ('kept')"))
        database.dispose()

        with closing(sqlite3.connect(path)) as raw:
            assert raw.execute("SELECT * FROM items").fetchall() == [("kept",)]


class _Refused(sqlite3.OperationalError):
    """What SQLite raises with a code."""

    def __init__(self, code: int) -> None:
        super().__init__("refused")
        self.sqlite_errorcode = code


class _Cursor:
    """A cursor that refuses so many times."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.executed = 0

    def execute(self, _: str) -> None:
        """Refuse with the next code, or do it."""
        self.executed += 1
        if self.codes:
            raise _Refused(self.codes.pop(0))


class TestIntoWal:
    """Of two that open a new file at once, one waits."""

    def test_a_busy_file_is_tried_again(self) -> None:
        cursor = _Cursor(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY)

        engines.into_wal(cursor, timeout=20)  # type: ignore[arg-type]  # what it is asked is all

        assert cursor.executed == 3

    @pytest.mark.parametrize(
        ("code", "timeout"),
        [
            pytest.param(sqlite3.SQLITE_BUSY, 0, id="busy for too long"),
            pytest.param(sqlite3.SQLITE_CANTOPEN, 20, id="not to be opened"),
        ],
    )
    def test_what_does_not_pass_is_raised(self, code: int, timeout: float) -> None:
        cursor = _Cursor(code)

        with pytest.raises(sqlite3.OperationalError, match="refused"):
            engines.into_wal(cursor, timeout)  # type: ignore[arg-type]  # what it is asked is all

        assert cursor.executed == 1

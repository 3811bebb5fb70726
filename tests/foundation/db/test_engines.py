"""How connections are set up, and when they are given up."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from foundation.db import engines
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import ConfigurationError, DatabaseSetupError


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_server_that_does_not_respond_is_given_up_except_in_migrations(database: Database) -> None:
    sleep = text("SELECT pg_sleep(:seconds)")

    with database.separate_connection(timeout=0.1, statement_timeout=0.2) as impatient:
        with pytest.raises(OperationalError) as caught, impatient.reading() as session:
            session.execute(sleep, {"seconds": 30})
        with impatient.without_time_limit(), impatient.reading() as session:
            session.execute(sleep, {"seconds": 0.4})
        with pytest.raises(OperationalError), impatient.reading() as session:
            session.execute(sleep, {"seconds": 30})
        with impatient.reading() as session:
            found = session.execute(text("SELECT 1")).scalar_one()

    assert "the server did not respond within 0.3 seconds" in str(caught.value)
    assert found == 1


def test_replaced_file_is_opened_again(tmp_path: Path) -> None:
    path, other = tmp_path / "x.db", tmp_path / "y.db"
    for one in (path, other):
        with closing(sqlite3.connect(one)) as raw:
            raw.execute("CREATE TABLE items (name TEXT)")
    database = Database(f"sqlite:///{path}")
    with database.reading() as session:
        session.execute(text("SELECT * FROM items"))

    other.rename(path)
    with database.writing() as session:
        session.execute(text("INSERT INTO items VALUES ('stored')"))
    database.dispose()

    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT * FROM items").fetchall() == [("stored",)]


class Cursor:
    """A cursor whose statements fail with these codes, one after the other."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.executed = 0

    def execute(self, _: str) -> None:
        self.executed += 1
        if self.codes:
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = self.codes.pop(0)
            raise error


def test_busy_file_is_switched_to_wal_again() -> None:
    cursor = Cursor(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY)

    engines.enable_wal(cursor, timeout=20)  # type: ignore[arg-type]

    assert cursor.executed == 3


@pytest.mark.parametrize(
    ("code", "timeout"),
    [
        pytest.param(sqlite3.SQLITE_BUSY, 0, id="busy for too long"),
        pytest.param(sqlite3.SQLITE_CANTOPEN, 20, id="other error"),
    ],
)
def test_other_failure_to_switch_is_raised(code: int, timeout: float) -> None:
    cursor = Cursor(code)

    with pytest.raises(sqlite3.OperationalError, match="refused"):
        engines.enable_wal(cursor, timeout)  # type: ignore[arg-type]

    assert cursor.executed == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_file_in_a_read_only_folder_takes_no_writes(schema: Schema) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder}/x.db")
        schema.upgrade(database)
        database.dispose()
        folder.chmod(0o755)

        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                database.check_writable()
            except DatabaseSetupError as error:
                os._exit(0 if "read-only" in str(error) else 2)
            os._exit(1)

        assert os.waitpid(child, 0)[1] == 0
        database.check_writable()


def test_sqlite_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))

    with pytest.raises(ConfigurationError, match=r"3\.38 or newer is needed"):
        Database("sqlite://")

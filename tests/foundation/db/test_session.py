"""A database: transactions, column types, the clock, failures."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.session import Database
from tests.foundation.conftest import ITEMS, PARTS

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def add(database: Database, *names: str) -> None:
    with database.writing() as session:
        session.execute(insert(ITEMS), [{"name": name} for name in names])


def names(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(ITEMS.c.name).order_by(ITEMS.c.id)))


def stored(database: Database, column: str, value: object) -> object:
    """Store a value in a column, and return what is read back."""
    with database.writing() as session:
        session.execute(insert(ITEMS).values({column: value}))
    with database.reading() as session:
        return session.execute(select(ITEMS.c[column])).scalar_one()


def failure(database: Database, kinds: type[Exception] | tuple[type[Exception], ...]) -> str:
    """Return the cause of the error of the first statement."""
    with pytest.raises(kinds) as caught, database.reading() as session:
        session.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": "hunter2"})
    database.dispose()
    assert "hunter2" not in str(caught.value)
    return db.cause(caught.value)


def test_error_rolls_back_and_its_connection_stays_usable(database: Database) -> None:
    add(database, "one")
    with pytest.raises(IntegrityError):
        add(database, "two", "one")
    with database.reading() as session:
        session.execute(insert(ITEMS).values(name="three"))

    add(database, "four")

    assert names(database) == ["one", "four"]


def test_threads_that_read_then_write_lose_no_update(database: Database) -> None:
    each, count = 10, 4
    with database.writing() as session:
        session.execute(insert(ITEMS).values(number=0))

    def increment() -> None:
        for _ in range(each):
            with database.writing() as session:
                number = session.execute(select(ITEMS.c.number).with_for_update()).scalar_one()
                session.execute(update(ITEMS).values(number=number + 1))

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(increment) for _ in range(count)]

    assert [one.exception() for one in running] == [None] * count
    with database.reading() as session:
        assert session.execute(select(ITEMS.c.number)).scalar_one() == each * count


def test_statements_are_counted_without_begin(database: Database) -> None:
    before = database.statements

    with database.writing() as session:
        session.execute(insert(ITEMS).values(name="one"))
        session.execute(insert(ITEMS), [{"name": "two"}, {"name": "three"}])
    names(database)

    assert database.statements - before == 3


@pytest.mark.parametrize(
    "timestamp",
    [
        pytest.param(NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), id="zone"),
        pytest.param(NOON.replace(microsecond=0), id="whole second"),
        pytest.param(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), id="last"),
    ],
)
def test_timestamp_is_read_in_utc(database: Database, timestamp: datetime) -> None:
    read = stored(database, "happened_at", timestamp)

    assert isinstance(read, datetime)
    assert (read, read.utcoffset()) == (timestamp, timedelta(0))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        pytest.param("happened_at", NOON.replace(tzinfo=None), "has no time zone", id="naive"),
        pytest.param("points", 0.1, r"0\.1 is a float; points are Decimal", id="float"),
    ],
)
def test_inexact_value_is_refused(
    database: Database, column: str, value: object, message: str
) -> None:
    with pytest.raises(StatementError, match=message):
        stored(database, column, value)


@pytest.mark.parametrize(
    ("digits", "read"),
    [("0.10", "0.10"), ("12345678901234567890.5", "12345678901234567890.5"), ("1E+3", "1000")],
)
def test_every_digit_is_read(database: Database, digits: str, read: str) -> None:
    assert str(stored(database, "points", Decimal(digits))) == read


@pytest.mark.parametrize("column", ["happened_at", "points"])
def test_null_is_none(database: Database, column: str) -> None:
    assert stored(database, column, None) is None


def test_clock_is_aware_and_goes_on_within_a_transaction(database: Database) -> None:
    with database.reading() as session:
        began = db.now(session)
        time.sleep(0.002)
        later = db.now(session)

    assert began.utcoffset() == timedelta(0)
    assert abs(began - datetime.now(UTC)) < timedelta(seconds=30)
    assert later - began >= timedelta(milliseconds=2)


def test_references_are_enforced(database: Database) -> None:
    with (
        pytest.raises(IntegrityError, match=r"(?i)foreign key"),
        database.writing() as session,
    ):
        session.execute(insert(PARTS).values(item_id=12345))


def test_every_sqlite_connection_has_the_pragmas(new_sqlite: Database) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 200}

    with new_sqlite.reading() as one, new_sqlite.reading() as other:
        for session in (one, other):
            found = {name: session.execute(text(f"PRAGMA {name}")).scalar() for name in expected}
            assert found == expected


def test_sqlite_writers_wait_for_each_other_and_readers_do_not(new_sqlite: Database) -> None:
    with new_sqlite.writing() as session:
        session.execute(text("CREATE TABLE notes (id INTEGER)"))

    with new_sqlite.writing() as writer:
        writer.execute(text("INSERT INTO notes VALUES (1)"))
        with new_sqlite.reading() as reader:
            seen = reader.execute(text("SELECT count(*) FROM notes")).scalar_one()
        with (
            pytest.raises(OperationalError, match="database is locked") as caught,
            new_sqlite.writing() as second,
        ):
            second.connection()

    assert seen == 0
    assert caught.value.statement == "BEGIN IMMEDIATE"


def test_sqlite_rolls_back_a_new_table(new_sqlite: Database) -> None:
    def fail() -> None:
        with new_sqlite.writing() as session:
            session.execute(text("CREATE TABLE notes (id INTEGER)"))
            raise KeyError("cause")

    with pytest.raises(KeyError, match="cause"):
        fail()

    with new_sqlite.reading() as session:
        assert session.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one() == 0


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_terminated_connection_is_replaced(database: Database) -> None:
    with database.reading() as session:
        ended = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with database.separate_connection(timeout=5, statement_timeout=5) as other:
        terminate(other, ended)

    add(database, "stored")

    assert names(database) == ["stored"]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_database_that_terminates_each_connection_is_unavailable(database: Database) -> None:
    with database.reading() as session:
        ended = session.execute(text("SELECT pg_backend_pid()")).scalar_one()

    with database.separate_connection(timeout=5, statement_timeout=5) as other:
        event.listen(
            database.engine, "connect", lambda one, _: terminate(other, one.info.backend_pid)
        )
        terminate(other, ended)

        with pytest.raises(db.UNAVAILABLE):
            names(database)


def terminate(other: Database, pid: int) -> None:
    with other.writing() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(
            "postgresql+psycopg://user:hunter2@127.0.0.1:1/none", "connection failed", id="server"
        ),
        pytest.param("sqlite:///none/x.db", "there is no folder none", id="folder"),
        pytest.param("sqlite:///y.db", "there is no file y.db", id="file"),
        pytest.param("sqlite:///x.db", "file is not a database", id="other file"),
    ],
)
def test_database_that_cannot_be_opened_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.db").write_bytes(b"This is no database. " * 100)

    cause = failure(Database(url, timeout=1), db.UNAVAILABLE)

    assert message in cause
    assert "\n" not in cause


def test_missing_table_is_unusable(database: Database) -> None:
    assert "nowhere" in failure(database, db.UNUSABLE)


@pytest.mark.usefixtures("new_sqlite")
def test_exhausted_pool_is_unavailable(sqlite_url: str) -> None:
    database = Database(sqlite_url, timeout=0.05, pool_size=1)
    sessions = [Session(database.engine) for _ in range(12)]

    for session in sessions[:-1]:
        session.connection()
    with pytest.raises(db.UNAVAILABLE) as caught:
        sessions[-1].connection()

    for session in sessions:
        session.close()
    database.dispose()
    assert "limit of size 1" in db.cause(caught.value)


def test_cause_names_neither_statement_nor_values(database: Database) -> None:
    add(database, "eas_planted")

    with pytest.raises(IntegrityError) as caught:
        add(database, "eas_planted")

    cause = db.cause(caught.value)
    assert "unique" in cause.lower()
    assert "eas_planted" not in cause
    assert "INSERT" not in cause
    assert "\n" not in cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        pytest.param(ValueError("\n a\tlong   story\nDETAIL: x"), "a long story", id="first line"),
        pytest.param(ValueError("x" * 5000), "x" * 300, id="300 characters"),
        pytest.param(ValueError(""), "ValueError", id="no message"),
    ],
)
def test_cause_is_one_short_line(error: Exception, cause: str) -> None:
    assert db.cause(error) == cause


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_condition_over_many_values_uses_an_index(database: Database) -> None:
    query = select(ITEMS.c.name).where(db.among(ITEMS.c.id, [1]), ITEMS.c.name != "")

    with database.reading() as session:
        connection = session.connection()
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {query.compile(connection)}", ("[1]", "")
        ).all()

    assert plan[0].detail == "SEARCH items USING INTEGER PRIMARY KEY (rowid=?)"


def test_condition_over_more_values_than_a_statement_has_parameters(database: Database) -> None:
    add(database, "a", "'b", "ö\\", "d")
    by_name = db.among(ITEMS.c.name, [*map(str, range(100_000)), "'b", "ö\\"])
    by_id = db.among(ITEMS.c.id, range(2, 200_000))

    with database.reading() as session:
        assert set(session.scalars(select(ITEMS.c.name).where(by_name))) == {"'b", "ö\\"}
        assert len(session.scalars(select(ITEMS.c.id).where(by_id)).all()) == 3

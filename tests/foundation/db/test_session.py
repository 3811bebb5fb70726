"""One database: how it is reached, and what its columns may hold."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from freezegun import freeze_time
from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def names(database: Database, items: Table) -> list[str]:
    """Return the names of the items that are committed."""
    with database.reading() as session:
        return list(session.scalars(select(items.c.name).order_by(items.c.id)))


def kept(database: Database, items: Table, column: str, value: object) -> object:
    """Store a value in a column, and return what is read back."""
    with database.writing() as session:
        session.execute(insert(items).values({column: value}))
    with database.reading() as session:
        return session.execute(select(items.c[column])).scalar_one()


class TestTransactions:
    """Returning commits, raising rolls back."""

    def test_returning_commits(self, database: Database, items: Table) -> None:
        with database.writing() as session:
            session.execute(insert(items).values(name="kept"))

        assert names(database, items) == ["kept"]

    def test_raising_rolls_back(self, database: Database, items: Table) -> None:
        def fail() -> None:
            with database.writing() as session:
                session.execute(insert(items).values(name="lost"))
                raise KeyError("the cause")

        with pytest.raises(KeyError, match="the cause"):
            fail()

        assert names(database, items) == []

    def test_reading_keeps_nothing(self, database: Database, items: Table) -> None:
        with database.reading() as session:
            session.execute(insert(items).values(name="lost"))

        assert names(database, items) == []

    def test_a_failed_transaction_leaves_its_connection_usable(
        self, database: Database, items: Table
    ) -> None:
        with database.writing() as session:
            session.execute(insert(items).values(name="one"))
        with pytest.raises(IntegrityError), database.writing() as session:
            session.execute(insert(items).values(name="one"))

        with database.writing() as session:
            session.execute(insert(items).values(name="two"))

        assert names(database, items) == ["one", "two"]

    def test_threads_that_read_and_then_write_lose_no_update(
        self, database: Database, items: Table
    ) -> None:
        each, threads = 25, 4
        with database.writing() as session:
            session.execute(insert(items).values(name="counter", number=0))
        failures: list[BaseException] = []

        def count() -> None:
            try:
                for _ in range(each):
                    with database.writing() as session:
                        number = session.execute(select(items.c.number).with_for_update())
                        session.execute(update(items).values(number=number.scalar_one() + 1))
            except BaseException as failure:  # noqa: BLE001 - shown by the assertion below
                failures.append(failure)

        running = [threading.Thread(target=count) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

        with database.reading() as session:
            counted = session.execute(select(items.c.number)).scalar_one()
        assert failures == []
        assert counted == each * threads

    def test_a_statement_is_counted_and_a_begin_is_not(
        self, database: Database, items: Table
    ) -> None:
        before = database.statements

        with database.writing() as session:
            session.execute(insert(items).values(name="one"))
            session.execute(insert(items), [{"name": "two"}, {"name": "three"}])
        with database.reading() as session:
            session.execute(select(items))

        assert database.statements - before == 3

    def test_a_session_knows_what_the_database_was_given(
        self, make_database_url: Callable[[Schema], str], ground: Schema
    ) -> None:
        database = Database(make_database_url(ground), info={"source": "here"})

        with database.reading() as reading, database.writing() as writing:
            known = [reading.info["source"], writing.info["source"]]

        database.dispose()
        assert known == ["here", "here"]


class TestUtcDateTime:
    """Aware moments, alike on every database."""

    @pytest.mark.parametrize(
        "moment",
        [
            pytest.param(NOON, id="with microseconds"),
            pytest.param(NOON.replace(microsecond=0), id="of a whole second"),
            pytest.param(NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), id="in a zone"),
            pytest.param(datetime(1970, 1, 1, tzinfo=UTC), id="long ago"),
            pytest.param(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), id="far ahead"),
        ],
    )
    def test_a_moment_comes_back_in_utc(
        self, database: Database, items: Table, moment: datetime
    ) -> None:
        read = kept(database, items, "happened_at", moment)

        assert isinstance(read, datetime)
        assert read == moment
        assert read.utcoffset() == timedelta(0)

    def test_nothing_stays_nothing(self, database: Database, items: Table) -> None:
        assert kept(database, items, "happened_at", None) is None

    def test_a_naive_moment_is_refused(self, database: Database, items: Table) -> None:
        naive = NOON.replace(tzinfo=None)

        with pytest.raises(
            StatementError, match=r"datetime.*has no time zone; timestamps are aware"
        ):
            kept(database, items, "happened_at", naive)

    def test_moments_compare_in_the_database(self, database: Database, items: Table) -> None:
        moments = [NOON + timedelta(microseconds=step) for step in (-1, 0, 1)]
        with database.writing() as session:
            session.execute(insert(items), [{"happened_at": moment} for moment in moments])
        bound = NOON.astimezone(timezone(timedelta(hours=-11)))

        with database.reading() as session:
            found = session.scalars(
                select(items.c.happened_at).where(items.c.happened_at <= bound).order_by(items.c.id)
            ).all()

        assert found == moments[:2]


class TestExactDecimal:
    """Decimals, digit by digit."""

    @pytest.mark.parametrize(
        "digits", ["0", "0.1", "7.50", "0.00001", "9999999999.99999", "12345678901234567890.5"]
    )
    def test_every_digit_comes_back(self, database: Database, items: Table, digits: str) -> None:
        assert str(kept(database, items, "points", Decimal(digits))) == digits

    def test_an_exponent_is_written_out(self, database: Database, items: Table) -> None:
        assert kept(database, items, "points", Decimal("1E+3")) == Decimal(1000)

    def test_nothing_stays_nothing(self, database: Database, items: Table) -> None:
        assert kept(database, items, "points", None) is None

    def test_a_float_is_refused(self, database: Database, items: Table) -> None:
        with pytest.raises(StatementError, match=r"0\.1 is a float; points are Decimal"):
            kept(database, items, "points", 0.1)


class TestNow:
    """The one clock that all machines on a database share."""

    def test_it_is_aware_and_near_ours(self, database: Database) -> None:
        with database.reading() as session:
            moment = db.now(session)

        assert moment.utcoffset() == timedelta(0)
        assert abs(moment - datetime.now(UTC)) < timedelta(seconds=30)

    def test_it_goes_on_within_a_transaction(self, database: Database) -> None:
        with database.reading() as session:
            began = db.now(session)
            time.sleep(0.002)
            later = db.now(session)

        assert later - began >= timedelta(milliseconds=2)

    def test_an_embedded_database_has_this_machines_clock(self, new_sqlite: Database) -> None:
        with freeze_time(NOON), new_sqlite.reading() as session:
            moment = db.now(session)

        assert moment == NOON


class TestInsert:
    """One way to insert what may be there already."""

    def test_a_duplicate_is_answered_by_the_database(
        self, database: Database, items: Table
    ) -> None:
        def add() -> bool:
            statement = db.insert(session, items).values(name="one", number=1)
            taken = statement.on_conflict_do_nothing(index_elements=["name"])
            return session.execute(taken.returning(items.c.id)).first() is not None

        with database.writing() as session:
            first = add()
        with database.writing() as session:
            second = add()

        assert (first, second) == (True, False)
        assert names(database, items) == ["one"]


class TestSqlite:
    """The embedded default, as it has to be opened."""

    @pytest.mark.parametrize(
        ("pragma", "value"),
        [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 200)],
    )
    def test_every_connection_is_prepared(
        self, new_sqlite: Database, pragma: str, value: object
    ) -> None:
        with new_sqlite.reading() as one, new_sqlite.reading() as other:
            said = [session.execute(text(f"PRAGMA {pragma}")).scalar() for session in (one, other)]

        assert said == [value, value]

    def test_a_writer_begins_immediate(self, new_sqlite: Database) -> None:
        def begin() -> None:
            with new_sqlite.writing() as session:
                session.connection()

        with new_sqlite.writing() as first:
            first.connection()
            with pytest.raises(OperationalError, match="database is locked") as caught:
                begin()

        assert caught.value.statement == "BEGIN IMMEDIATE"

    def test_readers_do_not_wait_for_a_writer(self, new_sqlite: Database) -> None:
        with new_sqlite.writing() as session:
            session.execute(text("CREATE TABLE notes (id INTEGER)"))

        with new_sqlite.writing() as writer:
            writer.execute(text("INSERT INTO notes VALUES (1)"))
            with new_sqlite.reading() as reader:
                seen = reader.execute(text("SELECT count(*) FROM notes")).scalar_one()

        assert seen == 0

    def test_the_schema_is_changed_in_the_transaction(self, new_sqlite: Database) -> None:
        def fail() -> None:
            with new_sqlite.writing() as session:
                session.execute(text("CREATE TABLE notes (id INTEGER)"))
                raise KeyError("the cause")

        with pytest.raises(KeyError, match="the cause"):
            fail()

        with new_sqlite.reading() as session:
            assert session.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one() == 0

    def test_it_says_that_it_is_embedded(self, new_sqlite: Database) -> None:
        assert new_sqlite.is_sqlite


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
class TestPostgresql:
    """The database that several machines share."""

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("timezone", "UTC"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "1min"),
        ],
    )
    def test_every_connection_is_prepared(
        self, database: Database, setting: str, value: str
    ) -> None:
        with database.reading() as session:
            said = session.execute(text(f"SHOW {setting}")).scalar_one()

        assert said == value

    def test_it_says_that_it_is_not_embedded(self, database: Database) -> None:
        assert not database.is_sqlite

    def test_a_terminated_connection_is_replaced(self, database: Database, items: Table) -> None:
        with database.reading() as session:
            ended = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        other = Database(database.engine.url.render_as_string(hide_password=False))
        with other.writing() as session:
            session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": ended})
        other.dispose()

        with database.writing() as session:
            session.execute(insert(items).values(name="kept"))

        assert names(database, items) == ["kept"]


def test_references_hold(database: Database, parts: Table) -> None:
    with (
        pytest.raises(IntegrityError, match=r"(?i)foreign key"),
        database.writing() as session,
    ):
        session.execute(insert(parts).values(item_id=12345))


class TestUnavailable:
    """What a database that cannot be used raises, and what is said of it."""

    def test_nothing_is_connected_before_the_first_transaction(self) -> None:
        database = Database("postgresql+psycopg://nobody:hunter2@127.0.0.1:1/none", timeout=1)

        with pytest.raises(db.UNAVAILABLE) as caught, database.reading() as session:
            session.connection()

        said = db.cause(caught.value)
        assert "connection failed" in said
        assert "hunter2" not in said
        assert "\n" not in said

    def test_a_file_that_cannot_be_opened_is_unavailable(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path / 'none' / 'x.db'}")

        with pytest.raises(db.UNAVAILABLE) as caught, database.reading() as session:
            session.connection()

        assert db.cause(caught.value) == "unable to open database file"

    def test_a_file_that_is_no_database_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "x.db").write_bytes(b"This is no database. " * 100)
        database = Database(f"sqlite:///{tmp_path / 'x.db'}")

        with pytest.raises(db.UNAVAILABLE) as caught, database.reading() as session:
            session.connection()

        database.dispose()
        assert db.cause(caught.value) == "file is not a database"

    def test_a_missing_table_is_unusable(self, database: Database) -> None:
        with pytest.raises(db.UNUSABLE) as caught, database.reading() as session:
            session.execute(text("SELECT * FROM nowhere"))

        assert "nowhere" in db.cause(caught.value)

    def test_a_pool_without_a_free_connection_is_unavailable(self, sqlite_url: str) -> None:
        database = Database(sqlite_url, timeout=0.05, pool_size=1)
        sessions = [Session(database.engine) for _ in range(12)]

        for session in sessions[:-1]:
            session.connection()
        with pytest.raises(PoolTimeoutError) as caught:
            sessions[-1].connection()

        for session in sessions:
            session.close()
        database.dispose()
        assert isinstance(caught.value, db.UNAVAILABLE)
        assert "limit of size 1" in db.cause(caught.value)

    def test_the_cause_names_neither_statement_nor_values(
        self, database: Database, items: Table
    ) -> None:
        with database.writing() as session:
            session.execute(insert(items).values(name="eas_planted"))

        with pytest.raises(IntegrityError) as caught, database.writing() as session:
            session.execute(insert(items).values(name="eas_planted"))

        said = db.cause(caught.value)
        assert "unique" in said.lower()
        assert "eas_planted" not in said
        assert "INSERT" not in said
        assert "\n" not in said

    def test_an_exception_hides_its_parameters(self, database: Database) -> None:
        with pytest.raises(db.DBAPIError) as caught, database.reading() as session:
            session.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": "hunter2"})

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            pytest.param(ValueError("a\tlong   story"), "a long story", id="spaces"),
            pytest.param(ValueError("first\nDETAIL: second"), "first", id="its first line"),
            pytest.param(ValueError("\n first\nsecond"), "first", id="a blank line before it"),
            pytest.param(ValueError("x" * 5000), "x" * 300, id="its first 300 characters"),
            pytest.param(ValueError(""), "ValueError", id="no words"),
        ],
    )
    def test_the_cause_is_one_short_line(self, error: Exception, said: str) -> None:
        assert db.cause(error) == said

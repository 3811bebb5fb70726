"""Statements over many rows in one parameter."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import JSON, Integer, Text, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from foundation.db import bulk
from foundation.db.bulk import RowsStatement
from foundation.db.migrations import Schema
from foundation.db.session import Database, ExactDecimal, UtcDateTime
from notifier.models import SCHEMA

AT = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)


class Base(DeclarativeBase):
    pass


class Sample(Base):
    __tablename__ = "samples"

    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int | None]
    text: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    points: Mapped[Decimal | None] = mapped_column(ExactDecimal)
    is_kept: Mapped[bool | None]
    listed: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))


@pytest.fixture
def database(make_database: Callable[[Schema], Database]) -> Iterator[Database]:
    """A database with the samples, which are dropped: later tests use the same database."""
    made = make_database(SCHEMA)
    Base.metadata.create_all(made.engine)
    yield made
    Base.metadata.drop_all(made.engine)


def insert(database: Database, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Insert rows; return what is stored, without the ids."""
    table = Sample.__table__
    empty = {column.name: None for column in table.columns}
    with database.writing() as session:
        bulk.insert(session, Sample, [{**empty, "id": n, **row} for n, row in enumerate(rows)])
    with database.reading() as session:
        stored = session.execute(select(*table.columns).order_by(table.c.id)).mappings()
        return [{name: row[name] for name in row if name != "id"} for row in stored]


def test_values_of_each_type_are_stored(database: Database) -> None:
    row = {
        "order": 2**31 - 1,
        "text": "ä 'quoted' \"twice\" \\ {given} :rows % \u2028\n",
        "at": AT,
        "points": Decimal("0.10"),
        "is_kept": True,
        "listed": ["a", "{", None, 1],
    }
    empty = dict.fromkeys(row)

    assert insert(database, row, empty) == [row, empty]


def test_text_that_looks_like_a_number_stays_text(database: Database) -> None:
    (stored,) = insert(database, {"text": "007", "points": Decimal("1E+2")})

    assert (stored["text"], stored["points"]) == ("007", Decimal(100))


def test_timestamps_are_stored_in_utc(database: Database) -> None:
    there = AT.astimezone(timezone(timedelta(hours=5)))

    (stored,) = insert(database, {"at": there})

    assert (stored["at"], stored["at"].utcoffset()) == (AT, timedelta(0))


def test_naive_timestamp_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        insert(database, {"at": AT.replace(tzinfo=None)})


def test_no_rows_are_no_statement(database: Database) -> None:
    before = database.statements

    insert(database)

    assert database.statements == before + 1  # what reads


def test_rows_are_one_statement(database: Database) -> None:
    update = RowsStatement(
        {"id": Integer(), "text": Text()},
        'UPDATE samples SET text = given.text, "at" = :at FROM {given} WHERE samples.id = given.id',
        at=UtcDateTime(),
    )
    insert(database, {"text": "a"}, {"text": "b"}, {"text": "c"})
    before = database.statements

    with database.writing() as session:
        changed = update.execute(
            session, [{"id": 0, "text": "x"}, {"id": 2, "text": None}], at=AT
        ).rowcount

    assert (changed, database.statements - before) == (2, 1)
    with database.reading() as session:
        rows = session.execute(select(Sample.text, Sample.at).order_by(Sample.id)).all()
    assert rows == [("x", AT), ("b", None), (None, AT)]

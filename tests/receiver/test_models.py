"""The tables of ELMS and their migrations."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger

from foundation.db.session import Database
from receiver.models import SCHEMA


def test_migrations_make_the_models(database: Database) -> None:
    with database.reading() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"compare_type": True, "compare_server_default": True}
        )
        differences = compare_metadata(context, SCHEMA.metadata)

    assert differences == []


def test_version_columns_hold_the_highest_version() -> None:
    types = [
        column.type
        for table in SCHEMA.metadata.tables.values()
        for column in table.columns
        if column.name.endswith("version")
    ]

    assert {type(one) for one in types} == {BigInteger}


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_ids_are_never_reused(database: Database) -> None:
    with database.reading() as session:
        rows = session.connection().exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
        )
        named = {name for (name,) in rows}

    assert named == {
        "audit",
        "sources",
        "source_secrets",
        "entries",
        "history",
        "runs",
        "run_courses",
        "run_people",
        "users",
        "sign_in_failures",
    }

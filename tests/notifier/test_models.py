"""The models and the migrations agree, and a failed migration leaves nothing behind."""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, make_url, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA, Base, Course, Delivery, DeliveryStatus

FAILING = """
import sqlalchemy as sa
from alembic import op

revision = "n9999"
down_revision = {head!r}


def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("courses", sa.Column("half", sa.Text(), nullable=True))
    op.execute("UPDATE courses SET half = 'done'")
    op.execute("INSERT INTO nowhere VALUES (1)")
"""


def test_the_migrations_lead_to_the_models(database: Database) -> None:
    options = {"compare_type": True, "compare_server_default": True}
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_every_constraint_has_its_name(database: Database) -> None:
    inspector = inspect(database.engine)
    named = {
        one["name"]
        for table in Base.metadata.tables
        for one in (
            *inspector.get_foreign_keys(table),
            *inspector.get_unique_constraints(table),
            *inspector.get_check_constraints(table),
        )
    }

    assert named == {
        "ck_deliveries_status",
        "fk_attempts_delivery_id",
        "fk_deliveries_endpoint_id",
        "fk_deliveries_event_id",
        "fk_endpoint_secrets_endpoint_id",
        "fk_grades_course_pk",
        "fk_issued_tokens_course_pk",
        "fk_endpoint_pings_endpoint_id",
        "fk_replays_delivery_id",
        "uq_courses_course_id",
        "uq_deliveries_event_id_endpoint_id",
        "uq_endpoints_url",
        "uq_issued_tokens_token_id",
        "uq_users_name_key",
    }


def test_upgrading_twice_is_harmless(database: Database, make_course: Any) -> None:
    make_course("CS101")

    before = SCHEMA.upgrade(database)

    assert before == SCHEMA.head
    with database.reading() as session:
        assert session.query(Course).count() == 1


def test_a_migration_that_fails_leaves_nothing_behind(
    database: Database, make_course: Any, tmp_path: Path
) -> None:
    make_course("CS101")
    versions = tmp_path / "versions"
    shutil.copytree(Path(str(files("migrations"))) / "notifier", versions)
    (versions / "n9999.py").write_text(FAILING.format(head=SCHEMA.head), encoding="utf-8")
    failing = Schema("notifier", Base.metadata, versions=versions)

    with pytest.raises(SQLAlchemyError, match="nowhere"):
        failing.upgrade(database)

    inspector = inspect(database.engine)
    assert "half" not in inspector.get_table_names()
    assert "half" not in {column["name"] for column in inspector.get_columns("courses")}
    assert SCHEMA.current(database) == SCHEMA.head
    SCHEMA.check(database)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"status": "failed"}, id="a status that there is not"),
        pytest.param({"endpoint_id": 999}, id="an endpoint that there is not"),
        pytest.param({"event_id": "msg_none"}, id="an event that there is not"),
        pytest.param({"due_at": None}, id="never due"),
    ],
)
def test_the_database_itself_refuses_a_delivery_that_cannot_be(
    database: Database, make_endpoint: Any, make_delivery: Any, change: dict[str, Any]
) -> None:
    delivery_id = make_delivery(make_endpoint().id)

    wrong = update(Delivery).where(Delivery.id == delivery_id).values(**change)

    with database.reading() as session, pytest.raises(IntegrityError):
        session.execute(wrong)


def test_the_check_knows_every_status() -> None:
    (check,) = (
        one
        for one in Base.metadata.tables["deliveries"].constraints
        if one.name == "ck_deliveries_status"
    )

    named = {status.value for status in DeliveryStatus}
    assert named == set(str(check.sqltext).split("'")[1::2])


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_read_only_database_is_unavailable(database: Database) -> None:
    """A server that has become read-only is unavailable, not an unexpected error (F10)."""
    url = make_url(str(database.engine.url.render_as_string(hide_password=False)))
    engine = create_engine(url, connect_args={"options": "-c default_transaction_read_only=on"})

    with engine.connect() as connection, pytest.raises(db.UNAVAILABLE):
        connection.execute(text("CREATE TABLE refused (id int)"))
    engine.dispose()

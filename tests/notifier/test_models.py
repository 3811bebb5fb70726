"""The models and the migrations agree, and the database refuses what cannot be."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text, update
from sqlalchemy.exc import IntegrityError

from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Base, Delivery
from tests.notifier.conftest import Store


def test_migrations_make_the_models(database: Database) -> None:
    options = {"compare_type": True, "compare_server_default": True}
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_every_constraint_has_a_name(database: Database) -> None:
    inspector = inspect(database.engine)
    names = [
        one["name"]
        for table in Base.metadata.tables
        for one in (
            *inspector.get_foreign_keys(table),
            *inspector.get_unique_constraints(table),
            *inspector.get_check_constraints(table),
        )
    ]

    assert len(names) > 10
    assert all(name.startswith(("ck_", "fk_", "uq_")) for name in names)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"status": "failed"}, id="unknown status"),
        pytest.param({"endpoint_id": 999}, id="unknown endpoint"),
        pytest.param({"event_id": "msg_none"}, id="unknown event"),
        pytest.param({"due_at": None}, id="never due"),
    ],
)
def test_database_refuses_an_impossible_delivery(store: Store, change: dict[str, Any]) -> None:
    delivery_id = store.add_delivery(store.add_endpoint().id)
    wrong = update(Delivery).where(Delivery.id == delivery_id).values(**change)

    with pytest.raises(IntegrityError):
        store.read(lambda session: session.execute(wrong))


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_read_only_database_is_unavailable(database_url: str) -> None:
    """A server that has become read-only is unavailable, not an unexpected error (F10)."""
    options = {"options": "-c default_transaction_read_only=on"}
    engine = create_engine(database_url, connect_args=options)

    with engine.connect() as connection, pytest.raises(db.UNAVAILABLE):
        connection.execute(text("CREATE TABLE refused (id int)"))
    engine.dispose()

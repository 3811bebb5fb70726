"""A sample service: its tables, its migrations, its databases."""

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table

from foundation.db.migrations import Schema
from foundation.db.session import Database, ExactDecimal, UtcDateTime

METADATA = MetaData()
ITEMS = Table(
    "items",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), unique=True),
    Column("number", Integer),
    Column("points", ExactDecimal),
    Column("happened_at", UtcDateTime),
)
PARTS = Table(
    "parts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("item_id", ForeignKey("items.id"), nullable=False),
)


def write_revision(folder: Path, revision: str, after: str | None, steps: str) -> None:
    head = f"""
        import sqlalchemy as sa
        from alembic import op

        revision = {revision!r}
        down_revision = {after!r}


        def upgrade():
    """
    text = dedent(head).rstrip() + "\n" + indent(steps, "    ") + "\n"
    (folder / f"{revision}.py").write_text(text)


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """The schema of the sample service: two tables, one revision."""
    folder = tmp_path_factory.mktemp("sample")
    steps = "from tests.foundation.conftest import METADATA\nMETADATA.create_all(op.get_bind())"
    write_revision(folder, "0001", None, steps)
    return Schema("sample", METADATA, versions=folder)


@pytest.fixture
def database(make_database: Callable[[Schema], Database], schema: Schema) -> Database:
    return make_database(schema)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new.db'}"


@pytest.fixture
def new_sqlite(sqlite_url: str) -> Iterator[Database]:
    """An empty SQLite file without a schema."""
    Path(sqlite_url.removeprefix("sqlite:///")).touch()
    made = Database(sqlite_url, timeout=0.2)
    yield made
    made.dispose()

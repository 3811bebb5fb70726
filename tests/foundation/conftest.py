"""A service of the tests' own to stand on the ground: its settings, its tables, its history."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import structlog
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

FIRST = "0001"
FIRST_STEPS = """
    from foundation.db.session import ExactDecimal, UtcDateTime

    op.create_table(
        "items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), unique=True),
        sa.Column("number", sa.Integer),
        sa.Column("points", ExactDecimal),
        sa.Column("happened_at", UtcDateTime),
    )
    op.create_table(
        "parts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
    )
"""


def write_revision(folder: Path, revision: str, after: str | None, steps: str) -> None:
    """Write a revision of the tests' service into a folder of revisions."""
    head = f"""
        import sqlalchemy as sa
        from alembic import op

        revision = {revision!r}
        down_revision = {after!r}


        def upgrade():
    """
    body = "\n".join(f"    {line}" for line in dedent(steps).strip().split("\n"))
    (folder / f"{revision}.py").write_text(dedent(head).rstrip() + "\n" + body + "\n")


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """An empty folder of revisions."""
    folder = tmp_path / "versions"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """The schema of the tests' service: two tables, one revision."""
    folder = tmp_path_factory.mktemp("ground")
    write_revision(folder, FIRST, None, FIRST_STEPS)
    return Schema("ground", METADATA, versions=folder)


@pytest.fixture
def database(make_database: Callable[[Schema], Database], ground: Schema) -> Database:
    """An empty, migrated database of the tests' service, on SQLite and on PostgreSQL."""
    return make_database(ground)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'new.db'}"


@pytest.fixture
def new_sqlite(sqlite_url: str) -> Iterator[Database]:
    """A SQLite database without a schema."""
    made = Database(sqlite_url, timeout=0.2)
    yield made
    made.dispose()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Give the process its logging back after a test that sets up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.contextvars.clear_contextvars()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def items() -> Table:
    """The tests' service's table of items."""
    return ITEMS


@pytest.fixture
def parts() -> Table:
    """The tests' service's table of parts, each of an item."""
    return PARTS


@pytest.fixture
def revise(versions: Path) -> Callable[[str, str | None, str], None]:
    """Return what writes a revision into `versions`: its name, the one before it, its steps."""

    def write(revision: str, after: str | None, steps: str) -> None:
        write_revision(versions, revision, after, steps)

    return write

"""`db upgrade`, killed while it creates the schema."""

import signal
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA as NOTIFIER_SCHEMA
from receiver.models import SCHEMA as RECEIVER_SCHEMA
from tests.conftest import Postgres
from tests.faults import processes, site
from tests.faults.failpoints import Fault, Point


@pytest.fixture
def bare_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'bare.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.bare_database("bare")


def upgrade(folder: Path, schema: Schema, url: str, fault: Fault | None = None) -> int:
    """Run a service's `db upgrade` and return its exit code."""
    process = processes.start(
        schema.service,
        "db",
        "upgrade",
        folder=folder,
        environment=site.environment(site.new_key(), url, url),
        wait=site.WAIT_SECONDS,
        margin=site.MARGIN_SECONDS,
        fault=fault,
    )
    return process.wait_ended()


@pytest.mark.parametrize("schema", [NOTIFIER_SCHEMA, RECEIVER_SCHEMA], ids=lambda one: one.service)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(Point.MIGRATING, nth=1), id="after the first step"),
        pytest.param(Fault(Point.MIGRATING, nth=6), id="half-way"),
        pytest.param(Fault(Point.BEFORE_COMMIT), id="before the commit"),
    ],
)
def test_killed_migration_can_be_run_again(
    tmp_path: Path, bare_url: str, schema: Schema, fault: Fault
) -> None:
    killed = upgrade(tmp_path / "killed", schema, bare_url, fault)
    database = Database(bare_url)
    left = schema.current(database)

    code = upgrade(tmp_path / "again", schema, bare_url)

    with database.reading() as session:
        context = MigrationContext.configure(session.connection())
        difference = compare_metadata(context, schema.metadata)
    schema.check(database)
    database.dispose()
    assert (killed, left, code) == (-signal.SIGKILL, None, 0)
    assert difference == []

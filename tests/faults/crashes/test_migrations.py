"""`db upgrade`, killed, failing at any statement, or run several times at once."""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, inspect

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER
from tests.conftest import Postgres
from tests.faults import processes, site
from tests.faults.failpoints import Fault, Point
from tests.faults.processes import Process

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

both_services = pytest.mark.parametrize(
    "schema", [pytest.param(one, id=one.service) for one in (NOTIFIER, RECEIVER)]
)


@pytest.fixture
def bare_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'bare.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.bare_database("bare")


@pytest.fixture
def upgrade(bare_url: str, tmp_path: Path) -> Callable[..., Process]:
    """Return a function that starts `db upgrade` of a service."""
    numbers = itertools.count()

    def start(schema: Schema, fault: Fault | None = None) -> Process:
        return processes.start(
            *(schema.service, "db", "upgrade"),
            folder=tmp_path / f"upgrade-{next(numbers)}",
            environment={
                **site.environment(KEY, bare_url, bare_url),
                f"{schema.service.upper()}_DATABASE_TIMEOUT": "60",
            },
            wait=site.WAIT_SECONDS,
            fault=fault,
        )

    return start


@both_services
def test_killed_upgrade_can_be_run_again(
    upgrade: Callable[..., Process], bare_url: str, schema: Schema
) -> None:
    killed = upgrade(schema, Fault(Point.BEFORE_COMMIT)).wait_ended()
    database = Database(bare_url)
    left = schema.current(database)

    code = upgrade(schema).wait_ended()

    schema.check(database)
    database.dispose()
    assert (killed, left, code) == (-signal.SIGKILL, None, 0)


@both_services
def test_upgrade_that_fails_at_any_statement_leaves_nothing(bare_url: str, schema: Schema) -> None:
    failed = 0
    while not upgrades(schema, bare_url, fails_at=failed):
        failed += 1

    database = Database(bare_url)
    schema.check(database)
    database.dispose()
    assert failed > 10


def upgrades(schema: Schema, url: str, *, fails_at: int) -> bool:
    """Return whether the upgrade succeeded; check that otherwise it left nothing."""
    database, changes = Database(url), itertools.count()

    def fail(_: object, __: object, statement: str, *___: object) -> None:
        if statement.lstrip().startswith(("CREATE", "INSERT", "ALTER", "UPDATE")):
            assert next(changes) != fails_at, "this statement fails"

    event.listen(database.engine, "before_cursor_execute", fail)
    try:
        schema.upgrade(database)
    except AssertionError:
        event.remove(database.engine, "before_cursor_execute", fail)
        assert inspect(database.engine).get_table_names() == []
        return False
    finally:
        database.dispose()
    return True


@both_services
def test_one_of_concurrent_upgrades_creates_the_schema(
    upgrade: Callable[..., Process], schema: Schema
) -> None:
    upgrading = [upgrade(schema) for _ in range(3)]

    codes = [one.wait_ended() for one in upgrading]

    printed = [one.printed() for one in upgrading]
    assert codes == [0, 0, 0], [one.logged() for one in upgrading]
    assert sum("before: new database" in one for one in printed) == 1
    assert sum("already" in one for one in printed) == 2

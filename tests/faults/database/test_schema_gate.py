"""A process refuses to start on a schema that is not its own; half a migration is never there."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, inspect

from demo.processes import Machines, machines
from foundation.db.migrations import Schema
from foundation.db.session import Database
from tests.faults.database.conftest import SCHEMAS, run_sql


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Machines]:
    """Both services, each on a SQLite file of its own, migrated."""
    with machines(tmp_path) as made:
        for program in SCHEMAS:
            made.environment[f"{program.upper()}_LOG_FORMAT"] = "json"
            made.run(program, "db", "upgrade")
        yield made


@pytest.mark.parametrize("program", SCHEMAS)
def test_serve_refuses_another_schema(both: Machines, program: str) -> None:
    run_sql(
        f"sqlite:///{both.folder}/{program}.db", "UPDATE alembic_version SET version_num = 'x9999'"
    )

    both.start(program, program, "serve")
    code = both.running.pop(program).wait(30)

    log = both.log_of(program).read_text()
    assert code == 4
    assert f"the database is at schema x9999, which this version of {program} does not know" in log
    assert "Set the database URL to the database of this service" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("program", SCHEMAS)
def test_a_migration_that_fails_anywhere_leaves_nothing(
    program: str, make_own_url: Callable[..., str]
) -> None:
    schema, url, failed = SCHEMAS[program], make_own_url(), 0

    while (database := _upgraded(schema, url, fails_at=failed)) is None:
        failed += 1

    assert failed > 10
    schema.check(database)
    database.dispose()


def _upgraded(schema: Schema, url: str, *, fails_at: int) -> Database | None:
    """Return the database if the upgrade went through; else check that nothing of it stayed."""
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
        assert schema.current(database) is None
        database.dispose()
        return None
    return database


@pytest.mark.parametrize("program", SCHEMAS)
def test_of_upgrades_at_once_each_ends_well(
    program: str, tmp_path: Path, make_own_url: Callable[..., str]
) -> None:
    url = make_own_url().replace("+psycopg", "")

    with machines(tmp_path) as made:
        made.environment[f"{program.upper()}_DATABASE_URL"] = url
        made.environment[f"{program.upper()}_DATABASE_TIMEOUT"] = "60"
        for number in range(3):
            made.start(str(number), program, "db", "upgrade")
        codes = [made.running[name].wait(60) for name in ("0", "1", "2")]
        said = [made.log_of(name).read_text() for name in ("0", "1", "2")]

    assert codes == [0, 0, 0], said
    assert sum("before: new database" in one for one in said) == 1
    assert sum("already" in one for one in said) == 2

"""Schemas: upgrade one, or refuse to work on one that is not up to date."""

import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text
from sqlalchemy.exc import OperationalError

from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import DatabaseSetupError
from tests.foundation.conftest import write_revision

LOST = "the database has no schema version, but it has tables: items, parts"
each_step = pytest.mark.parametrize(
    "step", [Schema.check, Schema.upgrade], ids=["check", "upgrade"]
)
Step = Callable[[Schema, Database], object]


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    folder = tmp_path / "versions"
    folder.mkdir()
    table = 'op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))'
    write_revision(folder, "0001", None, table)
    column = 'op.add_column("notes", sa.Column("line", sa.String(10)))'
    write_revision(folder, "0002", "0001", column)
    return folder


@pytest.fixture
def notes(versions: Path) -> Schema:
    return Schema("sample", MetaData(), versions=versions)


def execute(database: Database, statement: str) -> None:
    with database.writing() as session:
        session.execute(text(statement))


def refusal(step: Step, schema: Schema, database: Database) -> tuple[str, str | None]:
    """Return the message and the action of a refused step."""
    with pytest.raises(DatabaseSetupError) as refused:
        step(schema, database)
    return str(refused.value), refused.value.advice.action


def test_upgrade_brings_an_empty_database_to_the_head(new_sqlite: Database, notes: Schema) -> None:
    assert notes.current(new_sqlite) is None

    before = [notes.upgrade(new_sqlite) for _ in range(2)]

    columns = [column["name"] for column in inspect(new_sqlite.engine).get_columns("notes")]
    assert before == [None, "0002"]
    assert columns == ["id", "line"]
    assert notes.current(new_sqlite) == notes.head == "0002"


def test_upgraded_database_passes_the_check(database: Database, schema: Schema) -> None:
    schema.check(database)

    assert schema.current(database) == schema.head


def test_missing_file_is_named_and_not_created(
    notes: Schema, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        DatabaseSetupError, match="is at schema none, this program needs 0002"
    ) as refused:
        notes.check(Database("sqlite:///elsewhere.db"))

    assert refused.value.file == tmp_path / "elsewhere.db"
    assert list(tmp_path.glob("elsewhere*")) == []


def test_older_schema_is_refused_until_it_is_upgraded(new_sqlite: Database, notes: Schema) -> None:
    notes.upgrade(new_sqlite)
    execute(new_sqlite, "UPDATE alembic_version SET version_num = '0001'")

    message, action = refusal(Schema.check, notes, new_sqlite)

    assert message == "the database is at schema 0001, this program needs 0002"
    assert action == "db upgrade"


@each_step
@pytest.mark.parametrize(
    ("damage", "message", "action"),
    [
        pytest.param(
            "DROP TABLE parts",
            "the database is at schema 0001, but lacks the tables parts",
            "db check",
            id="table missing",
        ),
        pytest.param(
            "UPDATE alembic_version SET version_num = 'r0007'",
            "the database is at schema r0007, which this version of sample does not know",
            None,
            id="of another service",
        ),
        pytest.param("DROP TABLE alembic_version", LOST, None, id="no version table"),
        pytest.param("DELETE FROM alembic_version", LOST, None, id="no version"),
        pytest.param(
            "UPDATE alembic_version SET version_num = ''",
            "the database is at schema '', which this version of sample does not know",
            None,
            id="empty version",
        ),
    ],
)
def test_damaged_or_foreign_schema_is_neither_used_nor_upgraded(
    new_sqlite: Database, schema: Schema, step: Step, damage: str, message: str, action: str | None
) -> None:
    schema.upgrade(new_sqlite)
    execute(new_sqlite, damage)

    assert refusal(step, schema, new_sqlite) == (message, action)
    assert refusal(step, schema, new_sqlite) == (message, action)


def test_failed_upgrade_leaves_nothing_and_can_be_repeated(
    new_sqlite: Database, versions: Path, notes: Schema
) -> None:
    write_revision(versions, "0003", "0002", 'op.execute("INSERT INTO nowhere VALUES (1)")')
    with pytest.raises(OperationalError, match="no such table: nowhere"):
        notes.upgrade(new_sqlite)
    assert inspect(new_sqlite.engine).get_table_names() == []

    (versions / "0003.py").unlink()
    shutil.rmtree(versions / "__pycache__", ignore_errors=True)

    assert notes.upgrade(new_sqlite) is None
    assert notes.current(new_sqlite) == "0002"


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_names_of_migrations_sort_in_the_order_of_their_history(service: str) -> None:
    root = Path(str(files("migrations")))
    config = Config()
    config.set_main_option("script_location", str(root))
    config.set_main_option("version_locations", str(root / service))
    config.set_main_option("path_separator", "os")

    history = list(ScriptDirectory.from_config(config).walk_revisions())

    named = sorted(path.stem.partition("_")[0] for path in (root / service).glob("[!_]*.py"))
    assert [one.revision for one in reversed(history)] == named
    assert Schema(service, MetaData()).head == named[-1]

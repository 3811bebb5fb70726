"""Schemas: bring one up to date, or refuse to work on one that is not."""

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
from foundation.errors import SchemaError

Revise = Callable[[str, str | None, str], None]


@pytest.fixture
def schema(versions: Path, revise: Revise) -> Schema:
    """A service of two revisions."""
    revise("0001", None, 'op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))')
    revise("0002", "0001", 'op.add_column("notes", sa.Column("line", sa.String(10)))')
    return Schema("ground", MetaData(), versions=versions)


def set_revision(database: Database, revision: str) -> None:
    """Write another revision into the database, as another program would."""
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})


def test_an_empty_database_is_at_no_revision(new_sqlite: Database, schema: Schema) -> None:
    assert schema.current(new_sqlite) is None
    assert schema.head == "0002"


def test_upgrade_brings_an_empty_database_to_the_head(new_sqlite: Database, schema: Schema) -> None:
    before = schema.upgrade(new_sqlite)

    columns = [column["name"] for column in inspect(new_sqlite.engine).get_columns("notes")]
    assert before is None
    assert columns == ["id", "line"]
    assert schema.current(new_sqlite) == "0002"


def test_upgrading_again_changes_nothing(new_sqlite: Database, schema: Schema) -> None:
    schema.upgrade(new_sqlite)

    assert schema.upgrade(new_sqlite) == "0002"
    assert schema.current(new_sqlite) == "0002"


def test_an_upgraded_database_passes_the_check(database: Database, ground: Schema) -> None:
    ground.check(database)

    assert ground.current(database) == ground.head


def test_an_empty_database_is_refused_with_the_command_that_mends_it(
    new_sqlite: Database, schema: Schema
) -> None:
    with pytest.raises(SchemaError) as caught:
        schema.check(new_sqlite)

    assert str(caught.value) == "the database is at schema none, this program needs 0002"
    assert caught.value.advice.action == "db upgrade"


def test_a_file_that_is_not_there_is_named_and_not_made(
    schema: Schema, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Database("sqlite:///elsewhere.db")

    with pytest.raises(SchemaError) as caught:
        schema.check(relative)

    assert caught.value.file == tmp_path / "elsewhere.db"
    assert list(tmp_path.glob("elsewhere*")) == []


def test_an_older_schema_is_refused_with_the_command_that_mends_it(
    new_sqlite: Database, schema: Schema
) -> None:
    schema.upgrade(new_sqlite)
    set_revision(new_sqlite, "0001")

    with pytest.raises(SchemaError) as caught:
        schema.check(new_sqlite)

    assert str(caught.value) == "the database is at schema 0001, this program needs 0002"
    assert caught.value.advice.action == "db upgrade"


@pytest.mark.parametrize("step", ["check", "upgrade"])
def test_a_schema_without_one_of_its_tables_is_refused(
    new_sqlite: Database, ground: Schema, step: str
) -> None:
    ground.upgrade(new_sqlite)
    with new_sqlite.writing() as session:
        session.execute(text("DROP TABLE parts"))

    with pytest.raises(SchemaError) as caught:
        getattr(ground, step)(new_sqlite)

    assert str(caught.value) == "the database is at schema 0001, but lacks the tables parts"
    assert caught.value.advice.action == "db check"


@pytest.mark.parametrize("step", ["check", "upgrade"])
def test_a_strangers_schema_is_neither_used_nor_touched(
    new_sqlite: Database, schema: Schema, step: str
) -> None:
    schema.upgrade(new_sqlite)
    set_revision(new_sqlite, "r0007")

    with pytest.raises(SchemaError) as caught:
        getattr(schema, step)(new_sqlite)

    assert (
        str(caught.value)
        == "the database is at schema r0007, which this version of ground does not know"
    )
    assert schema.current(new_sqlite) == "r0007"


@pytest.mark.parametrize("step", ["check", "upgrade"])
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        pytest.param(
            "DROP TABLE alembic_version",
            "the database has no schema version, but it has tables: items, parts",
            id="no table",
        ),
        pytest.param(
            "DELETE FROM alembic_version",
            "the database has no schema version, but it has tables: items, parts",
            id="no row",
        ),
        pytest.param(
            "UPDATE alembic_version SET version_num = ''",
            "the database is at schema '', which this version of ground does not know",
            id="no word",
        ),
    ],
)
def test_a_schema_that_lost_its_revision_is_neither_used_nor_made_again(
    new_sqlite: Database, ground: Schema, step: str, lost: str, said: str
) -> None:
    ground.upgrade(new_sqlite)
    with new_sqlite.writing() as session:
        session.execute(text(lost))

    with pytest.raises(SchemaError) as caught:
        getattr(ground, step)(new_sqlite)

    assert str(caught.value) == said
    assert caught.value.advice.action is None


def test_an_upgrade_that_fails_leaves_nothing_behind(
    new_sqlite: Database, schema: Schema, revise: Revise, versions: Path
) -> None:
    revise("0003", "0002", 'op.execute("INSERT INTO nowhere VALUES (1)")')
    failing = Schema("ground", MetaData(), versions=versions)

    with pytest.raises(OperationalError, match="no such table: nowhere"):
        failing.upgrade(new_sqlite)

    assert inspect(new_sqlite.engine).get_table_names() == []
    assert failing.current(new_sqlite) is None


def test_an_upgrade_that_failed_can_be_run_again(
    new_sqlite: Database, schema: Schema, revise: Revise, versions: Path
) -> None:
    revise("0003", "0002", 'op.execute("INSERT INTO nowhere VALUES (1)")')
    with pytest.raises(OperationalError, match="no such table: nowhere"):
        Schema("ground", MetaData(), versions=versions).upgrade(new_sqlite)
    (versions / "0003.py").unlink()
    shutil.rmtree(versions / "__pycache__", ignore_errors=True)

    before = Schema("ground", MetaData(), versions=versions).upgrade(new_sqlite)

    assert before is None
    assert inspect(new_sqlite.engine).get_columns("notes")[1]["name"] == "line"


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_revisions_stand_by_name_in_the_order_of_their_history(service: str) -> None:
    root = Path(str(files("migrations")))
    config = Config()
    config.set_main_option("script_location", str(root))
    config.set_main_option("version_locations", str(root / service))
    config.set_main_option("path_separator", "os")

    history = list(ScriptDirectory.from_config(config).walk_revisions())

    named = sorted(path.stem.partition("_")[0] for path in (root / service).glob("[!_]*.py"))
    assert [one.revision for one in reversed(history)] == named
    assert Schema(service, MetaData()).head == named[-1]


def test_a_service_without_a_folder_of_its_own_takes_the_one_in_migrations() -> None:
    schema = Schema("notifier", MetaData())

    assert schema.head is not None
    assert schema.head.startswith("n")

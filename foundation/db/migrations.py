"""Schemas: bring one up to date, or refuse to work on one that is not."""

from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection, MetaData, column, inspect, select, table, text

from foundation.db.session import Database
from foundation.errors import Advice, SchemaError

# Two machines that upgrade at once would both make the tables. Any number will do that nobody else
# in the database locks; the lock ends with the transaction.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(1935894629)")

_VERSIONS = table("alembic_version", column("version_num"))


class Schema:
    """The schema of one service: its tables and the history that leads to them.

    `versions` is the folder of its revisions; the service's own in `migrations` unless given. Each
    file there is named after its revision, and by name they stand in the order of the history: so
    what is asked at every start needs none of them loaded, nor what loads them.
    """

    def __init__(self, service: str, metadata: MetaData, *, versions: Path | None = None) -> None:
        self.service = service
        self.metadata = metadata
        self._root = Path(str(files("migrations")))
        self._versions = versions or self._root / service

    @property
    def head(self) -> str | None:
        """The revision that this program works with."""
        return max(self._revisions(), default=None)

    def upgrade(self, database: Database) -> str | None:
        """Bring the schema up to date in one transaction; return the revision it came from.

        Raises SchemaError for a schema that is not ours, or that lacks what it should have.
        """
        with database.unhurried(), database.writing() as session:
            connection = session.connection()
            if not database.is_sqlite:  # where a writer is alone from the beginning
                connection.execute(_ONE_AT_A_TIME)
            before = _current(connection)
            self._refuse_stranger(before, _tables(connection))
            self._run(connection)
        self.check(database)
        return before

    def current(self, database: Database) -> str | None:
        """Return the revision that the database is at; None for an empty one."""
        with database.reading() as session:
            return _current(session.connection())

    def check(self, database: Database) -> None:
        """Raise a SchemaError unless the database has this program's revision and tables.

        A file that is not there is not made: only `upgrade` does that.
        """
        file = database.file
        if file is not None and not file.exists() and file.parent.is_dir():
            raise self._outdated(None, file)
        with database.reading() as session:
            connection = session.connection()
            current = _current(connection)
            tables = _tables(connection)
        self._refuse_stranger(current, tables)
        if current != self.head:
            raise self._outdated(current, file)
        missing = sorted(set(self.metadata.tables) - tables)
        if missing:
            raise SchemaError(
                f"the database is at schema {current}, but without {', '.join(missing)}",
                advice=Advice("Restore the database from its backup, then check it.", "db check"),
            )

    def _outdated(self, current: str | None, file: Path | None) -> SchemaError:
        return SchemaError(
            f"the database is at schema {current or 'none'}, this program needs {self.head}",
            advice=Advice("Upgrade the database, then start again.", "db upgrade"),
            file=file,
        )

    def _run(self, connection: Connection) -> None:
        # Its import takes a tenth of a start, and no other command needs it.
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection, "metadata": self.metadata})
        config.set_main_option("script_location", str(self._root))
        config.set_main_option("version_locations", str(self._versions))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")

    def _revisions(self) -> set[str]:
        return {path.stem.partition("_")[0] for path in self._versions.glob("[!_.]*.py")}

    def _refuse_stranger(self, current: str | None, tables: set[str]) -> None:
        ours = sorted(tables & set(self.metadata.tables))
        if current is None and ours:
            raise SchemaError(
                f"the database says no schema, but has {', '.join(ours[:3])} already",
                advice=Advice(
                    "Restore the database from its backup, or set the database URL to a database "
                    "of this service."
                ),
            )
        if current is not None and current not in self._revisions():
            raise SchemaError(
                f"the database is at schema {current or repr(current)}, "
                f"which this {self.service} does not know",
                advice=Advice(
                    "Set the database URL to the database of this service, or install the release "
                    "that made this schema."
                ),
            )


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    versions = connection.scalars(select(_VERSIONS.c.version_num)).all()
    return ", ".join(versions) if versions else None


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())

"""Schemas: bring one up to date, or refuse to work on one that is not."""

from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

from foundation.database import Database
from foundation.errors import SchemaError

# Two machines that upgrade at once would both make the tables. Any number will do that nobody else
# in the database locks; the lock ends with the transaction.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(1935894629)")


class Schema:
    """The schema of one service: its tables and the history that leads to them.

    `versions` is the folder of its revisions; the service's own in `migrations` unless given.
    """

    def __init__(self, service: str, metadata: MetaData, *, versions: Path | None = None) -> None:
        self.service = service
        self.metadata = metadata
        root = Path(str(files("migrations")))
        self._config = Config()
        self._config.set_main_option("script_location", str(root))
        self._config.set_main_option("version_locations", str(versions or root / service))
        self._config.set_main_option("path_separator", "os")

    @property
    def head(self) -> str | None:
        """The revision that this program works with."""
        return ScriptDirectory.from_config(self._config).get_current_head()

    def upgrade(self, database: Database) -> str | None:
        """Bring the schema up to date in one transaction; return the revision it came from.

        Raises SchemaError for a schema that is not ours, or that lacks what it should have.
        """
        with database.unhurried(), database.writing() as session:
            connection = session.connection()
            if not database.is_sqlite:  # where a writer is alone from the beginning
                connection.execute(_ONE_AT_A_TIME)
            before = MigrationContext.configure(connection).get_current_revision()
            self._refuse_stranger(before)
            self._config.attributes["connection"] = connection
            self._config.attributes["metadata"] = self.metadata
            command.upgrade(self._config, "head")
        self.check(database)
        return before

    def current(self, database: Database) -> str | None:
        """Return the revision that the database is at; None for an empty one."""
        with database.reading() as session:
            return MigrationContext.configure(session.connection()).get_current_revision()

    def check(self, database: Database) -> None:
        """Raise a SchemaError unless the database has this program's revision and tables."""
        with database.reading() as session:
            connection = session.connection()
            current = MigrationContext.configure(connection).get_current_revision()
            tables = set(inspect(connection).get_table_names())
        self._refuse_stranger(current)
        if current != self.head:
            raise SchemaError(
                f"the database is at schema {current or 'none'}, this program needs {self.head}",
                next_step=f"Run `{self.service} db upgrade`, then start again.",
            )
        missing = sorted(set(self.metadata.tables) - tables)
        if missing:
            raise SchemaError(
                f"the database is at schema {current}, but without {', '.join(missing)}",
                next_step="Restore the database from its backup; then "
                f"`{self.service} db check` tells whether it is whole.",
            )

    def _refuse_stranger(self, current: str | None) -> None:
        known = {
            item.revision for item in ScriptDirectory.from_config(self._config).walk_revisions()
        }
        if current is not None and current not in known:
            raise SchemaError(
                f"the database is at schema {current}, which this {self.service} does not know",
                next_step="Point the database URL at this service's own database, "
                "or install the release that made this schema.",
            )

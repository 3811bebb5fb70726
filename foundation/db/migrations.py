"""Schemas: upgrade one, or check that it is up to date."""

from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection, MetaData, column, inspect, select, table, text

from foundation.db.session import Database
from foundation.errors import Advice, DatabaseSetupError

# Two machines that upgrade at once would both create the tables. Any number that is not locked by
# others in the database; the lock ends with the transaction.
_ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(1935894629)")

_VERSIONS = table("alembic_version", column("version_num"))


class Schema:
    """The schema of one service: its tables and its migrations.

    `versions` is the folder of the migrations, by default the service's own. File names begin with
    the revision and sort by it, so the check at each start imports neither them nor Alembic.
    """

    def __init__(self, service: str, metadata: MetaData, *, versions: Path | None = None) -> None:
        self.service = service
        self.metadata = metadata
        self._root = Path(str(files("migrations")))
        self._versions = versions or self._root / service

    @property
    def head(self) -> str | None:
        """The revision that this program needs."""
        return max(self._revisions(), default=None)

    def upgrade(self, database: Database) -> str | None:
        """Upgrade the schema in one transaction; return the revision before.

        Raises DatabaseSetupError for a schema that is not ours or that lacks tables.
        """
        if database.file is not None and database.file.parent.is_dir():
            database.file.touch(mode=0o600)
        with database.without_time_limit(), database.writing() as session:
            connection = session.connection()
            _check_encoding(connection)
            if not database.is_sqlite:  # where there is one writer at a time
                connection.execute(_ADVISORY_LOCK)
            before = _current(connection)
            self._check_ownership(before, _tables(connection))
            self._run(connection)
        self.check(database)
        return before

    def current(self, database: Database) -> str | None:
        """Return the revision of the database; None for an empty one or a missing file."""
        if database.file is not None and not database.file.exists():
            return None
        with database.reading() as session:
            return _current(session.connection())

    def check(self, database: Database) -> None:
        """Raise DatabaseSetupError unless the database has this program's revision and tables.

        A missing SQLite file is not created; only `upgrade` does that.
        """
        file = database.file
        if file is not None and not file.exists() and file.parent.is_dir():
            raise self._outdated(None, file)
        with database.reading() as session:
            connection = session.connection()
            _check_encoding(connection)
            current = _current(connection)
            tables = _tables(connection)
        self._check_ownership(current, tables)
        if current != self.head:
            raise self._outdated(current, file)
        missing = sorted(set(self.metadata.tables) - tables)
        if missing:
            raise DatabaseSetupError(
                f"the database is at schema {current}, but lacks the tables {', '.join(missing)}",
                advice=Advice("Restore the database from its backup, then check it.", "db check"),
            )

    def check_known(self, database: Database) -> None:
        """Raise DatabaseSetupError unless the schema is of this service, of this or an old release.

        A missing SQLite file is not created.
        """
        with database.reading() as session:
            connection = session.connection()
            self._check_ownership(_current(connection), _tables(connection))

    def _outdated(self, current: str | None, file: Path | None) -> DatabaseSetupError:
        return DatabaseSetupError(
            f"the database is at schema {current or 'none'}, this program needs {self.head}",
            advice=Advice("Upgrade the database, then start again.", "db upgrade"),
            file=file,
        )

    def _run(self, connection: Connection) -> None:
        # Importing Alembic is slow, and no other command needs it.
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection, "metadata": self.metadata})
        config.set_main_option("script_location", str(self._root))
        config.set_main_option("version_locations", str(self._versions))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")

    def _revisions(self) -> set[str]:
        return {path.stem.partition("_")[0] for path in self._versions.glob("[!_.]*.py")}

    def _check_ownership(self, current: str | None, tables: set[str]) -> None:
        ours = sorted(tables & set(self.metadata.tables))
        if current is None and ours:
            raise DatabaseSetupError(
                f"the database has no schema version, but it has tables: {', '.join(ours[:3])}",
                advice=Advice(
                    "Restore the database from its backup, or set the database URL to a database "
                    "of this service."
                ),
            )
        if current is not None and current not in self._revisions():
            raise DatabaseSetupError(
                f"the database is at schema {current or repr(current)}, "
                f"which this version of {self.service} does not know",
                advice=Advice(
                    "Set the database URL to the database of this service, or install the release "
                    "that made this schema."
                ),
            )


def _check_encoding(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise DatabaseSetupError(
            f"the database has the encoding {encoding}; UTF8 is needed",
            advice=Advice(
                "Create a database with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, "
                "copy the data if there are any, and set the database URL to it."
            ),
        )


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    versions = connection.scalars(select(_VERSIONS.c.version_num)).all()
    return ", ".join(versions) if versions else None


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())

"""`db upgrade`, `db check` and `db backup`: the schema and the backup of a program's database."""

from pathlib import Path

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.db.session import Database
from foundation.responses import BackupResponse, SchemaResponse


@click.command()
@json_option
def upgrade(as_json: bool) -> None:
    """Upgrade the database schema; existing data is kept."""
    response, sentence = upgrade_schema()
    output.print_result(response, sentence, as_json=as_json)


def upgrade_schema() -> tuple[SchemaResponse, str]:
    """Upgrade the schema of the program's database; return the result, in a sentence too."""
    schema = context.schema()
    before = schema.upgrade(context.services().database)
    response = SchemaResponse(revision=schema.head, previous_revision=before)
    if before == schema.head:
        return response, f"the schema is already at {schema.head}"
    return response, f"the schema is now at {schema.head} (before: {before or 'new database'})"


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Check that the database schema is the one that this program needs.

    Exit code 4 if it is not.
    """
    schema = context.schema()
    schema.check(context.services().database)
    response = SchemaResponse(revision=schema.head, previous_revision=schema.head)
    output.print_result(response, f"OK: the schema is at {schema.head}", as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def backup(file: Path, as_json: bool) -> None:
    """Write a consistent backup of the database to the new file FILE, while the services run.

    On SQLite it is a database file, on PostgreSQL an archive for pg_restore; that needs the program
    pg_dump. Only you can read the file, and an existing one is never overwritten. It does not
    contain the encryption keys: back up .env too.
    """
    from foundation.db.backup import back_up

    database: Database = context.services().database
    context.schema().check_known(database)
    hidden = as_json or not database.is_sqlite
    with output.progress_bar(100, "Backing up", hidden=hidden) as advance:
        size = back_up(database, file, advance)
    response = BackupResponse(file=str(file), bytes=size)
    output.print_result(response, f"backed up to {file} ({size:,} bytes)", as_json=as_json)

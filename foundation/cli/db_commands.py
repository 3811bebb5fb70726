"""`db upgrade`, `db check` and `db backup`: the schema and the backup of a program's database."""

from pathlib import Path

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.db.session import Database
from foundation.errors import DatabaseSetupError, fields_of


@click.command()
def upgrade() -> None:
    """Upgrade the database schema; existing data is kept."""
    upgrade_schema()


def upgrade_schema() -> None:
    """Upgrade the schema of the program's database, and print the result."""
    schema = context.schema()
    before = schema.upgrade(context.services().database)
    if before == schema.head:
        click.echo(f"the schema is already at {schema.head}")
    else:
        click.echo(f"the schema is now at {schema.head} (before: {before or 'new database'})")


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Check that the database schema is the one that this program needs.

    Exit code 4 if it is not.
    """
    schema = context.schema()
    try:
        schema.check(context.services().database)
    except DatabaseSetupError as error:
        if not as_json:
            raise
        output.print_json({"ok": False, "detail": str(error), **fields_of(error.advice)})
        raise click.exceptions.Exit(output.EXIT_DATABASE) from None
    if as_json:
        output.print_json({"ok": True, "schema": schema.head})
    else:
        click.echo(f"OK: the schema is at {schema.head}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Write a consistent backup of the database to the new file FILE, while the services run.

    On SQLite it is a database file, on PostgreSQL an archive for pg_restore; that needs the program
    pg_dump. Only you can read the file, and an existing one is never overwritten. It does not
    contain the encryption keys: back up .env too.
    """
    from foundation.db.backup import back_up

    database: Database = context.services().database
    context.schema().check_known(database)
    with output.progress_bar(100, "Backing up", hidden=not database.is_sqlite) as advance:
        size = back_up(database, file, advance)
    click.echo(f"backed up to {file} ({size:,} bytes)")

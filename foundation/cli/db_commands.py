"""`db upgrade` and `db check`: migrate a program's database schema, or check it."""

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
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

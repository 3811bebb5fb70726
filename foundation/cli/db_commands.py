"""`db upgrade` and `db check`: what each service's operators do with its schema."""

from collections.abc import Callable

import click

from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import SchemaError


def schema_commands(schema: Schema, database: Callable[[], Database]) -> Commands:
    """Return the group `db`; `database` names the one at work once a command runs."""
    group = Commands("db", help="Bring the database's schema up to date, or check it; reseal.")

    @group.command()
    def upgrade() -> None:
        """Bring the schema up to date; what is there already stays."""
        before = schema.upgrade(database())
        if before == schema.head:
            click.echo(f"the schema is at {schema.head} already")
        else:
            click.echo(f"the schema is now at {schema.head} (it was at {before or 'none'})")

    @group.command()
    @json_option
    def check(as_json: bool) -> None:
        """Tell whether the schema is the one that this program works with (exit 4 if not)."""
        try:
            schema.check(database())
        except SchemaError as error:
            if not as_json:
                raise
            output.print_json({"well": False, "detail": str(error), "next_step": error.advice})
            raise click.exceptions.Exit(output.EXIT_DATABASE) from None
        if as_json:
            output.print_json({"well": True, "schema": schema.head})
        else:
            click.echo(f"the schema is at {schema.head}, as it should be")

    return group

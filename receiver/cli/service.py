"""Commands that run ELMS: schema, web server, doctor."""

import click
from flask.cli import with_appcontext

from foundation import checkup, terminal
from foundation.errors import SchemaError
from foundation.server import Server
from foundation.terminal import Commands, json_option
from receiver import doctor as checks
from receiver import registry, services, sources
from receiver.app import create_app
from receiver.cli import scope
from receiver.models import SCHEMA


@click.group("db", cls=Commands)
def db_group() -> None:
    """Bring the database's schema up to date, or check it; seal secrets anew."""


@db_group.command()
def upgrade() -> None:
    """Bring the schema up to date; what is there already stays."""
    database = services.current().database
    before = SCHEMA.upgrade(database)
    if before == SCHEMA.head:
        click.echo(f"the schema is at {SCHEMA.head} already")
    else:
        click.echo(f"the schema is now at {SCHEMA.head} (it was at {before or 'none'})")


@db_group.command()
@json_option
def check(as_json: bool) -> None:
    """Tell whether the schema is the one that this program works with (exit 4 if not)."""
    try:
        SCHEMA.check(services.current().database)
    except SchemaError as error:
        if not as_json:
            raise
        terminal.print_json({"well": False, "detail": str(error), "next_step": error.advice})
        raise click.exceptions.Exit(terminal.EXIT_DATABASE) from None
    if as_json:
        terminal.print_json({"well": True, "schema": SCHEMA.head})
    else:
        click.echo(f"the schema is at {SCHEMA.head}, as it should be")


@db_group.command()
def reseal() -> None:
    """Seal every secret and token anew with the first encryption key, so that an old one can go."""
    here = scope.ready()
    with here.database.writing() as session:
        secrets = sources.reseal(session, vault=here.vault)
        tokens = registry.reseal(session, vault=here.vault)
    click.echo(
        f"{secrets} secrets and {tokens} tokens are sealed with the first key; "
        "older keys can be taken out"
    )


@click.command()
@with_appcontext
def serve() -> None:
    """Answer webhooks until stopped (gunicorn; SIGTERM is graceful)."""
    here = scope.ready()
    here.database.dispose()
    Server(create_app, here.settings).run()


@click.command()
@json_option
@with_appcontext
def doctor(as_json: bool) -> None:
    """Look at settings, database, sources, registry, last run; exit 1 if something is wrong."""
    here = services.current()
    findings = checks.examine(here.database, here.vault)
    raise click.exceptions.Exit(checkup.report(findings, as_json=as_json))

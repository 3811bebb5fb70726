"""Commands that run ELMS: schema, web server, doctor."""

import click
from flask import Flask
from flask.cli import with_appcontext

from foundation import checkup
from foundation.pages.user_commands import users_commands
from foundation.schema_commands import schema_commands
from foundation.server import Server
from foundation.terminal import json_option
from receiver import doctor as checks
from receiver import registry, services, sources
from receiver.app import create_app
from receiver.cli import scope
from receiver.models import SCHEMA

db_group = schema_commands(SCHEMA, lambda: services.current().database)
users_group = users_commands("receiver", scope.writing, scope.reading)


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
    Server(create_app, here.settings, _check_schema).run()


@click.command()
@json_option
@with_appcontext
def doctor(as_json: bool) -> None:
    """Look at settings, database, sources, registry, last run; exit 1 if something is wrong."""
    here = services.current()
    findings = checks.examine(here.database, here.vault)
    raise click.exceptions.Exit(checkup.report(findings, as_json=as_json))


def _check_schema(app: Flask) -> None:
    SCHEMA.check(services.of(app).database)

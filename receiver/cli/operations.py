"""Commands that run ELMS: schema, web server, doctor."""

from collections.abc import Callable
from datetime import datetime, timedelta

import click
from flask.cli import ScriptInfo, pass_script_info, with_appcontext
from sqlalchemy.orm import Session

from foundation.cli import doctor as checkup
from foundation.cli.db_commands import schema_commands
from foundation.cli.output import json_option
from foundation.cli.params import AGE
from foundation.pages.user_commands import users_commands
from foundation.text import count
from receiver import services
from receiver.cli import context
from receiver.models import SCHEMA
from receiver.monitoring import doctor as checks
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.runs import store as runs
from receiver.sources import factory
from receiver.sources import store as sources
from receiver.webhooks import inbox

# Several times what a route accepts, so that the route itself refuses more.
_MAX_BODY_BYTES = 1024 * 1024

db_group = schema_commands(SCHEMA, lambda: services.current().database)
users_group = users_commands("receiver", context.writing, context.reading)


@db_group.command()
def rotate_key() -> None:
    """Seal every secret and token anew with the first encryption key, so that an old one can go."""
    here = context.ready()
    with here.database.writing() as session:
        secrets = sources.reencrypt(session, vault=here.vault)
        tokens = registry.reencrypt(session, vault=here.vault)
    click.echo(
        f"{count(secrets, 'secret')} and {count(tokens, 'token')} are sealed with the first key; "
        "older keys can be taken out"
    )


@db_group.command()
@click.option("--older-than", type=AGE, required=True, help="How old that is (400d); 30d at least.")
def prune(older_than: timedelta) -> None:
    """Forget runs, webhook ids and what was heard of courses that are so old.

    The registry and the gradebook stay, and so does the last run.
    """
    old_runs = _forget_all(runs.forget, older_than, most=10)
    lines = _forget_all(history.prune, older_than)
    ids = _forget_all(inbox.prune, older_than)
    click.echo(f"forgotten: {old_runs} runs, {lines} lines of history, {ids} webhook ids")


def _forget_all(
    forget: Callable[[Session, datetime, int], int], older_than: timedelta, most: int = 10_000
) -> int:
    """Forget in pieces: nobody who writes waits for all of it."""
    total = 0
    while True:
        with context.writing() as (session, now):
            gone = forget(session, now - older_than, most)
        total += gone
        if gone < most:
            return total


@click.command()
@with_appcontext
@pass_script_info
def serve(script: ScriptInfo) -> None:
    """Serve webhooks and pages until stopped.

    SIGTERM finishes requests in progress.
    """
    from foundation.web import server  # only `serve` needs the web server

    here = context.ready()
    server.serve(script.load_app(), here.settings, max_body_bytes=_MAX_BODY_BYTES)


@click.command()
@json_option
@with_appcontext
def doctor(as_json: bool) -> None:
    """Look at settings, database, sources, registry, last run, and the Moodle that ELMS is.

    Exit 1 if something is wrong.
    """
    here = services.current()
    with factory.open_gradebook(here.settings) as gradebook:
        findings = checks.examine(here.database, here.vault, gradebook)
    raise click.exceptions.Exit(checkup.report(findings, as_json=as_json))

"""The command `receiver`: what ELMS's administrators and operations do from a terminal."""

import click
from flask import Flask
from flask.cli import ScriptInfo

from foundation.cli.output import Commands
from receiver import services
from receiver.app import create_app
from receiver.cli.operations import db_group, doctor, serve, users_group
from receiver.cli.registry import registry_group
from receiver.cli.runs import runs_group
from receiver.cli.sources import sources_group
from receiver.cli.sync import sync_grades


@click.group("receiver", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="course-webhooks", message="receiver %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """The ELMS side: sources, the door for their webhooks, the registry, the grade sync.

    Settings come from the environment or from .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused or failed, 2 wrong use or settings, 3 another sync is at work,
    4 the database cannot be used.
    """

    def make_app() -> Flask:
        app = create_app()
        ctx.call_on_close(services.of(app).database.dispose)
        return app

    ctx.obj = ScriptInfo(create_app=make_app, set_debug_flag=False)


for command in (
    db_group,
    serve,
    sources_group,
    registry_group,
    sync_grades,
    runs_group,
    users_group,
    doctor,
):
    main.add_command(command)

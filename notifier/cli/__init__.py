"""The command `notifier`: what administrators and operations do from a terminal."""

import click
from flask import Flask
from flask.cli import ScriptInfo

from foundation.cli.output import Commands
from notifier import services
from notifier.app import create_app
from notifier.cli.courses import courses_group
from notifier.cli.deliveries import deliveries_group
from notifier.cli.endpoints import endpoints_group
from notifier.cli.grades import grades_group
from notifier.cli.operations import db_group, doctor, serve, users_group, work


@click.group("notifier", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="course-webhooks", message="notifier %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """The eAssessment side: courses, endpoints, deliveries, and the worker that sends them.

    Settings come from the environment or from .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused, 2 wrong use or settings, 4 the database cannot be used.
    """

    def make_app() -> Flask:
        app = create_app()
        ctx.call_on_close(services.of(app).database.dispose)
        return app

    ctx.obj = ScriptInfo(create_app=make_app, set_debug_flag=False)


for command in (
    db_group,
    serve,
    work,
    courses_group,
    grades_group,
    endpoints_group,
    deliveries_group,
    users_group,
    doctor,
):
    main.add_command(command)

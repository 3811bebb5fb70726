"""The command `notifier`. Each command is imported when it runs."""

import click

from foundation.cli.groups import SCHEMA_COMMANDS, users_group
from foundation.cli.lazy import Lazy, LazyGroup, Program

_PROGRAM = Program("notifier", "notifier.services:load", "notifier.models:SCHEMA")

main = LazyGroup(
    "notifier",
    {
        "db": LazyGroup(
            "db",
            {
                **SCHEMA_COMMANDS,
                "rotate-key": Lazy("notifier.cli.operations:rotate_key"),
                "prune": Lazy("notifier.cli.operations:prune"),
            },
            help="Upgrade, check and clean up the database; rotate its encryption key.",
        ),
        "serve": Lazy("notifier.cli.operations:serve"),
        "work": Lazy("notifier.cli.operations:work"),
        "doctor": Lazy("notifier.cli.operations:doctor"),
        "courses": LazyGroup(
            "courses",
            {
                "add": Lazy("notifier.cli.courses:add"),
                "list": Lazy("notifier.cli.courses:list_"),
                "show": Lazy("notifier.cli.courses:show"),
                "delete": Lazy("notifier.cli.courses:delete"),
                "regenerate-token": Lazy("notifier.cli.courses:regenerate_token"),
                "announce-token": Lazy("notifier.cli.courses:announce_token"),
            },
            help="Add, list, show and delete courses; regenerate their tokens.",
        ),
        "grades": LazyGroup(
            "grades",
            {
                "import": Lazy("notifier.cli.grades:import_"),
            },
            help="Import grades.",
        ),
        "endpoints": LazyGroup(
            "endpoints",
            {
                "add": Lazy("notifier.cli.endpoints:add"),
                "list": Lazy("notifier.cli.endpoints:list_"),
                "disable": Lazy("notifier.cli.endpoints:disable"),
                "enable": Lazy("notifier.cli.endpoints:enable"),
                "set-event-types": Lazy("notifier.cli.endpoints:set_event_types"),
                "correct-url": Lazy("notifier.cli.endpoints:correct_url"),
                "rotate-secret": Lazy("notifier.cli.endpoints:rotate_secret"),
                "ping": Lazy("notifier.cli.endpoints:ping"),
            },
            help="Manage webhook endpoints: the URLs that receive events.",
        ),
        "deliveries": LazyGroup(
            "deliveries",
            {
                "list": Lazy("notifier.cli.deliveries:list_"),
                "show": Lazy("notifier.cli.deliveries:show"),
                "replay": Lazy("notifier.cli.deliveries:replay"),
            },
            help="List, inspect and replay webhook deliveries.",
        ),
        "users": users_group,
    },
    help="""eAssessment: courses, webhook endpoints, deliveries, and the worker that sends them.

    Settings are read from the environment or .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused, 2 usage or settings error, 4 database unusable.
    """,
    context_settings={"help_option_names": ["-h", "--help"], "obj": _PROGRAM},
)
click.version_option(package_name="course-webhooks", message="notifier %(version)s")(main)

"""The command `receiver`. Each command is imported when it runs."""

import click

from foundation.cli.groups import SCHEMA_COMMANDS, users_group
from foundation.cli.lazy import Lazy, LazyGroup, Program

_PROGRAM = Program("receiver", "receiver.services:load", "receiver.models:SCHEMA")

main = LazyGroup(
    "receiver",
    {
        "db": LazyGroup(
            "db",
            {
                **SCHEMA_COMMANDS,
                "rotate-key": Lazy("receiver.cli.operations:rotate_key"),
                "prune": Lazy("receiver.cli.operations:prune"),
            },
            help="Upgrade, check and clean up the database; rotate its encryption key.",
        ),
        "serve": Lazy("receiver.cli.operations:serve"),
        "doctor": Lazy("receiver.cli.operations:doctor"),
        "sources": LazyGroup(
            "sources",
            {
                "add": Lazy("receiver.cli.sources:add"),
                "list": Lazy("receiver.cli.sources:list_"),
                "add-secret": Lazy("receiver.cli.sources:add_secret"),
                "remove-secret": Lazy("receiver.cli.sources:remove_secret"),
                "set-site-token": Lazy("receiver.cli.sources:set_site_token"),
            },
            help="Manage the eAssessment sites and the secrets of their webhooks.",
        ),
        "registry": LazyGroup(
            "registry",
            {
                "add": Lazy("receiver.cli.registry:add"),
                "list": Lazy("receiver.cli.registry:list_"),
                "show": Lazy("receiver.cli.registry:show"),
                "remove": Lazy("receiver.cli.registry:remove"),
                "set-token": Lazy("receiver.cli.registry:set_token"),
                "export": Lazy("receiver.cli.registry_bulk:export"),
                "import": Lazy("receiver.cli.registry_bulk:import_"),
                "set-activity": Lazy("receiver.cli.registry_bulk:set_activity"),
            },
            help="Manage the courses in the grade sync: their status and their tokens.",
        ),
        "sync-grades": Lazy("receiver.cli.sync:sync_grades"),
        "runs": LazyGroup(
            "runs",
            {
                "list": Lazy("receiver.cli.runs:list_"),
                "show": Lazy("receiver.cli.runs:show"),
            },
            help="Show past runs of the grade sync.",
        ),
        "users": users_group,
    },
    help="""ELMS: sources, webhooks, the registry and the grade sync.

    Settings are read from the environment or .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused or failed, 2 usage or settings error, 3 another sync is running,
    4 database unusable.
    """,
    context_settings={"help_option_names": ["-h", "--help"], "obj": _PROGRAM},
)
click.version_option(package_name="course-webhooks", message="receiver %(version)s")(main)

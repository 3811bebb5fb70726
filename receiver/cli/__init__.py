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
                "rotate-key": Lazy(
                    "receiver.cli.operations:rotate_key",
                    "Re-encrypt all secrets and tokens with the first encryption key.",
                ),
                "prune": Lazy(
                    "receiver.cli.operations:prune",
                    "Delete old runs, webhook ids and history.",
                ),
            },
            help="Upgrade, check and clean up the database; rotate its encryption key.",
        ),
        "serve": Lazy(
            "receiver.cli.operations:serve",
            "Serve the webhook endpoint and the pages until stopped.",
        ),
        "doctor": Lazy(
            "receiver.cli.operations:doctor",
            "Check settings, database, sources, registry, last run and ELMS's Moodle.",
        ),
        "sources": LazyGroup(
            "sources",
            {
                "add": Lazy(
                    "receiver.cli.sources:add",
                    "Add the source NAME, the name that its events carry.",
                ),
                "list": Lazy(
                    "receiver.cli.sources:list_", "List the sources and the ids of their secrets."
                ),
                "add-secret": Lazy(
                    "receiver.cli.sources:add_secret",
                    "Add a webhook secret of NAME; older ones stay valid.",
                ),
                "remove-secret": Lazy(
                    "receiver.cli.sources:remove_secret",
                    "Remove the secret SECRET_ID of NAME; webhooks signed with it are refused.",
                ),
                "set-site-token": Lazy(
                    "receiver.cli.sources:set_site_token",
                    "Set the site-wide token of the Moodle NAME.",
                ),
            },
            help="Manage the eAssessment sites and the secrets of their webhooks.",
        ),
        "registry": LazyGroup(
            "registry",
            {
                "add": Lazy("receiver.cli.registry:add", "Add COURSE_ID to the grade sync."),
                "list": Lazy(
                    "receiver.cli.registry:list_",
                    "List the courses in the grade sync with their status.",
                ),
                "show": Lazy(
                    "receiver.cli.registry:show",
                    "Show COURSE_ID: its status, its stored state and its history.",
                ),
                "remove": Lazy(
                    "receiver.cli.registry:remove",
                    "Remove COURSE_ID from the grade sync; its grades are kept.",
                ),
                "set-token": Lazy(
                    "receiver.cli.registry:set_token", "Set the current token of COURSE_ID."
                ),
                "export": Lazy(
                    "receiver.cli.registry_bulk:export",
                    "Print the courses in the grade sync as CSV, without tokens.",
                ),
                "import": Lazy(
                    "receiver.cli.registry_bulk:import_",
                    "Add or update the courses in FILE, a CSV file.",
                ),
                "set-activity": Lazy(
                    "receiver.cli.registry_bulk:set_activity",
                    "Set the Moodle activity that receives the grades of COURSE_ID.",
                ),
            },
            help="Manage the courses in the grade sync: their status and their tokens.",
        ),
        "sync-grades": Lazy(
            "receiver.cli.sync:sync_grades",
            "Fetch the grades of all courses in the registry; invalid courses are skipped.",
        ),
        "runs": LazyGroup(
            "runs",
            {
                "list": Lazy("receiver.cli.runs:list_", "List the runs, newest first."),
                "show": Lazy(
                    "receiver.cli.runs:show",
                    "Show run NUMBER, or the last run, with the result of each course.",
                ),
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

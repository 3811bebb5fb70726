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
                "rotate-key": Lazy(
                    "notifier.cli.operations:rotate_key",
                    "Re-encrypt all secrets with the first encryption key.",
                ),
                "prune": Lazy(
                    "notifier.cli.operations:prune",
                    "Delete the ids of old Moodle events.",
                ),
            },
            help="Upgrade, check and clean up the database; rotate its encryption key.",
        ),
        "serve": Lazy(
            "notifier.cli.operations:serve",
            "Serve the grades API, the admin API and the pages until stopped.",
        ),
        "work": Lazy("notifier.cli.operations:work", "Send webhooks until stopped."),
        "doctor": Lazy(
            "notifier.cli.operations:doctor",
            "Check settings, database, secrets, endpoints and backlog.",
        ),
        "courses": LazyGroup(
            "courses",
            {
                "add": Lazy(
                    "notifier.cli.courses:add",
                    "Add a course and print its token, which is shown only once.",
                ),
                "list": Lazy("notifier.cli.courses:list_", "List courses by id."),
                "show": Lazy(
                    "notifier.cli.courses:show",
                    "Show a course, its token ids and its deliveries.",
                ),
                "delete": Lazy(
                    "notifier.cli.courses:delete",
                    "Delete courses permanently and notify all endpoints.",
                ),
                "regenerate-token": Lazy(
                    "notifier.cli.courses:regenerate_token",
                    "Replace a course's token, notify all endpoints, and print the new token.",
                ),
                "announce-token": Lazy(
                    "notifier.cli.courses:announce_token",
                    "Notify all endpoints that the token of a Moodle course was regenerated.",
                ),
            },
            help="Add, list, show and delete courses; regenerate their tokens.",
        ),
        "grades": LazyGroup(
            "grades",
            {
                "import": Lazy(
                    "notifier.cli.grades:import_",
                    "Import grades from FILE, a CSV file.",
                ),
            },
            help="Import grades.",
        ),
        "endpoints": LazyGroup(
            "endpoints",
            {
                "add": Lazy(
                    "notifier.cli.endpoints:add",
                    "Register URL and print its secret, which is shown only once.",
                ),
                "list": Lazy("notifier.cli.endpoints:list_", "List endpoints and their status."),
                "disable": Lazy(
                    "notifier.cli.endpoints:disable",
                    "Stop sending to ENDPOINT_ID and hold its deliveries.",
                ),
                "enable": Lazy(
                    "notifier.cli.endpoints:enable",
                    "Send to ENDPOINT_ID again, starting with its held deliveries.",
                ),
                "set-event-types": Lazy(
                    "notifier.cli.endpoints:set_event_types",
                    "Set the event types that ENDPOINT_ID receives.",
                ),
                "correct-url": Lazy(
                    "notifier.cli.endpoints:correct_url",
                    "Correct the mistyped URL of ENDPOINT_ID.",
                ),
                "rotate-secret": Lazy(
                    "notifier.cli.endpoints:rotate_secret",
                    "Generate a new secret for ENDPOINT_ID and print it; it is shown only once.",
                ),
                "ping": Lazy(
                    "notifier.cli.endpoints:ping",
                    "Send a signed test webhook to ENDPOINT_ID and print the response.",
                ),
            },
            help="Manage webhook endpoints: the URLs that receive events.",
        ),
        "deliveries": LazyGroup(
            "deliveries",
            {
                "list": Lazy(
                    "notifier.cli.deliveries:list_",
                    "List deliveries, newest first, each with its last attempt.",
                ),
                "show": Lazy(
                    "notifier.cli.deliveries:show",
                    "Show a delivery with its payload, attempts and replays.",
                ),
                "replay": Lazy(
                    "notifier.cli.deliveries:replay",
                    "Send deliveries again, by DELIVERY_ID or by filter.",
                ),
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

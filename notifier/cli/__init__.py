"""The command `notifier`. Each command is imported when it runs."""

from foundation.cli.lazy import LazyGroup
from foundation.cli.program import commands_of, new_program

main = new_program(
    "notifier",
    {
        **commands_of("notifier.cli.operations", "work"),
        "courses": LazyGroup(
            "courses",
            {
                **commands_of(
                    "notifier.cli.courses",
                    *("add", "list", "show", "delete", "regenerate-token", "announce-token"),
                ),
                **commands_of("notifier.cli.course_import", "import"),
            },
            help="Add, import, list, show and delete courses; regenerate their tokens.",
        ),
        "grades": LazyGroup(
            "grades",
            commands_of("notifier.cli.grades", "import", "forget"),
            help="Import grades, or delete stored ones.",
        ),
        "endpoints": LazyGroup(
            "endpoints",
            commands_of(
                "notifier.cli.endpoints",
                "add",
                "list",
                "disable",
                "enable",
                "set-event-types",
                "set-name",
                "correct-url",
                "rotate-secret",
                "ping",
                "remove",
            ),
            help="Manage webhook endpoints: the URLs that receive events.",
        ),
        "deliveries": LazyGroup(
            "deliveries",
            commands_of("notifier.cli.deliveries", "list", "show", "replay"),
            help="List, inspect and replay webhook deliveries.",
        ),
    },
    help="""eAssessment: courses, webhook endpoints, deliveries, and the worker that sends them.

    Settings are read from the environment or .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused, 2 usage or settings error, 4 database unusable.
    """,
)

"""The command `notifier`. Each command is imported when it runs."""

from foundation.cli.lazy import LazyGroup
from foundation.cli.program import commands_of, examples, new_program

main = new_program(
    "notifier",
    {
        **commands_of("notifier.cli.operations", "work"),
        "courses": LazyGroup(
            "courses",
            {
                **commands_of("notifier.cli.courses", "add", "list", "show", "announce-token"),
                **commands_of(
                    "notifier.cli.course_changes", "delete", "restore", "regenerate-token"
                ),
                **commands_of("notifier.cli.course_import", "import"),
            },
            help="Add, import, list, show, delete and restore courses; regenerate their tokens.",
            epilog=examples(
                'notifier courses add CS101-2026 --title "Databases"',
                "notifier courses import courses.csv --tokens-to tokens.csv",
                "notifier courses list --matching databases --not-deleted",
                "notifier courses delete --from-file ids.txt",
                "notifier courses restore CS101-2026",
                "notifier courses regenerate-token --from-file ids.txt --now --tokens-to new.csv",
            ),
        ),
        "grades": LazyGroup(
            "grades",
            commands_of("notifier.cli.grades", "import", "forget"),
            help="Import grades, or delete stored ones.",
            epilog=examples(
                "notifier grades import grades.csv",
                "notifier grades import moodle.csv --course CS101-2026",
                "notifier grades forget --user s1001",
            ),
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
                "set-token-claims",
                "correct-url",
                "rotate-secret",
                "ping",
                "check",
                "remove",
            ),
            help="Manage webhook endpoints: the URLs that receive events.",
            epilog=examples(
                "notifier endpoints add https://elms.example.ac.uk/webhooks/eassessment",
                "notifier endpoints ping 1",
                "notifier endpoints check 1",
                "notifier endpoints rotate-secret 1 --overlap 7d",
            ),
        ),
        **commands_of("notifier.cli.endpoints", "trigger"),
        "deliveries": LazyGroup(
            "deliveries",
            commands_of("notifier.cli.deliveries", "list", "show", "replay"),
            help="List, inspect and replay webhook deliveries.",
            epilog=examples(
                "notifier deliveries list --status dead --since yesterday",
                "notifier deliveries show 1",
                "notifier deliveries replay --status dead --dry-run",
            ),
        ),
    },
    help="""eAssessment: courses, webhook endpoints, deliveries, and the worker that sends them.

    Settings are read from the environment or .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused, 2 usage or settings error, 4 database unusable.
    """,
)

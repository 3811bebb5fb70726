"""The command `receiver`. Each command is imported when it runs."""

from foundation.cli.lazy import LazyGroup
from foundation.cli.program import commands_of, examples, new_program

main = new_program(
    "receiver",
    {
        "sources": LazyGroup(
            "sources",
            commands_of(
                "receiver.cli.sources",
                "add",
                "list",
                "set-url",
                "remove",
                "add-secret",
                "remove-secret",
                "set-site-token",
            ),
            help="Manage the eAssessment sites and the secrets of their webhooks.",
            epilog=examples(
                "receiver sources add eassessment --url https://eassessment.example.ac.uk",
                "receiver sources add-secret eassessment < secret.txt",
            ),
        ),
        "registry": LazyGroup(
            "registry",
            {
                **commands_of(
                    "receiver.cli.registry", "add", "list", "show", "remove", "set-token"
                ),
                **commands_of("receiver.cli.registry_bulk", "export", "import", "set-activity"),
            },
            help="Manage the courses in the grade sync: their status and their tokens.",
            epilog=examples(
                "receiver registry import tokens.csv",
                "receiver registry list --status token_invalid",
                "receiver registry set-token CS101-2026 < token.txt",
                "receiver registry remove --status course_deleted",
            ),
        ),
        "inbox": LazyGroup(
            "inbox",
            commands_of("receiver.cli.inbox", "list"),
            help="Show the webhooks received.",
            epilog=examples("receiver inbox list --outcome ignored --since 7d"),
        ),
        **commands_of("receiver.cli.tryout", "listen", "verify"),
        **commands_of("receiver.cli.sync", "sync-grades"),
        "grades": LazyGroup(
            "grades",
            commands_of("receiver.cli.grades", "forget"),
            help="Delete stored grades.",
            epilog=examples("receiver grades forget --course CS101-2026 --user s1001"),
        ),
        "runs": LazyGroup(
            "runs",
            commands_of("receiver.cli.runs", "list", "show", "pause", "resume"),
            help="Show past runs of the grade sync; pause and resume its schedule.",
            epilog=examples("receiver runs list", "receiver runs show 7 --reason token_invalid"),
        ),
    },
    help="""ELMS: sources, webhooks, the registry and the grade sync.

    Settings are read from the environment or .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused or failed, 2 usage or settings error, 3 another sync is running,
    4 database unusable.
    """,
)
